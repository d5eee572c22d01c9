"""A worker's sender and a relay on a thread of their own, for tests that sit at a desk meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dispatcher import db, superseding, upkeep
from tests.support.newsroom import Newsroom, newsroom
from tests.support.sink import Script, Sink, a_sink

#: Seconds between two rounds of what a reconciler does.
ROUND = 0.05


@contextmanager
def a_worker(database_url: str, script: Script, *, lanes: int = 4) -> Iterator[Sink]:
    """Send whatever is published in this database to a relay that follows `script`, until the block ends."""
    ready, over = threading.Event(), threading.Event()
    found: list[Sink] = []
    failed: list[BaseException] = []

    async def work() -> None:
        async with a_sink(script) as sink, db.Database(database_url, size=4) as database:
            room = newsroom(database, sink.port, lanes=lanes)
            async with room.sender() as sender:
                found.append(sink)
                ready.set()
                while not over.is_set():
                    await _round(room)
                    sender.nudge()
                    await asyncio.sleep(ROUND)

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:  # noqa: BLE001  # the thread that waits for it says so
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=run, name="worker")
    thread.start()
    try:
        assert ready.wait(20), "the worker did not start"
        assert not failed, failed
        yield found[0]
    finally:
        over.set()
        thread.join(20)
        assert not thread.is_alive(), "the worker did not end"
    assert not failed, failed


async def _round(room: Newsroom) -> None:
    await upkeep.tick(room.database)
    await superseding.settle(room.database)
    await room.cut()
