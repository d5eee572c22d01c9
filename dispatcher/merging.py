"""Merge two stories: whoever follows the one follows the other from now on, and its page leads there.

The story is closed in one transaction. Its readers are moved in slices of a few thousand, so that nobody who publishes
waits for a lock; what is not done at once is done by the workers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog

from dispatcher import db, stories
from dispatcher.errors import Conflict, StoryClosed
from dispatcher.model import Story, StoryState

log = structlog.get_logger()

#: Readers in one transaction, and seconds for which whoever presses the button waits for them.
SLICE = 5_000
AT_ONCE = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """What a merger would do."""

    story: Story
    into: Story
    followers: int
    follow_both: int  #: they keep the wishes that they have for the other story
    have_left: int  #: they have left the other story, and stay away
    is_going_out: bool  #: something of the story is going out, so it cannot be merged now

    @property
    def moving(self) -> int:
        """Readers who would begin to follow the other story."""
        return self.followers - self.follow_both - self.have_left


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """What a merger has done so far."""

    story: Story
    into: Story
    moved: int  #: readers whose subscription to the closed story has ended
    left: int  #: readers whom the workers have still to move


async def outlook(database: db.Database, slug: str, into: str) -> Outlook:
    """What merging a story into another would do, counted now. Raises `NotFound`, `Invalid`, `StoryClosed`."""
    stories.check_successor(slug, into)
    story, other = await stories.find(database, slug), await stories.find(database, into)
    _check_open(story, other)
    async with database.connection() as connection:
        row = await connection.one("merge_outlook", story_id=story.id, into_id=other.id)
        is_going_out = await connection.value("story_is_going_out", story_id=story.id)
    assert row is not None  # noqa: S101  # counts are always a row
    return Outlook(story=story, into=other, is_going_out=is_going_out, **row)


async def merge(database: db.Database, slug: str, into: str, *, by: str, seconds: float = AT_ONCE) -> Merged:
    """Merge a story into another, and move its readers for at most so many seconds.

    Raises `NotFound`, `Invalid`, `StoryClosed` if one of them is closed, and `Conflict` while something of the story is
    going out; then nothing is changed.
    """
    stories.check_successor(slug, into)
    await stories.find(database, slug)
    await stories.find(database, into)
    async with database.transaction() as tx:
        rows = {each: await tx.one("lock_story", slug=each) for each in sorted((slug, into))}
        story, other = (stories.story_from(row) for row in (rows[slug], rows[into]) if row is not None)
        _check_open(story, other)
        if await tx.value("story_is_going_out", story_id=story.id):
            raise Conflict(
                f"Something of {slug!r} is still going out.",
                remedy="Merge it when that is through, or cancel that first.",
                field="story",
            )
        await stories.end(tx, story, into, by=by, is_merged=True)
    moved = await _move(database, story.id, until=time.monotonic() + seconds)
    async with database.connection() as connection:
        left = await connection.value("count_followers_left", story_id=story.id)
    return Merged(story=await stories.find(database, slug), into=other, moved=moved, left=left)


async def left(database: db.Database, story: Story) -> int:
    """How many readers of a merged story the workers have still to move."""
    async with database.connection() as connection:
        return int(await connection.value("count_followers_left", story_id=story.id))


async def move(database: db.Database) -> int:
    """Move the readers of merged stories who have not been moved yet, and say how many that were.

    Any number of workers may do it at once, and any of them may die: another goes on. Raises `DatabaseUnavailable`.
    """
    async with database.connection() as connection:
        found = await connection.all("stories_to_move")
    count = 0
    for story in found:
        if moved := await _move(database, story["id"]):
            log.info("readers of a merged story moved", story=story["slug"], readers=moved)
        count += moved
    return count


async def _move(database: db.Database, story_id: int, *, until: float | None = None) -> int:
    after, count = 0, 0
    while until is None or time.monotonic() < until:
        async with database.transaction() as tx:
            if not await tx.execute("hold_closed_story", story_id=story_id):
                break
            rows = await tx.tuples("some_followers", story_id=story_id, after=after, most=SLICE)
            if not rows:
                await tx.execute("finish_release", story_id=story_id)
                break
            ids = [number for (number,) in rows]
            await tx.execute("lock_readers", ids=ids)
            await tx.execute("follow_successor", story_id=story_id, ids=ids)
            count += await tx.execute("end_merged", story_id=story_id, ids=ids)
            after = ids[-1]
    return count


def _check_open(story: Story, other: Story) -> None:
    for each, field in ((story, "story"), (other, "into")):
        if each.state is StoryState.CLOSED:
            raise StoryClosed(f"The story {each.slug!r} is closed.", remedy="Choose two that go on.", field=field)
