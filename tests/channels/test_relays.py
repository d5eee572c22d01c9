"""Several relays, and what each is given: shares, standbys, rates, connections. Real workers' senders, real sinks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from dispatcher import db
from dispatcher.channels.email import pool
from dispatcher.fleet import Fleet
from dispatcher.model import DeliveryState
from tests.support.relays import hurry, relay_at, room_with, slow
from tests.support.sink import HANG_UP, SILENCE, Script, Session, a_sink

ACCEPTED = DeliveryState.ACCEPTED


async def test_each_relay_gets_mail_in_proportion_to_its_weight(database: db.Database) -> None:
    async with a_sink(slow(0.02)) as heavy, a_sink(slow(0.02)) as light:
        room = room_with(database, relay_at(heavy.port, lanes=8, weight=4), relay_at(light.port, lanes=8, weight=1))
        await room.story(followers=800)
        published = await room.publish()
        async with room.sender() as sender:
            report = await room.settle(sender, published, seconds=20)

    assert report.states == {ACCEPTED: 800}
    assert len(light.taken) > 40
    assert 2 * len(light.taken) < len(heavy.taken)
    assert light.connections <= 2


async def test_a_standby_is_left_alone_while_another_relay_takes_mail(database: db.Database) -> None:
    async with a_sink() as main, a_sink() as standby:
        room = room_with(database, relay_at(main.port), relay_at(standby.port, weight=0))
        await room.story(followers=200)
        published = await room.publish()
        async with room.sender() as sender:
            await room.settle(sender, published)

    assert len(main.taken) == 200
    assert standby.connections == 0


async def test_a_standby_takes_over_and_lets_go(database: db.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    dead: Script = lambda step, *_: HANG_UP if step == "BANNER" else None  # noqa: E731
    async with a_sink(dead) as main, a_sink() as standby:
        room = room_with(database, relay_at(main.port), relay_at(standby.port, weight=0))
        await room.story(followers=100)
        async with room.sender() as sender:
            report = await room.settle(sender, await room.publish())
            while_away = Counter(standby.copies())
            main.script = lambda *_: None
            async with asyncio.timeout(15):
                while not main.taken:
                    await room.settle(sender, await room.publish())
            before = len(standby.taken)
            last = await room.settle(sender, await room.publish())

    assert report.states == last.states == {ACCEPTED: 100}
    assert set(while_away.values()) == {1}
    assert len(while_away) == 100
    assert len(standby.taken) == before


async def test_a_standby_does_not_wait_for_a_relay_that_says_nothing(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "STANDBY_AFTER", 0.2)
    async with a_sink(lambda *_: SILENCE) as main, a_sink() as standby:
        room = room_with(database, relay_at(main.port), relay_at(standby.port, weight=0))
        await room.story(followers=100)
        published = await room.publish()
        async with room.sender() as sender:
            report = await room.settle(sender, published)

    assert report.states == {ACCEPTED: 100}
    assert len(standby.taken) == 100


async def test_a_connection_is_renewed_after_so_many_messages(database: db.Database) -> None:
    messages: Counter[int] = Counter()

    def count(step: str, argument: str, session: Session) -> str | None:
        messages[session.number] += step == "BODY"
        return None

    async with a_sink(count) as sink:
        room = room_with(database, relay_at(sink.port, per_connection=7))
        await room.story(followers=100)
        published = await room.publish()
        async with room.sender() as sender:
            report = await room.settle(sender, published)
            rows = await room.run("SELECT max(attempts) AS most FROM deliveries")

    assert report.states == {ACCEPTED: 100}
    assert max(messages.values()) == 7
    assert set(sink.copies().values()) == {1}
    assert rows[0]["most"] == 1


@pytest.mark.parametrize("way", ["hangs up", "says 421"])
async def test_a_relay_that_takes_one_message_a_connection_gets_all_of_them(database: db.Database, way: str) -> None:
    def one(step: str, argument: str, session: Session) -> str | None:
        if step == "MAIL" and session.messages:
            return HANG_UP if way == "hangs up" else "421 4.7.0 one message a connection"
        return None

    async with a_sink(one) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=150)
        published = await room.publish()
        async with room.sender() as sender:
            report = await room.settle(sender, published)

    assert report.states == {ACCEPTED: 150}
    assert set(sink.copies().values()) == {1}


async def test_a_relay_that_allows_fewer_connections_is_not_stormed(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)

    def two(step: str, argument: str, session: Session) -> str | None:
        if step == "EHLO" and len(session.sink.sessions) > 2:
            asyncio.get_running_loop().call_soon(session.hang_up)
        return slow(0.01)(step, argument, session)

    async with a_sink(two) as sink:
        room = room_with(database, relay_at(sink.port, lanes=10))
        await room.story(followers=300)
        published = await room.publish()
        async with room.sender() as sender:
            report = await room.settle(sender, published, seconds=20)

    assert report.states == {ACCEPTED: 300}
    assert set(sink.copies().values()) == {1}
    assert sink.connections < 50


async def test_messages_a_second_are_kept_to_and_nobody_is_lost(database: db.Database, broker_url: str) -> None:
    async with a_sink() as sink:
        room = room_with(database, relay_at(sink.port, rate=60), broker_url=broker_url)
        await room.story(followers=150)
        published = await room.publish()
        async with room.sender() as sender:
            began = time.monotonic()
            report = await room.settle(sender, published)
            took = time.monotonic() - began

    assert report.states == {ACCEPTED: 150}
    assert took >= (150 - 60 - 15) / 60  # all but what may be spent at once


async def test_a_relay_with_a_rate_does_not_slow_one_without(database: db.Database, broker_url: str) -> None:
    async with a_sink() as limited, a_sink() as free:
        room = room_with(database, relay_at(limited.port, rate=1), relay_at(free.port), broker_url=broker_url)
        await room.story(followers=500)
        published = await room.publish()
        async with room.sender() as sender:
            report = await room.settle(sender, published)

    assert report.states == {ACCEPTED: 500}
    assert len(limited.taken) <= 11


async def test_a_worker_with_nothing_to_send_tells_others_that_a_relay_can_be_reached_again(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is kept for urgent work may make the probe, and has nothing to try the relay with."""
    hurry(monkeypatch, probe_every=0.5)
    async with a_sink(lambda step, *_: HANG_UP if step == "BANNER" else None) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=50)
        published = await room.publish()
        async with room.sender() as one, room.sender(urgency=10) as urgent:
            await room.cut()
            for sender in (one, urgent):
                async with asyncio.timeout(10):
                    while sender._channel.reports()[0].circuit != "open":
                        sender._channel.expect()
                        one.nudge()
                        await asyncio.sleep(0.02)
            monkeypatch.setattr(type(one._fleet), "may_probe", only(urgent._fleet))
            sink.script = lambda *_: None
            report = await room.finish(one, published)

    assert report.states == {ACCEPTED: 50}


def only(chosen: Fleet) -> Callable[[Fleet, str], Awaitable[bool]]:
    """Let one process win every race for the next probe."""

    async def may_probe(fleet: Fleet, relay: str) -> bool:
        return fleet is chosen

    return may_probe
