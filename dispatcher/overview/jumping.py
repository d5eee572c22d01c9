"""Stories and drafts by a few letters of their headlines."""

from __future__ import annotations

from dataclasses import dataclass

from dispatcher import db
from dispatcher.model import DraftState, StoryState

MOST_STORIES = 8
MOST_DRAFTS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundStory:
    """A story to jump to."""

    slug: str
    headline: str
    state: StoryState
    updates: int
    sending_seq: int | None  #: the newest update that is going out


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundDraft:
    """A draft to jump to."""

    id: int
    headline: str  #: may be empty
    state: DraftState
    story: str  #: its headline


async def jump(database: db.Database, query: str) -> tuple[list[FoundStory], list[FoundDraft]]:
    """Stories whose headline or slug holds the query, and drafts of such a headline or story; the likeliest first."""
    like = f"{db.like(query)}%"
    async with database.connection() as connection:
        stories = await connection.all("jump_stories", like=like, limit=MOST_STORIES)
        drafts = await connection.all("jump_drafts", like=like, limit=MOST_DRAFTS)
    return (
        [FoundStory(**{**row, "state": StoryState(row["state"])}) for row in stories],
        [FoundDraft(**{**row, "state": DraftState(row["state"])}) for row in drafts],
    )
