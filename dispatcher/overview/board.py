"""One story for the desk: who follows it, and its updates with what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dispatcher import db, stories
from dispatcher.model import Importance, Kind, Story
from dispatcher.overview import blasts
from dispatcher.overview.blasts import BlastLine
from dispatcher.overview.followers import Counts, Followers

#: Updates on one page, and drills that are shown at most.
PER_PAGE = 25
MOST_DRILLS = 5
_NEWEST = 2**31 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateLine:
    """An update, and what became of it."""

    seq: int  #: below zero for a drill
    kind: Kind
    importance: Importance
    headline: str
    summary: str
    published_at: datetime
    sent_by: str
    corrects_seq: int | None
    corrected_by: int | None  #: the newest update that corrects it or takes it back
    corrected_how: Kind | None
    blasts: list[BlastLine]

    @property
    def is_open(self) -> bool:
        """Whether some of it is still going out."""
        return any(each.is_open for each in self.blasts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """A story with a page of its updates."""

    story: Story
    successor: Story | None
    followers: Counts
    updates: list[UpdateLine]
    drills: list[UpdateLine]  #: on the first page alone
    older: int | None  #: the number to go on before; None at the beginning of the story
    is_first: bool


async def board(database: db.Database, followers: Followers, slug: str, *, before: int | None = None) -> Board:
    """A story with its updates, the newest first; only those before number `before`, if it is given.

    Raises `NotFound`.
    """
    story = await stories.find(database, slug)
    successor = None if story.successor is None else await stories.find(database, story.successor)
    key = (story.id, story.created_at)
    counts = (await followers.count([key]))[key]
    async with database.connection() as connection:
        rows = await connection.all("overview_updates", story_id=story.id, before=before or _NEWEST, limit=PER_PAGE + 1)
        drills = []
        if before is None:
            drills = await connection.all("overview_drills", story_id=story.id, limit=MOST_DRILLS)
        shown = rows[:PER_PAGE]
        ids = [row["id"] for row in (*shown, *drills)]
        found = await blasts.lines(connection, await connection.all("overview_blasts", update_ids=ids))
    return Board(
        story=story,
        successor=successor,
        followers=counts,
        updates=_lines(shown, found),
        drills=_lines(drills, found),
        older=shown[-1]["seq"] if len(rows) > PER_PAGE else None,
        is_first=before is None,
    )


def _lines(rows: Sequence[db.Row], found: dict[int, list[BlastLine]]) -> list[UpdateLine]:
    return [
        UpdateLine(
            seq=row["seq"],
            kind=Kind(row["kind"]),
            importance=Importance(row["importance"]),
            headline=row["headline"],
            summary=row["summary"],
            published_at=row["published_at"],
            sent_by=row["sent_by"],
            corrects_seq=row["corrects_seq"],
            corrected_by=row["corrected_by"],
            corrected_how=None if row["corrected_how"] is None else Kind(row["corrected_how"]),
            blasts=found.get(row["id"], []),
        )
        for row in rows
    ]
