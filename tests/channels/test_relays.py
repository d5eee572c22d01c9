"""Several relays, and what each is given: shares, standbys, rates, connections. Real workers' senders, real sinks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from dispatcher import db
from dispatcher.channels.email import pool
from dispatcher.model import DeliveryState
from tests.support.relays import finish_now, hurry, relay_at, room_with, slow
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


async def test_an_outage_of_one_process_is_news_for_the_others(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gets through tells all: nobody else has to wait for a probe of their own."""
    hurry(monkeypatch, probe_every=2.0)
    async with a_sink(lambda step, *_: HANG_UP if step == "BANNER" else None) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=1000)
        published = await room.publish()
        async with room.sender() as one, room.sender() as two:
            both = (one, two)
            await room.cut()
            async with asyncio.timeout(10):
                while any(each._channel.reports()[0].circuit != "open" for each in both):
                    one.nudge()
                    two.nudge()
                    await asyncio.sleep(0.02)
            tried = sink.connections
            await asyncio.sleep(4.5)
            probes = sink.connections - tried
            sink.script = slow(0.01)
            report = await finish_now(room, one, published)
            after = [each._channel.reports()[0].circuit for each in both]

    assert tried <= 2 * 6
    assert 1 <= probes <= 3  # of both together
    assert report.states == {ACCEPTED: 1000}
    assert after == ["closed", "closed"]
    assert set(sink.copies().values()) == {1}
