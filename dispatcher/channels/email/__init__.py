"""The email channel: lanes to one or more relays, opened as work comes and kept open between batches."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

import structlog

from dispatcher.channels.email.lanes import Lane
from dispatcher.channels.email.relay import open_lane, prepare
from dispatcher.channels.feed import Backlog
from dispatcher.config import RelaySettings
from dispatcher.errors import RelayUnavailable

log = structlog.get_logger()

#: Seconds after which an idle lane is closed; relays close one after five minutes (RFC 5321 §4.5.3.2.7).
IDLE = 60.0
#: Seconds to leave a relay alone after its first, second, … failure to answer in a row; then every five minutes.
BACKOFF = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0)


class EmailChannel:
    """Drains one backlog over lanes to every relay. One for a process, on one event loop."""

    def __init__(self, relays: tuple[RelaySettings, ...], backlog: Backlog, on_unavailable: Callable[[str], None]):
        """`on_unavailable` is called, with the reason, when no relay answers and the backlog has been dropped."""
        self._backlog = backlog
        self._pools = [RelayPool(relay, backlog, self._changed) for relay in relays]
        self._on_unavailable = on_unavailable
        self._watch: asyncio.Task[None] | None = None
        self._warm: asyncio.Task[None] | None = None
        self._closing = False
        self._emptied = asyncio.Event()

    def start(self) -> None:
        """Begin to watch over the lanes. Call on the event loop that the lanes live on."""
        self._watch = asyncio.create_task(self._watch_lanes())
        # Certificates and our own name take a quarter of a second to find, which the first alert should not wait for.
        self._warm = asyncio.create_task(asyncio.to_thread(prepare))

    @property
    def holding(self) -> str:
        """Why nothing can be sent just now; empty if something can."""
        if any(pool.available for pool in self._pools):
            return ""
        return self._pools[0].trouble

    @property
    def lanes(self) -> int:
        """Lanes that are open."""
        return sum(len(pool.lanes) for pool in self._pools)

    @property
    def busy(self) -> bool:
        return any(pool.busy for pool in self._pools)

    def wake(self) -> None:
        """The backlog has grown: put every idle lane to work, and open more where that is not enough."""
        if self._closing:
            return
        for pool in self._pools:
            pool.wake()
        if len(self._backlog) and not self.lanes and not any(pool.opening for pool in self._pools):
            reason = self.holding or "no relay takes mail"
            self._backlog.drop(reason)
            self._on_unavailable(reason)

    async def close(self, patience: float) -> None:
        """Finish the messages that are on their way, QUIT, and close; at most `patience` seconds."""
        self._closing = True
        for pool in self._pools:
            pool.quit()
        if self.lanes:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), patience)
        for pool in self._pools:
            pool.abort()
        if self._watch is not None:
            self._watch.cancel()

    def _changed(self) -> None:
        """A lane was lost, or could not be opened."""
        if self._closing:
            if not self.lanes:
                self._emptied.set()
            return
        if len(self._backlog):
            self.wake()

    async def _watch_lanes(self) -> None:
        while True:
            await asyncio.sleep(1)
            for pool in self._pools:
                pool.look_after()
            if len(self._backlog):
                self.wake()


class RelayPool:
    """The lanes of this process to one relay."""

    def __init__(self, relay: RelaySettings, backlog: Backlog, on_change: Callable[[], None]) -> None:
        self.relay = relay
        self.lanes: set[Lane] = set()
        self.trouble = ""
        self._backlog = backlog
        self._on_change = on_change
        self._opening: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._leave_alone_until = 0.0

    @property
    def available(self) -> bool:
        """False while nothing can be sent here: no lane is open, and the relay is left alone as it did not answer."""
        return bool(self.lanes) or self._may_open

    @property
    def opening(self) -> int:
        """Lanes that are being opened."""
        return len(self._opening)

    @property
    def _may_open(self) -> bool:
        return asyncio.get_running_loop().time() >= self._leave_alone_until

    @property
    def busy(self) -> bool:
        return any(lane.busy for lane in self.lanes)

    def wake(self) -> None:
        for lane in [lane for lane in self.lanes if not lane.busy]:
            if not len(self._backlog):
                return
            lane.wake()
        room = self.relay.lanes - len(self.lanes) - len(self._opening)
        # After a failure one lane tries; the others follow once it is open.
        wanted = min(room, len(self._backlog), 1 - len(self._opening) if self._failures else room)
        if self._may_open:
            for _ in range(wanted):
                task = asyncio.create_task(self._open())
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)

    def look_after(self) -> None:
        """Close lanes that idle, and those whose relay has been silent for too long."""
        now = asyncio.get_running_loop().time()
        for lane in list(self.lanes):
            if lane.deadline < now:
                lane.expire()
            elif not lane.busy and lane.idle_since is not None and now - lane.idle_since > IDLE:
                lane.quit()

    def quit(self) -> None:
        for task in self._opening:
            task.cancel()
        for lane in list(self.lanes):
            lane.quit()

    def abort(self) -> None:
        for lane in list(self.lanes):
            lane.expire()

    async def _open(self) -> None:
        try:
            lane = await open_lane(self.relay, self._backlog, self._closed)
        except RelayUnavailable as error:
            self._opened()
            self._failed(error.message)
            return
        self._opened()
        if self._failures:
            log.info("relay is back", relay=self.relay.name)
        self._failures = 0
        self.trouble = ""
        self.lanes.add(lane)
        lane.wake()
        self.wake()

    def _opened(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._opening.discard(task)

    def _failed(self, why: str) -> None:
        """Leave the relay alone for a while. Lanes that are open go on: it may only allow so many."""
        now = asyncio.get_running_loop().time()
        if now >= self._leave_alone_until:
            pause = BACKOFF[min(self._failures, len(BACKOFF) - 1)] * random.uniform(0.75, 1.25)  # noqa: S311
            self._failures += 1
            self._leave_alone_until = now + pause
            self.trouble = why
            log.warning(
                "relay takes no lane", relay=self.relay.name, open=len(self.lanes), reason=why, next_s=round(pause, 1)
            )
        self._on_change()

    def _closed(self, lane: Lane, reason: str) -> None:
        self.lanes.discard(lane)
        if reason:
            log.info("lane closed", relay=self.relay.name, reason=reason, sent=lane.sent)
            if lane.offered and not lane.sent and not self.lanes and not lane.given_up:
                self._failed(reason)
                return
        self._on_change()
