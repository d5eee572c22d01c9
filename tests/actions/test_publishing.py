"""Publishing: one transaction or nothing, and one answer for one key."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from dispatcher import db, publishing, stories
from dispatcher.errors import (
    Conflict,
    DispatcherError,
    IdempotencyMismatch,
    Invalid,
    NotFound,
    StoryClosed,
    TooLarge,
)
from dispatcher.model import Draft, Importance, Kind
from tests.support.newsroom import Newsroom, newsroom

DRAFT = Draft(headline="Water is over the wall", body="The gauge reads 6.12 m.")


@pytest.fixture
def room(database: db.Database) -> Newsroom:
    return newsroom(database)


async def updates(room: Newsroom) -> int:
    rows = await room.run("SELECT (SELECT count(*) FROM updates) + (SELECT count(*) FROM blasts) AS n")
    return int(rows[0]["n"])


async def test_updates_of_a_story_are_numbered_from_one(room: Newsroom) -> None:
    await room.story("dam")
    await room.story("strike")

    numbers = [(await room.publish(slug)).update.seq for slug in ("dam", "dam", "strike", "dam")]

    assert numbers == [1, 2, 1, 3]


async def test_publishing_waits_for_nothing_while_the_broker_is_away(room: Newsroom) -> None:
    await room.story()
    started = time.monotonic()

    published = await room.publish()

    assert time.monotonic() - started < 8
    assert published.blast_ids


async def test_two_hundred_clicks_with_one_key_make_one_update(room: Newsroom) -> None:
    await room.story()

    async def click() -> tuple[int, tuple[int, ...], bool]:
        done = await publishing.publish(room.database, room.bell, "dam", DRAFT, by="test", key="one")
        return done.update.id, done.blast_ids, done.replayed

    answers = await asyncio.gather(*(click() for _ in range(200)))

    assert len({answer[:2] for answer in answers}) == 1
    assert [answer[2] for answer in answers].count(False) == 1
    assert await updates(room) == 2


async def test_a_hundred_publishers_at_once_get_a_hundred_numbers(room: Newsroom) -> None:
    await room.story()

    published = await asyncio.gather(*(room.publish() for _ in range(100)))

    assert sorted(each.update.seq for each in published) == list(range(1, 101))


async def test_the_same_key_with_another_content_is_refused(room: Newsroom) -> None:
    await room.story()
    await publishing.publish(room.database, room.bell, "dam", DRAFT, by="test", key="one")
    other = Draft(headline=DRAFT.headline, body=DRAFT.body, importance=Importance.BREAKING)

    with pytest.raises(IdempotencyMismatch):
        await publishing.publish(room.database, room.bell, "dam", other, by="test", key="one")

    assert await updates(room) == 2


@pytest.mark.parametrize(
    ("draft", "error", "field"),
    [
        (Draft(headline="", body="x"), Invalid, "headline"),
        (Draft(headline="  ", body="x"), Invalid, "headline"),
        (Draft(headline="one\r\nBcc: all@example.org", body="x"), Invalid, "headline"),
        (Draft(headline="one\u2028two", body="x"), Invalid, "headline"),
        (Draft(headline="x" * 201, body="x"), Invalid, "headline"),
        (Draft(headline="x", body=""), Invalid, "body"),
        (Draft(headline="x", body=" \n "), Invalid, "body"),
        (Draft(headline="x", body="null \x00 byte"), Invalid, "body"),
        (Draft(headline="x", body="half a \ud800 pair"), Invalid, "body"),
        (Draft(headline="x", body="x" * 5_000_000), TooLarge, "body"),
        (Draft(headline="x", body="x", summary="one\ntwo"), Invalid, "summary"),
        (Draft(headline="x", body="x", kind=Kind.CORRECTION), Invalid, "corrects"),
        (Draft(headline="x", body="x", corrects_seq=1), Invalid, "corrects"),
        (Draft(headline="x", body="x", kind=Kind.CORRECTION, corrects_seq=7), Invalid, "corrects"),
        (Draft(headline="x", body="x", expires_at=datetime.now(UTC) - timedelta(hours=1)), Invalid, "expires_at"),
        (Draft(headline="x", body="x", expires_at=datetime(2099, 1, 1)), Invalid, "expires_at"),  # noqa: DTZ001
    ],
)
async def test_bad_input_names_the_field_and_changes_nothing(
    room: Newsroom, draft: Draft, error: type[DispatcherError], field: str
) -> None:
    await room.story()

    with pytest.raises(error) as caught:
        await publishing.publish(room.database, room.bell, "dam", draft, by="test")

    assert caught.value.field == field
    assert await updates(room) == 0


async def test_an_unknown_story_is_not_found(room: Newsroom) -> None:
    with pytest.raises(NotFound, match="no story 'moon'"):
        await room.publish("moon")


async def test_a_closed_story_takes_no_update_and_says_what_to_do(room: Newsroom) -> None:
    await room.story()
    await stories.close(room.database, "dam")

    with pytest.raises(StoryClosed) as caught:
        await room.publish()

    assert caught.value.remedy
    assert await updates(room) == 0


async def test_a_correction_names_what_it_corrects(room: Newsroom) -> None:
    await room.story()
    await room.publish()

    corrected = await room.publish(kind=Kind.CORRECTION, corrects_seq=1)

    assert (corrected.update.seq, corrected.update.corrects_seq) == (2, 1)


async def test_a_story_is_created_once_and_closed_once(room: Newsroom) -> None:
    await room.story()

    with pytest.raises(Conflict, match="already"):
        await room.story()
    await room.story("next")
    closed = await stories.close(room.database, "dam", successor="next")
    with pytest.raises(StoryClosed):
        await stories.close(room.database, "dam")

    assert closed.successor == "next"


@pytest.mark.parametrize("slug", ["", "Dam", "a b", "a--b", "-a", "a/b", "ä", "x" * 81, "a\n"])
async def test_a_slug_that_cannot_stand_in_a_url_is_refused(room: Newsroom, slug: str) -> None:
    with pytest.raises(Invalid) as caught:
        await stories.create(room.database, slug, headline="x")

    assert caught.value.field == "slug"
