"""Times as people write them, on the newsroom's clock or on each reader's, and the moments that they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from dispatcher.errors import Invalid
from dispatcher.texts import DEFAULT_TIMEZONE, is_timezone

LONGEST = timedelta(days=366)
_WRITTEN = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}", re.ASCII)


class Clock(StrEnum):
    """Whose clock a time is read on."""

    NEWSROOM = "newsroom"
    READER = "reader"  #: each reader's own


def wall_time(written: str) -> datetime:
    """A time as `2026-03-29T02:30`, without a zone. Raises `Invalid`."""
    problem = Invalid("This is no time.", remedy="Write it as 2026-03-29T09:30.", field="at")
    if not _WRITTEN.fullmatch(written):
        raise problem
    try:
        return datetime.fromisoformat(written)
    except ValueError as error:
        raise problem from error


def clock_of(name: str) -> Clock:
    """Raises `Invalid` for a clock that there is not."""
    try:
        return Clock(name)
    except ValueError as error:
        raise Invalid("There is no such clock.", remedy="Choose newsroom or reader.", field="clock") from error


def moment(wall: datetime, zone: str) -> datetime:
    """The moment at which a clock in this zone shows that time, the first one if it does twice.

    Raises `Invalid` for a time that is skipped when the clocks go forward.
    """
    there = wall.replace(tzinfo=_zone(zone), fold=0)
    found = there.astimezone(UTC)
    if found.astimezone(_zone(zone)).replace(tzinfo=None) != wall:
        raise Invalid(
            f"There is no {wall:%H:%M} on {wall:%d %B %Y} in {zone}: the clocks go forward then.",
            remedy="Choose an earlier or a later time.",
            field="at",
        )
    return found


def happens_twice(wall: datetime, zone: str) -> bool:
    """Whether clocks in this zone show that time twice, because they go back."""
    first, second = (wall.replace(tzinfo=_zone(zone), fold=fold) for fold in (0, 1))
    return second.utcoffset() != first.utcoffset() and second.astimezone(UTC) > first.astimezone(UTC)


def earliest(wall: datetime, zones: Iterable[str], now: datetime) -> datetime | None:
    """When clocks in one of these zones first show that time from now on; None if it is past in all of them.

    Where it is skipped, it counts as the time to which the clocks go forward.
    """
    found = [wall.replace(tzinfo=_zone(each)).astimezone(UTC) for each in zones]
    return min((each for each in found if each > now), default=None)


def check_ahead(when: datetime | None, now: datetime) -> datetime:
    """Raises `Invalid` for a moment that is past or more than a year ahead; None is one that is past for everybody."""
    if when is None or when <= now:
        raise Invalid("This time is past.", remedy="Choose a later one, or send it now.", field="at")
    if when > now + LONGEST:
        raise Invalid("This is more than a year ahead.", remedy="Choose an earlier time.", field="at")
    return when


def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name if is_timezone(name) else DEFAULT_TIMEZONE)
