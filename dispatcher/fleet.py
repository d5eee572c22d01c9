"""What the worker processes of one installation share: news, probes of relays, rates, and how each finds the relays."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from dispatcher import db
from dispatcher.channels.email.circuit import PROBE_EVERY
from dispatcher.channels.email.pool import RelayReport
from dispatcher.channels.rates import Buckets
from dispatcher.errors import DatabaseUnavailable
from dispatcher.pulse import ALIVE

log = structlog.get_logger()

#: Seconds between two reports of a process that nothing happens to.
REPORT_EVERY = 10.0
#: Seconds between two reports at least, however much happens.
REPORT_AT_MOST = 0.5


class Fleet:
    """One process's part in the fleet. On one event loop."""

    def __init__(
        self,
        database: db.Database,
        broker_url: str,
        worker: Callable[[], int | None],
        reports: Callable[[], Sequence[RelayReport]],
    ) -> None:
        """`worker` says this worker's number, `reports` how this process finds each relay."""
        self._database = database
        self._buckets = Buckets(broker_url)
        self._worker = worker
        self._reports = reports
        self._peers = 1
        self._rank = 0
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._keep(self._report_for_ever())

    async def close(self) -> None:
        """Stop reporting. The report itself goes with the worker."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._buckets.close()

    def changed(self) -> None:
        """What the reports say has changed."""
        self._changed.set()

    def share(self, limit: int) -> int:
        """This process's part of a limit. Over all processes the parts add up to it."""
        return limit // self._peers + (self._rank < limit % self._peers)

    def part(self) -> float:
        return 1 / self._peers

    async def draw(self, name: str, rate: float, most: int) -> int | None:
        return await self._buckets.draw(name, rate, most)

    async def may_probe(self, relay: str) -> bool:
        try:
            async with self._database.connection() as connection:
                return await connection.one("claim_probe", relay=relay, every=PROBE_EVERY) is not None
        except DatabaseUnavailable as error:
            log.error("cannot probe", relay=relay, reason=error.message)
            return False

    def relay_is_back(self, relay: str) -> None:
        self._keep(self._tell_back(relay))

    async def _tell_back(self, relay: str) -> None:
        try:
            async with self._database.connection() as connection:
                await connection.execute("tell_relay_back", relay=relay)
        except DatabaseUnavailable as error:
            log.warning("others are not told", relay=relay, reason=error.message, remedy="they find out by probing")

    async def _report_for_ever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(REPORT_EVERY):
                    await self._changed.wait()
            except TimeoutError:
                pass  # nothing happened: that is a report too
            self._changed.clear()
            try:
                await self._report()
            except Exception as error:  # noqa: BLE001  # whatever it is, a later report may succeed: there may be no schema yet
                log.error("cannot report", error=type(error).__name__, reason=str(error).split("\n")[0])
            await asyncio.sleep(REPORT_AT_MOST)

    async def _report(self) -> None:
        worker = self._worker()
        if worker is None:
            return
        async with self._database.connection() as connection:
            row = await connection.one("peers", **{"class": ALIVE, "worker": worker})
            for each in self._reports():
                await connection.execute(
                    "report_relay",
                    worker=worker,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    **{**each._asdict(), "circuit": str(each.circuit)},
                )
        if row is not None and row["peers"]:
            self._peers = row["peers"]
            self._rank = (row["rank"] + row["turn"]) % row["peers"]

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
