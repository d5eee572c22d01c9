"""A final update closes its story, readers are let go when nothing more can come, and corrections still reach them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dispatcher import closing, db, following, publishing, stories, subscribing
from dispatcher.addresses import address_hash, parse_address
from dispatcher.errors import Invalid, NotFound, StoryClosed
from dispatcher.following import StoryEnded
from dispatcher.model import Cadence, DeliveryState, Draft, Kind, Published, StoryState
from tests.actions.test_browsers import browser
from tests.actions.test_following import ADA, Forms
from tests.actions.test_replacing import finish, to_each
from tests.support.newsroom import SECRET, Newsroom, newsroom
from tests.support.relays import until
from tests.support.sink import a_sink

OVER = "The water has gone down"


async def publish(room: Newsroom, headline: str = OVER, slug: str = "dam", **more: Any) -> Published:
    draft = Draft(headline=headline, body=f"{headline}, the crisis room says.", **more)
    return await publishing.publish(room.database, room.bell, slug, draft, by="anna")


async def ended(room: Newsroom) -> list[str | None]:
    rows = await room.run("SELECT ended_reason FROM subscriptions ORDER BY subscriber_id")
    return [row["ended_reason"] for row in rows]


async def make_old(room: Newsroom) -> None:
    """Let a week pass for everything that was published."""
    await room.run("UPDATE updates SET published_at = published_at - interval '7 days'")


async def test_a_final_update_closes_its_story_offers_the_next_and_lets_readers_go_only_when_it_is_through(
    database: db.Database,
) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story("dam", followers=2)
        await stories.create(database, "rebuilding", headline="Rebuilding the lower city")
        published = await publish(room, kind=Kind.FINAL, successor="rebuilding")
        story = await stories.find(database, "dam")
        assert (story.state, story.successor) == (StoryState.CLOSED, "rebuilding")
        await make_old(room)
        assert await closing.release(database) == 0, "its mail has not gone out"
        await room.run("UPDATE updates SET published_at = clock_timestamp()")

        async with room.sender() as sender:
            report = await finish(room, sender, published)
            assert report.states == {DeliveryState.ACCEPTED: 2}
            mails = to_each(sink)["reader1@example.org"]
            assert "It goes on as “Rebuilding the lower city”" in mails[0].text
            assert "https://alerts.example.org/s/rebuilding#follow" in mails[0].text
            assert await closing.release(database) == 0, "somebody may still be tried again"
            await make_old(room)
            assert await closing.release(database) == 2
            assert await ended(room) == ["story closed"] * 2
            assert await closing.release(database) == 0

            # Whoever has something wrong learns what is right, but for those who have left since.
            leaver = (await room.run("SELECT id FROM subscribers WHERE email = 'reader2@example.org'"))[0]["id"]
            await subscribing.leave(database, story.id, leaver)
            right = await publish(room, "The water is still rising", kind=Kind.CORRECTION, corrects_seq=1)
            report = await finish(room, sender, right)
            assert report.states == {DeliveryState.ACCEPTED: 1, DeliveryState.WITHDRAWN: 1}
        assert [mail.subject[:10] for mail in to_each(sink)["reader1@example.org"]] == ["Final upda", "CORRECTION"]
        assert len(to_each(sink)["reader2@example.org"]) == 1
        with pytest.raises(StoryClosed):
            await publish(room, "One more")


async def test_a_final_update_that_names_a_wrong_successor_changes_nothing(database: db.Database) -> None:
    room = newsroom(database)
    await room.story("dam", followers=1)
    for successor, error in (("dam", Invalid), ("no-such", NotFound), ("' OR 1=1 --", NotFound)):
        with pytest.raises(error) as caught:
            await publish(room, kind=Kind.FINAL, successor=successor)
        assert caught.value.field == "successor"
    with pytest.raises(Invalid, match="Only a final update"):
        await publish(room, successor="dam")
    assert (await stories.find(database, "dam")).state is StoryState.DEVELOPING
    assert await room.run("SELECT seq FROM updates") == []


async def test_readers_of_a_story_that_is_closed_in_silence_are_let_go_by_whichever_worker_comes_first(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "SLICE", 7)
    room = newsroom(database)
    await room.story("dam", followers=40)
    await room.story("other")
    await room.follow("other", "else@example.org")
    await stories.close(database, "dam", by="ada@courier.example")
    counts = await asyncio.gather(*(closing.release(database) for _ in range(3)))
    counts.append(await closing.release(database))
    assert sum(counts) == 40
    assert (await ended(room)).count(None) == 1
    assert await room.run("SELECT slug FROM stories WHERE released_at IS NOT NULL") == [{"slug": "dam"}]
    rows = await room.run("SELECT actor, action FROM audit WHERE subject = 'story:dam' ORDER BY id")
    assert rows[-1] == {"actor": "ada@courier.example", "action": "closed a story"}
    with pytest.raises(StoryClosed):
        await stories.close(database, "dam")


@asynccontextmanager
async def held_up(room: Newsroom, lock: str, **values: object) -> AsyncIterator[None]:
    """Whoever needs these rows or this lock waits until the block ends."""
    async with room.database.transaction() as tx:
        await tx.raw.execute(lock, values)
        yield


async def _waiting(room: Newsroom, count: int) -> bool:
    rows = await room.run(
        "SELECT DISTINCT pid FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE NOT granted AND datname = current_database()"
    )
    return len(rows) == count


async def test_who_confirms_in_the_moment_in_which_a_story_closes_is_told_so(database: db.Database) -> None:
    """The page had found it open; it closes, and its readers are let go, before the confirmation is written."""
    room = newsroom(database)
    await room.story()
    forms = Forms(database, room)
    await forms.ask()
    await forms.answer()
    async with held_up(room, db.statements()["lock_hashes"], hashes=[address_hash(SECRET, parse_address(ADA))]):
        confirming = asyncio.create_task(following.confirm(database, SECRET, await forms.token()))
        await until(lambda: _waiting(room, 1))
        await stories.close(database, "dam")
        await closing.release(database)
    with pytest.raises(StoryEnded):
        await confirming

    assert await room.run("SELECT subscriber_id FROM subscriptions") == []
    assert await room.run("SELECT email, used_at FROM confirmations") == [{"email": ADA, "used_at": None}]


async def test_who_had_begun_to_follow_when_a_story_closed_is_let_go_with_all_others(database: db.Database) -> None:
    """By mail, and in a browser: nobody lets a story's readers go while one of them is on the way in."""
    room = newsroom(database)
    await room.story()
    await room.follow("dam", ADA, confirmed=False)
    forms = Forms(database, room)
    await forms.ask()
    await forms.answer()
    wishes: dict[str, Any] = {"cadence": Cadence.EVERY, "locale": "en", "timezone": "UTC"}
    await following.follow_in_browser(database, "dam", browser(), **wishes)
    await room.run("UPDATE subscriptions SET ended_at = now(), ended_reason = 'left' WHERE subscriber_id <> 1")
    async with held_up(room, "SELECT FROM subscribers FOR UPDATE"):
        coming = [
            asyncio.create_task(following.confirm(database, SECRET, await forms.token())),
            asyncio.create_task(following.follow_in_browser(database, "dam", browser(), **wishes)),
        ]
        await until(lambda: _waiting(room, 2))
        await stories.close(database, "dam")
        assert await closing.release(database) == 0
    await asyncio.gather(*coming)

    assert await closing.release(database) == 2
    assert await ended(room) == ["story closed"] * 2
    assert await room.run("SELECT id FROM stories WHERE released_at IS NULL") == []


