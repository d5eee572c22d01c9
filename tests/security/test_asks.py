"""An ask that cannot be answered, for whatever reason, keeps nobody else's waiting."""

from __future__ import annotations

import pytest

from dispatcher import db, following
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
