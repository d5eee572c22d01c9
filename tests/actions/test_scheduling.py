"""Schedules: at a time that there is, once, whoever dies, and never anything that may not go out."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from dispatcher import db, drafting, stories
from dispatcher.drafting import SavedMeanwhile, Writing
from dispatcher.drafting.clocks import earliest, happens_twice, moment, wall_time
from dispatcher.errors import Conflict, Invalid, StoryClosed
from dispatcher.model import DraftState, Importance
from dispatcher.people import Person
from dispatcher.roles import Role
from dispatcher.web.desk.drafts import when
from tests.support.desk import TEXT, employ, log_of, set_rule, updates
from tests.support.newsroom import NO_BROKER, Newsroom, newsroom
from workers.runtime import Engine

KYIV = "Europe/Kyiv"
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")


@pytest.fixture
async def room(database: db.Database) -> Newsroom:
    made = newsroom(database)
    await made.story(followers=2)
    return made


@pytest.fixture
async def ed(room: Newsroom) -> Person:
    return await employ(room, "ed", Role.EDITOR)


async def scheduled(room: Newsroom, by: Person, at: str = TOMORROW, *, clock: str = "newsroom", **more: Any) -> Writing:
    draft = await drafting.begin(room.database, "dam", by=by, text=replace(TEXT, **more))
    return await drafting.schedule(room.database, draft.id, version=1, by=by, at=at, clock=clock, zone=KYIV)


async def make_due(room: Newsroom, writing: Writing, ago: timedelta = timedelta(seconds=1)) -> None:
    """Let the time of a draft have come, with whatever approval it has."""
    due = replace(writing, send_at=datetime.now(UTC) - ago)
    await room.run(
        "UPDATE drafts SET send_at = %s, approved_hash = CASE WHEN approved_hash IS NOT NULL THEN %s::bytea END"
        " WHERE id = %s",
        *(due.send_at, due.content_hash, due.id),
    )


async def publish_due(room: Newsroom) -> int:
    return await drafting.publish_due(room.database, room.bell, room.settings)


def test_a_time_that_the_clocks_skip_is_refused_and_one_that_they_show_twice_is_the_first() -> None:
    with pytest.raises(Invalid, match="no 03:30 on 28 March 2027 in Europe/Kyiv: the clocks go forward") as caught:
        moment(wall_time("2027-03-28T03:30"), KYIV)
    twice = wall_time("2027-10-31T03:30")

    assert caught.value.field == "at"
    assert moment(twice, KYIV) == datetime(2027, 10, 31, 0, 30, tzinfo=UTC)
    assert happens_twice(twice, KYIV)
    assert not happens_twice(wall_time("2027-10-31T04:30"), KYIV)
    assert not happens_twice(wall_time("2027-03-28T03:30"), KYIV)
    assert moment(wall_time("2027-07-01T09:00"), KYIV) == datetime(2027, 7, 1, 6, tzinfo=UTC)


def test_readers_clocks_begin_where_the_time_comes_first_and_is_not_past() -> None:
    nine, now = wall_time("2027-07-01T09:00"), datetime(2027, 7, 1, 5, tzinfo=UTC)
    zones = ["America/New_York", KYIV, "Pacific/Auckland", "no/zone"]

    assert earliest(nine, zones, now) == datetime(2027, 7, 1, 6, tzinfo=UTC)
    assert earliest(nine, zones, datetime(2027, 7, 1, 12, tzinfo=UTC)) == datetime(2027, 7, 1, 13, tzinfo=UTC)
    assert earliest(nine, zones, datetime(2027, 7, 1, 14, tzinfo=UTC)) is None


@pytest.mark.parametrize("clock", ["newsroom", "reader"])
@pytest.mark.parametrize(
    ("at", "word"),
    [
        ("2020-01-01T09:00", "past"),
        ("2099-01-01T09:00", "more than a year"),
        ("tomorrow", "no time"),
        ("2027-13-01T09:00", "no time"),
        ("2027-01-01T09:00:00+02:00", "no time"),
        ("", "no time"),
    ],
)
async def test_a_time_that_cannot_be_meant_is_refused_and_the_draft_stays(
    room: Newsroom, ed: Person, at: str, word: str, clock: str
) -> None:
    with pytest.raises(Invalid, match=word) as caught:
        await scheduled(room, ed, at, clock=clock)

    assert caught.value.field == "at"
    assert caught.value.remedy
    assert [each.state for each in await drafting.listing(room.database)] == [DraftState.DRAFT]


async def test_a_schedule_can_be_edited_and_cancelled_and_whoever_edits_voids_it(room: Newsroom, ed: Person) -> None:
    draft = await scheduled(room, ed)
    wall = datetime.fromisoformat(TOMORROW).replace(tzinfo=ZoneInfo(KYIV))
    assert (draft.state, draft.send_at, draft.send_local) == (DraftState.SCHEDULED, wall, None)
    with pytest.raises(Conflict, match="scheduled"):
        await drafting.send(room.database, room.bell, draft.id, version=1, by=ed)
    assert when(draft, KYIV) == f"{wall:%a} {wall.day} {wall:%B %Y, %H:%M} {wall.tzname()}"
    in_autumn = replace(draft, send_at=datetime(2027, 10, 31, 0, 30, tzinfo=UTC))
    assert when(in_autumn, KYIV) == "Sun 31 October 2027, 03:30 EEST, the first time: the clocks show it twice"
    later = await drafting.schedule(room.database, draft.id, version=1, by=ed, at=TOMORROW, clock="reader", zone=KYIV)
    assert later.send_local == datetime.fromisoformat(TOMORROW)

    cancelled = await drafting.unschedule(room.database, room.settings, draft.id, version=1, by=ed)
    assert (cancelled.state, cancelled.send_at, cancelled.send_local) == (DraftState.DRAFT, None, None)
    with pytest.raises(Conflict, match="not scheduled"):
        await drafting.unschedule(room.database, room.settings, draft.id, version=1, by=ed)
    await drafting.schedule(room.database, draft.id, version=1, by=ed, at=TOMORROW, clock="newsroom", zone=KYIV)
    edited = await drafting.save(
        room.database, room.settings, draft.id, replace(TEXT, body="Other"), version=1, by=ed, unschedules=True
    )
    assert (edited.state, edited.send_at) == (DraftState.DRAFT, None)
    with pytest.raises(SavedMeanwhile):
        await drafting.schedule(room.database, draft.id, version=1, by=ed, at=TOMORROW, clock="newsroom", zone=KYIV)
    assert await publish_due(room) == 0


async def test_a_schedule_by_readers_clocks_begins_with_the_first_of_them(room: Newsroom, ed: Person) -> None:
    await room.run("UPDATE subscribers SET timezone = 'Pacific/Auckland' WHERE email = 'reader1@example.org'")
    wall = datetime.fromisoformat(TOMORROW) + timedelta(days=2)
    draft = await scheduled(room, ed, wall.strftime("%Y-%m-%dT%H:%M"), clock="reader", expires_in=timedelta(hours=1))

    assert draft.send_at == wall.replace(tzinfo=ZoneInfo("Pacific/Auckland"))
    await make_due(room, draft)
    assert await publish_due(room) == 1
    rows = await room.run("SELECT local_time, published_by, expires_at FROM updates")
    assert (rows[0]["local_time"], rows[0]["published_by"]) == (wall, "ed@courier.example")
    left = rows[0]["expires_at"] - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)  # for each reader from when their own time comes


async def test_many_who_look_at_once_publish_each_draft_once_and_no_other(room: Newsroom, ed: Person) -> None:
    later = await scheduled(room, ed)
    for number in range(3):
        await make_due(room, await scheduled(room, ed, headline=f"Update {number}"))

    counts = await asyncio.gather(*(publish_due(room) for _ in range(6)))

    assert sum(counts) == 3
    rows = await room.run("SELECT headline FROM updates ORDER BY seq")
    assert sorted(row["headline"] for row in rows) == ["Update 0", "Update 1", "Update 2"]
    assert [each.id for each in await drafting.listing(room.database)] == [later.id]


async def test_what_needs_approval_goes_out_at_its_time_only_if_exactly_that_was_approved(
    room: Newsroom, ed: Person
) -> None:
    lea = await employ(room, "lea", Role.LEAD)
    await set_rule(room, breaking=True)
    first = await scheduled(room, ed, importance=Importance.BREAKING, headline="Nobody looked")
    second = await scheduled(room, ed, importance=Importance.BREAKING, headline="Lea looked")
    assert len(await drafting.waiting(room.database, await drafting.listing(room.database))) == 2
    approved = await drafting.approve(room.database, second.id, version=1, by=lea, content_hash=second.content_hash)
    assert (approved.state, approved.is_approved) == (DraftState.SCHEDULED, True)
    moved = await scheduled(room, ed, importance=Importance.BREAKING, headline="Another time")
    await drafting.approve(room.database, moved.id, version=1, by=lea)
    hour = (datetime.fromisoformat(TOMORROW) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    moved = await drafting.schedule(room.database, moved.id, version=1, by=ed, at=hour, clock="newsroom", zone=KYIV)
    assert not moved.is_approved

    for each in (first, approved, moved):
        await make_due(room, each)
    assert await publish_due(room) == 1
    assert await publish_due(room) == 0

    assert [row["headline"] for row in await room.run("SELECT headline FROM updates")] == ["Lea looked"]
    for each in (first, moved):
        back = await drafting.find(room.database, each.id)
        assert back.state is DraftState.DRAFT
        assert "It is breaking news" in (back.reason or "")
        assert (await log_of(room, each.subject))[-1] == "did not send at the scheduled time"


async def test_what_cannot_go_out_at_its_time_comes_back_with_the_reason_and_holds_up_nobody(
    room: Newsroom, ed: Person
) -> None:
    closed = await scheduled(room, ed)
    expired = await scheduled(room, ed, expires_in=timedelta(hours=1))
    stale = await scheduled(room, ed)
    late = await scheduled(room, ed, headline="Late, and still true", expires_in=timedelta(hours=9))
    await make_due(room, stale, timedelta(hours=7))
    await make_due(room, expired, timedelta(hours=2))
    await make_due(room, late, timedelta(hours=2))
    assert await publish_due(room) == 1
    await stories.close(room.database, "dam")
    await make_due(room, closed)

    assert await publish_due(room) == 0
    reasons = {each.id: each.reason or "" for each in await drafting.listing(room.database)}
    for each in (expired, stale):
        assert "expired before it could be published" in reasons[each.id]
    assert "closed" in reasons[closed.id]
    assert await updates(room) == 2
    published = await room.run("SELECT expires_at - published_at AS left FROM updates")
    assert timedelta(hours=6) < published[0]["left"] < timedelta(hours=7, minutes=1)
    with pytest.raises(StoryClosed):
        await drafting.schedule(room.database, closed.id, version=1, by=ed, at=TOMORROW, clock="newsroom", zone=KYIV)


DUE = """
import asyncio
import sys
from dispatcher import db, drafting
from dispatcher.nudges import Bell
from tests.support.newsroom import settings_for

