"""A second pair of eyes: somebody asks for it, somebody else approves, returns or rejects; a lead may go without."""

from __future__ import annotations

import hmac

from dispatcher import approval, audit, db, publishing
from dispatcher.config import Settings
from dispatcher.drafting.going_out import need_sendable, publish, ring, sent_before
from dispatcher.drafting.keeping import need_unpublished
from dispatcher.drafting.telling import tell_leads, tell_unscheduled
from dispatcher.drafting.writing import NotYours, SavedMeanwhile, Writing, locked, need, need_version
from dispatcher.errors import Conflict
from dispatcher.model import DraftState, NoticeKind, Published
from dispatcher.nudges import Bell
from dispatcher.people import Person
from dispatcher.roles import What
from dispatcher.texts import one_line

MAX_REASON = 1000
#: What waits for a second person, or may still be looked at by one.
WAITING = frozenset({DraftState.SUBMITTED, DraftState.SCHEDULED})


async def submit(database: db.Database, draft_id: int, *, version: int, by: Person) -> Writing:
    """Ask for a second pair of eyes. What is scheduled stays so.

    Raises `SavedMeanwhile`, `NotFound`, `NotYours`, `Invalid` for what is incomplete, and `Conflict` where there is
    nothing to approve.
    """
    need(by, What.WRITE)
    async with database.transaction() as tx:
        writing = await _of_version(tx, draft_id, version)
        if writing.is_approved:
            raise Conflict("This draft is approved already.", remedy="Send it.", field="state")
        if writing.state is DraftState.REJECTED:
            raise Conflict(f"This draft was rejected: {writing.reason}", remedy="Change it first.", field="state")
        publishing.check(writing.text.draft())
        await tx.execute("submit_draft", draft_id=draft_id, by=by.id)
        await _note(tx, by, "asked for approval", writing)
        return await locked(tx, draft_id)


async def approve(
    database: db.Database, draft_id: int, *, version: int, by: Person, content_hash: bytes | None = None
) -> Writing:
    """Stand by a draft as it is: whoever may send can send it then, and what is scheduled goes out.

    `content_hash`: what was looked at. Raises `SavedMeanwhile` if it is something else by now, `NotYours` for those who
    wrote it or may not approve, `NotFound`, `Invalid` for what is incomplete, and `Conflict` for what came back.
    """
    async with database.transaction() as tx:
        return await _approve(tx, await _seen(tx, draft_id, version, content_hash), by)


async def approve_and_send(
    database: db.Database,
    bell: Bell,
    draft_id: int,
    *,
    version: int,
    by: Person,
    content_hash: bytes | None = None,
) -> Published:
    """Stand by a draft as it is and publish it, both or neither. Pressed again, it is the first answer.

    Raises as `approve` and `send` do.
    """
    need(by, What.SEND)
    async with database.transaction() as tx:
        await tx.execute("be_brief", milliseconds=publishing.SILENCE)
        writing = await locked(tx, draft_id)
        if first := await sent_before(tx, writing):
            return first
        _need_seen(writing, version, content_hash)
        need_sendable(writing)
        published = await publish(tx, await _approve(tx, writing, by), by=by.email)
    await ring(bell, published)
    return published


async def return_(
    database: db.Database, settings: Settings, draft_id: int, *, version: int, by: Person, reason: str
) -> Writing:
    """Give a draft back to be changed, with what should change. Its schedule is void. Raises as `reject` does."""
    return await _hand_back(database, settings, draft_id, DraftState.RETURNED, version=version, by=by, reason=reason)


async def reject(
    database: db.Database, settings: Settings, draft_id: int, *, version: int, by: Person, reason: str
) -> Writing:
    """Say that a draft should not go out, and why. Its schedule is void, and whoever scheduled it gets a mail.

    Raises `SavedMeanwhile`, `NotFound`, `NotYours`, `Invalid` without a reason, and `Conflict` where nothing waits.
    """
    return await _hand_back(database, settings, draft_id, DraftState.REJECTED, version=version, by=by, reason=reason)


