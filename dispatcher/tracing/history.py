"""Everything that a reader might have got since they follow their stories, page by page, the newest first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import NamedTuple

from dispatcher import db
from dispatcher.model import ChannelName
from dispatcher.tracing.explaining import NOTICES, Told, explain, explain_notice

#: Entries on one page.
PAGE = 30
_HIGHEST = 2**62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = re.compile(r"([0-9]{1,17})\.([un])\.([0-9]{1,18})")
_NEWEST = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of an entry on one channel, and on one device where it is a push."""

    channel: ChannelName
    device: str  #: the name of a browser; empty for mail
    told: Told
    at: datetime | None  #: when that was written down; None while there is no outcome
    blast_id: int | None  #: None for a mail to this reader alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An update of one of their stories, or a mail to them alone."""

    at: datetime
    title: str
    slug: str  #: of the story; empty for a mail that is about none
    story: str
    seq: int | None  #: None for a mail to them alone
    kind: str
    importance: str
    outcomes: list[Outcome]


@dataclass(frozen=True, slots=True)
class History:
    """Entries, the newest first, and what the next page begins before; empty at the end."""

    entries: list[Entry]
    before: str


class _Place(NamedTuple):
    """A place in the history. At one moment, updates come before mails."""

    at: datetime
    is_update: bool
    id: int


async def history(database: db.Database, subscriber_id: int, *, before: str = "", limit: int = PAGE) -> History:
    """A page of what a reader might have got. A `before` that is none of ours means the newest page.

    Raises `DatabaseUnavailable`. Mails to the reader alone are kept for 90 days.
    """
    updates_before, notices_before = _bounds(before)
    async with database.connection() as connection:
        row = await connection.one("trace_reader", subscriber_id=subscriber_id)
        if row is None:
            return History([], "")
        updates = await connection.all(
            "trace_updates",
            subscriber_id=subscriber_id,
            at=updates_before.at,
            before=updates_before.id,
            limit=limit + 1,
        )
        notices = await connection.all(
            "trace_notices",
            subscriber_id=subscriber_id,
            address_hash=row["address_hash"],
            at=notices_before.at,
            before=notices_before.id,
            limit=limit + 1,
        )
    placed = [*_updates(updates), *_notices(notices)]
    placed.sort(key=lambda each: each[0], reverse=True)
    shown = placed[:limit]
    return History([entry for _, entry in shown], _cursor(shown[-1][0]) if len(placed) > limit else "")


def _updates(rows: list[db.Row]) -> list[tuple[_Place, Entry]]:
    """One entry for each update, with every channel and device of it."""
    placed = []
    for update_id, group in groupby(rows, key=lambda row: row["update_id"]):
        found = list(group)
        first = found[0]
        entry = Entry(
            at=first["published_at"],
            title=first["headline"],
            slug=first["slug"],
            story=first["story_headline"],
            seq=first["seq"],
            kind=first["kind"],
            importance=first["importance"],
            outcomes=[
                Outcome(
                    channel=ChannelName(row["channel"]),
                    device=row["device"] or "",
                    told=explain(row),
                    at=row["recorded_at"],
                    blast_id=row["blast_id"],
                )
                for row in found
            ],
        )
        placed.append((_Place(entry.at, True, update_id), entry))
    return placed


def _notices(rows: list[db.Row]) -> list[tuple[_Place, Entry]]:
    return [(_Place(row["created_at"], False, row["id"]), _notice(row)) for row in rows]


def _notice(row: db.Row) -> Entry:
    outcome = Outcome(
        channel=ChannelName.EMAIL, device="", told=explain_notice(row), at=row["recorded_at"], blast_id=None
    )
    return Entry(
        at=row["created_at"],
        title=NOTICES[row["kind"]],
        slug=row["slug"] or "",
        story=row["story_headline"] or "",
        seq=None,
        kind="",
        importance="",
        outcomes=[outcome],
    )


def _cursor(place: _Place) -> str:
    microseconds = (place.at - _EPOCH) // timedelta(microseconds=1)
    return f"{microseconds}.{'u' if place.is_update else 'n'}.{place.id}"


def _bounds(cursor: str) -> tuple[_Place, _Place]:
    """Where updates and mails go on after a place."""
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        return _Place(_NEWEST, True, _HIGHEST), _Place(_NEWEST, False, _HIGHEST)
    at, number = _EPOCH + timedelta(microseconds=int(found[1])), int(found[3])
    if found[2] == "u":
        return _Place(at, True, number), _Place(at, False, _HIGHEST)
    return _Place(at, True, 0), _Place(at, False, number)