async def main():
    async with db.Database(sys.argv[1], size=2) as database:
        await drafting.publish_due(database, Bell(sys.argv[2]), settings_for(sys.argv[1]))

asyncio.run(main())
"""


async def test_a_worker_that_is_killed_while_it_publishes_leaves_it_to_the_next(room: Newsroom, ed: Person) -> None:
    draft = await scheduled(room, ed)
    await make_due(room, draft)
    with psycopg.connect(room.database.url) as holding:
        holding.execute("SELECT FROM stories WHERE slug = 'dam' FOR UPDATE")
        with a_worker(room) as worker:
            await _until_it_waits(room)
            assert await publish_due(room) == 0, "it is in the worker's hands"
            worker.send_signal(signal.SIGKILL)
            worker.wait(10)
    deadline = time.monotonic() + 10
    while await publish_due(room) == 0:
        assert time.monotonic() < deadline, "nobody took the draft over"
        await asyncio.sleep(0.02)

    assert await publish_due(room) == 0
    assert await updates(room) == 2
    assert (await drafting.find(room.database, draft.id)).update_seq == 1


async def test_a_draft_that_waits_for_its_story_holds_up_nothing_else_that_a_worker_does(
    room: Newsroom, ed: Person
) -> None:
    """Somebody holds the story: what is due waits, and what another worker left behind is seen to all the same."""
    await room.publish()
    await room.cut()
    await room.run(
        "UPDATE batches SET state = 'leased', attempts = 1, lease_token = 1, worker = 99,"
        " lease_until = clock_timestamp() - interval '1 second'"
    )
    draft = await scheduled(room, ed)
    await make_due(room, draft)
    engine = Engine(room.settings, urgent_only=False)
    with psycopg.connect(room.database.url) as holding:
        holding.execute("SELECT FROM stories WHERE slug = 'dam' FOR UPDATE")
        await asyncio.to_thread(engine.start)
        try:
            await _until_it_waits(room)
            async with asyncio.timeout(10):
                while await room.run("SELECT id FROM batches WHERE worker = 99"):
                    await asyncio.sleep(0.05)
            holding.rollback()
            async with asyncio.timeout(10):
                while (await drafting.find(room.database, draft.id)).update_seq is None:
                    await asyncio.sleep(0.05)
        finally:
            holding.rollback()
            await asyncio.to_thread(engine.stop)


@contextmanager
def a_worker(room: Newsroom) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that publishes what is due."""
    worker = subprocess.Popen([sys.executable, "-c", DUE, room.database.url, NO_BROKER])
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


async def _until_it_waits(room: Newsroom) -> None:
    """Until a process that holds the draft waits for the story."""
    deadline = time.monotonic() + 10
    waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not await room.run(waiting):
        assert time.monotonic() < deadline, "the worker does not publish"
        await asyncio.sleep(0.02)
