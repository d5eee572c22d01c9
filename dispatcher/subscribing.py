"""What readers decide for themselves: leave, come back, how often, on which channels, when not, on which browsers.

Every function here may be called again with the same arguments and changes nothing more: one-click unsubscribe
(RFC 8058) is repeated by mail programs, and people press buttons twice.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from dispatcher import db, stories
from dispatcher.config import LANGUAGES
from dispatcher.errors import Invalid, NotFound
from dispatcher.model import Cadence, ChannelName, Story
from dispatcher.texts import DEFAULT_TIMEZONE, is_timezone

#: In a link, this story number means all stories of the subscriber.
ALL_STORIES = 0
#: What a reader may choose. Until there are digests, `daily` and `weekly` mean: not now.
CADENCES = tuple(Cadence)
#: Days for which everything may be paused.
LONGEST_PAUSE = 366


@dataclass(frozen=True, kw_only=True, slots=True)
class Followed:
    """A story as its follower sees it."""

    story: Story
    cadence: Cadence
    ended_at: datetime | None  #: when the reader left; None while they follow
    successor_headline: str  #: empty if no story goes on where this one ended
    channels: frozenset[ChannelName] = frozenset({ChannelName.EMAIL})


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceShown:
    """A browser as its reader sees it."""

    id: int
    name: str  #: may be empty
    created_at: datetime
    last_accepted_at: datetime | None  #: when its push service last took a message


@dataclass(frozen=True, kw_only=True, slots=True)
class ReaderPage:
    """A reader's own page, but for the stories."""

    email: str | None  #: None for a browser that follows by itself
    locale: str
    timezone: str
    paused_until: datetime | None  #: nothing is sent before; None if nothing is paused now
    quiet_from: time | None
    quiet_to: time | None
    quiet_breaking: bool  #: breaking news come in quiet hours too
    devices: list[DeviceShown]

    @property
    def paused_through(self) -> date | None:
        """The last day of the pause, in the reader's timezone."""
        if self.paused_until is None:
            return None
        return (self.paused_until - timedelta(microseconds=1)).astimezone(_zone(self.timezone)).date()


async def reader(database: db.Database, subscriber_id: int) -> ReaderPage:
    """Who a reader is and what they wish. Raises `NotFound` once they are erased."""
    async with database.connection() as connection:
        row = await connection.one("reader_page", subscriber_id=subscriber_id)
        if row is None:
            raise _nobody()
        devices = await connection.all("devices_of_reader", subscriber_id=subscriber_id)
    return ReaderPage(devices=[DeviceShown(**each) for each in devices], **row)


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
        await tx.execute("lock_readers", ids=[subscriber_id])
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
            channels=frozenset(map(ChannelName, row["channels"])),
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


async def set_channels(
    database: db.Database, story_id: int, subscriber_id: int, channels: Collection[ChannelName]
) -> None:
    """Choose where to hear of a story.

    Raises `Invalid` for none, and for one on which this reader has nothing to be reached by; `NotFound` if they do not
    follow the story.
    """
    if not channels:
        raise Invalid("No channel is chosen.", remedy="Choose one, or stop following the story.", field="channels")
    async with database.transaction() as tx:
        row = await tx.one("reachable_by", subscriber_id=subscriber_id)
        if row is None:
            raise _nobody()
        if ChannelName.EMAIL in channels and not row["by_email"]:
            raise Invalid(
                "There is no mail address to write to.", remedy="Follow the story with your address.", field="channels"
            )
        if ChannelName.WEBPUSH in channels and not row["by_webpush"]:
            raise Invalid(
                "No browser takes your alerts yet.", remedy="Switch them on in a browser first.", field="channels"
            )
        chosen = [str(each) for each in ChannelName if each in channels]
        if not await tx.execute("set_channels", story_id=story_id, subscriber_id=subscriber_id, channels=chosen):
            raise NotFound("This story is not followed.", field="story")


