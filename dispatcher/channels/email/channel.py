"""The email channel: one backlog, drained over lanes to one or more relays."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from dispatcher.channels import Fleet
from dispatcher.channels.domains import Domains
from dispatcher.channels.email.pool import RelayPool, RelayReport
from dispatcher.channels.email.relay import prepare
from dispatcher.channels.feed import MOST_PARKED, Backlog
from dispatcher.config import RelaySettings

log = structlog.get_logger()

#: Seconds between two looks at lanes, circuits and limits.
LOOK_EVERY = 1.0


class EmailChannel:
    """Drains one backlog over lanes to every relay. One for a process, on one event loop."""

    def __init__(
        self,
        relays: tuple[RelaySettings, ...],
        backlog: Backlog,
        fleet: Fleet,
        *,
        on_unavailable: Callable[[str], None],
        on_change: Callable[[], None],
    ) -> None:
        """`on_unavailable` is called, with the reason, when no relay is of use and the backlog has been dropped.

        `on_change` is called when what `holding` or `reports` say may have changed.
        """
        self._backlog = backlog
        self._domains = Domains(time.monotonic, fleet.share)
        heaviest = max(relay.weight for relay in relays)
        self._pools: list[RelayPool] = []
        self._standbys: list[RelayPool] = []
        for relay in relays:
            lanes = max(1, round(relay.lanes * (relay.weight or heaviest) / heaviest))
            pool = RelayPool(relay, lanes, backlog, self._domains, fleet, self._changed)
            (self._pools if relay.weight else self._standbys).append(pool)
        self._all = self._pools + self._standbys
        self._on_unavailable = on_unavailable
        self._on_change = on_change
        self._watch: asyncio.Task[None] | None = None
        self._warm: asyncio.Task[None] | None = None
        self._closing = False
        self._emptied = asyncio.Event()
        self._choose()

    def start(self) -> None:
        """Begin to watch over the lanes. Call on the event loop that the lanes live on."""
        self._watch = asyncio.create_task(self._watch_lanes())
        # Certificates and our own name take a quarter of a second to find, which the first alert should not wait for.
        self._warm = asyncio.create_task(asyncio.to_thread(prepare))

    @property
    def holding(self) -> str:
        """Why nothing can be sent just now; empty if something can."""
        if any(pool.usable for pool in self._all):
            return ""
        return next((pool.trouble for pool in self._all if pool.trouble), "no relay takes mail")

    @property
    def lanes(self) -> int:
        """Lanes that are open."""
        return sum(len(pool.lanes) for pool in self._all)

    def reports(self) -> list[RelayReport]:
        """How this process finds each relay."""
        return [pool.report() for pool in self._all]

    def wake(self) -> None:
        """The backlog has grown: put idle lanes to work, whichever relay's, and open more where that is not enough."""
        if self._closing:
            return
        idle = [lane for pool in self._all for lane in pool.idle()]
        random.shuffle(idle)  # so that few mails are shared out as many are: by the lanes that each relay gets
        for lane in idle:
            if not len(self._backlog):
                return
            lane.wake()
        for pool in self._all:
            pool.grow()
        if len(self._backlog) and all(pool.hopeless for pool in self._all):
            reason = self.holding or "no relay takes mail"
            self._backlog.drop(reason)
            self._on_unavailable(reason)

    def expect(self) -> None:
        """There will be work in a moment: open the first lanes while it is prepared."""
        for pool in self._all:
            pool.expect()

    def news(self, relay: str) -> None:
        """Another process says that a relay answers again."""
        for pool in self._all:
            if pool.relay.name == relay:
                pool.news()

    async def close(self, patience: float) -> None:
        """Finish the messages that are on their way, QUIT, and close; at most `patience` seconds."""
        self._closing = True
        for pool in self._all:
            pool.quit()
        if self.lanes:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), patience)
        for pool in self._all:
            pool.abort()
        if self._watch is not None:
            self._watch.cancel()

    def _choose(self) -> None:
        """Standbys take mail only while no other relay can."""
        needed = not any(pool.serves for pool in self._pools)
        for pool in self._standbys:
            pool.enabled = needed

    def _changed(self) -> None:
        """A lane was opened or lost, or a circuit has changed."""
        if self._closing:
            if not self.lanes:
                self._emptied.set()
            return
        self._choose()
        self._on_change()
        if len(self._backlog):
            self.wake()

    async def _watch_lanes(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                self._look_after()
            except Exception:
                # Nobody else closes a lane that hangs: whatever happened, the next look must come.
                log.exception("lanes not looked after")

    def _look_after(self) -> None:
        for pool in self._all:
            pool.look_after()
        for domain, room in self._domains.room():
            self._backlog.unpark(domain, room)
        for domain in self._domains.forget():
            self._backlog.unpark(domain, MOST_PARKED)
        self._choose()
        if len(self._backlog):
            self.wake()
