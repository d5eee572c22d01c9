"""The list of stories with their followers by channel and their last update, and what is sending now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from dispatcher import db
from dispatcher.model import DraftState, Importance, Kind, StoryState
from dispatcher.overview import blasts
from dispatcher.overview.blasts import BlastLine, Sum, add_up
from dispatcher.overview.followers import Counts, Followers

PER_PAGE = 50
#: Open blasts that are shown at most.
MOST_SENDING = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryLine:
    """One story as the list of the desk shows it."""

    slug: str
    headline: str
    state: StoryState
    readers: int
    by_mail: int  #: of them, those who get mail
    by_push: int  #: and those who get pushes; some get both
    updates: int
    last_at: datetime | None
    last_headline: str | None
    last_kind: Kind | None
    last_importance: Importance | None
    sending_seq: int | None  #: the newest update that is going out
    draft_id: int | None  #: the draft that was touched last
    draft_state: DraftState | None
    draft_by: str  #: who touched it
    draft_send_at: datetime | None

    @property
    def is_sending(self) -> bool:
        return self.sending_seq is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sending:
    """An update that is going out."""

    slug: str
    seq: int  #: below zero for a drill
    headline: str
    published_at: datetime
    blasts: list[BlastLine]

    @property
    def is_drill(self) -> bool:
        return self.seq < 0

    @property
    def sum(self) -> Sum:
        """All channels together."""
        return add_up(self.blasts)


@dataclass(frozen=True, slots=True)
class Stories:
    """A page of stories, and how many there are by state."""

    stories: list[StoryLine]
    counts: dict[str, int]
    has_more: bool
    now: datetime


async def stories(
    database: db.Database, followers: Followers, *, query: str = "", state: str = "", page: int = 1
) -> Stories:
    """A page of stories, those with the newest update first; `query` looks into headlines and slugs."""
    like = f"%{db.like(query)}%" if query else ""
    async with database.connection() as connection:
        rows = await connection.all(
            "overview_stories", like=like, state=state, limit=PER_PAGE + 1, offset=(page - 1) * PER_PAGE
        )
        counts = {row["state"]: row["count"] for row in await connection.all("overview_counts")}
    shown = rows[:PER_PAGE]
    counted = await followers.count([(row["id"], row["created_at"]) for row in shown])
    lines = [_line(row, counted[row["id"], row["created_at"]]) for row in shown]
    return Stories(lines, counts, len(rows) > PER_PAGE, datetime.now(UTC))


async def sending(database: db.Database) -> list[Sending]:
    """The updates that are going out, the newest first."""
    async with database.connection() as connection:
        rows = await connection.all("overview_sending", limit=MOST_SENDING)
        found = await blasts.lines(connection, rows)
    updates = {row["update_id"]: row for row in rows}
    return [
        Sending(
            slug=row["slug"],
            seq=row["seq"],
            headline=row["headline"],
            published_at=row["published_at"],
            blasts=sorted(found[update_id], key=lambda line: line.channel),
        )
        for update_id, row in updates.items()
    ]


def _line(row: db.Row, counts: Counts) -> StoryLine:
    kind, importance, draft = row["last_kind"], row["last_importance"], row["draft_state"]
    return StoryLine(
        slug=row["slug"],
        headline=row["headline"],
        state=StoryState(row["state"]),
        readers=counts.readers,
        by_mail=counts.by_mail,
        by_push=counts.by_push,
        updates=row["updates"],
        last_at=row["last_at"],
        last_headline=row["last_headline"],
        last_kind=None if kind is None else Kind(kind),
        last_importance=None if importance is None else Importance(importance),
        sending_seq=row["sending_seq"],
        draft_id=row["draft_id"],
        draft_state=None if draft is None else DraftState(draft),
        draft_by=row["draft_by"],
        draft_send_at=row["draft_send_at"],
    )
