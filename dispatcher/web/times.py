"""Times as pages show them: exact in UTC for machines, calm and in the reader's language for people."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from babel import Locale
from babel.dates import format_date, format_timedelta, get_timezone_location

#: Where a language is written in more than one way, the way that our pages write it.
_SPELLINGS = {"en": "en_GB"}
#: Zones are listed under the part of the world that their name begins with.
_UNITS: tuple[tuple[Literal["day", "hour", "minute"], int], ...] = (("day", 86400), ("hour", 3600), ("minute", 60))
_REGIONS = ("Europe", "Africa", "America", "Asia", "Atlantic", "Australia", "Indian", "Pacific")


def filters(language: str) -> dict[str, Callable[..., str]]:
    """The filters of templates in one of our languages. Moments are aware of their timezone."""
    spelling = locale_of(language)

    def ago(moment: datetime, now: datetime) -> str:
        """How long ago that was, in the largest unit that fits: `4 minutes ago`. Empty within the first minute."""
        seconds = max((now - moment).total_seconds(), 0)
        found = next(((name, size) for name, size in _UNITS if seconds >= size), None)
        if found is None:
            return ""
        name, size = found
        whole = timedelta(seconds=seconds // size * size)
        # No number reaches the threshold, so the unit stays what it is: fourteen days, not two weeks.
        return format_timedelta(-whole, granularity=name, threshold=1e12, add_direction=True, locale=spelling)

    def day(moment: datetime | date) -> str:
        return format_date(_utc_day(moment), "d MMMM y", locale=spelling)

    def short_day(moment: datetime | date) -> str:
        return format_date(_utc_day(moment), "d MMM", locale=spelling)

    def exact(moment: datetime) -> str:
        return f"{day(moment)}, {clock(moment)} UTC"

    return {
        "ago": ago,
        "iso": iso,
        "clock": clock,
        "clock_seconds": clock_seconds,
        "day": day,
        "short_day": short_day,
        "exact": exact,
    }


def iso(moment: datetime) -> str:
    """For the `datetime` attribute of a time element, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%H:%M")


def clock_seconds(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%H:%M:%S")


@cache
def locale_of(language: str) -> Locale:
    return Locale.parse(_SPELLINGS.get(language, language))


def _utc_day(moment: datetime | date) -> date:
    return moment.astimezone(UTC).date() if isinstance(moment, datetime) else moment


def zone_of(name: str) -> ZoneInfo:
    """A reader's timezone; UTC if this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


@cache
def zones(language: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every place whose clock can be chosen: parts of the world, each with its zones and their names, by name."""
    spelling = locale_of(language)
    world: dict[str, dict[str, str]] = {region: {} for region in _REGIONS}
    # Several zones are old names of one place; the one that is named as the place itself comes last, and stays.
    for zone in sorted(sorted(available_timezones(), reverse=True), key=_is_its_place):
        region, _, place = zone.partition("/")
        if region in world and place:
            world[region][get_timezone_location(zone, locale=spelling, return_city=True)] = zone
    return [
        (region, sorted(((zone, name) for name, zone in named.items()), key=lambda each: each[1].casefold()))
        for region, named in world.items()
        if named
    ]


def _is_its_place(zone: str) -> bool:
    place = zone.rpartition("/")[2].replace("_", " ")
    return get_timezone_location(zone, locale=locale_of("en"), return_city=True) == place


def on_clock(moment: datetime, zone: str) -> str:
    """A moment on the clock of a timezone, for the desk: `Sat 28 November 2026, 09:30 EET`."""
    there = moment.astimezone(zone_of(zone))
    return f"{there:%a} {there.day} {there:%B %Y, %H:%M} {there.tzname()}"


def lasted(span: timedelta) -> str:
    """How long something takes, in two units at most: `1 min 40 s`, `3 h 5 min`, `2 d 4 h`."""
    seconds = max(int(span.total_seconds()), 0)
    parts = []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"
