"""Drafts: kept for whoever comes back, and sent once, whoever presses how often."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatcher import db, drafting, stories
from dispatcher.drafting import NotYours, SavedMeanwhile, Text
from dispatcher.errors import Conflict, DispatcherError, Invalid, NotFound, StoryClosed, TooLarge
from dispatcher.model import DraftState, Importance, Kind
from dispatcher.roles import Role
from tests.support.desk import TEXT, employ, log_of, updates
from tests.support.newsroom import Newsroom, newsroom


@pytest.fixture
async def room(database: db.Database) -> Newsroom:
    made = newsroom(database)
    await made.story()
    return made


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
    assert await log_of(room, draft.subject) == ["began a draft", "sent"]
    sent = await room.run("SELECT content_hash FROM audit WHERE action = 'sent'")
    assert sent[0]["content_hash"] == draft.content_hash
    assert await drafting.listing(room.database) == []


async def test_a_draft_may_be_incomplete_and_is_found_as_it_was_saved(room: Newsroom) -> None:
    ada, ben = await employ(room, "ada", Role.REPORTER), await employ(room, "ben", Role.REPORTER)
    begun = await drafting.begin(room.database, "dam", by=ada)
    text = Text(headline=" Water rises ", body="One\r\ntwo", expires_in=timedelta(hours=6))

    saved = await drafting.save(room.database, room.settings, begun.id, text, version=1, by=ben)
    found = await drafting.find(room.database, begun.id)

    assert begun.text == Text()
    assert found.text == replace(text, headline="Water rises", body="One\ntwo")
    assert (saved.version, found.version) == (2, 2)
    assert (found.author.name, found.last_editor.name) == ("Ada", "Ben")
    assert [each.id for each in await drafting.listing(room.database, slug="dam")] == [begun.id]


async def test_saving_the_same_again_is_no_new_version(room: Newsroom) -> None:
    ada = await employ(room, "ada", Role.REPORTER)
    draft = await drafting.begin(room.database, "dam", by=ada, text=TEXT)

    saved = await drafting.save(room.database, room.settings, draft.id, TEXT, version=1, by=ada)

    assert saved.version == 1
    assert saved.updated_at == draft.updated_at


async def test_whoever_saves_second_hears_who_was_first_and_what_they_wrote(room: Newsroom) -> None:
    ada, ben = await employ(room, "ada", Role.EDITOR), await employ(room, "ben", Role.EDITOR)
    draft = await drafting.begin(room.database, "dam", by=ada, text=TEXT)
    bens = replace(TEXT, headline="The wall holds", body="It holds.\n\nThe gauge reads 6.12 m.")
    await drafting.save(room.database, room.settings, draft.id, bens, version=1, by=ben)

    with pytest.raises(SavedMeanwhile, match="Ben has changed") as caught:
        await drafting.save(room.database, room.settings, draft.id, replace(TEXT, summary="Mine"), version=1, by=ada)
    with pytest.raises(SavedMeanwhile):
        await drafting.send(room.database, room.bell, draft.id, version=1, by=ada)
    found = await drafting.find(room.database, draft.id)
    changes = await drafting.since(room.database, found, 1)

    assert (caught.value.by, caught.value.version, caught.value.status) == ("Ben", 2, 409)
    assert found.text == bens
    assert await updates(room) == 0
    assert changes is not None
    assert [(each.name, each.gone, each.come) for each in changes] == [
        ("Headline", (TEXT.headline,), (bens.headline,)),
        ("Text", (), ("It holds.", "")),
    ]


@pytest.mark.parametrize(
    ("change", "error", "field"),
    [
        ({"headline": "one\nBcc: all@example.org"}, Invalid, "headline"),
        ({"headline": "x" * 201}, Invalid, "headline"),
        ({"summary": "x" * 501}, Invalid, "summary"),
        ({"body": "a \x00 byte"}, Invalid, "body"),
        ({"body": "x" * 5_000_000}, TooLarge, "body"),
        ({"kind": Kind.WITHDRAWAL}, Invalid, "kind"),
        ({"kind": Kind.CORRECTION, "corrects_seq": 7}, Invalid, "corrects"),
        ({"kind": Kind.FINAL, "successor": "dam"}, Invalid, "successor"),
        ({"kind": Kind.FINAL, "successor": "no such'story"}, Invalid, "successor"),
        ({"expires_in": timedelta(seconds=1)}, Invalid, "expires_in"),
        ({"expires_in": timedelta(days=400)}, Invalid, "expires_in"),
    ],
)
async def test_a_text_that_cannot_be_kept_names_the_field_and_changes_nothing(
    room: Newsroom, change: dict[str, Any], error: type[DispatcherError], field: str
) -> None:
    ada = await employ(room, "ada", Role.REPORTER)
    draft = await drafting.begin(room.database, "dam", by=ada, text=TEXT)

    with pytest.raises(error) as caught:
        await drafting.save(room.database, room.settings, draft.id, replace(TEXT, **change), version=1, by=ada)

    assert caught.value.field == field
    assert (await drafting.find(room.database, draft.id)).text == TEXT


async def test_what_is_incomplete_or_nobodys_business_is_not_sent_and_the_draft_stays(room: Newsroom) -> None:
    ada, ben = await employ(room, "ada", Role.REPORTER), await employ(room, "ben", Role.EDITOR)
    empty = await drafting.begin(room.database, "dam", by=ada)
    whole = await drafting.begin(room.database, "dam", by=ada, text=TEXT)

    with pytest.raises(Invalid) as caught:
        await drafting.send(room.database, room.bell, empty.id, version=1, by=ben)
    assert caught.value.field == "headline"
    with pytest.raises(NotYours) as refused:
        await drafting.send(room.database, room.bell, whole.id, version=1, by=ada)
    assert refused.value.status == 403
    with pytest.raises(NotFound):
        await drafting.send(room.database, room.bell, 99, version=1, by=ben)
    await stories.close(room.database, "dam")
    with pytest.raises(StoryClosed):
        await drafting.send(room.database, room.bell, whole.id, version=1, by=ben)
    with pytest.raises(StoryClosed):
        await drafting.begin(room.database, "dam", by=ada)

    assert (await drafting.find(room.database, whole.id)).text == TEXT
    assert await updates(room) == 0


async def test_who_has_a_draft_open_is_seen_by_the_others_for_half_a_minute(room: Newsroom) -> None:
    ada, ben = await employ(room, "ada", Role.EDITOR), await employ(room, "ben", Role.EDITOR)
    draft = await drafting.begin(room.database, "dam", by=ada)

    assert await drafting.present(room.database, draft.id, by=ada) == ()
    assert [each.name for each in await drafting.present(room.database, draft.id, by=ben)] == ["Ada"]
    found = await drafting.find(room.database, draft.id, by=ada)
    assert [each.email for each in found.others] == ["ben@courier.example"]
    await room.run("UPDATE presences SET seen_at = seen_at - interval '31 seconds'")
    assert await drafting.present(room.database, draft.id, by=ben) == ()
    with pytest.raises(NotFound):
        await drafting.present(room.database, 99, by=ada)


async def test_a_reporter_throws_away_their_own_drafts_and_an_editor_anybodys(room: Newsroom) -> None:
    ada, ben = await employ(room, "ada", Role.REPORTER), await employ(room, "ben", Role.REPORTER)
    carl = await employ(room, "carl", Role.EDITOR)
    one, two, three = [await drafting.begin(room.database, "dam", by=ada, text=TEXT) for _ in range(3)]

    with pytest.raises(NotYours):
        await drafting.discard(room.database, room.settings, one.id, by=ben)
    await drafting.discard(room.database, room.settings, one.id, by=ada)
    await drafting.discard(room.database, room.settings, two.id, by=carl)
    await drafting.send(room.database, room.bell, three.id, version=1, by=carl)
    with pytest.raises(Conflict, match="published already, as update 1"):
        await drafting.discard(room.database, room.settings, three.id, by=carl)
    with pytest.raises(Conflict, match="published already"):
        await drafting.save(room.database, room.settings, three.id, Text(), version=1, by=ada)

    assert await drafting.listing(room.database) == []
    assert (await log_of(room, one.subject))[-1] == "discarded a draft"


async def test_a_correction_begins_with_what_it_corrects_and_expires_from_when_it_goes_out(room: Newsroom) -> None:
    ada = await employ(room, "ada", Role.EDITOR)
    first = await room.publish()
    text = drafting.prefilled(first.story, first.update, corrects=True)
    follow_up = drafting.prefilled(first.story, first.update)
    draft = await drafting.begin(
        room.database, "dam", by=ada, text=replace(text, headline="It held", expires_in=timedelta(hours=2))
    )

    sent = await drafting.send(room.database, room.bell, draft.id, version=1, by=ada)

    assert (text.kind, text.corrects_seq, text.body) == (Kind.CORRECTION, 1, first.update.body)
    assert (sent.update.seq, sent.update.corrects_seq) == (2, 1)
    assert sent.update.expires_at is not None
    assert abs(sent.update.expires_at - datetime.now(UTC) - timedelta(hours=2)) < timedelta(seconds=30)
    assert follow_up.body == ""
    assert follow_up.importance is Importance.MAJOR


async def test_only_the_last_versions_of_a_draft_are_kept_and_none_once_it_is_out(room: Newsroom) -> None:
    ada = await employ(room, "ada", Role.EDITOR)
    draft = await drafting.begin(room.database, "dam", by=ada, text=TEXT)
    for version in range(1, 53):
        await drafting.save(
            room.database, room.settings, draft.id, replace(TEXT, body=f"Save {version}"), version=version, by=ada
        )
    found = await drafting.find(room.database, draft.id)

    kept = await room.run("SELECT count(*) AS n, min(version) AS first FROM revisions")
    assert (kept[0]["n"], kept[0]["first"]) == (50, 4)
    assert await drafting.since(room.database, found, 1) is None
    await drafting.send(room.database, room.bell, draft.id, version=53, by=ada)
    assert await room.run("SELECT version FROM revisions") == []
