"""Who would get an update now, by reader and by channel, and who would not and why. Nothing here changes anything.

The figures are exact for the moment in which they are counted. An update that is on its way goes to an audience that is
frozen when it is published, so they are the same but for those who come and go in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from dispatcher import db
from dispatcher.model import BlastState, Cadence, ChannelName, Importance, Kind
from dispatcher.texts import DEFAULT_TIMEZONE

#: What a mail or a push may meet with, beside why it is not sent.
NOW, NONE = "now", "none"
#: Why somebody who follows a story does not get an update of it now, in the order in which they are looked at.
REASONS = {
    "unconfirmed": "Not confirmed yet",
    "left": "Left the story since",
    "digest": "Want a digest, not each update",
    "minor": "Want major and breaking only",
    "unreachable": "No address or browser to send to",
    "suppressed": "Suppressed after bounces",
    "paused": "Paused by the reader",
    "quiet": "In their quiet hours",
}


class Group(NamedTuple):
    """Some readers: how many, and how many of them by mail and by push."""

    readers: int = 0
    mail: int = 0
    push: int = 0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Those who do not get it for one reason."""

    reason: str  #: a key of `REASONS`
    count: Group

    @property
    def words(self) -> str:
        return REASONS[self.reason]


@dataclass(frozen=True, kw_only=True, slots=True)
class Audience:
    """Who gets an update now. In each column, `everybody` minus all that is `left_out` is `now`.

    A reader who gets it by one way counts as somebody who gets it, whatever is in the way of the other.
    """

    everybody: Group  #: who follows the story; of a correction: who has, or would have had, what it corrects
    left_out: tuple[LeftOut, ...]
    now: Group
    both: int  #: readers who get a mail and a push
    counted_at: datetime
    told: tuple[tuple[str, Group], ...] = ()  #: of a correction: who was `reached`, is `in doubt`, or `unreached`

    @property
    def left_out_readers(self) -> int:
        """Readers who get nothing."""
        return self.everybody.readers - self.now.readers


class Going(NamedTuple):
    """An update that is still going out."""

    seq: int
    headline: str
    kind: Kind
    mails: int | None  #: that have not gone out; None while the audience is being frozen
    pushes: int | None

    @property
    def is_known(self) -> bool:
        return self.mails is not None and self.pushes is not None


class _Fate(NamedTuple):
    """What a mail and a push to some readers meet with: `NOW`, `NONE`, or a reason."""

    mail: str
    push: str
    readers: int


async def count(
    connection: db.Connection, story_id: int, *, kind: Kind, importance: Importance, corrects_seq: int | None = None
) -> Audience:
    """Count who would get an update of a story if it were published now; of a correction, by the update it corrects.

    A million followers take some 0.4 seconds on two cores, and the readers of a correction longer.
    """
    now = await connection.value("now")
    clocks = {**_clocks(now), "is_breaking": importance is Importance.BREAKING}
    if kind is Kind.CORRECTION and corrects_seq is not None:
        return await _count_corrected(connection, story_id, corrects_seq, clocks, now, importance)
    is_minor = importance is Importance.ROUTINE and kind is Kind.UPDATE
    rows = await _count_followers(connection, story_id, clocks)
    fates = [_fate(row, is_minor=is_minor) for row in rows]
    waiting = await connection.value("count_waiting_to_confirm", story_id=story_id)
    return _audience([*fates, _Fate("unconfirmed", NONE, waiting)], now)


async def going_out(connection: db.Connection, story_id: int) -> list[Going]:
    """The updates of a story that are still going out, the newest first, with what of them could be replaced."""
    found: dict[int, Going] = {}
    for row in await connection.all("going_out", story_id=story_id):
        going = found.get(row["seq"]) or Going(row["seq"], row["headline"], Kind(row["kind"]), 0, 0)
        left = None if row["state"] == BlastState.CUTTING else row["unreached"]
        is_mail = row["channel"] == ChannelName.EMAIL
        found[row["seq"]] = going._replace(mails=left) if is_mail else going._replace(pushes=left)
    return list(found.values())


async def _count_followers(connection: db.Connection, story_id: int, clocks: Mapping[str, Any]) -> list[db.Row]:
    """The rows of `count_audience`, for which the ids of the story's followers are cut into three."""
    ids = await connection.one("followers_between", story_id=story_id)
    if ids is None or ids["first"] is None:
        return []
    third = (ids["last"] - ids["first"]) // 3 + 1
    slices = {"second": ids["first"] + third, "third": ids["first"] + 2 * third}
    return await connection.all("count_audience", story_id=story_id, **slices, **clocks)


