"""A relay that misbehaves at any step: the blast and `doctor` say how, in bounded time, and nobody is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from dispatcher import db
from dispatcher.channels.email.relay import probe
from dispatcher.model import DeliveryState
from tests.support.relays import a_tls_sink, finish_now, holding, hurry, relay_at, room_with
from tests.support.sink import EXTENSIONS, HANG_UP, SILENCE, Script, Session, a_sink

MEGABYTE = "x" * 1_000_000 + "\\"  #: the sink writes no line end after a backslash
READERS = 12
#: An answer that is followed by more answers than there were questions.
TOO_MANY = "250 2.0.0 Ok" + "\r\n250 2.0.0 Ok" * 9


def at(step: str, reply: str) -> Script:
    return lambda found, argument, session: reply if found == step else None


def closes_after_ehlo(step: str, argument: str, session: Session) -> str | None:
    if step == "EHLO":
        asyncio.get_running_loop().call_soon(session.hang_up)
    return None


def trickles(step: str, argument: str, session: Session) -> str | None:
    """A greeting at a few bytes a second, without an end."""

    def one_more() -> None:
        if session._transport is not None:
            session._transport.write(b"2")
            asyncio.get_running_loop().call_later(0.1, one_more)

    one_more()
    return SILENCE


def swaps(step: str, argument: str, session: Session) -> str | None:
    """Announces PIPELINING and then answers DATA before RCPT."""
    return {"RCPT": "354 go ahead", "DATA": "250 2.1.5 Ok"}.get(step)


OPENING = {
    "greets with nonsense": (at("BANNER", "hello, who is there?"), "", EXTENSIONS),
    "refuses the greeting": (at("BANNER", "554 5.7.1 Go away"), "554 5.7.1 Go away", EXTENSIONS),
    "says nothing": (at("BANNER", SILENCE), "", EXTENSIONS),
    "trickles its greeting": (trickles, "", EXTENSIONS),
    "greets with a megabyte": (at("BANNER", MEGABYTE), "", EXTENSIONS),
    "hangs up at once": (at("BANNER", HANG_UP), "", EXTENSIONS),
    "says nothing after EHLO": (at("EHLO", SILENCE), "", EXTENSIONS),
    "answers EHLO with a megabyte": (at("EHLO", MEGABYTE), "", EXTENSIONS),
    "hangs up at EHLO": (at("EHLO", HANG_UP), "", EXTENSIONS),
    "answers EHLO with nonsense": (at("EHLO", "what do you mean"), "", EXTENSIONS),
}
LATER: dict[str, Script] = {
    "closes after EHLO": closes_after_ehlo,
    "says nothing at MAIL": at("MAIL", SILENCE),
    "says nothing at DATA": at("DATA", SILENCE),
    "hangs up at MAIL": at("MAIL", HANG_UP),
    "talks nonsense at MAIL": at("MAIL", "yes, why not"),
    "answers MAIL with a megabyte": at("MAIL", MEGABYTE),
    "answers more than it is asked": at("MAIL", TOO_MANY),
    "answers RCPT without an end": at("RCPT", "\r\n".join(["250-and"] * 5000)),
    "answers in another order": swaps,
}


@pytest.mark.parametrize("case", OPENING)
async def test_a_relay_that_opens_no_session_is_named_and_nobody_is_lost(
    database: db.Database, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    hurry(monkeypatch)
    script, words, extensions = OPENING[case]
    async with a_sink(script, extensions=extensions) as sink:
        relay = relay_at(sink.port)
        began = time.monotonic()
        told = await probe(relay)
        probed_in = time.monotonic() - began
        room = room_with(database, relay)
        await room.story(followers=READERS)
        published = await room.publish()
        async with room.sender() as sender:
            held = await holding(room, sender, published)
            rows = await room.run("SELECT count(*) AS n FROM deliveries")
            sink.script = lambda *_: None
            report = await finish_now(room, sender, published)

    assert probed_in < 5
    assert not told.reachable
    assert relay.name in told.detail
    assert words in told.detail
    assert relay.name in held.holding
    assert words in held.holding
    assert rows[0]["n"] == 0
    assert report.states == {DeliveryState.ACCEPTED: READERS}
    assert set(sink.copies().values()) == {1}


@pytest.mark.parametrize("case", LATER)
async def test_a_relay_that_takes_no_message_is_left_alone_and_nobody_is_lost(
    database: db.Database, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    hurry(monkeypatch)
    async with a_sink(LATER[case]) as sink:
        room = room_with(database, relay_at(sink.port, lanes=3))
        await room.story(followers=READERS)
        published = await room.publish()
        async with room.sender() as sender:
            held = await holding(room, sender, published)
            stormed = sink.connections
            sink.script = lambda *_: None
            for session in list(sink.sessions):
                session.hang_up()
            report = await finish_now(room, sender, published)

    assert held.holding
    assert stormed <= 20
    assert report.states == {DeliveryState.ACCEPTED: READERS}
    assert set(sink.copies().values()) == {1}


@pytest.mark.parametrize(
    "options", [{"tls": True}, {"starttls": "require"}, {"starttls": "auto"}], ids=lambda options: str(options)
)
async def test_a_certificate_that_is_somebody_elses_is_never_accepted(
    database: db.Database, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    """Least of all by going on without TLS."""
    hurry(monkeypatch)
    async with a_tls_sink(from_the_start="tls" in options) as sink:
        relay = relay_at(sink.port, **options)
        told = await probe(relay)
        room = room_with(database, relay)
        await room.story(followers=READERS)
        published = await room.publish()
        async with room.sender() as sender:
            held = await holding(room, sender, published)

    assert not told.reachable
    assert "certificate" in told.detail.lower()
    assert told.remedy
    assert "certificate" in held.holding.lower()
    assert held.waiting == READERS
    assert not sink.taken


async def test_a_relay_without_starttls_gets_nothing_where_tls_is_required(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    async with a_sink() as sink:
        relay = relay_at(sink.port, starttls="require")
        told = await probe(relay)
        room = room_with(database, relay)
        await room.story(followers=READERS)
        published = await room.publish()
        async with room.sender() as sender:
            held = await holding(room, sender, published)

    assert not told.reachable
    assert "STARTTLS" in told.detail
    assert "STARTTLS" in held.holding
    assert not sink.taken


Answer = Callable[[int], str]


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "BODY"])
async def test_a_relay_that_is_silent_at_one_step_does_not_hold_up_another_relay(
    database: db.Database, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """What lies on its lanes is given back, or is in doubt until an answer comes; the rest is the other relay's."""
    hurry(monkeypatch)
    async with a_sink(at(step, SILENCE)) as silent, a_sink() as well:
        room = room_with(database, relay_at(silent.port), relay_at(well.port))
        await room.story(followers=300)
        published = await room.publish()
        async with room.sender() as sender:
            report = await room.settle(sender, published)
            silent.script = lambda *_: None
            for session in list(silent.sessions):
                session.speak("250 2.0.0 Ok")

    doubtful = report.states.get(DeliveryState.IN_DOUBT, 0)
    assert report.states.get(DeliveryState.ACCEPTED, 0) + doubtful == 300
    assert len(well.taken) == 300 - doubtful
    assert doubtful == (len(silent.taken) if step == "BODY" else 0)
    assert doubtful <= 5  # its lanes, and one for the trial
