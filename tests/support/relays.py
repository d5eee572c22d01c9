"""Relays as a test wants them: with options of their own, slow, silent, or with somebody else's certificate."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatcher import db, fleet, upkeep
from dispatcher.channels.email import channel, circuit, pool, relay
from dispatcher.config import RelaySettings
from dispatcher.model import BlastReport, Published
from dispatcher.sending import Sender
from tests.support.newsroom import Newsroom, newsroom
from tests.support.sink import EXTENSIONS, SILENCE, Script, Session, Sink, listening

#: A key and a certificate that nobody signed, for a name that no test uses.
CERTIFICATE = Path(__file__).with_name("wrong_certificate.pem")


def relay_at(port: int, **options: Any) -> RelaySettings:
    return RelaySettings(host="127.0.0.1", port=port, **{"starttls": "never", "lanes": 4, **options})


def room_with(database: db.Database, *relays: RelaySettings, **settings: Any) -> Newsroom:
    """A newsroom whose workers use these relays."""
    room = newsroom(database)
    room.settings = replace(room.settings, relays=relays, **settings)
    return room


def hurry(monkeypatch: pytest.MonkeyPatch, *, overdue: float = 0.4, probe_every: float = 0.5) -> None:
    """Have this process wait less long for relays than it does in earnest."""
    monkeypatch.setattr(channel, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(circuit, "PAUSES", (0.05, 0.1, 0.15, 0.2))
    monkeypatch.setattr(pool, "OVERDUE", overdue)
    monkeypatch.setattr(pool, "BACKOFF", (0.2,))
    monkeypatch.setattr(circuit, "PROBE_EVERY", probe_every)
    monkeypatch.setattr(fleet, "PROBE_EVERY", probe_every)
    monkeypatch.setattr(relay, "CONNECT_TIMEOUT", 2 * overdue)
    monkeypatch.setattr(relay, "SESSION_TIMEOUT", 3 * overdue)


def slow(seconds: float) -> Script:
    """Answer every message after so long."""

    def script(step: str, argument: str, session: Session) -> str | None:
        if step != "BODY":
            return None
        asyncio.get_running_loop().call_later(seconds, session.speak, "250 2.0.0 Ok")
        return SILENCE

    return script


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something is so, here or in the database."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.01)


async def holding(room: Newsroom, sender: Sender, published: Published, *, seconds: float = 15) -> BlastReport:
    """Send until the blast says why it stands still."""
    async with asyncio.timeout(seconds):
        while not (report := await room.report(published)).holding:
            await upkeep.tick(room.database)
            await room.cut()
            sender.nudge()
            await asyncio.sleep(0.02)
    return report


async def finish_now(room: Newsroom, sender: Sender, published: Published, *, seconds: float = 30) -> BlastReport:
    """Send until the blast is done, and let nobody wait for the time of their next try."""
    end = time.monotonic() + seconds
    while not (report := await room.report(published)).settled:
        assert time.monotonic() < end, f"not done: {report}"
        await room.run("UPDATE deliveries SET next_at = now() WHERE next_at > now()")
        await upkeep.tick(room.database)
        await room.cut()
        sender.nudge()
        await asyncio.sleep(0.02)
    return report


class TlsSession(Session):
    """A session that takes STARTTLS."""

    def _command(self, line: str) -> None:
        if line.upper() != "STARTTLS":
            super()._command(line)
            return
        self._say("220 2.0.0 go ahead")
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        upgrade = loop.create_task(loop.start_tls(self._transport, self, server_context(), server_side=True))
        upgrade.add_done_callback(lambda done: done.exception())  # the other side hangs up: that is the test


@asynccontextmanager
async def a_tls_sink(*, from_the_start: bool) -> AsyncIterator[Sink]:
    """A sink with a certificate that nobody should trust; TLS from the first byte, or by STARTTLS."""
    sink = Sink(extensions=EXTENSIONS if from_the_start else (*EXTENSIONS, "STARTTLS"))
    session, tls = (Session, server_context()) if from_the_start else (TlsSession, None)
    async with listening(sink, session, tls=tls):
        yield sink


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context
