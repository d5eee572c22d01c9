"""What readers wish for is honoured by a blast: a pause, quiet hours, and what comes through both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dispatcher import db
from dispatcher.model import DeliveryState, Importance, Kind
from dispatcher.parcels import PAUSED, QUIET
from tests.support.newsroom import Newsroom, newsroom
from tests.support.relays import relay_at, room_with, slow, until
from tests.support.sink import Sink, a_sink

State = DeliveryState
READER = "reader1@example.org"


async def be_quiet(room: Newsroom, *, starts: timedelta, ends: timedelta, zone: str, breaking: bool = True) -> None:
    """Quiet hours of every reader, around this moment of their day."""
    await room.run(
        "UPDATE subscribers SET timezone = %s, quiet_breaking = %s,"
        " quiet_from = ((now() + %s) AT TIME ZONE %s)::time, quiet_to = ((now() + %s) AT TIME ZONE %s)::time",
        *(zone, breaking, starts, zone, ends, zone),
    )


async def pause(room: Newsroom, until: datetime) -> None:
    await room.run("UPDATE subscribers SET paused_until = %s", until)


async def states_of(room: Newsroom, sink: Sink, **draft: object) -> dict[State, int]:
    """What becomes of an update that is published now."""
    async with room.sender() as sender:
        return (await room.finish(sender, await room.publish(**draft))).states  # type: ignore[arg-type]


async def test_a_reader_who_pauses_is_not_written_to_until_the_pause_is_over(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=1)
        await pause(room, datetime.now(UTC) + timedelta(days=3))
        paused = await states_of(room, sink, importance=Importance.BREAKING)
        reasons = await room.run("SELECT DISTINCT reply FROM deliveries")
        await pause(room, datetime.now(UTC) - timedelta(seconds=1))
        over = await states_of(room, sink)

    assert paused == {State.CAPPED: 1}
    assert [each["reply"] for each in reasons] == [PAUSED]
    assert over == {State.ACCEPTED: 1}
    assert len(sink.taken) == 1


async def test_a_correction_of_what_a_reader_received_comes_through_the_pause(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=1)
        first = await states_of(room, sink)
        await pause(room, datetime.now(UTC) + timedelta(days=3))
        missed = await states_of(room, sink)
        corrected = await states_of(room, sink, kind=Kind.CORRECTION, corrects_seq=1)
        of_missed = await states_of(room, sink, kind=Kind.CORRECTION, corrects_seq=2)

    assert (first, missed) == ({State.ACCEPTED: 1}, {State.CAPPED: 1})
    assert corrected == {State.ACCEPTED: 1}
    assert of_missed == {}  # they never saw what was wrong


@pytest.mark.parametrize("zone", ["UTC", "Europe/Kyiv", "Pacific/Kiritimati", "America/Caracas"])
async def test_quiet_hours_are_those_of_the_readers_own_day(database: db.Database, zone: str) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=1)
        await be_quiet(room, starts=timedelta(hours=-1), ends=timedelta(hours=1), zone=zone)
        inside = await states_of(room, sink)
        await be_quiet(room, starts=timedelta(hours=1), ends=timedelta(hours=9), zone=zone)
        before = await states_of(room, sink)

    assert (inside, before) == ({State.CAPPED: 1}, {State.ACCEPTED: 1})


async def test_breaking_news_comes_through_quiet_hours_only_if_the_reader_lets_it(database: db.Database) -> None:
    before, after = timedelta(hours=-1), timedelta(hours=1)
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=1)
        await be_quiet(room, starts=before, ends=after, zone="UTC")
        let_through = await states_of(room, sink, importance=Importance.BREAKING)
        await be_quiet(room, starts=before, ends=after, zone="UTC", breaking=False)
        kept_out = await states_of(room, sink, importance=Importance.BREAKING)
        reasons = await room.run("SELECT DISTINCT reply FROM deliveries WHERE state = 'capped'")

    assert (let_through, kept_out) == ({State.ACCEPTED: 1}, {State.CAPPED: 1})
    assert [each["reply"] for each in reasons] == [QUIET]


async def test_an_unknown_timezone_counts_as_utc_and_loses_nobody(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=1)
        await be_quiet(room, starts=timedelta(hours=-1), ends=timedelta(hours=1), zone="UTC")
        await room.run("UPDATE subscribers SET timezone = 'Mars/Olympus'")

        assert await states_of(room, sink) == {State.CAPPED: 1}


async def test_a_reader_who_pauses_while_the_blast_runs_is_spared_within_a_second(database: db.Database) -> None:
    async with a_sink(slow(0.05)) as sink:
        room = room_with(database, relay_at(sink.port, lanes=2))
        await room.story(followers=300)
        published = await room.publish()
        await room.cut()
        async with room.sender() as sender:
            sender.nudge()
            await until(lambda: len(sink.taken) >= 5)
            last = "reader300@example.org"
            await room.run(
                "UPDATE subscribers SET paused_until = now() + interval '1 day' WHERE email IN (%s, %s)",
                *(last, "reader299@example.org"),
            )
            sink.script = lambda *_: None
            report = await room.finish(sender, published)

    assert report.states == {State.ACCEPTED: 298, State.CAPPED: 2}
    assert last not in sink.copies()
