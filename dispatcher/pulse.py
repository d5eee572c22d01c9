"""A worker's sign of life: an advisory lock that ends with its connection, and leases that are renewed.

So a killed worker's batches are free within seconds, and one that only lost its database notices that it did.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from dispatcher import db
from dispatcher.errors import DatabaseUnavailable

log = structlog.get_logger()

#: Advisory lock class under which every worker holds its own number while it lives.
ALIVE = 7_214
#: Seconds a lease lasts, and how often it is renewed.
LEASE = 60.0
RENEW_EVERY = 10.0
#: With less than this much of a lease left, no message is started on it.
RESERVE = 0.4 * LEASE
RECONNECT = 0.5
#: Seconds that the database gets to answer a renewal.
PATIENCE = 15.0


class Pulse:
    """Keeps one worker process alive in the eyes of the others. On one event loop."""

    def __init__(
        self,
        database: db.Database,
        held: Callable[[], Sequence[int]],
        renewed: Callable[[Sequence[int], set[int], float], None],
        heard: Callable[[str], None],
    ) -> None:
        """`held` says which lease tokens to renew; `heard` is told every piece of news for all workers.

        `renewed(asked, kept, since)` is told which of them are still ours, and from what moment on the
        monotonic clock they count anew.
        """
        self._database = database
        self._held = held
        self._renewed = renewed
        self._heard = heard
        self._task: asyncio.Task[None] | None = None
        self.worker: int | None = None  #: this worker's number while it is known to be alive; claim nothing without

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop, and let the lock go."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.worker = None

    async def _run(self) -> None:
        while True:
            try:
                connection = await self._database.dedicated()
            except DatabaseUnavailable as error:
                log.error("no sign of life", reason=error.message)
                await asyncio.sleep(1)
                continue
            try:
                await self._beat(connection)
            except Exception as error:  # noqa: BLE001  # a worker without a pulse can do nothing: come back, whatever it was
                # Others now hold us for dead and take our batches back: stop at once, before they have sent anything.
                log.error("sign of life lost", error=type(error).__name__, reason=str(error).strip().split("\n")[0])
            finally:
                self.worker = None
                self._renewed(self._held(), set(), 0)
                await connection.close()
            await asyncio.sleep(RECONNECT)

    async def _beat(self, connection: db.Connection) -> None:
        await connection.execute("listen")
        worker = int(await connection.value("new_worker"))
        await connection.execute("be_alive", **{"class": ALIVE, "worker": worker})
        self.worker = worker
        self._renewed((), set(), 0)  # nothing is held yet, but from now on there may be claims
        while True:
            tokens = list(self._held())
            since = time.monotonic()
            async with asyncio.timeout(PATIENCE):  # asked even with nothing held: silence has to be noticed
                rows = await connection.all("renew_leases", lease=LEASE, tokens=tokens)
            self._renewed(tokens, {row["lease_token"] for row in rows}, since)
            await connection.stay(RENEW_EVERY, self._heard)
