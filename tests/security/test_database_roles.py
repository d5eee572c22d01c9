"""S36: each program has the rights that it needs and no others, nobody is a superuser, and the product works so."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from dispatcher import (
    closing,
    db,
    drafting,
    drilling,
    following,
    merging,
    monitoring,
    people,
    superseding,
    upkeep,
    withdrawing,
)
from dispatcher.db.migrate import make_roles
from dispatcher.drafting import Text
from dispatcher.embedded.postgres import Postgres
from dispatcher.embedded.valkey import Valkey
from dispatcher.errors import Conflict
from dispatcher.model import Draft
from dispatcher.nudges import Bell
from dispatcher.roles import Role
from tests.api.serving import SECRET, Site, running, settings_for
from tests.journeys.desks import PASSWORD, Tab, employ, invite, tab
from tests.journeys.test_desk_import import hand_in, outcome
from tests.support.databases import fresh_database
from tests.support.newsroom import NO_BROKER, Newsroom
from tests.support.newsroom import settings_for as worker_settings
from tests.support.sink import a_sink

ADA, BEN = "ada@courier.example", "ben@courier.example"
PROGRAMS = ("web", "worker", "reader")


@dataclass
class Ground:
    """A database with roles, and how each program connects to it."""

    owner: str
    urls: dict[str, str]

    def run(self, program: str, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.urls[program], autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def ground(postgres: Postgres, template_database: str) -> Iterator[Ground]:
    with fresh_database(postgres, template_database) as owner:
        make_roles(owner)
        make_roles(owner)
        urls = {}
        with psycopg.connect(owner, autocommit=True) as connection:
            for program in PROGRAMS:
                user, password = f"{program}_{secrets.token_hex(4)}", secrets.token_hex(8)
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
                        sql.Identifier(user), sql.Literal(password), sql.Identifier(f"dispatcher_{program}")
                    )
                )
                urls[program] = re.sub(r"//[^@]+@", f"//{user}:{password}@", owner)
        yield Ground(owner, urls)


@pytest.mark.parametrize("program", PROGRAMS)
def test_nobody_is_a_superuser_or_makes_roles_databases_and_tables(ground: Ground, program: str) -> None:
    assert ground.run(
        program,
        "SELECT bool_or(rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication) FROM pg_roles"
        " WHERE pg_has_role(current_user, oid, 'member')",
    ) == [(False,)]
    for statement in ("CREATE TABLE mine (x int)", "ALTER TABLE stories ADD COLUMN x int", "DROP TABLE audit",
                      "UPDATE alembic_version SET version_num = '0001'", "SET ROLE dispatcher"):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ground.run(program, statement)


@pytest.mark.parametrize(
    ("program", "statement"),
    [
        ("web", "UPDATE deliveries SET state = 'accepted'"),
        ("web", "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state)"
                " VALUES (1, 1, now(), 'accepted')"),
        ("web", "DELETE FROM deliveries"),
        ("web", "UPDATE progress SET count = 0"),
        ("web", "UPDATE audit SET actor = 'eve'"),
        ("web", "DELETE FROM audit"),
        ("worker", "SELECT * FROM people"),
        ("worker", "SELECT password_hash FROM people"),
        ("worker", "SELECT totp_sealed, recovery_hashes FROM people"),
        ("worker", "UPDATE people SET role = 'lead'"),
        ("worker", "SELECT * FROM sessions"),
        ("worker", "SELECT token_hash FROM sessions"),
        ("worker", "INSERT INTO sessions (token_hash, person_id, expires_at) VALUES ('x', 1, now())"),
        ("worker", "SELECT email FROM invitations"),
        ("worker", "INSERT INTO invitations (token_hash, email, role, invited_by, expires_at)"
                   " VALUES ('x', 'eve', 'lead', 'eve', now())"),
        ("worker", "SELECT account_hash FROM sign_in_attempts"),
        ("worker", "SELECT token_hash FROM api_tokens"),
        ("worker", "UPDATE desk_settings SET value = '{}'"),
        ("worker", "SELECT * FROM audit"),
        ("worker", "DELETE FROM audit"),
        ("reader", "SELECT email FROM subscribers"),
        ("reader", "SELECT endpoint FROM devices"),
        ("reader", "SELECT reply FROM deliveries"),
        ("reader", "SELECT * FROM people"),
        ("reader", "SELECT body FROM drafts"),
        ("reader", "UPDATE stories SET headline = 'x'"),
        ("reader", "SELECT retry_readers(1, 1, '{failed}', NULL, NULL, NULL, NULL, NULL, NULL, 2, false)"),
    ],
)  # fmt: skip
def test_what_a_program_has_no_need_of_it_is_refused(ground: Ground, program: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ground.run(program, statement)


def test_a_reader_of_figures_sees_figures(ground: Ground) -> None:
    assert ground.run("reader", "SELECT count(*), max(state) FROM deliveries") == [(0, None)]
    assert ground.run("reader", "SELECT count(*) FROM stories JOIN updates ON story_id = stories.id") == [(0,)]


def test_who_may_not_make_roles_is_told_what_to_do(ground: Ground) -> None:
    with pytest.raises(Conflict, match="may not make roles"):
        make_roles(ground.urls["web"])


async def work(ground: Ground, port: int) -> None:
    """All that a worker does of its own accord, once, and until nothing waits any more."""
    settings = replace(worker_settings(ground.urls["worker"], port), secret_key=SECRET)
    async with db.Database(ground.urls["worker"], size=4) as database:
        room = Newsroom(database, settings, Bell(NO_BROKER))
        while await following.answer(database, SECRET):
            pass
        await drafting.publish_due(database, room.bell, room.settings)
        await merging.move(database)
        await closing.release(database)
        await monitoring.watch(database)
        await room.run("DELETE FROM moments")  # so that what is done once an hour is done now
        async with room.sender() as sender:
            for _ in range(500):
                await upkeep.tick(database)
                await superseding.settle(database)
                await room.cut()
                sender.nudge()
                left = await room.run(
                    "SELECT (SELECT count(*) FROM blasts WHERE state IN ('cutting', 'sending'))"
                    " + (SELECT count(*) FROM notices WHERE next_at IS NOT NULL) AS left"
                )
                if not left[0]["left"]:
                    return
                await asyncio.sleep(0.02)
    raise AssertionError("the worker has not come to an end")


@pytest.fixture(scope="module")
def web(ground: Ground, valkey: Valkey) -> Iterator[Site]:
    with running(settings_for(ground.urls["web"], valkey.url), watch_every=0.2) as site:
        yield site


async def test_the_product_works_under_these_roles(ground: Ground, web: Site) -> None:
    async with a_sink() as sink:
        employ(web, ADA, Role.LEAD)
        web.create_story()
        web.create_story("harbour", "Harbour")
        for number in range(3):
            web.follow(email=f"reader{number}@mail.example")
        await work(ground, sink.port)
        for number in range(3):
            assert web.post(web.confirm_path(f"reader{number}@mail.example")).status_code in {200, 303}
        with tab(web, ADA) as ada:
            path = invite(web, BEN, Role.EDITOR)
            with tab(web) as ben:
                assert ben.submit(path, name="Ben", password=PASSWORD, again=PASSWORD).status_code == 303
            at_the_desk(ada)
            await work(ground, sink.port)
            blast = web.publish(importance="breaking")["blasts"][0]["id"]
            await work(ground, sink.port)
            assert len([each for each in sink.taken if b"The levee gives way" in each.data]) == 3
            steer(web, ground, blast)
            await write(ground)
            await work(ground, sink.port)
            assert ground.run("web", "SELECT headline FROM updates WHERE seq > 0 ORDER BY seq DESC LIMIT 1") == [
                ("Later",)
            ]
            reader = web.look("SELECT id FROM subscribers WHERE email = 'reader0@mail.example'")[0][0]
            assert web.post(web.manage_path(reader) + "/erase", {"confirm": "yes", "do": "erase"}).status_code < 400
            web.close_story("harbour")
            await work(ground, sink.port)
            for address in (
                "/desk",
                "/desk/log",
                "/desk/health",
                "/desk/people",
                "/desk/drafts",
                "/metrics",
                "/readyz",
            ):
                assert ada.get(address).status_code == 200, address
            assert ada.get(f"/desk/subscribers/{reader + 1}").status_code == 200
    assert ground.run("web", "SELECT count(*) FROM subscribers WHERE email LIKE 'reader%'") == [(2,)]


def at_the_desk(ada: Tab) -> None:
    """What a lead may do there that writes into tables of its own."""
    assert ada.submit("/desk/settings", is_over="yes", over="1000000").status_code == 303
    assert ada.submit("/desk/tokens", **{"do": "create", "name": "screen", "scope-read": "yes"}).status_code == 200
    assert ada.submit("/desk/suppressions", do="add", email="x@mail.example", reason="a trap").status_code == 303
    assert ada.submit("/desk/people", do="invite", email="eve@courier.example", role="reporter").status_code == 200
    page = outcome(ada, hand_in(ada, b"email\nimported@mail.example\n", story="harbour", confirmed="yes"))
    assert "1 new follower." in page


async def write(ground: Ground) -> None:
    """Send a draft, rehearse, withdraw, and leave one that a worker is to publish by now."""
    async with db.Database(ground.urls["web"], size=2) as database:
        bell = Bell(NO_BROKER)
        ada = next(each for each in await people.everybody(database) if each.email == ADA)
        draft = await drafting.begin(database, "tarrow-flood", by=ada, text=Text(headline="Now", body="It fell."))
        await drafting.save(
            database, worker_settings(ground.urls["web"]), draft.id, draft.text, version=draft.version, by=ada
        )
        sent = await drafting.send(database, bell, draft.id, version=draft.version, by=ada)
        await drilling.drill(database, bell, "tarrow-flood", Draft(headline="Drill", body="A drill."), by=ADA)
        await withdrawing.withdraw(database, bell, "tarrow-flood", sent.update.seq, by=ADA, reason="not so")
        later = await drafting.begin(database, "tarrow-flood", by=ada, text=Text(headline="Later", body="It fell."))
        at = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M}"
        await drafting.schedule(database, later.id, version=later.version, by=ada, at=at, clock="newsroom")
    with psycopg.connect(ground.owner, autocommit=True) as owner:
        owner.execute("UPDATE drafts SET send_at = now() - interval '1 second' WHERE id = %s", (later.id,))


def steer(web: Site, ground: Ground, blast: int) -> None:
    """Retry and cancel: the two ways in which the web process changes the ledger."""
    with psycopg.connect(ground.owner, autocommit=True) as owner:
        owner.execute("UPDATE deliveries SET state = 'failed', code = 550 WHERE blast_id = %s", (blast,))
    with web.cms() as cms:
        tried = cms.post(f"/api/v1/blasts/{blast}/retry", json={})
        assert (tried.status_code, tried.json()["retried"]) == (200, 3)
        assert cms.post(f"/api/v1/blasts/{blast}/cancel").status_code == 200
    assert ground.run("web", f"SELECT DISTINCT state::text FROM deliveries WHERE blast_id = {blast}") == [("failed",)]
