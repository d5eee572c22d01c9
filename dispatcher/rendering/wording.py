"""What Dispatcher itself says in a mail or a push and has to work out, by language: tags, wishes, days and times.

Sentences that do not depend on anything stand in the templates; both are looked up in the same catalogues. How a
language writes a day is in its catalogue as well, as a pattern of Unicode (UTS 35): nothing else knows a language.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale
from babel.dates import format_date

from dispatcher.model import Cadence, Importance, Kind
from dispatcher.rendering.catalogues import known, translations

#: Zones that keep the clock of Kyiv.
_KYIV = frozenset({"Europe/Kyiv", "Europe/Kiev", "Europe/Uzhgorod", "Europe/Zaporozhye"})


class Wording:
    """The words of one language, and how it writes days and times."""

    def __init__(self, language: str) -> None:
        """`language` is one of `config.LANGUAGES`."""
        catalogue = translations(language)
        self.language = language
        self.direction = str(Locale.parse(language).text_direction)
        self.gettext, self.ngettext, self.pgettext = catalogue.gettext, catalogue.ngettext, catalogue.pgettext

    def tag(self, kind: Kind, importance: Importance) -> str:
        """The word in the coloured tag."""
        if kind is Kind.CORRECTION:
            return self.pgettext("tag", "CORRECTION")
        if kind is Kind.WITHDRAWAL:
            return self.pgettext("tag", "WITHDRAWN")
        if kind is Kind.FINAL:
            return self.pgettext("tag", "FINAL UPDATE")
        if importance is Importance.BREAKING:
            return self.pgettext("tag", "BREAKING")
        if importance is Importance.MAJOR:
            return self.pgettext("tag", "MAJOR UPDATE")
        return self.pgettext("tag", "UPDATE")

    def subject(self, kind: Kind, importance: Importance, headline: str) -> str:
        """The headline with what it is before it, as a subject or a push's title."""
        prefix = english = ""
        if kind is Kind.CORRECTION:
            prefix, english = self.pgettext("subject", "CORRECTION"), "CORRECTION"
        elif kind is Kind.WITHDRAWAL:
            prefix, english = self.pgettext("subject", "WITHDRAWN"), "WITHDRAWN"
        elif kind is Kind.FINAL:
            prefix, english = self.pgettext("subject", "Final update"), "Final update"
        elif importance is Importance.BREAKING:
            prefix, english = self.pgettext("subject", "BREAKING"), "BREAKING"
        # An editor who wrote the word already does not need it twice.
        if not prefix or headline.lower().startswith((prefix.lower(), english.lower())):
            return headline
        return f"{prefix}: {headline}"

    def number(self, seq: int) -> str:
        return self.gettext("update %(seq)s") % {"seq": seq}

    def we_wrote(self, when: str) -> str:
        if when[:1].isdigit() and ":" in when[:3]:
            return self.gettext("We wrote at %(time)s") % {"time": when}
        return self.gettext("We wrote on %(day)s") % {"day": when}

    def more(self, count: int) -> str:
        words = self.ngettext("and %(count)s earlier update", "and %(count)s earlier updates", count)
        return words % {"count": count}

    def cadence(self, cadence: Cadence) -> str:
        """How often, as the object of "you asked for"."""
        return {
            Cadence.EVERY: self.gettext("every update"),
            Cadence.MAJOR: self.gettext("major updates only"),
            Cadence.DAILY: self.gettext("a digest once a day"),
            Cadence.WEEKLY: self.gettext("a digest once a week"),
        }[cadence]

    def wished(self, cadence: Cadence, confirmed: datetime | None) -> str:
        """What the reader asked for and when; `confirmed` is in the reader's own zone."""
        asked = self.cadence(cadence)
        if confirmed is None:
            return asked
        day = self._date(confirmed, self.pgettext("date", "d MMMM y"))
        return self.gettext("%(cadence)s, since %(day)s") % {"cadence": asked, "day": day}

    def day(self, moment: datetime) -> str:
        """`Sun 9 Nov 2025`."""
        return self._date(moment, self.pgettext("date", "EEE d MMM y"))

    def time(self, moment: datetime) -> str:
        """`02:53 CET`."""
        return f"{moment:%H:%M} {self.zone_name(moment)}"

    def time_beside(self, moment: datetime, stamp: datetime) -> str:
        """The time of something that is shown below `stamp`: with its day or zone only where they differ."""
        time = f"{moment:%H:%M}"
        if moment.utcoffset() != stamp.utcoffset():
            time += f" {self.zone_name(moment)}"
        if moment.date() == stamp.date():
            return time
        of_year = moment.year == stamp.year
        pattern = self.pgettext("date", "d MMM") if of_year else self.pgettext("date", "d MMM y")
        return f"{self._date(moment, pattern)}, {time}"

    def zone_name(self, moment: datetime) -> str:
        """The zone's abbreviation, or its distance from UTC where it has none: `CET`, `UTC+5:45`.

        A language may have words of its own for the time of Kyiv; the hour that comes twice keeps its abbreviation.
        """
        name = moment.tzname() or ""
        if getattr(moment.tzinfo, "key", "") in _KYIV and not _comes_twice(moment):
            return {"EET": self.pgettext("Kyiv", "EET"), "EEST": self.pgettext("Kyiv", "EEST")}.get(name, name)
        if name[:1].isalpha():
            return name
        minutes = int((moment.utcoffset() or timedelta()).total_seconds()) // 60
        sign, minutes = ("−", -minutes) if minutes < 0 else ("+", minutes)
        return f"UTC{sign}{minutes // 60}" + (f":{minutes % 60:02}" if minutes % 60 else "")

    def _date(self, moment: datetime, pattern: str) -> str:
        return format_date(moment, pattern, locale=self.language)


@cache
def _wording(language: str) -> Wording:
    return Wording(language)


def wording(locale: str) -> Wording:
    """The words for a reader's locale; English where there are no others."""
    return _wording(known(locale))


def zone(name: str) -> ZoneInfo:
    """The zone of that IANA name. An unknown one counts as UTC: the mail says so beside the time."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def wish(cadence: Cadence, confirmed_at: datetime | None, *, locale: str, timezone: str) -> str:
    """The value of a letter's `wish` slot: "major updates only, since 8 November 2025"."""
    confirmed = None if confirmed_at is None else confirmed_at.astimezone(zone(timezone))
    return wording(locale).wished(cadence, confirmed)


def _comes_twice(moment: datetime) -> bool:
    """Whether the clock shows this very time twice that night."""
    return moment.replace(fold=0).utcoffset() != moment.replace(fold=1).utcoffset()
