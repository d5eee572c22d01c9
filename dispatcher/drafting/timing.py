"""Send a draft later: at a time on the newsroom's clock, or on each reader's own."""

from __future__ import annotations

from datetime import datetime

from dispatcher import approval, audit, db, publishing
from dispatcher.config import Settings
from dispatcher.drafting.clocks import Clock, check_ahead, clock_of, earliest, moment, wall_time
from dispatcher.drafting.going_out import CLOSED_STATES
from dispatcher.drafting.keeping import need_unpublished
from dispatcher.drafting.telling import tell_unscheduled
from dispatcher.drafting.writing import Writing, locked, need, need_version
from dispatcher.errors import Conflict, StoryClosed
from dispatcher.model import DraftState
from dispatcher.people import Person
from dispatcher.roles import What
from dispatcher.texts import DEFAULT_TIMEZONE


async def schedule(
    database: db.Database,
    draft_id: int,
    *,
    version: int,
    by: Person,
    at: str,
    clock: str,
    zone: str = DEFAULT_TIMEZONE,
) -> Writing:
    """Have a draft sent at `at`, as `2026-03-29T09:30`: by the newsroom's clock, in `zone`, or by each reader's own.

    By readers' clocks it begins where that time comes first among those who follow; whoever has it behind them gets it
    then too. Whatever was approved has to be approved again for this time, where that is needed. Raises `Invalid` for a
    time that is past, more than a year ahead or skipped by the clocks, and for what is incomplete; `SavedMeanwhile`,
    `NotFound`, `NotYours`, `StoryClosed`, and `Conflict` for what came back.
    """
    need(by, What.SEND)
    wall, whose = wall_time(at), clock_of(clock)
    async with database.transaction() as tx:
        writing = await locked(tx, draft_id)
        need_unpublished(writing)
        need_version(writing, version)
        _need_open(writing)
        publishing.check(writing.text.draft())
        send_at = await _begins(tx, writing, wall, whose, zone)
        why = await approval.needed(tx, writing.story.id, writing.text.draft())
        await tx.execute(
            "schedule_draft",
            draft_id=draft_id,
            send_at=send_at,
            send_local=wall if whose is Clock.READER else None,
            by=by.id,
            waits=why is not None,
        )
        made = await locked(tx, draft_id)
        detail = {"at": at, "clock": str(whose), "zone": zone if whose is Clock.NEWSROOM else ""}
        await audit.note(
            tx,
            actor=by.email,
            action="scheduled",
            subject=made.subject,
            content_hash=made.content_hash,
            detail={key: value for key, value in detail.items() if value},
        )
        return made


async def unschedule(database: db.Database, settings: Settings, draft_id: int, *, version: int, by: Person) -> Writing:
    """Have a draft not sent by itself any more; it is a draft again, and approved no longer.

    Whoever scheduled it gets a mail, if that is somebody else. Raises `SavedMeanwhile`, `NotFound`, `NotYours`, and
    `Conflict` for what is not scheduled or has gone out.
    """
    need(by, What.SEND)
    async with database.transaction() as tx:
        writing = await locked(tx, draft_id)
        need_unpublished(writing)
        need_version(writing, version)
        if writing.state is not DraftState.SCHEDULED:
            raise Conflict("This draft is not scheduled.", remedy="Reload the page.", field="state")
        await tx.execute("hand_back_draft", draft_id=draft_id, state=str(DraftState.DRAFT), reason=None, missed_at=None)
        await tell_unscheduled(tx, settings, writing, by=by, how="cancelled")
        await audit.note(
            tx,
            actor=by.email,
            action="cancelled the schedule",
            subject=writing.subject,
            content_hash=writing.content_hash,
        )
        return await locked(tx, draft_id)


def _need_open(writing: Writing) -> None:
    if not writing.story.takes(writing.text.kind):
        raise StoryClosed(f"The story {writing.story.slug!r} is closed and takes no more updates.", field="story")
    if word := CLOSED_STATES.get(writing.state):
        raise Conflict(f"This draft {word}: {writing.reason}", remedy="Change it, and try again.", field="state")


async def _begins(tx: db.Connection, writing: Writing, wall: datetime, whose: Clock, zone: str) -> datetime:
    now = await tx.value("now")
    if whose is Clock.NEWSROOM:
        return check_ahead(moment(wall, zone), now)
    zones = [row["timezone"] for row in await tx.all("zones_of_followers", story_id=writing.story.id)]
    return check_ahead(earliest(wall, zones or [zone], now), now)
