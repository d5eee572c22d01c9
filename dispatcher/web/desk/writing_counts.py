"""Audiences as the card shows them. A million readers take a while to count: nobody who types waits for that."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict

import structlog

from dispatcher import audience, db
from dispatcher.audience import Audience
from dispatcher.drafting import Text
from dispatcher.errors import Conflict, DatabaseUnavailable
from dispatcher.model import Story

log = structlog.get_logger()

#: A count holds so many times as long as it took, and so many seconds at most.
HOLDS, LONGEST = 20, 20.0
#: Seconds that a page waits for the count of a story with more followers than this; smaller ones are counted at once.
PATIENCE = 0.04
LARGE = 20_000
#: Seconds after which something is wrong.
AT_MOST = 10.0
MOST_COUNTS = 200

Key = tuple[object, ...]
_NUMBER = re.compile(r"[0-9]{1,12}")


def check_promise(promised: str, found: Audience | None, *, is_same: bool) -> None:
    """Raises `Conflict` if a button said another number than is reached by now; a twentieth is no other number.

    `promised` is empty where no number was said. `is_same`: what decides who gets it is as it was when it was said,
    which has to do while the readers are being counted.
    """
    if not _NUMBER.fullmatch(promised) or (found is None and is_same):
        return
    remedy = "Look at who gets it, and press again."
    if found is None:
        raise Conflict("Who gets it has changed, and the readers are being counted.", remedy=remedy, field="do")
    said, now = int(promised), found.now.readers
    if abs(now - said) * 20 > said:
        readers = "reader" if now == 1 else "readers"
        raise Conflict(f"Nothing was sent: it reaches {now:,} {readers} now, not {said:,}.", remedy=remedy, field="do")


class Counts:
    """What one web process has counted, and is counting. Close it."""

    def __init__(self, database: db.Database) -> None:
        self._database = database
        self._known: OrderedDict[Key, tuple[float, Audience]] = OrderedDict()
        self._counting: dict[Key, asyncio.Task[None]] = {}

    async def count(self, story: Story, text: Text) -> Audience | None:
        """Who gets it now, or got it when last counted; None while a large audience is counted for the first time.

        Raises `DatabaseUnavailable`, if that is known before the page has waited long enough.
        """
        key = (story.id, story.created_at, text.kind, text.importance, text.corrects_seq)
        until, found = self._known.get(key, (0.0, None))
        if found is not None and time.monotonic() < until:
            return found
        patience = PATIENCE if await self._is_large(story.id, text.corrects_seq) else AT_MOST
        task = self._counting.get(key)
        if task is None:
            task = self._counting[key] = asyncio.create_task(self._count(key, story.id, text))
            task.add_done_callback(lambda done: self._ended(key, done))
        await asyncio.wait([task], timeout=patience)
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error
        return self._known.get(key, (0.0, None))[1]

    async def close(self) -> None:
        """Count nothing any more."""
        for task in (counting := list(self._counting.values())):
            task.cancel()
        await asyncio.gather(*counting, return_exceptions=True)

    async def _is_large(self, story_id: int, corrects_seq: int | None) -> bool:
        async with self._database.connection() as connection:
            found = await connection.value("may_reach_more", story_id=story_id, number=LARGE, corrects_seq=corrects_seq)
        return bool(found)

    async def _count(self, key: Key, story_id: int, text: Text) -> None:
        began = time.monotonic()
        async with self._database.connection() as connection:
            found = await audience.count(
                connection, story_id, kind=text.kind, importance=text.importance, corrects_seq=text.corrects_seq
            )
        took = time.monotonic() - began
        self._known[key] = began + took + min(HOLDS * took, LONGEST), found
        self._known.move_to_end(key)
        if len(self._known) > MOST_COUNTS:
            self._known.popitem(last=False)

    def _ended(self, key: Key, done: asyncio.Task[None]) -> None:
        self._counting.pop(key, None)
        if not done.cancelled() and isinstance(error := done.exception(), DatabaseUnavailable):
            log.warning("cannot count an audience", reason=error.message)