def _fate(row: Mapping[str, Any], *, is_minor: bool) -> _Fate:
    """What readers of one kind meet with: a row of `count_audience`."""
    wish = _unwanted(row, is_minor=is_minor)
    held = "paused" if row["is_paused"] else "quiet" if row["is_quiet"] else NOW
    mail = wish or ("suppressed" if row["is_suppressed"] else held)
    return _Fate(
        mail if row["by_mail"] else NONE,
        wish or held if row["by_push"] and row["has_device"] else NONE,
        row["readers"],
    )


def _unwanted(row: Mapping[str, Any], *, is_minor: bool) -> str:
    if not row["is_confirmed"]:
        return "unconfirmed"
    if row["cadence"] in (Cadence.DAILY, Cadence.WEEKLY):
        return "digest"
    return "minor" if row["cadence"] == Cadence.MAJOR and is_minor else ""


async def _count_corrected(
    connection: db.Connection,
    story_id: int,
    seq: int,
    clocks: Mapping[str, Any],
    now: datetime,
    importance: Importance,
) -> Audience:
    blasts = await connection.all("corrected_blasts", story_id=story_id, seq=seq)
    rows = await connection.all(
        "count_corrected",
        story_id=story_id,
        seq=seq,
        blasts=[each["id"] for each in blasts],
        open=[each["id"] for each in blasts if each["is_open"]],
        **clocks,
    )
    told: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for channel in ("mail", "push"):
            told[row[channel], channel] += row["readers"]
        told[min(row["mail"], row["push"], key=_MET.index), "readers"] += row["readers"]
    audience = _audience([_corrected_fate(row) for row in rows], now)
    groups = tuple((met, Group(*(told[met, column] for column in Group._fields))) for met in _MET[:-1])
    if any(each["is_uncut"] and each["is_open"] for each in blasts):
        return _not_yet(await count(connection, story_id, kind=Kind.FINAL, importance=importance))
    return Audience(
        everybody=audience.everybody,
        left_out=audience.left_out,
        now=audience.now,
        both=audience.both,
        counted_at=now,
        told=groups,
    )


#: What has become of the wrong words for a reader, the worst first.
_MET = ("reached", "in doubt", "unreached", NONE)


def _corrected_fate(row: Mapping[str, Any]) -> _Fate:
    held = "left" if row["has_left"] else "paused" if row["is_paused"] else "quiet" if row["is_quiet"] else NOW
    mail = "suppressed" if row["is_suppressed"] and held != "left" else held
    return _Fate(
        NONE if row["mail"] == NONE else mail,
        NONE if row["push"] == NONE else held,
        row["readers"],
    )


def _not_yet(followers: Audience) -> Audience:
    """The audience of a correction of what was never cut: nobody has the wrong words, and all get the right ones."""
    nobody = Group()
    told = (("reached", nobody), ("in doubt", nobody), ("unreached", followers.now))
    return Audience(
        everybody=followers.everybody,
        left_out=followers.left_out,
        now=followers.now,
        both=followers.both,
        counted_at=followers.counted_at,
        told=told,
    )


def _audience(fates: Iterable[_Fate], now: datetime) -> Audience:
    """Add readers of all kinds up, so that every column does."""
    readers: Counter[str] = Counter()
    mail: Counter[str] = Counter()
    push: Counter[str] = Counter()
    both = 0
    for fate in fates:
        mail[fate.mail] += fate.readers
        push[fate.push] += fate.readers
        readers[_of_reader(fate)] += fate.readers
        both += fate.readers if fate.mail == fate.push == NOW else 0
    left_out = [LeftOut(reason, Group(readers[reason], mail[reason], push[reason])) for reason in REASONS]
    return Audience(
        everybody=Group(readers.total(), mail.total() - mail[NONE], push.total() - push[NONE]),
        left_out=tuple(each for each in left_out if any(each.count)),
        now=Group(readers[NOW], mail[NOW], push[NOW]),
        both=both,
        counted_at=now,
    )


def _of_reader(fate: _Fate) -> str:
    """What becomes of a reader: `NOW` if anything reaches them, else the reason of the way they would have it first."""
    if NOW in (fate.mail, fate.push):
        return NOW
    if fate.mail != NONE:
        return fate.mail
    return fate.push if fate.push != NONE else "unreachable"


def _clocks(now: datetime) -> dict[str, Any]:
    """The time of day in every zone, which `count_audience` looks up: Postgres and we need not agree on their names."""
    zones = _zones()
    return {
        "zones": zones,
        "times": [now.astimezone(ZoneInfo(each)).time() for each in zones],
        "utc": now.astimezone(UTC).time(),
    }


@cache
def _zones() -> list[str]:
    """Every zone's name; finding them reads hundreds of files."""
    return sorted(available_timezones() | {DEFAULT_TIMEZONE})
