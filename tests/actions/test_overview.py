"""The desk at a glance: stories with their followers, and counts that are not made again for everybody who looks."""

from __future__ import annotations

import asyncio

from dispatcher import db, overview
from dispatcher.model import Importance, StoryState
from dispatcher.overview import Followers
from tests.support.newsroom import newsroom


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
