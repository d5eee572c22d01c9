"""Begin a draft, find it, save it, see who else has it open, throw it away."""

from __future__ import annotations

import json
from dataclasses import replace

from dispatcher import audit, db, stories
from dispatcher.config import Settings
from dispatcher.drafting.telling import tell_unscheduled
from dispatcher.drafting.writing import (
    PRESENT,
    NotYours,
    Presence,
    StillScheduled,
    Text,
    Writing,
    check_text,
    locked,
    need,
    need_version,
    unknown,
    writings_of,
)
from dispatcher.errors import Conflict, Invalid, StoryClosed
from dispatcher.model import DraftState, Importance, Kind, Story, Update
from dispatcher.people import Person
from dispatcher.roles import What

#: Versions that are kept of one draft.
KEPT = 50
#: Drafts in one list.
MOST_LISTED = 300


async def begin(database: db.Database, slug: str, *, by: Person, text: Text | None = None) -> Writing:
    """Begin a draft for a story. Without a text it is an empty update.

    Raises `NotFound`, `StoryClosed`, `Invalid`, `TooLarge`, `NotYours`.
    """
    need(by, What.WRITE)
    text = check_text(text or Text())
    async with database.transaction() as tx:
        draft_id = await insert(tx, slug, text, author=by.id, state=DraftState.DRAFT)
        assert draft_id is not None  # noqa: S101  # its key is new
        await audit.note(
            tx, actor=by.email, action="began a draft", subject=f"draft:{draft_id}", detail={"story": slug}
        )
        return await locked(tx, draft_id)


async def insert(
    tx: db.Connection,
    slug: str,
    text: Text,
    *,
    author: int | None,
    state: DraftState,
    handed_in_by: str | None = None,
    handed_in_hash: bytes | None = None,
    key: str | None = None,
) -> int | None:
    """A new draft of a story that is open, with its first version; None if one has this key already."""
    found = await tx.one("find_story", slug=slug)
    if found is None:
        raise stories.unknown(slug)
    story = stories.story_from(found)
    if not story.takes(text.kind):
        raise StoryClosed(f"The story {slug!r} is closed and takes no more updates.", field="story")
    draft_id: int | None = await tx.value(
        "begin_draft",
        story_id=story.id,
        **await _columns(tx, story, text),
        author=author,
        state=str(state),
        handed_in_by=handed_in_by,
        handed_in_hash=handed_in_hash,
        key=key,
    )
    if draft_id is not None:
        await _keep(tx, draft_id, 1, text, author)
    return draft_id


async def find(database: db.Database, draft_id: int, *, by: Person | None = None) -> Writing:
    """A draft by its number; `others` has it open beside `by`. Raises `NotFound`."""
    async with database.connection() as connection:
        row = await connection.one("find_draft", draft_id=draft_id)
        if row is None:
            raise unknown(draft_id)
        return _beside((await writings_of(connection, [row]))[0], by)


async def listing(database: db.Database, *, slug: str | None = None) -> list[Writing]:
    """What is not published yet, of one story or of all, the last touched first. Raises `NotFound`."""
    story_id = None if slug is None else (await stories.find(database, slug)).id
    async with database.connection() as connection:
        rows = await connection.all("list_drafts", story_id=story_id, limit=MOST_LISTED)
        return await writings_of(connection, rows)


async def save(
    database: db.Database,
    settings: Settings,
    draft_id: int,
    text: Text,
    *,
    version: int,
    by: Person,
    unschedules: bool = False,
) -> Writing:
    """Save another text over version `version`. It may be incomplete; nothing but a change voids an approval.

    A change takes what is scheduled off the schedule, if `unschedules` says that it may; whoever scheduled it gets a
    mail. Raises `SavedMeanwhile` if somebody saved another version, `StillScheduled`, `NotFound`, `Invalid`,
    `TooLarge`, `NotYours`, and `Conflict` once it is published. Then nothing is saved.
    """
    need(by, What.WRITE)
    text = check_text(text)
    async with database.transaction() as tx:
        before = await locked(tx, draft_id)
        need_unpublished(before)
        need_version(before, version)
        await tx.execute("see_presence", draft_id=draft_id, person_id=by.id)
        if text != before.text:
            if before.state is DraftState.SCHEDULED and not unschedules:
                raise StillScheduled(field="state")
            await _change(tx, before, text, by)
            await tell_unscheduled(tx, settings, before, by=by, how="changed")
        return _beside(await locked(tx, draft_id), by)


async def present(database: db.Database, draft_id: int, *, by: Person) -> tuple[Presence, ...]:
    """Say that `by` has a draft open, and hear who else has. It holds for half a minute. Raises `NotFound`."""
    async with database.transaction() as tx:
        if not await tx.execute("see_presence", draft_id=draft_id, person_id=by.id):
            raise unknown(draft_id)
        rows = await tx.all("presences_of_drafts", ids=[draft_id], seconds=PRESENT)
    return tuple(Presence(row["id"], row["name"], row["email"], row["seen_at"]) for row in rows if row["id"] != by.id)


