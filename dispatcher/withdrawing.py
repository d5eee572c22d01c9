"""Take an update back: what has not gone out never does, and pushes of it that are on screens are replaced.

A mail cannot be taken back, and nobody is mailed: whoever has the wrong mail is owed a correction, which may follow.
"""

from __future__ import annotations

import hashlib
import json

import structlog

from dispatcher import audit, db, stories
from dispatcher.errors import Conflict, NotFound
from dispatcher.model import ChannelName, Importance, Kind, Published, Story, urgency_of
from dispatcher.nudges import Bell, Task
from dispatcher.publishing import SILENCE
from dispatcher.texts import one_line

log = structlog.get_logger()


async def withdraw(database: db.Database, bell: Bell, slug: str, seq: int, *, by: str, reason: str) -> Published:
    """Withdraw update `seq` of a story, also of a closed one; `reason` is what readers are told, in one line.

    It becomes an update itself: a push in the same slot goes to exactly those whom a push of the wrong one reached, or
    may have reached. Nobody is asked to approve it: it must not wait. Raises `Invalid`, `NotFound`, `Conflict` if the
    update is withdrawn already or is a withdrawal, or `DatabaseUnavailable`; then nothing is written.
    """
    reason = one_line("reason", reason, longest=stories.MAX_HEADLINE)
    async with database.transaction() as tx:
        await tx.execute("be_brief", milliseconds=SILENCE)
        published = await _withdraw(tx, slug, seq, by=by, reason=reason)
    log.info("update withdrawn", story=slug, seq=seq, by=by)
    update = published.update
    await bell.ring(Task.CUT, urgency=urgency_of(update.kind, update.importance))
    return published


async def _withdraw(tx: db.Connection, slug: str, seq: int, *, by: str, reason: str) -> Published:
    found = await tx.one("lock_story", slug=slug)
    if found is None:
        raise stories.unknown(slug)
    story = stories.story_from(found)
    wrong = await _wrong(tx, story, seq)
    hashed = _content_hash(slug, seq, reason)
    row = await tx.one(
        "insert_update",
        story_id=story.id,
        kind=str(Kind.WITHDRAWAL),
        importance=wrong["importance"],
        headline=reason,
        summary="",
        body=reason,
        corrects=wrong["id"],
        expires_at=None,
        key=None,
        content_hash=hashed,
        by=by,
        local_time=None,
    )
    assert row is not None  # noqa: S101  # INSERT … RETURNING of one row
    superseded = await tx.all("supersede_blasts", update_id=wrong["id"], by=row["id"])
    await tx.execute("stop_catching_up", update_id=wrong["id"])
    blast_ids = await _blasts(tx, wrong, row["id"])
    await tx.execute("stop_drills")
    detail = {"update": seq, "reason": reason}
    await audit.note(tx, actor=by, action="withdrew", subject=f"story:{slug}", content_hash=hashed, detail=detail)
    return Published(
        story=story,
        update=stories.update_from({**row, "corrects_seq": seq}),
        blast_ids=blast_ids,
        superseded=tuple(each["id"] for each in superseded),
    )


async def _wrong(tx: db.Connection, story: Story, seq: int) -> db.Row:
    """The update that is to be withdrawn, if it can be."""
    row = await tx.one("find_update", story_id=story.id, seq=seq) if 0 < seq < 2**31 else None
    if row is None:
        raise NotFound(f"There is no update {seq} in the story {story.slug!r}.", field="seq")
    if row["kind"] == Kind.WITHDRAWAL:
        raise Conflict(
            f"Update {seq} takes update {row['corrects_seq']} back: it cannot be withdrawn itself.",
            remedy="Publish a new update that says how things stand.",
            field="seq",
        )
    if await tx.value("is_withdrawn", update_id=row["id"]):
        raise Conflict(
            f"Update {seq} is withdrawn already.",
            remedy="If its readers need the right text, publish a correction of it.",
            field="seq",
        )
    return row


async def _blasts(tx: db.Connection, wrong: db.Row, update_id: int) -> tuple[int, ...]:
    """One blast for each push blast that may have reached somebody."""
    blast_ids = []
    for blast in await tx.all("pushes_to_withdraw", update_id=wrong["id"]):
        blast_id = await tx.value(
            "insert_blast",
            update_id=update_id,
            channel=str(ChannelName.WEBPUSH),
            urgency=int(urgency_of(Kind.WITHDRAWAL, Importance(wrong["importance"]))),
            of_blast=blast["id"],
            is_drill=False,
        )
        blast_ids.append(blast_id)
    return tuple(blast_ids)


def _content_hash(slug: str, seq: int, reason: str) -> bytes:
    return hashlib.sha256(json.dumps([slug, "withdrawal", seq, reason], ensure_ascii=False).encode()).digest()
