"""Stories: create, find, list, change, close, and their timeline."""

from __future__ import annotations

import itertools
import re
from typing import Any

from dispatcher import audit, db
from dispatcher.errors import Conflict, Invalid, NotFound, StoryClosed
from dispatcher.model import Importance, InDoubt, Kind, Story, StoryState, Update
from dispatcher.slugs import numbered, slug_of
from dispatcher.texts import one_line

MAX_HEADLINE = 200
MAX_SUMMARY = 500
MAX_SLUG = 80
#: Slugs that no story may have: the desk has a page in their place.
RESERVED = frozenset({"new"})
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


async def create(
    database: db.Database,
    slug: str,
    *,
    headline: str,
    summary: str = "",
    in_doubt: InDoubt | None = None,
    by: str = "cli",
) -> Story:
    """Create a developing story. Raises `Invalid` for a bad field, `Conflict` if the slug is taken."""
    slug = check_slug(slug)
    if slug in RESERVED:
        raise Invalid(f"The slug {slug!r} is kept for a page.", remedy="Choose another slug.", field="slug")
    values = {**_texts(headline, summary), "in_doubt": in_doubt and str(in_doubt)}
    async with database.transaction() as tx:
        row = await tx.one("create_story", slug=slug, **values)
        if row is None:
            raise Conflict(f"There is a story {slug!r} already.", remedy="Choose another slug.", field="slug")
        await note(tx, slug, "created a story", by=by, headline=values["headline"])
    return story_from(row)


async def free_slug(database: db.Database, headline: str) -> str:
    """A slug made from a headline, with a number at its end where the slug itself is taken."""
    slug = slug_of(headline[: 4 * MAX_HEADLINE], longest=MAX_SLUG)
    async with database.connection() as connection:
        rows = await connection.all("slugs_like", slug=slug, beginning=numbered(slug, 2, longest=MAX_SLUG)[:-1] + "%")
    taken = {row["slug"] for row in rows} | RESERVED
    choices = itertools.chain([slug], (numbered(slug, number, longest=MAX_SLUG) for number in itertools.count(2)))
    return next(each for each in choices if each not in taken)


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


async def change(
    database: db.Database, slug: str, *, headline: str, summary: str, in_doubt: InDoubt | None, by: str = "cli"
) -> Story:
    """Change what a story says of itself. Its slug stays: links in mails must live. Raises `Invalid`, `NotFound`."""
    values = {**_texts(headline, summary), "in_doubt": in_doubt and str(in_doubt)}
    async with database.transaction() as tx:
        before = await tx.one("lock_story", slug=check_slug(slug))
        if before is None:
            raise unknown(slug)
        changed = {key: value for key, value in values.items() if value != before[key]}
        if changed:
            await tx.execute("change_story", story_id=before["id"], **values)
            await note(tx, slug, "changed a story", by=by, **changed)
    return await find(database, slug)


async def set_in_doubt(database: db.Database, slug: str, in_doubt: InDoubt | None, *, by: str = "cli") -> Story:
    """Say what becomes of this story's messages without an answer; None: as the installation does.

    It counts for batches that workers load from then on. Raises `NotFound`.
    """
    story = await find(database, slug)
    return await change(database, slug, headline=story.headline, summary=story.summary, in_doubt=in_doubt, by=by)


async def close(database: db.Database, slug: str, *, successor: str | None = None, by: str = "cli") -> Story:
    """Close a story without another word to its readers, and name the one that goes on.

    What is on its way still goes out, and corrections of it may follow; a worker ends the subscriptions once that can
    be no more. Raises `NotFound`, `Invalid` for a successor that is none, or `StoryClosed` if it is closed already.
    """
    async with database.transaction() as tx:
        row = await tx.one("lock_story", slug=slug) if _SLUG.fullmatch(slug) else None
        if row is None:
            raise unknown(slug)
        if row["state"] == StoryState.CLOSED:
            raise StoryClosed(f"The story {slug!r} is closed already.", remedy="")
        await end(tx, story_from(row), successor, by=by)
    return await find(database, slug)


async def end(tx: db.Connection, story: Story, successor: str | None, *, by: str, is_merged: bool = False) -> None:
    """Close a story that this transaction holds, and that is still developing; `is_merged`: its readers go on too.

    Raises `NotFound` and `Invalid` for a successor that is none.
    """
    successor_id = None if successor is None else await _successor(tx, story, successor)
    await tx.execute("close_story", story_id=story.id, successor_id=successor_id, is_merged=is_merged)
    detail = {} if successor is None else {"successor": successor}
    await note(tx, story.slug, "merged a story" if is_merged else "closed a story", by=by, **detail)


async def note(tx: db.Connection, slug: str, action: str, *, by: str, **detail: Any) -> None:
    """Put down in the log what was done to a story."""
    await audit.note(tx, actor=by, action=action, subject=f"story:{slug}", detail=detail)


def check_successor(slug: str, successor: str) -> None:
    """Whether one story may go on where the other ends, so far as their names tell. Raises `Invalid`."""
    if successor == slug:
        raise Invalid("A story cannot be its own successor.", remedy="Name another one, or none.", field="successor")


async def _successor(tx: db.Connection, story: Story, successor: str) -> int:
    check_successor(story.slug, successor)
    row = await tx.one("find_story", slug=successor) if _SLUG.fullmatch(successor) else None
    if row is None:
        raise unknown(successor, field="successor")
    return int(row["id"])


def _texts(headline: str, summary: str) -> dict[str, Any]:
    return {
        "headline": one_line("headline", headline, longest=MAX_HEADLINE),
        "summary": one_line("summary", summary, longest=MAX_SUMMARY, required=False),
    }


def unknown(slug: str, *, field: str = "story") -> NotFound:
    """The error for a story that does not exist."""
    return NotFound(
        f"There is no story {slug[:MAX_SLUG]!r}.",
        remedy="`dispatcher story list` shows the stories there are.",
        field=field,
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
        withdrawn_at=row.get("withdrawn_at"),
        withdrawn_because=row.get("withdrawn_because") or "",
        withdrawn_by=row.get("withdrawn_by"),
    )
