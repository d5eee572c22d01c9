"""Settle blasts in whose place a later update has come: everybody in them ends reached, in doubt, or superseded.

Only then is the audience of a correction known, so its blasts are cut when this is through: within milliseconds, unless
a worker has died or a relay keeps silent.
"""

from __future__ import annotations

import asyncio

import structlog

from dispatcher import db

log = structlog.get_logger()

#: Batches that are settled in one transaction: a million readers at once would hold their rows for seconds.
MOST_BATCHES = 100
#: Seconds between two looks at what is still on its way, and how long to go on looking.
LOOK_EVERY = 0.02
PATIENCE = 3.0


async def settle(database: db.Database, *, patience: float = 0.0) -> bool:
    """Settle what can be settled now, and for `patience` seconds what comes to an end. True if nothing is left.

    Any number of workers may do it at once. Raises `DatabaseUnavailable`.
    """
    end = asyncio.get_running_loop().time() + patience
    while True:
        if await _settle_now(database):
            return True
        if asyncio.get_running_loop().time() >= end:
            return False
        await asyncio.sleep(LOOK_EVERY)


async def _settle_now(database: db.Database) -> bool:
    async with database.connection() as connection:
        while await connection.value("settle_superseded", most=MOST_BATCHES):
            pass
        await connection.execute("settle_superseded_retries")
        if settled := await connection.execute("finish_superseded"):
            log.info("superseded blasts settled", blasts=settled)
        return not await connection.value("superseded_open")
