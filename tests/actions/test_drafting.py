"""Drafts: kept for whoever comes back, sent once, whoever presses how often."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher import db, drafting, people, stories
from dispatcher.drafting import SavedMeanwhile, Text
from dispatcher.errors import Conflict, Invalid, NotFound, StoryClosed
from dispatcher.model import DraftState, Importance, Kind
from dispatcher.people import Person
from dispatcher.roles import Role
from tests.support.newsroom import Newsroom, newsroom

TEXT = Text(headline="Water is over the wall", body="The gauge reads 6.12 m.", importance=Importance.MAJOR)


@pytest.fixture
async def room(database: db.Database) -> Newsroom:
    made = newsroom(database)
    await made.story()
    return made


async def employ(room: Newsroom, name: str, role: Role) -> Person:
    """Somebody at the desk, without a password."""
    email = f"{name}@courier.example"
    await room.run("INSERT INTO people (email, name, role) VALUES (%s, %s, %s::role)", email, name.title(), str(role))
    return await people.find(room.database, email)


async def test_five_presses_of_two_editors_send_one_update(room: Newsroom) -> None:
    ada, ben = await employ(room, "ada", Role.EDITOR), await employ(room, "ben", Role.EDITOR)
    draft = await drafting.begin(room.database, "dam", by=ada, text=TEXT)

    answers = await asyncio.gather(
        *(drafting.send(room.database, room.bell, draft.id, version=1, by=each) for each in (ada, ben, ada, ben, ada))
    )

    assert len({each.update.id for each in answers}) == 1
    assert sorted(each.replayed for each in answers) == [False, True, True, True, True]
    assert len({each.blast_ids for each in answers}) == 1
    found = await drafting.find(room.database, draft.id)
    assert (found.state, found.update_seq) == (DraftState.PUBLISHED, 1)
    log = await room.run("SELECT actor, action, content_hash FROM audit WHERE subject = %s ORDER BY id", draft.subject)
    assert [row["action"] for row in log] == ["began a draft", "sent"]
    assert log[1]["content_hash"] == draft.content_hash
