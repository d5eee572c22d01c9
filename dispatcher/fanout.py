"""Freeze the audience of published blasts: batches with the very ids that belong to them."""

from __future__ import annotations

import structlog

from dispatcher import db
from dispatcher.model import Urgency
from dispatcher.nudges import Bell, Task

log = structlog.get_logger()

#: Readers in a batch. Small enough that an urgent blast soon gets its turn, large enough that claims cost nothing.
BATCH_SIZE = 500
#: Nudges that one cut rings at most: more workers than this find the rest by themselves.
MOST_NUDGES = 8


async def cut(database: db.Database, bell: Bell, *, urgency: int) -> int:
    """Cut every blast that waits for it and is at least as urgent as `urgency`; say how many there were.

    A correction waits until everybody in the blast that it corrects has an outcome; a drill, until nothing real waits.
    Several workers may call this at once: each blast is cut by one of them, in one statement, or not at all.
    """
    blasts = 0
    while (row := await _cut_one(database, urgency)) is not None:
        blasts += 1
        log.info("audience frozen", blast=row["id"], candidates=row["candidates"], batches=row["batches"])
        if row["batches"]:
            await bell.ring(Task.SEND, urgency=row["urgency"], times=min(row["batches"], MOST_NUDGES))
    return blasts


async def _cut_one(database: db.Database, urgency: int) -> db.Row | None:
    async with database.connection() as connection:
        for drills in (False, True) if urgency >= Urgency.DRILL else (False,):
            # A correction first: somebody is reading what is wrong.
            for statement in ("cut_correction", "cut_next"):
                row = await connection.one(statement, urgency=urgency, batch_size=BATCH_SIZE, drills=drills)
                if row is not None:
                    return row
    return None
