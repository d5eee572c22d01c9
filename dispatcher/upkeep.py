"""The reconciler: whatever a lost nudge, a dead worker or a refusal left behind becomes work again."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from dispatcher import db
from dispatcher.pulse import ALIVE

log = structlog.get_logger()

UPKEEP_LOCK = 7_214_002
#: Milliseconds after which the server ends a round of which it hears nothing more: its host may be cut off.
SILENCE = 10_000
#: A batch whose workers died so often is split, to find the reader who does it.
MOST_CRASHES = 3
RETRY_BATCH_SIZE = 500
MOST_DUE = 50_000
#: A notice on which so many workers died is given up: two while they had others on their way, three with it alone.
MOST_DEATHS = 5
GIVEN_UP = "Sending this crashed the worker five times; nothing more is tried."
#: Seconds between two rounds of forgetting.
FORGET_EVERY = 3600.0
POISON = "Sending to this reader crashed the worker three times; nothing more is tried."


@dataclass(frozen=True, slots=True)
class Work:
    """What waits: the urgency of the most urgent blast to cut and batch to send (None: nothing), batches to claim.

    And whether somebody's ask or notice does.
    """

    to_cut: int | None
    to_send: int | None
    batches: int
    superseded: bool = False  #: a blast in whose place a later update came is not settled yet
    asks: bool = False
    notices: bool = False


async def tick(database: db.Database) -> Work:
    """One round: free orphaned batches, split crashing ones, queue due retries, close finished blasts.

    Cheap when nothing waits, harmless when run by many: only one at a time does the round. Says what waits.
    """
    async with database.transaction() as tx:
        await tx.execute("be_brief", milliseconds=SILENCE)
        if await tx.value("try_upkeep", lock=UPKEEP_LOCK):
            done = {
                "freed": await tx.execute("take_back", **{"class": ALIVE}),
                "notices": await tx.execute("take_back_notices", **{"class": ALIVE}),
                "given_up": await tx.execute("bury_notices", most=MOST_DEATHS, reason=GIVEN_UP),
                "drills": await tx.execute("stop_drills"),
                "cancelled": await tx.execute("end_cancelled"),
                "split": await tx.execute("split_crashing", most=MOST_CRASHES),
                "buried": await tx.execute("bury_poison", most=MOST_CRASHES, reason=POISON),
                "queued": await tx.execute("queue_due", most=MOST_DUE, batch_size=RETRY_BATCH_SIZE),
                "finished": await tx.execute("finish_blasts"),
                "forgotten": await _forget(tx),
            }
            if any(done.values()):
                log.info("upkeep", **{name: count for name, count in done.items() if count})
        row = await tx.one("work_waiting") or {}
    return Work(
        to_cut=row.get("to_cut"),
        to_send=row.get("to_send"),
        batches=row.get("batches", 0),
        superseded=bool(row.get("superseded")),
        asks=bool(row.get("asks")),
        notices=bool(row.get("notices")),
    )


async def _forget(tx: db.Connection) -> int:
    """Once an hour, remove what nobody needs any more of confirmations, notices and sign-ins."""
    if not await tx.execute("take_forgetting_turn", every=FORGET_EVERY):
        return 0
    names = ("forget_confirmations", "forget_notices", "forget_sign_ins")
    return sum([await tx.execute(name) for name in names])
