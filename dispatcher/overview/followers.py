"""How many follow each story: counted again as often as that costs little."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import structlog

from dispatcher import db
from dispatcher.errors import DatabaseUnavailable

log = structlog.get_logger()

#: Counts hold a hundred times as long as they took, a minute at most.
HUNDREDFOLD = 100
OLDEST = 60.0
#: Seconds that nobody minds waiting for: what takes longer is counted behind whoever looks.
QUICK = 0.04
#: Stories whose counts are kept at most.
MOST_KNOWN = 20_000

_Story = tuple[int, datetime]


class Counts(NamedTuple):
    """Those who follow a story."""

    readers: int
    by_mail: int  #: of them, those who get mail
    by_push: int  #: and those who get pushes; some get both


_NONE = Counts(0, 0, 0)


class _Known(NamedTuple):
    until: float  #: on the monotonic clock
    took: float  #: seconds
    counts: Counts


class Followers:
    """How many follow each story, counted again as often as that costs a hundredth of the time.

    So a small newsroom sees what is so at this moment. Who looks at a story with a million readers sees what was so a
    minute or two ago, and does not wait while it is counted anew.
    """

    def __init__(self, database: db.Database) -> None:
        self._database = database
        self._known: dict[_Story, _Known] = {}
        self._counting = asyncio.Lock()
        self._behind: asyncio.Task[None] | None = None

    async def count(self, wanted: Collection[_Story]) -> dict[_Story, Counts]:
        """The counts of stories by number and birth. Raises `DatabaseUnavailable`."""
        async with self._counting:  # those who come meanwhile find what the first one has counted
            if len(self._known) > MOST_KNOWN:
                self._known.clear()
            now = time.monotonic()
            late = [each for each in wanted if each in self._known and self._known[each].until <= now]
            slow = [each for each in late if self._known[each].took > QUICK]
            at_once = [each for each in wanted if each not in self._known or (each in late and each not in slow)]
            if at_once:
                await self._recount(at_once)
            found = {each: self._known[each].counts for each in wanted}
        if slow and (self._behind is None or self._behind.done()):
            self._behind = asyncio.create_task(self._recount_behind(slow))
        return found

    def forget(self, *story_ids: int) -> None:
        """Count these stories anew when somebody looks: whoever moved their readers wants to see it."""
        for story in [each for each in self._known if each[0] in story_ids]:
            del self._known[story]

    async def _recount_behind(self, wanted: list[_Story]) -> None:
        try:
            await self._recount(wanted)
        except DatabaseUnavailable as error:  # whoever looks next has it counted
            log.warning("followers not counted", reason=error.message)

    async def _recount(self, wanted: list[_Story]) -> None:
        begun = time.monotonic()
        async with self._database.connection() as connection:
            rows = await connection.all("overview_followers", story_ids=[number for number, _ in wanted])
        found = {row["story_id"]: Counts(row["readers"], row["by_mail"], row["by_push"]) for row in rows}
        took = time.monotonic() - begun
        until = begun + took + min(took * HUNDREDFOLD, OLDEST)
        for story in wanted:
            self._known[story] = _Known(until, took, found.get(story[0], _NONE))