async def test_what_a_story_says_of_itself_can_be_changed_and_its_slug_is_made_and_numbered(
    database: db.Database,
) -> None:
    await stories.create(database, "povin-na-dnipri", headline="Повінь на Дніпрі")
    assert await stories.free_slug(database, "Повінь на Дніпрі!") == "povin-na-dnipri-2"
    assert await stories.free_slug(database, "New") == "new-2"
    assert await stories.free_slug(database, "🔥") == "story"
    long = "x" * 80
    await stories.create(database, long, headline=long)
    assert await stories.free_slug(database, long) == "x" * 78 + "-2"
    with pytest.raises(Invalid, match="kept for a page"):
        await stories.create(database, "new", headline="New")
    changed = await stories.change(database, long, headline="Short", summary="A word", in_doubt=None, by="ada")
    assert (changed.headline, changed.summary, changed.slug) == ("Short", "A word", long)
    with pytest.raises(Invalid) as caught:
        await stories.change(database, long, headline=" ", summary="", in_doubt=None)
    assert caught.value.field == "headline"
    with pytest.raises(NotFound):
        await stories.change(database, "no-such", headline="x", summary="", in_doubt=None)
    async with database.connection() as connection:
        rows = await connection.all("read_audit", actor="ada", action="", subject="", before=99, limit=9)
    assert rows[0]["detail"] == {"headline": "Short", "summary": "A word"}
