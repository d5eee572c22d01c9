"""Steer a blast while it goes out: pause, resume, cancel, and try readers again who were not reached.

A blast's state changes under its lock, and every step may be repeated: what is so already is well. Workers hear of it
from the database at once. A message whose last byte has left cannot be stopped by anybody.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import structlog

from dispatcher import audit, db, letters, policy
from dispatcher.errors import Conflict, Invalid, NotFound
from dispatcher.model import BlastState, DeliveryState, Retried, Steered
from dispatcher.nudges import Bell, Task
from dispatcher.reasons import Answer
from dispatcher.texts import one_line

log = structlog.get_logger()

#: Readers who may be tried again when a person asks for it.
RETRIABLE = (DeliveryState.FAILED, DeliveryState.IN_DOUBT)
MAX_REASON = 2000


async def pause(database: db.Database, blast_id: int, *, by: str) -> Steered:
    """Let nothing more of a blast go out until it is resumed; if its audience is not frozen yet, that waits as well.

    Raises `NotFound`, or `Conflict` if the blast is done or cancelled.
    """
    async with database.transaction() as tx:
        row = await _locked(tx, blast_id)
        _refuse_ended(row, "paused")
        return await _steer(tx, row, BlastState.PAUSED, by=by)


async def resume(database: db.Database, bell: Bell, blast_id: int, *, by: str) -> Steered:
    """Go on with a paused blast where it stopped. Raises `NotFound`, or `Conflict` if it is done or cancelled."""
    async with database.transaction() as tx:
        row = await _locked(tx, blast_id)
        _refuse_ended(row, "resumed")
        state = BlastState.CUTTING if row["candidates"] is None else BlastState.SENDING
        steered = await _steer(tx, row, state, by=by)
    if steered.changed:
        await bell.ring(Task.CUT if state is BlastState.CUTTING else Task.SEND, urgency=row["urgency"])
    return steered


async def cancel(database: db.Database, blast_id: int, *, by: str) -> Steered:
    """End a blast for good: whoever has no outcome yet is never written to, and nobody is tried again.

    Readers who are not reached go on counting as waiting; deferred ones become failed, with the last reply; who is in
    doubt stays so. Raises `NotFound`, or `Conflict` if the blast is done.
    """
    async with database.transaction() as tx:
        row = await _locked(tx, blast_id)
        if row["state"] != BlastState.CANCELLED:
            _refuse_ended(row, "cancelled")
        steered = await _steer(tx, row, BlastState.CANCELLED, by=by)
    async with database.transaction() as tx:
        # Apart, for this may take seconds, and workers must hear at once. Should it fail, the reconciler does it.
        await tx.execute("end_cancelled")
    return steered


async def retry(
    database: db.Database,
    bell: Bell,
    blast_id: int,
    *,
    by: str,
    states: Collection[DeliveryState] = (DeliveryState.FAILED,),
    reason: str | None = None,
    code: str | None = None,
    answers: Collection[Answer] | None = None,
    meaning: str = "",
    dry_run: bool = False,
) -> Retried:
    """Try readers of a blast again who failed, or are in doubt and would not be asked about any more.

    `reason` chooses those with exactly this reason, as a report of the blast names it; `code` those whom the relay
    refused with this reply code, such as 550, 55x or 5xx; `answers` those with one of these, which the log of the desk
    calls `meaning`. Who left or is suppressed is left out. A done blast is open again afterwards, a paused one stays
    paused. A dry run counts, and changes nothing.

    Raises `Invalid`, `NotFound`, or `Conflict` if the blast is cancelled, or its update replaced, corrected or expired.
    """
    wanted = _retriable(states)
    lowest, highest = _codes(code)
    reason = None if reason is None else one_line("reason", reason, longest=MAX_REASON)
    async with database.transaction() as tx:
        row = await _locked(tx, blast_id)
        _refuse_retry(row)
    async with database.transaction() as tx:
        # The lock comes after it: many readers take seconds, and meanwhile the blast can be paused or cancelled.
        found = await tx.one(
            "retry_readers",
            blast_id=blast_id,
            story_id=row["story_id"],
            states=wanted,
            reason=reason,
            lowest=lowest,
            highest=highest,
            **_answers(answers),
            most_doubts=policy.MOST_DOUBTS,
            dry_run=dry_run,
        )
        assert found is not None  # noqa: S101  # counts are always one row
        if not dry_run:
            # A correction that is just being published stops what goes out, and a done blast would not be that yet.
            await tx.execute("lock_story", slug=row["slug"])
        row = await _locked(tx, blast_id)
        _refuse_retry(row)
        state = BlastState(row["state"])
        if found["count"] and not dry_run:
            state = await _reopen(tx, row, by=by)
            why = {"reason": meaning} if meaning else {}
            await _note(tx, row, "retried", by=by, count=found["count"], **why)
    if found["count"] and not dry_run:
        log.info("readers are tried again", blast=blast_id, by=by, count=found["count"])
        await bell.ring(Task.TICK, urgency=row["urgency"])
    return Retried(blast_id=blast_id, state=state, count=found["count"], left_out=found["left_out"], dry_run=dry_run)


async def _locked(tx: db.Connection, blast_id: int) -> db.Row:
    row = await tx.one("lock_blast", blast_id=blast_id)
    if row is None:
        raise NotFound(
            f"There is no blast {blast_id}.", remedy="`dispatcher blast list` shows which there are.", field="blast"
        )
    return row


async def _steer(tx: db.Connection, row: db.Row, state: BlastState, *, by: str) -> Steered:
    changed = row["state"] != state
    if changed:
        await tx.execute("steer_blast", blast_id=row["id"], state=str(state), by=by)
        await _note(tx, row, "resumed" if state in (BlastState.CUTTING, BlastState.SENDING) else str(state), by=by)
        log.info("blast steered", blast=row["id"], before=row["state"], state=str(state), by=by)
    return Steered(blast_id=row["id"], state=state, changed=changed)


async def _reopen(tx: db.Connection, row: db.Row, *, by: str) -> BlastState:
    state = BlastState.PAUSED if row["state"] == BlastState.PAUSED else BlastState.SENDING
    await tx.execute("steer_blast", blast_id=row["id"], state=str(state), by=by)
    await tx.execute("forget_tallies", blast_id=row["id"])
    await letters.forget_failures(tx, row["id"])
    return state


async def _note(tx: db.Connection, row: db.Row, action: str, *, by: str, **detail: object) -> None:
    about = {"story": row["slug"], "update": row["seq"], "channel": row["channel"], **detail}
    await audit.note(tx, actor=by, action=action, subject=f"blast:{row['id']}", detail=about)


def _refuse_ended(row: db.Row, what: str) -> None:
    if row["state"] == BlastState.DONE:
        raise Conflict(
            f"Blast {row['id']} is done and cannot be {what}.",
            remedy="Mail cannot be called back: if it was wrong, publish a correction.",
            field="blast",
        )
    if row["state"] == BlastState.CANCELLED:
        raise Conflict(
            f"Blast {row['id']} is cancelled and cannot be {what}.",
            remedy="Publish a new update to reach the readers.",
            field="blast",
        )
    if row["state"] == BlastState.SUPERSEDED:
        raise Conflict(
            f"A later update has taken the place of blast {row['id']}: it cannot be {what}.",
            remedy="Steer the blast of that update instead.",
            field="blast",
        )


def _refuse_retry(row: db.Row) -> None:
    if row["state"] == BlastState.SUPERSEDED or row["is_corrected"]:
        raise Conflict(
            f"What blast {row['id']} says has been replaced or corrected: nobody is sent it any more.",
            remedy="Try the readers of the later update again instead.",
            field="blast",
        )
    if row["state"] == BlastState.CANCELLED:
        raise Conflict(
            f"Blast {row['id']} is cancelled: nobody in it is tried again.",
            remedy="Publish a new update to reach the readers.",
            field="blast",
        )
    if policy.expires_at(row["published_at"], row["expires_at"], local_time=row["local_time"]) <= row["now"]:
        raise Conflict(
            f"The update of blast {row['id']} has expired: it would reach nobody.",
            remedy="Publish a new update; --expires-in (expires_at) says how long it is worth sending.",
            field="blast",
        )


def _retriable(states: Collection[DeliveryState]) -> list[str]:
    if not states or not set(states) <= set(RETRIABLE):
        raise Invalid(
            "Only readers who failed or are in doubt can be tried again.",
            remedy="Name failed, in_doubt or both; who is deferred is tried again anyway.",
            field="states",
        )
    return [str(each) for each in states]


def _answers(answers: Collection[Answer] | None) -> dict[str, list[int] | list[str] | None]:
    """The answers that are meant, as the ledger is asked for them; whatever was answered, if none are given."""
    if answers is None:
        return {"codes": None, "statuses": None, "words": None}
    return {
        "codes": [-1 if each.code is None else each.code for each in answers],
        "statuses": [each.status for each in answers],
        "words": [each.reply for each in answers],
    }


def _codes(code: str | None) -> tuple[int | None, int | None]:
    """The lowest and the highest of the reply codes that are meant."""
    if code is None:
        return None, None
    if not re.fullmatch(r"[2-5]([0-9]{2}|[0-9]x|xx)", code, re.ASCII | re.IGNORECASE):
        raise Invalid("That is no reply code.", remedy="Write 550, 55x or 5xx.", field="code")
    text = code.lower()
    return int(text.replace("x", "0")), int(text.replace("x", "9"))