async def pause(database: db.Database, subscriber_id: int, until: date | None) -> None:
    """Send nothing until and including a day of the reader's timezone; None: send again from now.

    Raises `Invalid` for a day that is over, or more than `LONGEST_PAUSE` days away, and `NotFound`.
    """
    async with database.transaction() as tx:
        row = await tx.one("timezone_of_reader", subscriber_id=subscriber_id)
        if row is None:
            raise _nobody()
        zone = _zone(row["timezone"])
        ends = None if until is None else day_after(_check_day(until, row["now"].astimezone(zone).date()), zone)
        await tx.execute("pause_reader", subscriber_id=subscriber_id, until=ends)


def _check_day(until: date, today: date) -> date:
    if until < today:
        raise Invalid("That day is over.", remedy="Choose today or a later day.", field="until")
    if (until - today).days > LONGEST_PAUSE:
        raise Invalid(
            f"That day is more than {LONGEST_PAUSE} days away.",
            remedy="Choose an earlier day, or stop following.",
            field="until",
        )
    return until


def day_after(day: date, zone: zoneinfo.ZoneInfo) -> datetime:
    """The first moment after a day in a timezone, also where the clocks are changed at midnight."""
    return datetime.combine(day + timedelta(days=1), time.min, tzinfo=zone).astimezone(UTC)


async def set_quiet(
    database: db.Database,
    subscriber_id: int,
    quiet_from: time | None,
    quiet_to: time | None,
    breaking: bool,
    timezone: str,
) -> None:
    """Choose hours of the day in which nothing is sent, but breaking news if wanted; both None: at any hour.

    They may go over midnight. Raises `Invalid` for one time without the other, two that are equal, or a timezone that
    nobody knows; `NotFound`.
    """
    if (quiet_from is None) != (quiet_to is None):
        raise Invalid(
            "Quiet hours need a beginning and an end.",
            remedy="Give both times, or none.",
            field="quiet_to" if quiet_to is None else "quiet_from",
        )
    if quiet_from is not None and quiet_from == quiet_to:
        raise Invalid(
            "Quiet hours begin and end at the same time.", remedy="Pause instead to hear nothing.", field="quiet_to"
        )
    if not is_timezone(timezone):
        raise Invalid(f"{timezone[:40]!r} is no timezone.", remedy="Choose one such as Europe/Kyiv.", field="timezone")
    async with database.transaction() as tx:
        values = {"quiet_from": quiet_from, "quiet_to": quiet_to, "breaking": breaking, "timezone": timezone}
        if not await tx.execute("set_quiet", subscriber_id=subscriber_id, **values):
            raise _nobody()


async def set_language(database: db.Database, subscriber_id: int, locale: str) -> None:
    """Choose the language of mails and pages. Raises `Invalid` for one that is not offered, and `NotFound`."""
    if locale not in LANGUAGES:
        raise Invalid("The language is not offered.", remedy=f"Choose {' or '.join(LANGUAGES)}.", field="locale")
    async with database.transaction() as tx:
        if not await tx.execute("set_language", subscriber_id=subscriber_id, locale=locale):
            raise _nobody()


async def remove_device(database: db.Database, subscriber_id: int, device_id: int) -> None:
    """Send nothing to this browser any more; one that is gone already, or another reader's, is left as it is.

    A reader who has no browser left goes on by mail; one without an address follows nothing any more.
    """
    async with database.transaction() as tx:
        await tx.execute("lock_readers", ids=[subscriber_id])
        if await tx.execute("remove_device", subscriber_id=subscriber_id, device_id=device_id):
            await tx.execute("without_browsers", subscriber_id=subscriber_id)


def _nobody() -> NotFound:
    return NotFound(
        "There is nothing here any more.",
        remedy="Whoever erased themselves can follow a story again from its page.",
        field="subscriber",
    )


def _zone(timezone: str) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(timezone if is_timezone(timezone) else DEFAULT_TIMEZONE)
