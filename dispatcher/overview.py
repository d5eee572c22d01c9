"""The desk at a glance: stories with their followers by channel and their last update, and what is sending now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from dispatcher import db
from dispatcher.model import BlastState, ChannelName, Importance, Kind, StoryState

PER_PAGE = 50
#: Open blasts that are shown at most.
MOST_SENDING = 20
#: Counts hold a hundred times as long as they took, a minute at most.
HUNDREDFOLD = 100
OLDEST = 60.0
#: Stories whose counts are kept at most.
MOST_KNOWN = 20_000

_Story = tuple[int, datetime]
_Counts = tuple[int, int, int]
_NONE: _Counts = (0, 0, 0)


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


class Followers:
    """How many follow each story, counted again as often as that costs a hundredth of the time.

    So a small newsroom sees what is so at this moment, and a list of stories with a million readers is as old as a
    minute at most, instead of taking a second for whoever looks.
    """

    def __init__(self, database: db.Database) -> None:
        self._database = database
        self._known: dict[_Story, tuple[float, _Counts]] = {}
        self._counting = asyncio.Lock()

    async def count(self, wanted: Collection[_Story]) -> dict[_Story, _Counts]:
        """Readers, those by mail, and those by push, of stories by number and birth."""
        async with self._counting:  # those who come meanwhile find what the first one has counted
            now = time.monotonic()
            if missing := [each for each in wanted if self._known.get(each, (0.0, _NONE))[0] <= now]:
                await self._recount(missing)
            return {each: self._known[each][1] for each in wanted}

    async def _recount(self, wanted: list[_Story]) -> None:
        begun = time.monotonic()
        async with self._database.connection() as connection:
            rows = await connection.all("overview_followers", story_ids=[number for number, _ in wanted])
        found = {row["story_id"]: (row["readers"], row["by_mail"], row["by_push"]) for row in rows}
        ended = time.monotonic()
        until = ended + min((ended - begun) * HUNDREDFOLD, OLDEST)
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        for story in wanted:
            self._known[story] = (until, found.get(story[0], _NONE))


async def stories(
    database: db.Database, followers: Followers, *, query: str = "", state: str = "", page: int = 1
) -> Stories:
    """A page of stories, those with the newest update first; `query` looks into headlines and slugs."""
    like = "" if not query else "%" + query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    async with database.connection() as connection:
        rows = await connection.all(
            "overview_stories", like=like, state=state, limit=PER_PAGE + 1, offset=(page - 1) * PER_PAGE
        )
        counts = {row["state"]: row["count"] for row in await connection.all("overview_counts")}
    shown = rows[:PER_PAGE]
    counted = await followers.count([(row["id"], row["created_at"]) for row in shown])
    lines = [_line(row, counted[row["id"], row["created_at"]]) for row in shown]
    return Stories(lines, counts, len(rows) > PER_PAGE, datetime.now(UTC))


async def sending(database: db.Database) -> list[BlastLine]:
    """The blasts that are open, the newest first."""
    async with database.connection() as connection:
        rows = await connection.all("overview_sending", limit=MOST_SENDING)
    return [
        BlastLine(**{**row, "channel": ChannelName(row["channel"]), "state": BlastState(row["state"])}) for row in rows
    ]


def _line(row: db.Row, counts: _Counts) -> StoryLine:
    kind, importance = row["last_kind"], row["last_importance"]
    readers, by_mail, by_push = counts
    return StoryLine(
        slug=row["slug"],
        headline=row["headline"],
        state=StoryState(row["state"]),
        readers=readers,
        by_mail=by_mail,
        by_push=by_push,
        updates=row["updates"],
        last_at=row["last_at"],
        last_headline=row["last_headline"],
        last_kind=None if kind is None else Kind(kind),
        last_importance=None if importance is None else Importance(importance),
        is_sending=row["is_sending"],
    )
