"""The desk at a glance: stories with their followers, and counts that are not made again for everybody who looks."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher import db, overview, stories
from dispatcher.errors import NotFound
from dispatcher.model import Importance, Kind, StoryState
from dispatcher.overview import Followers
from dispatcher.overview import followers as followers_of
from tests.actions.test_replacing import finish
from tests.support.newsroom import newsroom
from tests.support.sink import a_sink


async def test_stories_come_with_followers_by_channel_and_their_newest_update_first(database: db.Database) -> None:
    room = newsroom(database)
    await room.story("dam", followers=3)
    await room.story("tunnel")
    await room.story("over")
    await room.run(
        "UPDATE subscriptions SET channels = '{email,webpush}' WHERE subscriber_id = (SELECT min(id) FROM subscribers)"
    )
    await room.follow("dam", "unconfirmed@example.org", confirmed=False)
    await room.publish("dam", importance=Importance.BREAKING)
    await room.run("UPDATE stories SET state = 'closed', closed_at = now() WHERE slug = 'over'")
    found = await overview.stories(database, Followers(database))

    assert [each.slug for each in found.stories] == ["dam", "over", "tunnel"]
    first = found.stories[0]
    assert (first.readers, first.by_mail, first.by_push, first.updates) == (3, 3, 1, 1)
    assert first.last_importance is Importance.BREAKING
    assert [each.is_sending for each in found.stories] == [True, False, False]
    assert found.counts == {"developing": 2, "closed": 1}
    developing = await overview.stories(database, Followers(database), state=StoryState.DEVELOPING)
    assert [each.slug for each in developing.stories] == ["dam", "tunnel"]
    assert {(each.slug, each.seq) for each in await overview.sending(database)} == {("dam", 1)}


async def test_followers_are_counted_once_for_many_who_look_and_again_after_a_while(database: db.Database) -> None:
    room = newsroom(database)
    await room.story("dam", followers=2)
    followers = Followers(database)

    async def readers() -> int:
        return (await overview.stories(database, followers)).stories[0].readers

    assert await asyncio.gather(*(readers() for _ in range(10))) == [2] * 10
    await room.follow("dam", "late@example.org")
    async with asyncio.timeout(overview.OLDEST):
        while await readers() != 3:
            await asyncio.sleep(0.05)


async def test_a_page_holds_fifty_stories_and_says_that_there_are_more(database: db.Database) -> None:
    room = newsroom(database)
    await room.run("INSERT INTO stories (slug, headline) SELECT 's' || n, 'Story ' || n FROM generate_series(1, 60) n")
    first = await overview.stories(database, Followers(database))
    second = await overview.stories(database, Followers(database), page=2)

    assert (len(first.stories), first.has_more) == (50, True)
    assert (len(second.stories), second.has_more) == (10, False)
    assert len({each.slug for each in (*first.stories, *second.stories)}) == 60
    assert (await overview.stories(database, Followers(database), query="no_such%")).stories == []


async def test_a_count_that_takes_long_is_made_behind_whoever_looks(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers_of, "QUICK", 0.0)
    monkeypatch.setattr(followers_of, "HUNDREDFOLD", 0)
    room = newsroom(database)
    await room.story("dam", followers=2)
    followers = Followers(database)
    found = [(await overview.stories(database, followers)).stories[0].readers]
    await room.follow("dam", "late@example.org")
    found.append((await overview.stories(database, followers)).stories[0].readers)
    assert found == [2, 2]
    async with asyncio.timeout(20):
        while (await overview.stories(database, followers)).stories[0].readers != 3:
            await asyncio.sleep(0.01)


async def test_one_story_comes_with_what_became_of_each_update_and_its_drills_apart(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story("dam", followers=3)
        async with room.sender() as sender:
            await finish(room, sender, await room.publish())
        wrong = await room.publish()
        await room.publish(kind=Kind.CORRECTION, corrects_seq=2)
        await room.run("UPDATE blasts SET state = 'cancelled' WHERE update_id = %s", wrong.update.id)
        await room.run(
            "INSERT INTO updates (story_id, seq, kind, importance, headline, body, content_hash, published_by)"
            " VALUES (1, -1, 'update', 'major', 'Try it', 'x', '', 'anna')"
        )
        found = await overview.board(database, Followers(database), "dam")
        assert [(each.seq, each.corrects_seq, each.corrected_by) for each in found.updates] == [
            *((3, 2, None), (2, None, 3), (1, None, None))
        ]
        assert ([each.seq for each in found.drills], found.followers.readers, found.older) == ([-1], 3, None)
        (blast,) = found.updates[2].blasts
        assert (blast.accepted, blast.waiting, blast.is_open, blast.others) == (3, 0, False, [])
        earlier = await overview.board(database, Followers(database), "dam", before=2)
        assert ([each.seq for each in earlier.updates], earlier.drills, earlier.is_first) == ([1], [], False)
        with pytest.raises(NotFound):
            await overview.board(database, Followers(database), "no-such")


async def test_a_few_letters_find_stories_and_drafts_those_that_begin_so_first(database: db.Database) -> None:
    room = newsroom(database)
    for slug, headline in (
        ("a", "Dam and tunnel"),
        ("b", "Tunnel inquiry"),
        ("c", "100% of it"),
        ("d", "Tunnel, closed"),
    ):
        await stories.create(database, slug, headline=headline)
    await stories.close(database, "d")
    await room.run("INSERT INTO people (email, name, role) VALUES ('a@b.example', 'Ada', 'lead')")
    await room.run(
        "INSERT INTO drafts (story_id, headline, author, last_editor) VALUES (1, 'Tunnel is dry', 1, 1), (2, '', 1, 1)"
    )
    found, drafts = await overview.jump(database, "tunnel")
    assert [each.slug for each in found] == ["b", "d", "a"]
    assert [(each.headline, each.story) for each in drafts] == [
        ("", "Tunnel inquiry"),
        ("Tunnel is dry", "Dam and tunnel"),
    ]
    assert [each.slug for each in (await overview.jump(database, "0%"))[0]] == ["c"]
    assert await overview.jump(database, "_") == ([], [])