async def discard(database: db.Database, settings: Settings, draft_id: int, *, by: Person) -> None:
    """Throw a draft away: one's own, or, for those who may send, anybody's. Whoever scheduled it gets a mail.

    Raises `NotFound`, `NotYours`, and `Conflict` once it is published.
    """
    need(by, What.WRITE)
    async with database.transaction() as tx:
        writing = await locked(tx, draft_id)
        need_unpublished(writing)
        if writing.author.id != by.id and not by.may(What.SEND):
            raise NotYours("This draft is somebody else's.")
        detail = {"story": writing.story.slug, "headline": writing.text.headline}
        await audit.note(
            tx,
            actor=by.email,
            action="discarded a draft",
            subject=writing.subject,
            content_hash=writing.content_hash,
            detail=detail,
        )
        await tell_unscheduled(tx, settings, writing, by=by, how="discarded")
        await tx.execute("discard_draft", draft_id=draft_id)


def prefilled(story: Story, update: Update, *, corrects: bool = False, replaces: bool = False) -> Text:
    """What a draft that follows on an update begins with: a correction of it, its replacement, or the next update."""
    if corrects:
        return Text(
            kind=Kind.CORRECTION,
            importance=update.importance,
            headline=update.headline,
            summary=update.summary,
            body=update.body,
            corrects_seq=update.seq,
        )
    if replaces:
        return Text(
            importance=update.importance,
            headline=update.headline,
            summary=update.summary,
            body=update.body,
            replaces=True,
        )
    is_breaking = update.importance is Importance.BREAKING
    return Text(
        importance=Importance.MAJOR if is_breaking else update.importance,
        headline=update.headline if update.story_id == story.id else story.headline,
    )


def need_unpublished(writing: Writing) -> None:
    """Raises `Conflict` for what is out already."""
    if writing.state is DraftState.PUBLISHED:
        raise Conflict(
            f"This is published already, as update {writing.update_seq} of {writing.story.slug!r}.",
            remedy="Begin another update, or correct this one.",
        )


async def _change(tx: db.Connection, before: Writing, text: Text, by: Person) -> None:
    columns = await _columns(tx, before.story, text)
    await tx.execute("save_draft", draft_id=before.id, by=by.id, **columns)
    await _keep(tx, before.id, before.version + 1, text, by.id)
    was = before.state
    if was in {DraftState.SCHEDULED, DraftState.APPROVED} or before.approved_hash is not None:
        action = "changed a scheduled draft" if was is DraftState.SCHEDULED else "changed an approved draft"
        void = [what for what, holds in _void(before).items() if holds]
        await audit.note(
            tx,
            actor=by.email,
            action=action,
            subject=before.subject,
            content_hash=before.content_hash,
            detail={"void": void},
        )


def _void(before: Writing) -> dict[str, bool]:
    return {"approval": before.approved_hash is not None, "schedule": before.state is DraftState.SCHEDULED}


async def _keep(tx: db.Connection, draft_id: int, version: int, text: Text, editor: int | None) -> None:
    kept = json.dumps(text.as_json(), ensure_ascii=False)
    await tx.execute("keep_revision", draft_id=draft_id, version=version, text=kept, editor=editor)
    await tx.execute("forget_revisions", draft_id=draft_id, version=version, keep=KEPT)


async def _columns(tx: db.Connection, story: Story, text: Text) -> dict[str, object]:
    """A text as the columns of a draft. Raises `Invalid` for an update or a story that there is not."""
    corrects = None
    if text.corrects_seq is not None:
        row = await tx.one("find_update", story_id=story.id, seq=text.corrects_seq)
        if row is None or text.corrects_seq < 1:
            raise Invalid(
                f"There is no update {text.corrects_seq} to correct in this story.",
                remedy="Choose one of the story's updates.",
                field="corrects",
            )
        corrects = row["id"]
    return {
        "kind": str(text.kind),
        "importance": str(text.importance),
        "headline": text.headline,
        "summary": text.summary,
        "body": text.body,
        "corrects": corrects,
        "replaces": text.replaces,
        "expires_in": text.expires_in,
        "successor_id": await _successor(tx, story, text.successor),
    }


async def _successor(tx: db.Connection, story: Story, slug: str | None) -> int | None:
    if slug is None:
        return None
    row = await tx.one("find_story", slug=slug)
    if row is None or row["id"] == story.id:
        raise Invalid(
            f"The story {slug[: stories.MAX_SLUG]!r} cannot go on where this one ends.",
            remedy="Choose another story that there is.",
            field="successor",
        )
    return int(row["id"])


def _beside(writing: Writing, by: Person | None) -> Writing:
    """The same, but for oneself among the others."""
    return (
        writing
        if by is None
        else replace(writing, others=tuple(each for each in writing.others if each.person_id != by.id))
    )
