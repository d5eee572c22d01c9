"""The desk at a glance: stories with their followers by channel and their last update, and what is sending now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from dispatcher import db
from dispatcher.model import BlastState, ChannelName, Importance, Kind, StoryState

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
    is_sending: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class BlastLine:
    """A blast that is open."""

    id: int
    slug: str
    seq: int
    headline: str
    channel: ChannelName
    state: BlastState
    candidates: int | None  #: None until the audience is frozen
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Stories:
    """A page of stories, and how many there are by state."""

    stories: list[StoryLine]
    counts: dict[str, int]
    has_more: bool
    now: datetime


async def stories(database: db.Database, *, query: str = "", state: str = "", page: int = 1) -> Stories:
    """A page of stories, those with the newest update first; `query` looks into headlines and slugs."""
    like = "" if not query else "%" + query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    async with database.connection() as connection:
        rows = await connection.all(
            "overview_stories", like=like, state=state, limit=PER_PAGE + 1, offset=(page - 1) * PER_PAGE
        )
        counts = {row["state"]: row["count"] for row in await connection.all("overview_counts")}
    return Stories([_line(row) for row in rows[:PER_PAGE]], counts, len(rows) > PER_PAGE, datetime.now(UTC))


async def sending(database: db.Database) -> list[BlastLine]:
    """The blasts that are open, the newest first."""
    async with database.connection() as connection:
        rows = await connection.all("overview_sending", limit=MOST_SENDING)
    return [
        BlastLine(**{**row, "channel": ChannelName(row["channel"]), "state": BlastState(row["state"])}) for row in rows
    ]


def _line(row: db.Row) -> StoryLine:
    kind, importance = row["last_kind"], row["last_importance"]
    values = {
        **row,
        "state": StoryState(row["state"]),
        "last_kind": None if kind is None else Kind(kind),
        "last_importance": None if importance is None else Importance(importance),
    }
    return StoryLine(**values)
