"""Times as pages show them: exact in UTC for machines, calm for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

MINUTE, HOUR, DAY = 60, 3600, 86400


def ago(moment: datetime, now: datetime) -> str:
    """How long ago that was, in the largest unit that fits: `4 minutes ago`."""
    seconds = max((now - moment).total_seconds(), 0)
    if seconds < MINUTE:
        return "just now"
    for size, unit in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    raise AssertionError("every time is at least a minute ago here")


def iso(moment: datetime) -> str:
    """For the `datetime` attribute of a time element, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%H:%M")


def day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%-d %B %Y}"


def short_day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%-d %b}"


def exact(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%-d %B %Y, %H:%M} UTC"


FILTERS: dict[str, Any] = {"ago": ago, "iso": iso, "clock": clock, "day": day, "short_day": short_day, "exact": exact}
