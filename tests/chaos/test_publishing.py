"""Publishing is interrupted at every moment: an update is there once and reaches everybody, or it is not there."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dispatcher import drafting, publishing
from dispatcher.model import Draft, Importance
from dispatcher.nudges import Task
from dispatcher.roles import Role
from tests.api.serving import running, settings_for
from tests.chaos.conftest import LONG, Ground, Scale
from tests.support.bells import ring_from
from tests.support.crowd import Crowd, a_crowd, disconnect, held
from tests.support.desk import TEXT, employ, log_of
from tests.support.fleet import ROOT, Fleet
from tests.support.newsroom import SECRET, Newsroom
from tests.support.proxy import proxies

pytestmark = pytest.mark.chaos

PEOPLE = 200  #: who click at the same moment
#: The advisory lock at which the fan-out is stopped.
GATE = 55_018
PUBLISHER = "publisher"


async def test_many_clicks_with_one_key_publish_once(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R14. 200 requests at the same moment: one update, one blast, one answer for everybody."""
    crowd = await a_crowd(room, 50)
    answers: list[tuple[int, dict[str, Any]]] = []
    barrier = threading.Barrier(PEOPLE)

    def click() -> None:
        with site.cms() as cms:
            barrier.wait()
            answer = cms.post(
                f"/api/v1/stories/{crowd.slug}/updates",
                json={"headline": "The levee gives way", "body": "It gave way."},
                headers={"Idempotency-Key": crowd.slug},
            )
        answers.append((answer.status_code, answer.json()))

    with running(settings_for(ground.database_url, ground.valkey.url)) as site:
        assert site.token
        people = [threading.Thread(target=click) for _ in range(PEOPLE)]
        for each in people:
            each.start()
        for each in people:
            await asyncio.to_thread(each.join)
    codes = [code for code, _ in answers]
    rows = await room.run(
        "SELECT count(DISTINCT u.id) AS updates, count(DISTINCT b.id) AS blasts FROM updates u "
        "JOIN blasts b ON b.update_id = u.id JOIN stories s ON s.id = u.story_id WHERE s.slug = %s",
        crowd.slug,
    )
    print(f"R14: {codes.count(201)} × 201 and {codes.count(200)} × 200, {rows[0]}")

    assert (codes.count(201), codes.count(200)) == (1, PEOPLE - 1)
    assert all(said["update"] == answers[0][1]["update"] for _, said in answers)
    assert rows == [{"updates": 1, "blasts": 1}]
    await reached_once(crowd, ground, seconds=scale.seconds)


