"""What `dispatcher doctor` finds, and what it advises."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dispatcher import checkup, db
from dispatcher.checkup import Finding, Health
from dispatcher.embedded.postgres import Postgres
from dispatcher.monitoring import IncidentKind
from dispatcher.pulse import ALIVE
from tests.support.databases import fresh_database

SECRET = "a secret for the tests, which is long enough"


@pytest.fixture
def env(database_url: str, broker_url: str, tmp_path: Path) -> dict[str, str]:
    """An installation without workers, and with a relay that is away."""
    return {
        "DISPATCHER_DATA_DIR": str(tmp_path),
        "DISPATCHER_DATABASE_URL": database_url,
        "DISPATCHER_BROKER_URL": broker_url,
        "DISPATCHER_SMTP_URL": "smtp://127.0.0.1:1",
        "DISPATCHER_PUBLIC_URL": "https://alerts.example.org",
        "DISPATCHER_MAIL_FROM": "alerts@courier.example.org",
        "DISPATCHER_SECRET_KEY": SECRET,
    }


async def examine(env: dict[str, str]) -> dict[str, Finding]:
    found = await checkup.examine(env)
    assert all(finding.remedy for finding in found if finding.health is not Health.OK), found
    return {finding.name: finding for finding in found}


async def test_a_sound_installation_is_told_so_part_by_part(env: dict[str, str]) -> None:
    found = await examine(env)

    assert {name: finding.health for name, finding in found.items()} == {
        "public address": Health.OK,
        "sender": Health.OK,
        "database": Health.OK,
        "schema": Health.OK,
        "ledger": Health.OK,
        "workers": Health.WARN,
        "waiting work": Health.OK,
        "broker": Health.OK,
        "relay 127.0.0.1:1": Health.FAIL,
        "disk": Health.OK,
    }
    assert found["database"].detail.startswith("PostgreSQL 18.")
    assert found["workers"].detail == "none is running"


async def test_what_leads_readers_nowhere_fails_in_production_alone(env: dict[str, str]) -> None:
    local = {**env, "DISPATCHER_PUBLIC_URL": "http://localhost:8080", "DISPATCHER_MAIL_FROM": "alerts@localhost"}
    production = await examine(local)
    development = await examine({**local, "DISPATCHER_ENV": "development"})
    plain = await examine({**env, "DISPATCHER_PUBLIC_URL": "http://alerts.example.org"})

    assert production["public address"].health is production["sender"].health is Health.FAIL
    assert development["public address"].health is development["sender"].health is Health.OK
    assert plain["public address"].health is Health.WARN


async def test_parts_that_do_not_answer_are_named_and_the_others_still_examined(env: dict[str, str]) -> None:
    found = await examine(
        {
            **env,
            "DISPATCHER_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "DISPATCHER_BROKER_URL": "redis://:hush@127.0.0.1:1/0",
        }
    )

    assert found["database"].health is found["broker"].health is Health.FAIL
    assert "hush" not in found["broker"].detail
    assert found["disk"].health is Health.OK


async def test_a_database_without_tables_wants_migrating(env: dict[str, str], postgres: Postgres) -> None:
    with fresh_database(postgres) as empty:
        found = await examine({**env, "DISPATCHER_DATABASE_URL": empty})

    assert found["schema"].health is Health.FAIL
    assert "dispatcher migrate" in found["schema"].remedy
    assert "ledger" not in found


async def test_work_that_nobody_takes_fails(env: dict[str, str], database: db.Database) -> None:
    async with database.transaction() as tx:
        await tx.raw.execute("INSERT INTO stories (slug, headline) VALUES ('flood', 'Flood')")
        await tx.raw.execute(
            "INSERT INTO updates (story_id, seq, kind, importance, headline, body, content_hash, published_by)"
            " VALUES (1, 1, 'update', 'routine', 'News', 'News.', '', 'test')"
        )
        await tx.raw.execute(
            "INSERT INTO blasts (update_id, channel, urgency, created_at)"
            " VALUES (1, 'email', 30, clock_timestamp() - interval '5 minutes')"
        )
    found = await examine(env)

    assert found["workers"].health is Health.FAIL
    assert "300 s" in found["workers"].detail
    assert found["waiting work"].detail == "0 readers, the oldest for 300 s"


async def test_alarms_and_relays_as_workers_find_them_are_told(env: dict[str, str], database: db.Database) -> None:
    worker = await database.dedicated()
    await worker.execute("be_alive", **{"class": ALIVE, "worker": 1})
    await worker.raw.execute(
        "INSERT INTO relay_reports VALUES (1, 'mx1:25', 'host', 1, 'closed', '', now(), 3, 1, 0, now()),"
        " (1, 'mx2:25', 'host', 1, 'open', 'connection refused', now(), 0, 0, 0, now()),"
        " (2, 'mx1:25', 'host', 1, 'open', 'left by one who is gone', now(), 0, 0, 0, now())"
    )
    await worker.raw.execute("INSERT INTO incidents (kind, subject, text) VALUES ('relay', 'mx2:25', 'It is away.')")
    found = await examine(env)
    await worker.close()

    assert found["circuit mx1:25"] == Finding(
        name="circuit mx1:25", health=Health.OK, detail="closed in all 1 workers, 3 lanes open, 0 overdue"
    )
    assert found["circuit mx2:25"].health is Health.FAIL
    assert found["circuit mx2:25"].detail == "open in 1 of 1 workers: connection refused"
    assert found["relay"].health is Health.FAIL
    assert found["relay"].detail.startswith("It is away. Open for ")


def test_every_kind_of_incident_has_a_remedy() -> None:
    assert set(checkup.REMEDIES) == set(IncidentKind)


def test_work_that_waits_while_others_are_sent_is_fine() -> None:
    assert checkup.workers(3, 500.0, being_sent=2).health is Health.OK
    assert checkup.workers(3, 500.0, being_sent=0).health is Health.FAIL
    assert checkup.workers(0, 0.0, being_sent=0).health is Health.WARN


async def test_settings_that_cannot_be_read_are_a_finding(tmp_path: Path) -> None:
    found = await examine({"DISPATCHER_DATA_DIR": str(tmp_path)})

    assert found["settings"].health is Health.FAIL
    assert "DISPATCHER_DATABASE_URL" in found["settings"].detail


def test_the_disk_is_measured_where_the_data_will_be(tmp_path: Path) -> None:
    finding = checkup.disk(tmp_path / "not" / "yet" / "there")

    assert finding.detail.startswith(f"{shutil.disk_usage(tmp_path).free / 1024**3:,.1f} GB free")
