"""An ask that cannot be answered, for whatever reason, keeps nobody else's waiting."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from dispatcher import db, following
from dispatcher.errors import DatabaseUnavailable
from dispatcher.following import answering
from dispatcher.model import Cadence
from tests.support.newsroom import SECRET, Newsroom, newsroom

POISON = "poison@example.org"


async def ask(room: Newsroom, *emails: str) -> None:
    for email in emails:
        await following.ask_to_follow(
            *(room.database, SECRET, "dam"), email=email, cadence=Cadence.EVERY, locale="en", timezone="UTC"
        )


async def test_one_poisoned_ask_holds_up_nobody_else(database: db.Database) -> None:
    room = newsroom(database)
    await room.story()
    await room.run(f"ALTER TABLE confirmations ADD CONSTRAINT poisoned CHECK (email <> '{POISON}')")
    before, after = (tuple(f"{word}{number}@example.org" for number in range(5)) for word in ("before", "after"))
    await ask(room, *before, POISON, *after)

    assert await following.answer(database, SECRET) == 10
    with pytest.raises(db.CheckViolation):
        await following.answer(database, SECRET)
    await ask(room, "late@example.org")
    assert await following.answer(database, SECRET) == 1

    owed = await room.run("SELECT email FROM notices ORDER BY id")
    assert [row["email"] for row in owed] == [*before, *after, "late@example.org"]
    assert await room.run("SELECT email FROM asks") == [{"email": POISON}]
    await room.run("ALTER TABLE confirmations DROP CONSTRAINT poisoned")
    assert await following.answer(database, SECRET) == 1


async def test_a_worker_that_falls_asleep_over_its_answers_keeps_nobody_waiting(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R12 for asks: it holds the lock by which one worker answers for all, and says nothing more."""
    room = newsroom(database)
    await room.story()
    await ask(room, "ada@example.org")
    look_up, asleep = answering._look_up, asyncio.Event()

    async def fall_asleep(*_: Any) -> Any:
        asleep.set()
        await asyncio.sleep(3600)

    monkeypatch.setattr(answering, "SILENCE", 300)
    monkeypatch.setattr(answering, "_look_up", fall_asleep)
    sleeper = asyncio.create_task(following.answer(database, SECRET, alone=True))
    await asleep.wait()
    monkeypatch.setattr(answering, "_look_up", look_up)
    began = time.monotonic()
    async with asyncio.timeout(60):
        while not await following.answer(database, SECRET, alone=True):
            await asyncio.sleep(0.05)
    took = time.monotonic() - began
    sleeper.cancel()
    with pytest.raises((asyncio.CancelledError, DatabaseUnavailable)):
        await sleeper

    assert took < 30
    assert len(await room.run("SELECT id FROM notices")) == 1