async def test_a_publisher_that_dies_after_its_commit_has_published(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R16. kill -9 between the commit and the nudge, which is never heard: sent within ten seconds all the same."""
    crowd = await a_crowd(room, 300)
    with proxies(ground.valkey.socket) as (silent,):
        silent.freeze()
        with publisher(ground, crowd.slug, f"redis://127.0.0.1:{silent.port}/0") as killed:
            while not await updates(room, crowd.slug):
                assert killed.poll() is None, "the publisher was over before it could be killed"
                await asyncio.sleep(0.005)
            killed.kill()
            assert killed.wait() == -signal.SIGKILL, "the publisher was over before it could be killed"
        async with asyncio.timeout(30):
            while crowd.taken(ground.relay) < crowd.size:
                await asyncio.sleep(0.02)
    (row,) = await room.run(
        "SELECT extract(epoch FROM max(d.recorded_at) - u.published_at) AS seconds FROM deliveries d "
        "JOIN blasts b ON b.id = d.blast_id JOIN updates u ON u.id = b.update_id "
        "JOIN stories s ON s.id = u.story_id WHERE s.slug = %s GROUP BY u.id",
        crowd.slug,
    )
    print(f"R16: publisher killed before its nudge: sent after {row['seconds']:.1f} s")

    assert row["seconds"] <= 10
    await reached_once(crowd, ground, seconds=scale.seconds)


async def test_a_publisher_that_dies_before_its_commit_has_published_nothing(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R17. kill -9 with the update written and the blast not; and a transaction that rings, then rolls back."""
    crowd = await a_crowd(room, 100)
    async with held(ground.database_url, "LOCK TABLE blasts IN ACCESS EXCLUSIVE MODE"):
        with publisher(ground, crowd.slug, ground.valkey.url) as killed:
            assert await until_waiting(room, "INSERT INTO blasts") == PUBLISHER
            killed.kill()
            killed.wait()
            await disconnect(room, PUBLISHER)

    async def ring_and_roll_back() -> None:
        async with room.database.transaction() as tx:
            draft = Draft(headline="The levee gives way", body="It gave way.", importance=Importance.BREAKING)
            await publishing.write(tx, crowd.slug, draft, by="test")
            assert await room.bell.ring(Task.CUT, urgency=0)
            await asyncio.to_thread(ring_from, 1, times=20, broker=ground.valkey.url)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ring_and_roll_back()

    # Whatever the nudges set off is over when a later update has reached everybody.
    later = await a_crowd(room, 500)
    verdict = await later.watch(ground.relay, await later.publish(), seconds=scale.seconds)
    print(f"R17: {await updates(room, crowd.slug)} updates, {crowd.taken(ground.relay)} mails; after it {verdict}")

    assert (await updates(room, crowd.slug), crowd.taken(ground.relay)) == (0, 0)
    assert (verdict.lost, verdict.duplicates) == (0, 0)


async def test_a_worker_that_dies_while_it_publishes_what_was_scheduled_leaves_it_to_another(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """kill -9 with the update of a scheduled draft written and its blast not: it is published once, and all get it."""
    crowd = await a_crowd(room, 100)
    editor = await employ(room, crowd.slug, Role.EDITOR)
    draft = await drafting.begin(room.database, crowd.slug, by=editor, text=TEXT)
    async with held(ground.database_url, "LOCK TABLE blasts IN ACCESS EXCLUSIVE MODE"):
        await room.run(
            "UPDATE drafts SET state = 'scheduled', send_at = now(), scheduled_by = author WHERE id = %s", draft.id
        )
        name = await until_waiting(room, "INSERT INTO blasts")
        (worker,) = [each for each in fleet.workers if each.name == name]
        fleet.kill(worker)
        await disconnect(room, worker.name)
        assert await updates(room, crowd.slug) == 0
    fleet.start_worker()
    async with asyncio.timeout(scale.seconds):
        while not await updates(room, crowd.slug):
            await asyncio.sleep(0.02)
    await reached_once(crowd, ground, seconds=scale.seconds)

    assert await updates(room, crowd.slug) == 1
    assert await log_of(room, draft.subject) == ["began a draft", "sent"]


@pytest.mark.parametrize("moment", [None, 1, 3, 4, "the end"] if LONG else [None, 3, "the end"])
async def test_a_worker_that_dies_while_it_freezes_an_audience_leaves_all_of_it_or_nothing(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale, moment: int | str | None
) -> None:
    """R18. kill -9 while the one statement that cuts the audience has come so far: the rows are the audience exactly.

    None: it has not read the audience yet. A number: so many batches but one are made. The end: all, and not committed.
    """
    crowd = await a_crowd(room, 1_700)  # four batches
    stop = "LOCK TABLE devices IN ACCESS EXCLUSIVE MODE"  # the cut asks for it, publishing does not
    if moment is not None:
        await make_gate(room, moment)
        stop = f"SELECT pg_advisory_xact_lock({GATE})"
    try:
        async with held(ground.database_url, stop):
            published = await crowd.publish()
            name = await until_waiting(room, "WITH blast AS")
            (worker,) = [each for each in fleet.workers if each.name == name]
            fleet.kill(worker)
            await disconnect(room, worker.name)
            half = await room.run("SELECT id FROM batches WHERE blast_id = %s", published.blast_ids[0])
    finally:
        await room.run("DROP FUNCTION IF EXISTS wait_at_gate() CASCADE")
    fleet.start_worker()
    verdict = await crowd.watch(ground.relay, published, seconds=scale.seconds)
    rows = await room.run(
        "SELECT count(*) AS rows, count(DISTINCT ids.id) AS readers FROM batches, unnest(subscriber_ids) AS ids (id) "
        "WHERE blast_id = %s AND NOT retry",
        published.blast_ids[0],
    )
    print(f"R18: killed at {moment}: {verdict}; {rows[0]}")

    assert half == []
    assert rows == [{"rows": crowd.size, "readers": crowd.size}]
    assert (verdict.lost, verdict.duplicates) == (0, 0)


async def make_gate(room: Newsroom, moment: int | str) -> None:
    """Let the fan-out wait before its n-th batch, or at the blast's own row when all batches are written."""
    table, event, condition = "blasts", "UPDATE", "NEW.candidates IS NOT NULL AND OLD.candidates IS NULL"
    if isinstance(moment, int):
        table, event = "batches", "INSERT"
        condition = f"(SELECT count(*) FROM batches WHERE blast_id = NEW.blast_id) = {moment - 1}"
    await room.run(
        f"""
        CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF {condition} THEN PERFORM pg_advisory_xact_lock({GATE}); END IF;
            RETURN NEW;
        END $$
        """
    )
    await room.run(f"CREATE TRIGGER gate BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION wait_at_gate()")


async def until_waiting(room: Newsroom, what: str) -> str:
    """Wait until a statement with these words waits for a lock; the name of who waits."""
    async with asyncio.timeout(30):
        while True:
            # Outside the transaction that holds the lock: within one, PostgreSQL shows who waited at its first look.
            rows = await room.run(
                "SELECT application_name AS name FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND datname = current_database() AND query LIKE %s",
                f"%{what}%",
            )
            if rows:
                return str(rows[0]["name"])
            await asyncio.sleep(0.02)


async def updates(room: Newsroom, slug: str) -> int:
    rows = await room.run(
        "SELECT count(*) AS updates FROM updates JOIN stories ON stories.id = story_id WHERE slug = %s", slug
    )
    return int(rows[0]["updates"])


async def reached_once(crowd: Crowd, ground: Ground, *, seconds: float) -> None:
    """Wait until nothing of a story's only blast is open, and see that each reader has one mail."""
    async with asyncio.timeout(seconds):
        while await crowd.room.run(
            "SELECT b.id FROM blasts b JOIN updates u ON u.id = b.update_id JOIN stories s ON s.id = u.story_id "
            "WHERE s.slug = %s AND b.state <> 'done'",
            crowd.slug,
        ):
            await asyncio.sleep(0.02)
    copies = [each.recipient for each in ground.relay.taken if each.recipient.endswith(crowd.domain)]
    assert (len(copies), len(set(copies))) == (crowd.size, crowd.size)


@contextmanager
def publisher(ground: Ground, slug: str, broker_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """`dispatcher publish` in a process of its own, killed afterwards if it still runs."""
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("DISPATCHER_")},
        "DISPATCHER_DATABASE_URL": f"{ground.database_url}&application_name={PUBLISHER}",
        "DISPATCHER_BROKER_URL": broker_url,
        "DISPATCHER_SMTP_URL": "smtp://127.0.0.1:1",
        "DISPATCHER_PUBLIC_URL": "https://alerts.example.org",
        "DISPATCHER_SECRET_KEY": SECRET,
        "DISPATCHER_DATA_DIR": str(ground.directory),
    }
    body = ground.directory / "update.md"
    body.write_text("It gave way.")
    process = subprocess.Popen(
        [sys.executable, "-m", "dispatcher.cli", "publish", slug, "--headline", "Levee gone", "--body-file", str(body)],
        env=env,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
