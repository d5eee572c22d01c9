"""Publish an update: one transaction writes the update and its blasts; after the commit, one ring of the bell."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime

from dispatcher import approval, audit, db, stories
from dispatcher.errors import IdempotencyMismatch, Invalid, StoryClosed
from dispatcher.model import ChannelName, Draft, Importance, Kind, Published, Story, urgency_of
from dispatcher.nudges import Bell, Task
from dispatcher.texts import many_lines, one_line

MAX_BODY = 256 * 1024
MAX_KEY = 255
#: Milliseconds for which a publisher that has gone silent keeps others from publishing in the same story.
SILENCE = 10_000


async def publish(
    database: db.Database, bell: Bell, slug: str, draft: Draft, *, by: str, key: str | None = None
) -> Published:
    """Publish `draft` to everyone who follows the story `slug`.

    The same `key` with the same content gives the first answer again and sends nothing. Raises `Invalid`,
    `TooLarge`, `NotFound`, `StoryClosed`, `ApprovalRequired`, `IdempotencyMismatch` or `DatabaseUnavailable`; then
    nothing is written.
    The broker is not needed: if it does not answer, workers find the blast by themselves a few seconds later.
    """
    draft = check(draft)
    key = None if key is None else one_line("Idempotency-Key", key, longest=MAX_KEY)
    published = await _write(database, slug, draft, by=by, key=key)
    if not published.replayed:
        await bell.ring(Task.CUT, urgency=urgency_of(draft.kind, draft.importance))
    return published


def check(draft: Draft) -> Draft:
    """The draft with its texts in order. Raises `Invalid` or `TooLarge`, naming the field and the remedy.

    Whether it has expired already is seen when it is published: the database's clock counts.
    """
    if draft.expires_at is not None and draft.expires_at.tzinfo is None:
        raise Invalid("expires_at has no timezone.", remedy="Add one: 2026-03-01T06:00:00Z.", field="expires_at")
    if draft.kind is Kind.WITHDRAWAL:
        raise Invalid(
            "A withdrawal is not published.",
            remedy="Withdraw the update: `dispatcher update withdraw SLUG SEQ --reason TEXT`.",
            field="kind",
        )
    if (draft.kind is Kind.CORRECTION) != (draft.corrects_seq is not None):
        raise Invalid(
            "A correction names the update that it corrects, and only a correction does.",
            remedy="Give its number as `corrects`.",
            field="corrects",
        )
    if draft.replaces and draft.kind is Kind.CORRECTION:
        raise Invalid(
            "A correction takes the place of what it corrects by itself.",
            remedy="Leave `replaces` out.",
            field="replaces",
        )
    if draft.successor is not None and draft.kind is not Kind.FINAL:
        raise Invalid(
            "Only a final update names the story that goes on.",
            remedy="Publish it as `final`, or leave `successor` out.",
            field="successor",
        )
    return replace(
        draft,
        headline=one_line("headline", draft.headline, longest=stories.MAX_HEADLINE),
        summary=one_line("summary", draft.summary, longest=stories.MAX_SUMMARY, required=False),
        body=many_lines("body", draft.body, most_bytes=MAX_BODY),
    )


async def write(
    tx: db.Connection, slug: str, draft: Draft, *, by: str, key: str | None = None, is_approved: bool = False
) -> Published:
    """The same within a transaction of the caller's, who notes it in the log, and rings after it is committed.

    A `key` must be new. `is_approved`: the caller has seen to it that a second person approved this very content, or
    that it needs none. Raises as `publish` does.
    """
    draft = check(draft)
    return await _insert(tx, slug, draft, content_hash(slug, draft), by=by, key=key, is_approved=is_approved)


async def earlier(tx: db.Connection, key: str) -> Published | None:
    """What was published under a key; None if nothing was."""
    row = await tx.one("find_by_key", key=key)
    return None if row is None else await _earlier(tx, row)


async def _write(database: db.Database, slug: str, draft: Draft, *, by: str, key: str | None) -> Published:
    hashed = content_hash(slug, draft)
    try:
        async with database.transaction() as tx:
            await tx.execute("be_brief", milliseconds=SILENCE)
            if key is not None and (first := await _replay(tx, key, hashed)):
                return first
            published = await _insert(tx, slug, draft, hashed, by=by, key=key)
            detail = {"update": published.update.seq, "headline": draft.headline}
            await audit.note(
                tx, actor=by, action="published", subject=f"story:{slug}", content_hash=hashed, detail=detail
            )
            return published
    except db.UniqueViolation:
        # Another request with this key committed between our look and our insert; its answer is ours.
        async with database.transaction() as tx:
            first = await _replay(tx, key or "", hashed)
        if first is None:
            raise
        return first


async def _replay(tx: db.Connection, key: str, hashed: bytes) -> Published | None:
    row = await tx.one("find_by_key", key=key)
    if row is None:
        return None
    if row["content_hash"] != hashed:
        raise IdempotencyMismatch(field="Idempotency-Key")
    return await _earlier(tx, row)


async def _earlier(tx: db.Connection, row: db.Row) -> Published:
    story = await tx.one("find_story", slug=row["slug"])
    assert story is not None  # noqa: S101  # the foreign key holds it
    return Published(
        story=stories.story_from(story),
        update=stories.update_from(row),
        blast_ids=tuple(each["id"] for each in await tx.all("blasts_of_update", update_id=row["id"])),
        replayed=True,
        superseded=await _superseded(tx, row["id"]),
    )


async def _insert(
    tx: db.Connection, slug: str, draft: Draft, hashed: bytes, *, by: str, key: str | None, is_approved: bool = False
) -> Published:
    found = await tx.one("lock_story", slug=slug)
    if found is None:
        raise stories.unknown(slug)
    story = stories.story_from(found)
    if not story.takes(draft.kind):
        raise StoryClosed(f"The story {slug!r} is closed and takes no more updates.", field="story")
    if not is_approved:
        await approval.check(tx, story.id, draft)
    wrong = None if draft.corrects_seq is None else await corrected(tx, story.id, draft.corrects_seq)
    row = await tx.one(
        "insert_update",
        story_id=story.id,
        kind=str(draft.kind),
        importance=str(draft.importance),
        headline=draft.headline,
        summary=draft.summary,
        body=draft.body,
        corrects=None if wrong is None else wrong["id"],
        expires_at=_expires_at(draft, found["now"]),
        key=key,
        content_hash=hashed,
        by=by,
        # Whoever was to have it at a time of their own day has the right text then.
        local_time=draft.local_time if wrong is None else wrong["local_time"],
    )
    assert row is not None  # noqa: S101  # INSERT … RETURNING of one row
    urgency = urgency_of(draft.kind, draft.importance)
    blast_ids = [
        await tx.value(
            "insert_blast",
            update_id=row["id"],
            channel=channel,
            urgency=int(urgency),
            of_blast=of_blast,
            is_drill=False,
        )
        for channel, of_blast in await _channels(tx, story, row, draft)
    ]
    await tx.execute("stop_drills")
    if draft.kind is Kind.FINAL:
        await stories.end(tx, story, draft.successor, by=by)
    update = stories.update_from({**row, "corrects_seq": draft.corrects_seq})
    return Published(
        story=story, update=update, blast_ids=tuple(blast_ids), superseded=await _superseded(tx, row["id"])
    )


def _expires_at(draft: Draft, now: datetime) -> datetime | None:
    if draft.expires_in is not None:
        return now + draft.expires_in
    if draft.expires_at is not None and draft.expires_at <= now:
        raise Invalid("expires_at is in the past.", remedy="Leave it out, or name a later time.", field="expires_at")
    return draft.expires_at


async def _channels(tx: db.Connection, story: Story, row: db.Row, draft: Draft) -> list[tuple[str, int | None]]:
    """The channels that an update goes out on, each with the blast whose readers it is for if it corrects one.

    What it takes the place of is stopped here, in the transaction that publishes it.
    """
    if draft.kind is Kind.CORRECTION:
        await tx.execute("supersede_blasts", update_id=row["corrects"], by=row["id"])
        await tx.execute("stop_catching_up", update_id=row["corrects"])
        blasts = await tx.all("blasts_to_correct", update_id=row["corrects"])
        return [(each["channel"], each["id"]) for each in blasts]
    if draft.replaces:
        for each in await tx.all("updates_going_out", story_id=story.id, seq=row["seq"]):
            _need_as_major(draft, each)
            await tx.execute("supersede_blasts", update_id=each["id"], by=row["id"])
    channels: list[tuple[str, int | None]] = [(str(ChannelName.EMAIL), None)]
    if await tx.value("is_pushed", story_id=story.id):
        channels.append((str(ChannelName.WEBPUSH), None))
    return channels


def _need_as_major(draft: Draft, replaced: db.Row) -> None:
    """Raises `Invalid` where readers who want only what is major would get neither this nor what it replaces."""
    if _is_minor(draft.kind, draft.importance) and not _is_minor(replaced["kind"], replaced["importance"]):
        raise Invalid(
            f"Update {replaced['seq']} is still going out, also to readers who want only what is major: they would get "
            "neither that nor this.",
            remedy="Send this as major too, or leave `replaces` out.",
            field="importance",
        )


def _is_minor(kind: str, importance: str) -> bool:
    """Whether readers who want only what is major do not get it."""
    return importance == Importance.ROUTINE and kind == Kind.UPDATE


async def _superseded(tx: db.Connection, update_id: int) -> tuple[int, ...]:
    return tuple(each["id"] for each in await tx.all("blasts_superseded_by", update_id=update_id))


async def corrected(tx: db.Connection, story_id: int, seq: int) -> db.Row:
    """The update that a correction names. Raises `Invalid` if there is none, or it is none that could be corrected."""
    row = await tx.one("find_update", story_id=story_id, seq=seq) if 0 < seq < 2**31 else None
    if row is None:
        raise Invalid(f"There is no update {seq} to correct in this story.", field="corrects")
    if row["kind"] == Kind.WITHDRAWAL:
        raise Invalid(
            f"Update {seq} takes update {row['corrects_seq']} back: it says nothing that could be corrected.",
            remedy=f"Correct update {row['corrects_seq']}.",
            field="corrects",
        )
    return row


def content_hash(slug: str, draft: Draft) -> bytes:
    """SHA-256 over everything that a reader would see change, in one canonical form."""
    content = [
        slug,
        draft.kind,
        draft.importance,
        draft.headline,
        draft.summary,
        draft.body,
        draft.corrects_seq,
        None if draft.expires_at is None else draft.expires_at.astimezone(UTC).isoformat(),
    ]
    if draft.replaces:  # what was published before there was such a thing keeps its hash
        content.append("replaces")
    if draft.expires_in is not None:
        content.append(f"expires in {draft.expires_in.total_seconds():g}")
    if draft.local_time is not None:
        content.append(draft.local_time.isoformat())
    if draft.successor is not None:
        content.append(f"successor {draft.successor}")
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).digest()
