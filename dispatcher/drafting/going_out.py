"""A draft becomes an update: once, whoever presses the button how often, or when its time has come."""

from __future__ import annotations

from datetime import datetime

import structlog

from dispatcher import approval, audit, db, publishing
from dispatcher.approval import ApprovalRequired
from dispatcher.config import Settings
from dispatcher.drafting.keeping import need_unpublished
from dispatcher.drafting.telling import tell_not_sent
from dispatcher.drafting.writing import NotYours, Writing, locked, need, need_version
from dispatcher.errors import Conflict, DispatcherError, Unavailable
from dispatcher.model import DraftState, Published, urgency_of
from dispatcher.nudges import Bell, Task
from dispatcher.people import Person
from dispatcher.roles import What

log = structlog.get_logger()

#: States in which a draft has to be changed before anything else is done with it.
CLOSED_STATES = {DraftState.RETURNED: "came back", DraftState.REJECTED: "was rejected"}
#: Drafts that one round publishes at most.
MOST_DUE = 100


async def send(database: db.Database, bell: Bell, draft_id: int, *, version: int, by: Person) -> Published:
    """Publish a draft now. Whoever presses again, or second, gets the first answer, with `replayed` set.

    Raises `SavedMeanwhile` if the draft says something else by now, `ApprovalRequired`, `StoryClosed`, `Invalid` for
    what is incomplete, `NotFound`, `NotYours`, and `Conflict` for one that is scheduled or came back. The draft stays.
    """
    need(by, What.SEND)
    async with database.transaction() as tx:
        await tx.execute("be_brief", milliseconds=publishing.SILENCE)
        writing = await locked(tx, draft_id)
        if first := await sent_before(tx, writing):
            return first
        need_version(writing, version)
        need_sendable(writing)
        published = await publish(tx, writing, by=by.email)
    await ring(bell, published)
    return published


async def publish_due(database: db.Database, bell: Bell, settings: Settings) -> int:
    """Publish every draft whose time has come, and say how many. Every process may call this at once, and die in it.

    One that cannot be published goes back to whoever writes it, with the reason, also by mail; so does one that was
    scheduled by somebody who may send no more.
    """
    count = 0
    for _ in range(MOST_DUE):
        published = await _publish_one(database, settings)
        if published is None:
            break
        if isinstance(published, Published):
            count += 1
            await ring(bell, published)
    return count


async def why_not(database: db.Database, writing: Writing) -> str | None:
    """Why a second person has to approve a draft before it goes out; None if it needs nobody, or nobody more."""
    if writing.is_approved:
        return None
    async with database.connection() as connection:
        return await approval.needed(connection, writing.story.id, writing.text.draft())


async def sent_before(tx: db.Connection, writing: Writing) -> Published | None:
    """What a draft was published as; None if it was not."""
    return await publishing.earlier(tx, writing.key) if writing.state is DraftState.PUBLISHED else None


def need_sendable(writing: Writing) -> None:
    """Raises `Conflict` for what is out already, goes out later, or came back and has not been changed."""
    need_unpublished(writing)
    if writing.state is DraftState.SCHEDULED:
        raise Conflict("This draft is scheduled.", remedy="Cancel the schedule first.", field="state")
    if word := CLOSED_STATES.get(writing.state):
        raise Conflict(
            f"This draft {word}: {writing.reason or 'no reason was given.'}",
            remedy="Change it, and try again.",
            field="state",
        )


async def publish(tx: db.Connection, writing: Writing, *, by: str, is_override: bool = False) -> Published:
    """Publish a draft that the caller holds, within the caller's transaction. Raises as `publishing.publish` does."""
    now = await tx.value("now")
    published = await publishing.write(
        tx,
        writing.story.slug,
        writing.text.draft(expires_at=writing.expires_at(now), local_time=writing.send_local),
        by=by,
        key=writing.key,
        is_approved=writing.is_approved or is_override,
    )
    await tx.execute("mark_published", draft_id=writing.id, update_id=published.update.id)
    await tx.execute("forget_presences", draft_id=writing.id)
    await tx.execute("forget_revisions", draft_id=writing.id, version=writing.version, keep=0)
    detail = {"story": writing.story.slug, "update": published.update.seq, "headline": writing.text.headline}
    await audit.note(
        tx, actor=by, action="sent", subject=writing.subject, content_hash=writing.content_hash, detail=detail
    )
    return published


async def ring(bell: Bell, published: Published) -> None:
    """Tell workers of what was committed."""
    await bell.ring(Task.CUT, urgency=urgency_of(published.update.kind, published.update.importance))


async def _publish_one(database: db.Database, settings: Settings) -> Published | bool | None:
    """Publish one draft that is due; True if one went back instead, None if none is due."""
    writing: Writing | None = None
    try:
        async with database.transaction() as tx:
            await tx.execute("be_brief", milliseconds=publishing.SILENCE)
            draft_id = await tx.value("take_due_draft")
            if draft_id is None:
                return None
            writing = await locked(tx, draft_id)
            _need_fresh(writing, await tx.value("now"))
            assert writing.scheduled_by is not None  # noqa: S101  # the table holds it
            _need_right(writing.scheduled_by)
            return await publish(tx, writing, by=writing.scheduled_by.email)
    except Unavailable:
        raise
    except ApprovalRequired as error:
        reason = f"{error.message} Nobody has in time."
    except DispatcherError as error:
        reason = str(error)
    except Exception:
        log.exception("a scheduled draft cannot be published", draft=writing and writing.id)
        reason = "It could not be published, for a reason that is written down in the log of the server."
    if writing is None:
        return None
    await _hand_back(database, settings, writing, reason)
    return True


def _need_fresh(writing: Writing, now: datetime) -> None:
    """Raises `Conflict` for one that would have expired while nobody could publish it."""
    if writing.is_stale(now):
        raise Conflict(
            "It expired before it could be published: the machine was away.", remedy="Look whether it still holds."
        )


def _need_right(scheduler: Person) -> None:
    """Raises `NotYours` if whoever scheduled a draft may not send it any more."""
    if scheduler.may(What.SEND):
        return
    is_gone = scheduler.ended_at is not None
    why = "does not work here any more" if is_gone else f"may not send any more, with the role {scheduler.role}"
    raise NotYours(
        f"{scheduler.name}, who scheduled it, {why}.", remedy="Somebody who may send has to send or schedule it."
    )


async def _hand_back(database: db.Database, settings: Settings, writing: Writing, why: str) -> None:
    """Back to the desk, unless somebody has changed the schedule since."""
    log.warning("a scheduled draft was not published", draft=writing.id, reason=why)
    reason = f"It was not sent at the time it was scheduled for. {why}"[:1000]
    async with database.transaction() as tx:
        now = await locked(tx, writing.id)
        if now.state is not DraftState.SCHEDULED or now.send_at != writing.send_at or now.version != writing.version:
            return
        await tx.execute(
            "hand_back_draft", draft_id=now.id, state=str(DraftState.DRAFT), reason=reason, missed_at=now.send_at
        )
        await tell_not_sent(tx, settings, now, why=why[:1000])
        await audit.note(
            tx,
            actor="dispatcher",
            action="did not send at the scheduled time",
            subject=now.subject,
            content_hash=now.content_hash,
            detail={"reason": reason},
        )
