"""One pair of eyes for all who watch an update: however many there are in a process, the database is asked once."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from dispatcher import db
from dispatcher.errors import DispatcherError
from dispatcher.watching.figures import Watched
from dispatcher.watching.looking import Memory, is_stale, look

log = structlog.get_logger()

#: Seconds between two looks at least, and so many times as long as a look takes: a hundredth of a processor. But where
#: a look takes long because others are at work, not more than so many seconds.
EVERY = 1.0
REST = 100
AT_MOST = 3.0
#: Seconds between two looks at an update of which nothing has gone out for this long.
SELDOM = 10.0
STALE_AFTER = 900.0
#: Updates of which a process remembers how they looked.
REMEMBERED = 200


class Watcher:
    """Looks at one update for as long as somebody watches it."""

    def __init__(self, database: db.Database, slug: str, seq: int, memory: Memory) -> None:
        self._database = database
        self._slug = slug
        self._seq = seq
        self._memory = memory
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self.viewers = 0
        self.number = 0  #: of the newest look
        self.watched: Watched | None = None
        self.trouble = ""  #: why the last look failed

    def start(self) -> None:
        self._task = asyncio.create_task(self._look_for_ever())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def next(self, after: int, within: float) -> Watched | None:
        """What a look after number `after` has seen; None if there is none within so many seconds, or it failed."""
        if self.number <= after:
            try:
                async with asyncio.timeout(within):
                    await self._news.wait()
            except TimeoutError:
                return None
        return self.watched if self.number > after and not self.trouble else None

    async def _look_for_ever(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self.watched = await look(self._database, self._slug, self._seq, self._memory)
                self.trouble = ""
            except DispatcherError as error:
                self.trouble = error.message
            except Exception as error:  # who watches must hear that nothing is seen any more
                log.exception("cannot look at an update", story=self._slug, update=self._seq)
                self.trouble = type(error).__name__
            took = time.monotonic() - began
            self.number += 1
            news, self._news = self._news, asyncio.Event()
            news.set()
            rests = SELDOM if self.watched is not None and is_stale(self.watched, STALE_AFTER) else EVERY
            await asyncio.sleep(max(rests, min(REST * took, AT_MOST)) - min(took, EVERY))


class Watchers:
    """Every watcher of a process, by what it watches."""

    def __init__(self, database: db.Database) -> None:
        self._database = database
        self._watchers: dict[tuple[str, int], Watcher] = {}
        self._memories: OrderedDict[tuple[str, int], Memory] = OrderedDict()

    async def look(self, slug: str, seq: int) -> Watched:
        """Look once, with what is remembered of looks before. Raises `NotFound`."""
        return await look(self._database, slug, seq, self._memory(slug, seq))

    @asynccontextmanager
    async def watching(self, slug: str, seq: int) -> AsyncIterator[Watcher]:
        """The watcher of an update, which goes on looking until the last who watches has left."""
        key = (slug, seq)
        watcher = self._watchers.get(key)
        if watcher is None:
            watcher = self._watchers[key] = Watcher(self._database, slug, seq, self._memory(slug, seq))
            watcher.start()
        watcher.viewers += 1
        try:
            yield watcher
        finally:
            watcher.viewers -= 1
            if not watcher.viewers:
                watcher.stop()
                del self._watchers[key]

    def _memory(self, slug: str, seq: int) -> Memory:
        memory = self._memories.setdefault((slug, seq), Memory())
        self._memories.move_to_end((slug, seq))
        while len(self._memories) > REMEMBERED:
            self._memories.popitem(last=False)
        return memory

    def __len__(self) -> int:
        return len(self._watchers)

    def close(self) -> None:
        """Look no more."""
        for watcher in self._watchers.values():
            watcher.stop()
