"""What readers decide about their own subscriptions: leave, come back, how often.

Every function here may be called again with the same arguments and changes nothing more: one-click unsubscribe
(RFC 8058) is repeated by mail programs, and people press buttons twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dispatcher import db, stories
from dispatcher.errors import Invalid, NotFound
from dispatcher.model import Cadence, Story

#: In a link, this story number means all stories of the subscriber.
ALL_STORIES = 0
#: What a reader may choose today.
CADENCES = (Cadence.EVERY, Cadence.MAJOR)


@dataclass(frozen=True, kw_only=True, slots=True)
class Followed:
    """A story as its follower sees it."""

    story: Story
    cadence: Cadence
    ended_at: datetime | None  #: when the reader left; None while they follow
    successor_headline: str  #: empty if no story goes on where this one ended


async def story(database: db.Database, story_id: int) -> Story | None:
    """The story that a leave link names; None if the link is for all stories, or the story is gone."""
    if story_id == ALL_STORIES:
        return None
    async with database.connection() as connection:
        row = await connection.one("story_of_subscription", story_id=story_id)
    return None if row is None else stories.story_from(row)


async def leave(database: db.Database, story_id: int, subscriber_id: int) -> None:
    """End one subscription, or all of them for `ALL_STORIES`. What has ended, or never was, is left as it is."""
    async with database.transaction() as tx:
        if story_id == ALL_STORIES:
            await tx.execute("end_all_subscriptions", subscriber_id=subscriber_id)
        else:
            await tx.execute("end_subscription", story_id=story_id, subscriber_id=subscriber_id)


async def follow_again(database: db.Database, story_id: int, subscriber_id: int) -> None:
    """Take back a `leave`. Raises `NotFound` if there is none to take back, or the story has closed since."""
    async with database.transaction() as tx:
        resumed = await tx.execute("resume_subscription", story_id=story_id, subscriber_id=subscriber_id)
    if not resumed and story_id not in {each.story.id for each in await followed(database, subscriber_id)}:
        raise NotFound("This story cannot be followed again from here.", remedy="It may have closed.", field="story")


async def followed(database: db.Database, subscriber_id: int) -> list[Followed]:
    """The stories that a subscriber follows, and the developing ones that they left; developing ones first."""
    async with database.connection() as connection:
        rows = await connection.all("followed_stories", subscriber_id=subscriber_id)
    return [
        Followed(
            story=stories.story_from(row),
            cadence=Cadence(row["cadence"]),
            ended_at=row["ended_at"],
            successor_headline=row["successor_headline"] or "",
        )
        for row in rows
    ]


async def set_cadence(database: db.Database, story_id: int, subscriber_id: int, cadence: Cadence) -> None:
    """Choose how often to hear of a story. Raises `Invalid` for a cadence that is not offered, and `NotFound`."""
    if cadence not in CADENCES:
        raise Invalid(
            f"The cadence {cadence} is not offered.", remedy=f"Choose {' or '.join(CADENCES)}.", field="cadence"
        )
    async with database.transaction() as tx:
        if not await tx.execute("set_cadence", story_id=story_id, subscriber_id=subscriber_id, cadence=str(cadence)):
            raise NotFound("This story is not followed.", field="story")
