"""A running blast is stopped, by the desk within a second, or by a relay that refuses our mail on principle."""

from __future__ import annotations

import time

import pytest

from dispatcher import db, steering
from dispatcher.model import BlastState, DeliveryState
from tests.support.relays import finish_now, holding, hurry, relay_at, room_with, slow, until
from tests.support.sink import Script, Session, a_sink

State = DeliveryState
BY = "anna"


def dated(times: list[float]) -> Script:
    """A relay that takes its time, and notes when each message was there."""

    def script(step: str, argument: str, session: Session) -> str | None:
        if step == "BODY":
            times.append(time.monotonic())
        return slow(0.02)(step, argument, session)

    return script


async def test_a_paused_blast_stops_within_a_second_on_all_workers_and_goes_on_where_it_stopped(
    database: db.Database,
) -> None:
    times: list[float] = []
    async with a_sink(dated(times)) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=1500)
        published = await room.publish()
        await room.cut()
        async with room.sender() as one, room.sender() as two:
            one.nudge()
            two.nudge()
            await until(lambda: len(times) >= 60)
            await steering.pause(database, published.blast_ids[0], by=BY)
            stopped = time.monotonic()
            # Everything that was on its way is answered, written down and given back, and then nothing moves.
            await until(lambda: not one._batches and not two._batches and time.monotonic() > stopped + 1.5)
            paused = await room.report(published)
            rows = await room.run("SELECT DISTINCT state, attempts FROM batches WHERE state <> 'done'")
            sink.script = lambda *_: None
            await steering.resume(database, room.bell, published.blast_ids[0], by=BY)
            report = await room.finish(one, published)

    assert max(times) < stopped + 1
    assert paused.state is BlastState.PAUSED
    assert paused.states == {State.ACCEPTED: len(times)}
    assert paused.waiting == 1500 - len(times)
    assert [tuple(row.values()) for row in rows] == [("waiting", 0)]
    assert report.states == {State.ACCEPTED: 1500}
    assert set(sink.copies().values()) == {1}


async def test_a_cancelled_blast_stops_within_a_second_and_for_good(database: db.Database) -> None:
    times: list[float] = []
    async with a_sink(dated(times)) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=1500)
        published = await room.publish()
        await room.cut()
        async with room.sender() as sender:
            sender.nudge()
            await until(lambda: len(times) >= 30)
            await steering.cancel(database, published.blast_ids[0], by=BY)
            stopped = time.monotonic()
            await until(lambda: not sender._batches and time.monotonic() > stopped + 1.5)
            sender.nudge()
            await sender.send_next(1)
            report = await room.report(published)

    assert max(times) < stopped + 1
    assert report.state is BlastState.CANCELLED
    assert report.states == {State.ACCEPTED: len(times)}
    assert report.waiting == 1500 - len(times)
    assert set(sink.copies().values()) == {1}


async def test_a_stopped_blast_makes_room_for_another(database: db.Database) -> None:
    async with a_sink(slow(0.02)) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=1500)
        await room.story("strike")
        await room.follow("strike", *(f"other{n}@example.org" for n in range(20)))
        published = await room.publish()
        await room.cut()
        async with room.sender() as sender:
            sender.nudge()
            await until(lambda: len(sink.taken) >= 10)
            await steering.pause(database, published.blast_ids[0], by=BY)
            report = await room.settle(sender, await room.publish("strike"))

    assert report.states == {State.ACCEPTED: 20}


async def test_a_relay_that_refuses_us_on_principle_costs_nobody_their_mail(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5.7.x is never retried at once and never final while nobody is accepted: the circuit opens and says why."""
    hurry(monkeypatch)
    asked = 0

    def refuse(step: str, argument: str, session: Session) -> str | None:
        nonlocal asked
        asked += step == "RCPT"
        return "554 5.7.1 Your address is on our list" if step == "RCPT" else None

    async with a_sink(refuse) as sink:
        room = room_with(database, relay_at(sink.port, lanes=2))
        await room.story(followers=300)
        published = await room.publish()
        async with room.sender() as sender:
            held = await holding(room, sender, published)
            before = asked
            sink.script = lambda *_: None
            report = await finish_now(room, sender, published)

    assert "5.7.1 Your address is on our list" in held.holding
    assert before <= 12
    assert State.FAILED not in held.states
    assert report.states == {State.ACCEPTED: 300}
    assert set(sink.copies().values()) == {1}


async def test_a_reader_who_is_refused_on_principle_while_others_are_not_is_given_up_after_three_tries(
    database: db.Database,
) -> None:
    tries = 0

    def refuse(step: str, argument: str, session: Session) -> str | None:
        nonlocal tries
        if step != "RCPT" or argument != "reader5@example.org":
            return None
        tries += 1
        return "550 5.7.1 This mailbox takes no mail from you"

    async with a_sink(refuse) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=10)
        published = await room.publish()
        async with room.sender() as sender:
            first = await room.settle(sender, published)
            report = await finish_now(room, sender, published)
            circuit = sender._channel.reports()[0].circuit
        kept = await room.run("SELECT count(*) AS n FROM suppressions")

    assert first.states == {State.ACCEPTED: 9, State.DEFERRED: 1}
    assert report.states == {State.ACCEPTED: 9, State.FAILED: 1}
    assert tries == 3
    assert circuit == "closed"
    assert kept[0]["n"] == 0


async def test_a_relay_that_calls_every_address_bad_suppresses_few(database: db.Database) -> None:
    """Then it is more likely the relay that is wrong, and an address is suppressed for good."""

    def refuse(step: str, argument: str, session: Session) -> str | None:
        return "550 5.1.1 No such user" if step == "RCPT" else None

    async with a_sink(refuse) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=300)
        published = await room.publish()
        async with room.sender() as sender:
            report = await room.finish(sender, published)
        kept = await room.run("SELECT count(*) AS n FROM suppressions")

    assert report.states == {State.FAILED: 300}
    assert kept[0]["n"] < 20