async def override(
    database: db.Database,
    bell: Bell,
    settings: Settings,
    draft_id: int,
    *,
    version: int,
    by: Person,
    reason: str,
) -> Published:
    """Publish a draft at once that waits for a second person, because a lead says so. Every lead gets a mail of it.

    Pressed again, it is the first answer. Raises as `send` does, `NotYours` for who is no lead, `Invalid` without a
    reason, and `Conflict` for what needs nobody.
    """
    need(by, What.APPROVE)
    reason = _reason(reason)
    async with database.transaction() as tx:
        await tx.execute("be_brief", milliseconds=publishing.SILENCE)
        writing = await locked(tx, draft_id)
        if first := await sent_before(tx, writing):
            return first
        need_version(writing, version)
        need_sendable(writing)
        why = None if writing.is_approved else await approval.needed(tx, writing.story.id, writing.text.draft())
        if why is None:
            raise Conflict("This draft waits for nobody.", remedy="Just send it.", field="state")
        published = await publish(tx, writing, by=by.email, is_override=True)
        await tx.execute("override_approval", draft_id=draft_id, reason=reason)
        detail = {"update": published.update.seq, "why": why, "reason": reason}
        await _note(tx, by, "did not wait for approval", writing, **detail)
        about = {"headline": published.update.headline, "story": writing.story.headline}
        path = f"/desk/stories/{writing.story.slug}/updates/{published.update.seq}"
        about |= {"who": by.name, "why": why, "reason": reason, "path": path}
        await tell_leads(tx, settings, NoticeKind.OVERRIDE, about)
    await ring(bell, published)
    return published


async def waiting(database: db.Database, writings: list[Writing]) -> list[Writing]:
    """Those of some drafts that wait for a second person, the longest first."""
    async with database.connection() as connection:
        found = [
            each
            for each in writings
            if each.state in WAITING
            and not each.is_approved
            and (
                each.state is DraftState.SUBMITTED
                or await approval.needed(connection, each.story.id, each.text.draft(), is_quick=True)
            )
        ]
    return sorted(found, key=lambda each: each.submitted_at or each.updated_at)


def may_approve(writing: Writing, person: Person) -> str | None:
    """Why somebody may not approve a draft, as a sentence; None if they may."""
    if not person.may(What.APPROVE):
        return "Only a lead approves."
    if person.id in writing.own_hands():
        return "You wrote, changed or submitted this: somebody else has to approve it."
    return None


async def _approve(tx: db.Connection, writing: Writing, by: Person) -> Writing:
    need(by, What.APPROVE)
    if why := may_approve(writing, by):
        raise NotYours(why, remedy="Ask another lead.")
    need_unpublished(writing)
    if writing.state in {DraftState.RETURNED, DraftState.REJECTED}:
        raise Conflict(f"This draft came back: {writing.reason}", remedy="It has to be changed first.", field="state")
    publishing.check(writing.text.draft())
    await tx.execute("approve_draft", draft_id=writing.id, by=by.id, hash=writing.content_hash)
    await _note(tx, by, "approved", writing)
    return await locked(tx, writing.id)


async def _hand_back(
    database: db.Database,
    settings: Settings,
    draft_id: int,
    state: DraftState,
    *,
    version: int,
    by: Person,
    reason: str,
) -> Writing:
    need(by, What.APPROVE)
    reason = _reason(reason)
    async with database.transaction() as tx:
        writing = await _of_version(tx, draft_id, version)
        if writing.state not in WAITING | {DraftState.APPROVED}:
            raise Conflict("This draft does not wait for anybody's eyes.", remedy="Reload the page.", field="state")
        await tx.execute("hand_back_draft", draft_id=draft_id, state=str(state), reason=reason, missed_at=None)
        await tell_unscheduled(tx, settings, writing, by=by, how=str(state), reason=reason)
        await _note(tx, by, str(state), writing, reason=reason)
        return await locked(tx, draft_id)


async def _of_version(tx: db.Connection, draft_id: int, version: int) -> Writing:
    writing = await locked(tx, draft_id)
    need_unpublished(writing)
    need_version(writing, version)
    return writing


async def _seen(tx: db.Connection, draft_id: int, version: int, content_hash: bytes | None) -> Writing:
    writing = await locked(tx, draft_id)
    need_unpublished(writing)
    _need_seen(writing, version, content_hash)
    return writing


def _need_seen(writing: Writing, version: int, content_hash: bytes | None) -> None:
    """Raises `SavedMeanwhile` for another text, or another time to send it at, than were looked at."""
    need_version(writing, version)
    if content_hash is not None and not hmac.compare_digest(content_hash, writing.content_hash):
        by = writing.scheduled_by or writing.last_editor
        raise SavedMeanwhile(by.name, writing.updated_at, writing.version)


def _reason(reason: str) -> str:
    return one_line("reason", " ".join(reason.split()), longest=MAX_REASON)


async def _note(tx: db.Connection, by: Person, action: str, writing: Writing, **detail: object) -> None:
    about = {"story": writing.story.slug, "headline": writing.text.headline, **detail}
    await audit.note(
        tx, actor=by.email, action=action, subject=writing.subject, content_hash=writing.content_hash, detail=about
    )
