"""Two stories become one: nobody is lost, nobody is doubled, and whoever left stays away."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher import db, merging, stories, subscribing
from dispatcher.errors import Conflict, Invalid, NotFound, StoryClosed
from dispatcher.model import StoryState
from tests.actions.test_closing import publish
from tests.actions.test_replacing import finish, to_each
from tests.support.newsroom import Newsroom, newsroom
from tests.support.sink import a_sink


async def two_stories(room: Newsroom) -> None:
    """`levee` and `dam`: of six who follow the levee, two follow the dam as well and one has left it."""
    await room.story("levee", followers=6)
    await room.story("dam")
    await room.follow("dam", "reader1@example.org", "reader2@example.org", "reader3@example.org", cadence="major")
    await room.follow("dam", "reader4@example.org", confirmed=False)
    await room.follow("levee", "unconfirmed@example.org", confirmed=False)
    await room.run(
        "UPDATE subscriptions SET ended_at = now(), ended_reason = 'reader' WHERE story_id = 2 AND subscriber_id ="
        " (SELECT id FROM subscribers WHERE email = 'reader3@example.org')"
    )
    await room.run("UPDATE subscriptions SET cadence = 'weekly', channels = '{webpush}' WHERE story_id = 1")


async def follows(room: Newsroom, slug: str) -> dict[str, tuple[str, str, str | None]]:
    """How each confirmed reader stands to a story: cadence, channels, why it ended."""
    rows = await room.run(
        "SELECT email, cadence::text, channels::text, ended_reason"
        " FROM subscriptions f JOIN stories s ON s.id = story_id JOIN subscribers r ON r.id = subscriber_id"
        " WHERE slug = %s AND confirmed_at IS NOT NULL",
        slug,
    )
    return {row["email"][6:].partition("@")[0]: (row["cadence"], row["channels"], row["ended_reason"]) for row in rows}


async def test_whoever_follows_one_story_follows_the_other_with_the_same_wishes(database: db.Database) -> None:
    room = newsroom(database)
    await two_stories(room)
    seen = await merging.outlook(database, "levee", "dam")
    assert (seen.followers, seen.follow_both, seen.have_left, seen.moving) == (6, 2, 1, 3)

    done = await merging.merge(database, "levee", "dam", by="ada@courier.example")

    assert (done.moved, done.left, done.story.state, done.story.successor) == (7, 0, StoryState.CLOSED, "dam")
    moved, kept = ("weekly", "{webpush}", None), ("major", "{email}", None)
    assert await follows(room, "dam") == {
        **dict.fromkeys("12", kept),
        "3": ("major", "{email}", "reader"),
        **dict.fromkeys("456", moved),
    }
    assert {each[2] for each in (await follows(room, "levee")).values()} == {"story merged"}
    rows = await room.run("SELECT actor, action, detail FROM audit ORDER BY id DESC LIMIT 1")
    assert rows == [{"actor": "ada@courier.example", "action": "merged a story", "detail": {"successor": "dam"}}]
    assert await merging.move(database) == 0

    # A link in an old mail of the closed story leaves both, for that is how the reader came to the other.
    ids = {row["email"][6:7]: row["id"] for row in await room.run("SELECT id, email FROM subscribers")}
    await subscribing.leave(database, done.story.id, ids["4"])
    await subscribing.leave(database, done.story.id, ids["1"])
    now = await follows(room, "dam")
    assert now["4"][2] == "reader"
    assert now["1"] == kept, "who followed both by themselves left only the one"


async def test_what_cannot_be_merged_is_left_as_it_is(database: db.Database) -> None:
    room = newsroom(database)
    await two_stories(room)
    await room.story("over")
    await stories.close(database, "over")
    for slug, into, error in (
        ("dam", "dam", Invalid),
        ("dam", "no-such", NotFound),
        ("no-such", "dam", NotFound),
        ("over", "dam", StoryClosed),
        ("dam", "over", StoryClosed),
    ):
        with pytest.raises(error):
            await merging.merge(database, slug, into, by="ada")
    await publish(room, slug="levee")
    assert (await merging.outlook(database, "levee", "dam")).is_going_out
    with pytest.raises(Conflict, match="still going out"):
        await merging.merge(database, "levee", "dam", by="ada")
    assert (await stories.find(database, "levee")).state is StoryState.DEVELOPING
    assert len(await follows(room, "dam")) == 3


async def test_workers_finish_what_was_begun_and_the_other_story_can_be_published_in_meanwhile(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "SLICE", 9)
    room = newsroom(database)
    await room.story("levee", followers=100)
    await room.story("dam")
    begun = await merging.merge(database, "levee", "dam", by="ada", seconds=0)
    assert (begun.moved, begun.left, await merging.left(database, begun.story)) == (0, 100, 100)
    async with database.transaction() as tx:  # somebody is in the middle of a slice
        await tx.execute("hold_closed_story", story_id=begun.story.id)
        ids = [row["id"] for row in await room.run("SELECT id FROM subscribers ORDER BY id LIMIT 9")]
        await tx.execute("follow_successor", story_id=begun.story.id, ids=ids)
        async with asyncio.timeout(20):
            await publish(room, slug="dam")
            assert await merging.move(database) == 0
        await tx.execute("end_merged", story_id=begun.story.id, ids=ids)
    assert sum(await asyncio.gather(*(merging.move(database) for _ in range(3)))) == 91
    assert len(await follows(room, "dam")) == 100
    assert await merging.left(database, begun.story) == 0


async def test_readers_of_a_story_that_was_only_closed_are_moved_nowhere(database: db.Database) -> None:
    room = newsroom(database)
    await room.story("levee", followers=3)
    await room.story("dam")
    closed = await stories.close(database, "levee", successor="dam")
    assert await merging.move(database) == await merging.left(database, closed) == 0


async def test_who_was_moved_learns_in_the_next_mail_why_it_comes_and_is_told_nothing_that_was_before(
    database: db.Database,
) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await stories.create(database, "levee", headline="The levee at Millgate")
        await room.follow("levee", "moved@example.org")
        await room.story("dam", followers=1)
        async with room.sender() as sender:
            for headline in ("The dam holds", "The dam leaks"):
                await finish(room, sender, await publish(room, headline, slug="dam"))
            await merging.merge(database, "levee", "dam", by="ada")
            await room.run("UPDATE subscriptions SET last_seq = 1 WHERE last_seq = 2")
            await finish(room, sender, await publish(room, "The dam is mended", slug="dam"))
        mails = to_each(sink)
        (moved,) = mails["moved@example.org"]
        assert "If you followed “The levee at Millgate”: it goes on in this story." in moved.text
        assert "SINCE YOUR LAST ALERT" not in moved.text
        assert "If you followed" not in mails["reader1@example.org"][0].text


async def test_readers_of_a_story_that_is_merged_twice_before_they_were_moved_arrive_at_the_last(
    database: db.Database,
) -> None:
    room = newsroom(database)
    await room.story("dam")
    await room.story("river")
    await room.story("levee", followers=5)
    await merging.merge(database, "levee", "dam", by="ada", seconds=0)
    await merging.merge(database, "dam", "river", by="ada", seconds=0)

    for _ in range(3):
        await merging.move(database)

    assert {each[2] for each in (await follows(room, "dam")).values()} == {"story merged"}
    assert [each[2] for each in (await follows(room, "river")).values()] == [None] * 5
    assert await room.run("SELECT slug FROM stories WHERE released_at IS NULL") == [{"slug": "river"}]


async def test_what_is_published_while_readers_are_being_moved_reaches_them_too_but_waits_for_nobody_for_ever(
    database: db.Database,
) -> None:
    room = newsroom(database)
    await room.story("levee", followers=5)
    await room.story("dam")
    await room.follow("dam", "own@example.org")
    before = await publish(room, "It was said before", slug="dam")
    await merging.merge(database, "levee", "dam", by="ada", seconds=0)
    meanwhile = await publish(room, "Both are one story now", slug="dam")

    assert await room.cut() == 1, "what was published after the merger waits for readers who are on their way"
    await merging.move(database)
    assert await room.cut() == 1
    assert ((await room.report(before)).candidates, (await room.report(meanwhile)).candidates) == (1, 6)

    await room.story("creek")
    await room.follow("creek", "stuck@example.org")
    await merging.merge(database, "creek", "dam", by="ada", seconds=0)
    late = await publish(room, "Nobody moves them", slug="dam")
    assert await room.cut() == 0
    await room.run("UPDATE stories SET closed_at = closed_at - interval '3 minutes' WHERE slug = 'creek'")
    assert await room.cut() == 1
    assert (await room.report(late)).candidates == 6


async def test_who_leaves_the_story_that_goes_on_hears_nothing_more_of_the_one_it_came_from(
    database: db.Database,
) -> None:
    room = newsroom(database)
    await room.story("levee", followers=3)
    await room.story("dam")
    await room.follow("dam", "reader3@example.org")
    done = await merging.merge(database, "levee", "dam", by="ada")
    ids = {row["email"][6:7]: row["id"] for row in await room.run("SELECT id, email FROM subscribers")}
    await subscribing.leave(database, done.into.id, ids["1"])
    await subscribing.leave(database, done.into.id, ids["3"])

    reasons = {reader: each[2] for reader, each in (await follows(room, "levee")).items()}
    assert reasons == {"1": "reader", "2": "story merged", "3": "story merged"}

    # Whoever comes back, and then leaves by a link in a mail of the old story, leaves again.
    await subscribing.follow_again(database, done.into.id, ids["1"])
    assert (await follows(room, "dam"))["1"][2] is None
    await subscribing.leave(database, done.story.id, ids["1"])
    assert (await follows(room, "dam"))["1"][2] == "reader"
