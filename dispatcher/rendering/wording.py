"""Every sentence that Dispatcher itself puts into a mail, in one place, by language.

English only for now. A further language is a further `Wording`; nothing else knows any words.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dispatcher.model import Cadence, Importance, Kind

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of one language, and how it writes days and times."""

    language: str = "en"
    direction: str = "ltr"

    whats_new = "What’s new"
    what_is_right = "What is right"
    read_on = "Read it on the story page"
    read_rest = "Read the full update"
    read_corrected = "See the corrected story"
    cut = "This update is longer than a mail can be. The rest is on the story page."
    earlier = "Earlier in this story"
    corrected = "Corrected since."
    correction = "Correction:"
    breaking = "Breaking:"
    thread_note = (
        "All updates of this story come in one mail thread. If we get something wrong, the correction comes here too."
    )
    correction_note = "We are sorry. If you passed the wrong version on, please pass on this correction as well."
    final_note = "This is the last update of this story. We will write again only if something in it must be corrected."
    leave = "Stop following this story"
    manage = "Manage all alerts"
    sent_to = "Sent to"
    wish = "You asked for"
    forwarded = "Did somebody forward this to you? Follow the story yourself"
    no_tracking = "No tracking pixel. The links are the plain ones."

    def tag(self, kind: Kind, importance: Importance) -> str:
        """The word in the coloured tag."""
        if kind is Kind.CORRECTION:
            return "CORRECTION"
        if kind is Kind.FINAL:
            return "FINAL UPDATE"
        return {Importance.BREAKING: "BREAKING", Importance.MAJOR: "MAJOR UPDATE"}.get(importance, "UPDATE")

    def subject(self, kind: Kind, importance: Importance, headline: str) -> str:
        prefix = ""
        if kind is Kind.CORRECTION:
            prefix = "CORRECTION"
        elif kind is Kind.FINAL:
            prefix = "Final update"
        elif importance is Importance.BREAKING:
            prefix = "BREAKING"
        # An editor who wrote the word already does not need it twice.
        if not prefix or headline.lower().startswith(prefix.lower()):
            return headline
        return f"{prefix}: {headline}"

    def number(self, seq: int) -> str:
        return f"update {seq}"

    def we_wrote(self, when: str) -> str:
        return f"We wrote at {when}" if when[:1].isdigit() and ":" in when[:3] else f"We wrote on {when}"

    def more(self, count: int) -> str:
        return f"and {count} earlier update" + ("" if count == 1 else "s")

    def alert_from(self, newsroom: str) -> str:
        return f"Alert from {newsroom}"

    def because(self, story: str) -> str:
        return f"You get this because you follow “{story}”."

    def cadence(self, cadence: Cadence) -> str:
        return {
            Cadence.EVERY: "every update",
            Cadence.MAJOR: "major updates only",
            Cadence.DAILY: "a digest once a day",
            Cadence.WEEKLY: "a digest once a week",
        }[cadence]

    def wished(self, cadence: Cadence, confirmed: datetime | None) -> str:
        """What the reader asked for and when; `confirmed` is in the reader's own zone."""
        asked = self.cadence(cadence)
        if confirmed is None:
            return asked
        return f"{asked}, since {confirmed.day} {_MONTHS[confirmed.month - 1]} {confirmed.year}"

    def day(self, moment: datetime) -> str:
        """`Sun 9 Nov 2025`."""
        return f"{_DAYS[moment.weekday()]} {moment.day} {_MONTHS[moment.month - 1][:3]} {moment.year}"

    def time(self, moment: datetime) -> str:
        """`02:53 CET`."""
        return f"{moment:%H:%M} {zone_name(moment)}"

    def time_beside(self, moment: datetime, stamp: datetime) -> str:
        """The time of something that is shown below `stamp`: with its day or zone only where they differ."""
        time = f"{moment:%H:%M}"
        if moment.utcoffset() != stamp.utcoffset():
            time += f" {zone_name(moment)}"
        if moment.date() == stamp.date():
            return time
        year = "" if moment.year == stamp.year else f" {moment.year}"
        return f"{moment.day} {_MONTHS[moment.month - 1][:3]}{year}, {time}"


ENGLISH = Wording()


def wording(_locale: str) -> Wording:
    """The words for a reader's locale; English where there are no others."""
    return ENGLISH


def zone(name: str) -> ZoneInfo:
    """The zone of that IANA name. An unknown one counts as UTC: the mail says so beside the time."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def zone_name(moment: datetime) -> str:
    """The zone's abbreviation, or its distance from UTC where it has none: `CET`, `UTC+05:45`."""
    name = moment.tzname() or ""
    if name[:1].isalpha():
        return name
    offset = moment.utcoffset() or timedelta()
    minutes = int(offset.total_seconds()) // 60
    sign, minutes = ("−", -minutes) if minutes < 0 else ("+", minutes)
    return f"UTC{sign}{minutes // 60}" + (f":{minutes % 60:02}" if minutes % 60 else "")


def wish(cadence: Cadence, confirmed_at: datetime | None, *, locale: str, timezone: str) -> str:
    """The value of a letter's `wish` slot: "major updates only, since 8 November 2025"."""
    confirmed = None if confirmed_at is None else confirmed_at.astimezone(zone(timezone))
    return wording(locale).wished(cadence, confirmed)
