"""Stories: create, find, list, close, and their timeline."""

from __future__ import annotations

import re

from dispatcher import db
from dispatcher.errors import Conflict, Invalid, NotFound, StoryClosed
from dispatcher.model import Importance, InDoubt, Kind, Story, StoryState, Update
from dispatcher.texts import one_line

MAX_HEADLINE = 200
MAX_SUMMARY = 500
MAX_SLUG = 80
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


async def create(
    database: db.Database, slug: str, *, headline: str, summary: str = "", in_doubt: InDoubt | None = None
) -> Story:
    """Create a developing story. Raises `Invalid` for a bad field, `Conflict` if the slug is taken."""
    slug = check_slug(slug)
    headline = one_line("headline", headline, longest=MAX_HEADLINE)
    summary = one_line("summary", summary, longest=MAX_SUMMARY, required=False)
    async with database.transaction() as tx:
        row = await tx.one(
            "create_story", slug=slug, headline=headline, summary=summary, in_doubt=in_doubt and str(in_doubt)
        )
    if row is None:
        raise Conflict(f"There is a story {slug!r} already.", remedy="Choose another slug.", field="slug")
    return story_from(row)


def check_slug(slug: str) -> str:
    """A slug that may stand in a URL. Raises `Invalid`."""
    if not _SLUG.fullmatch(slug) or len(slug) > MAX_SLUG:
        raise Invalid(
            f"slug {slug[:MAX_SLUG]!r} is not valid.",
            remedy=f"Use small letters, digits and single hyphens, at most {MAX_SLUG}: for example tarrow-flood.",
            field="slug",
        )
    return slug


async def find(database: db.Database, slug: str) -> Story:
    """One story by its slug. Raises `NotFound`."""
    async with database.connection() as connection:
        row = await connection.one("find_story", slug=slug) if _SLUG.fullmatch(slug) else None
    if row is None:
        raise unknown(slug)
    return story_from(row)


async def listing(database: db.Database) -> list[Story]:
    """Every story with its number of followers, developing ones first, newest first."""
    async with database.connection() as connection:
        return [story_from(row) for row in await connection.all("list_stories")]


async def timeline(database: db.Database, story: Story, *, before: int | None = None, limit: int = 100) -> list[Update]:
    """The updates of a story, newest first; only those before number `before`, if it is given."""
    async with database.connection() as connection:
        rows = await connection.all("timeline", story_id=story.id, before=before or 2**31 - 1, limit=limit)
    return [update_from(row) for row in rows]


async def close(database: db.Database, slug: str, *, successor: str | None = None) -> Story:
    """Close a story. Raises `NotFound`, or `StoryClosed` if it is closed already."""
    story = await find(database, slug)
    if successor is not None:
        if successor == slug:
            raise Invalid("A story cannot be its own successor.", field="successor")
        await find(database, successor)
    async with database.transaction() as tx:
        if not await tx.execute("close_story", story_id=story.id, successor=successor):
            raise StoryClosed(f"The story {slug!r} is closed already.", remedy="")
    return await find(database, slug)


async def set_in_doubt(database: db.Database, slug: str, in_doubt: InDoubt | None) -> Story:
    """Say what becomes of this story's messages without an answer; None: as the installation does.

    It counts for batches that workers load from then on. Raises `NotFound`.
    """
    story = await find(database, slug)
    async with database.transaction() as tx:
        await tx.execute("set_in_doubt", story_id=story.id, in_doubt=in_doubt and str(in_doubt))
    return await find(database, slug)


def unknown(slug: str) -> NotFound:
    """The error for a story that does not exist."""
    return NotFound(
        f"There is no story {slug[:MAX_SLUG]!r}.",
        remedy="`dispatcher story list` shows the stories there are.",
        field="story",
    )


def story_from(row: db.Row) -> Story:
    return Story(
        id=row["id"],
        slug=row["slug"],
        headline=row["headline"],
        summary=row["summary"],
        state=StoryState(row["state"]),
        created_at=row["created_at"],
        closed_at=row["closed_at"],
        successor=row["successor"],
        followers=row.get("followers"),
        in_doubt=None if row["in_doubt"] is None else InDoubt(row["in_doubt"]),
    )


def update_from(row: db.Row) -> Update:
    return Update(
        id=row["id"],
        story_id=row["story_id"],
        seq=row["seq"],
        kind=Kind(row["kind"]),
        importance=Importance(row["importance"]),
        headline=row["headline"],
        summary=row["summary"],
        body=row["body"],
        published_at=row["published_at"],
        expires_at=row["expires_at"],
        corrects=row["corrects"],
        corrects_seq=row["corrects_seq"],
    )
