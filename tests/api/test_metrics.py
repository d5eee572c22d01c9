"""Prometheus is told how the whole installation is, soon and truly, however large its ledger is."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from dispatcher.db.migrate import migrate
from dispatcher.embedded.postgres import Postgres
from dispatcher.model import Urgency
from dispatcher.pulse import ALIVE
from tests.api.problems import problem
from tests.api.serving import Site, running, settings_for
from tests.api.test_health import figures, scraped
from tests.support.directories import running as started
from tests.support.directories import service_directory


@pytest.fixture
def busy(database_url: str, broker_url: str) -> Iterator[Site]:
    """A site on which one update has gone out to four readers, and another is on its way to them."""
    with running(settings_for(database_url, broker_url)) as site:
        site.create_story()
        for _ in range(4):
            site.add_reader("tarrow-flood")
        site.publish()
        site.publish(importance="breaking")
        site.look("UPDATE blasts SET state = 'done', candidates = 4, done_at = now() WHERE id = 1")
        site.look("UPDATE blasts SET state = 'sending', candidates = 4 WHERE id = 2")
        site.look(
            "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, relay)"
            " SELECT 1, n, published_at + n * interval '2 seconds', 'accepted', 'mx1:25'"
            " FROM updates, generate_series(1, 4) n WHERE seq = 1"
        )
        site.look(
            "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, relay)"
            " VALUES (2, 1, now() + interval '1 hour', 'accepted', 'mx2:25'), (2, 2, now(), 'deferred', 'mx2:25')"
        )
        site.look("INSERT INTO batches (blast_id, urgency, subscriber_ids) VALUES (2, 10, '{3,4}')")
        yield site


@contextmanager
def workers(site: Site, *numbers: int) -> Iterator[psycopg.Connection]:
    """Somebody who holds the signs of life of so many workers."""
    with psycopg.connect(site.settings.database_url, autocommit=True) as connection:
        for number in numbers:
            connection.execute("SELECT pg_advisory_lock(%s, %s)", (ALIVE, number))
        yield connection


def test_outcomes_of_blasts_that_are_done_and_that_run_are_counted_together(busy: Site) -> None:
    found = scraped(busy)

    assert found["dispatcher_deliveries_total{email}{mx1:25}{accepted}"] == 4
    assert found["dispatcher_deliveries_total{email}{mx2:25}{accepted}"] == 1
    assert found["dispatcher_deliveries_unsettled{email}{mx2:25}{deferred}"] == 1
    assert "dispatcher_deliveries_total{email}{mx2:25}{deferred}" not in found


def test_the_time_to_acceptance_is_a_histogram_whose_slots_add_up(busy: Site) -> None:
    found = scraped(busy)

    slots = {key: value for key, value in found.items() if key.startswith("dispatcher_publish_to_accepted_seconds_b")}
    at_most = {key.split("{")[2].rstrip("}"): value for key, value in slots.items()}
    assert at_most["1.0"] == 0
    assert at_most["2.5"] == 1
    assert at_most["10.0"] == 4
    assert at_most["1800.0"] == 4
    assert at_most["7200.0"] == at_most["+Inf"] == 5
    assert found["dispatcher_publish_to_accepted_seconds_count{email}"] == 5
    assert found["dispatcher_publish_to_accepted_seconds_sum{email}"] == pytest.approx(20 + 3600, abs=60)


def test_waiting_readers_and_the_age_of_the_oldest_are_told_by_urgency(busy: Site) -> None:
    busy.look("UPDATE batches SET created_at = now() - interval '5 minutes'")
    found = scraped(busy)

    assert found["dispatcher_readers_waiting{breaking}"] == 2
    assert found["dispatcher_oldest_waiting_seconds{breaking}"] == pytest.approx(300, abs=60)
    assert all(found[f"dispatcher_readers_waiting{{{each.name.lower()}}}"] == 0 for each in Urgency if each != 10)
    assert found["dispatcher_batches_waiting"] == 1
    assert found["dispatcher_batches_leased"] == found["dispatcher_batches_dead"] == 0


def test_workers_that_live_their_circuits_and_lanes_and_open_incidents_are_counted(busy: Site) -> None:
    busy.look(
        "INSERT INTO relay_reports SELECT n, 'mx1:25', 'host', n, CASE n WHEN 1 THEN 'open' ELSE 'closed' END, '',"
        " now(), 10, 4, 1, now() FROM generate_series(1, 3) n"
    )
    busy.look("INSERT INTO incidents (kind, subject, text) VALUES ('relay', 'mx1:25', 'It is away.')")
    with workers(busy, 1, 2):
        found = scraped(busy)

    assert found["dispatcher_workers_alive"] == 2
    assert found["dispatcher_relay_circuit{mx1:25}{open}"] == 1
    assert found["dispatcher_relay_circuit{mx1:25}{closed}"] == 1
    assert found["dispatcher_relay_lanes{mx1:25}{open}"] == 20
    assert found["dispatcher_relay_lanes{mx1:25}{overdue}"] == 2
    assert found["dispatcher_incidents_open{relay}"] == 1
    assert found["dispatcher_incidents_open{not_sending}"] == 0


def test_a_scrape_does_not_wait_for_a_ledger_that_takes_long_to_count(busy: Site) -> None:
    """It says which figures are missing, shows the others, and has them all once the ledger answers."""
    with psycopg.connect(busy.settings.database_url) as somebody:
        somebody.execute("LOCK deliveries, progress")
        deadline = time.monotonic() + 60
        late: dict[str, float] = {}
        while "dispatcher_subscribers" not in late:
            assert time.monotonic() < deadline
            began = time.monotonic()
            late = figures(busy.get("/metrics").text)
            assert time.monotonic() - began < 15
    found = scraped(busy)

    assert late["dispatcher_database_up"] == 1
    assert late["dispatcher_figures_late{deliveries}"] == 1
    assert late["dispatcher_subscribers"] == 4
    assert not any(key.startswith("dispatcher_deliveries_total") for key in late)
    assert found["dispatcher_deliveries_total{email}{mx1:25}{accepted}"] == 4
    assert found["dispatcher_figures_age_seconds{deliveries}"] < 60


def test_figures_are_not_read_again_for_everybody_who_asks(busy: Site) -> None:
    before = scraped(busy)
    busy.look("DELETE FROM deliveries")
    after = figures(busy.get("/metrics").text)

    name = "dispatcher_deliveries_total{email}{mx1:25}{accepted}"
    assert before[name] == after[name] == 4


def test_a_site_raises_the_alarm_when_no_worker_lives(database_url: str, broker_url: str) -> None:
    with running(settings_for(database_url, broker_url), watch_every=0.05) as site:
        site.create_story()
        site.add_reader("tarrow-flood")
        site.publish()
        site.look("UPDATE subscriptions SET confirmed_at = now() - interval '1 day'")
        site.look("UPDATE updates SET published_at = now() - interval '5 minutes'")
        deadline = time.monotonic() + 60
        while not (found := site.look("SELECT text FROM incidents WHERE kind = 'not_sending'")):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    assert found[0][0].endswith("nobody has been reached: no worker is alive.")


def test_a_site_is_not_ready_when_the_disk_under_its_ledger_is_full(broker_url: str) -> None:
    """Nothing can be recorded, so nothing is promised; with room on the disk all goes on."""
    with (
        service_directory() as directory,
        _small_disk(directory) as disk,
        started(Postgres(disk / "postgres", fsync=False)) as server,
    ):
        migrate(server.url)
        with running(settings_for(server.url, broker_url)) as site:
            assert site.get("/readyz").status_code == 200
            filler = _fill(disk)
            deadline = time.monotonic() + 60
            while (answer := site.get("/readyz")).status_code == 200:
                assert time.monotonic() < deadline
            found = problem(answer, 503, "database-unavailable")
            filler.unlink()
            assert site.get("/readyz").status_code == 200

    assert "o space left on device" in found["detail"]


@contextmanager
def _small_disk(directory: Path) -> Iterator[Path]:
    """A disk of 230 MB. The test is left out where nobody lets us have one."""
    disk = directory / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=230m,mode=711", "none", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _fill(disk: Path) -> Path:
    """Fill a disk to its last byte with one file."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return filler
