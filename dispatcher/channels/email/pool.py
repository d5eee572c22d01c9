"""The lanes of one process to one relay: opened as work comes, watched, and closed when the relay is ill."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import structlog

from dispatcher.channels import CircuitState, Fate, Fleet, Outcome, Parcel
from dispatcher.channels.domains import Domains, domain_of
from dispatcher.channels.email import outcomes
from dispatcher.channels.email.circuit import Circuit
from dispatcher.channels.email.lanes import Lane
from dispatcher.channels.email.relay import open_lane
from dispatcher.channels.feed import Backlog
from dispatcher.channels.rates import Purse
from dispatcher.config import RelaySettings
from dispatcher.errors import RelayUnavailable

log = structlog.get_logger()

#: Seconds after which an idle lane is closed; relays close one after five minutes (RFC 5321 §4.5.3.2.7).
IDLE = 60.0
#: Seconds without an answer after which nobody waits for a lane any more; it goes on waiting by itself.
OVERDUE = 20.0
#: Seconds for a relay to read what was sent to it (RFC 5321 §4.5.3.2.5).
TIMEOUT_BLOCK = 180.0
#: Lanes that are opened at once while none is open: a relay that is away is not stormed.
FIRST = 2
#: A session that ends so soon and took nothing is a failure to connect.
SHORT = 5.0
#: Seconds that a first session may take to open before a standby is asked.
STANDBY_AFTER = 2.0
#: Seconds to leave opening alone after a relay refused one more lane while others are open.
BACKOFF = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0)


class RelayReport(NamedTuple):
    """How one process finds one relay."""

    relay: str
    circuit: CircuitState
    reason: str
    since: datetime
    lanes: int
    busy: int
    overdue: int  #: lanes whose answer has taken long


class RelayPool:
    """A `Feed` for its lanes, between them and the backlog: here limits are kept and outcomes are learnt from."""

    def __init__(
        self,
        relay: RelaySettings,
        most: int,
        backlog: Backlog,
        domains: Domains,
        fleet: Fleet,
        on_change: Callable[[], None],
    ) -> None:
        """`most` lanes at most. `on_change` is called when a lane was opened or lost, or the circuit has changed."""
        self.relay = relay
        self.lanes: set[Lane] = set()
        self.enabled = True  #: a standby is enabled only while no other relay is usable
        self.circuit = Circuit(time.monotonic, self._circuit_changed)
        self._most = most
        self._backlog = backlog
        self._domains = domains
        self._fleet = fleet
        self._on_change = on_change
        self._purse = Purse(fleet, relay.name, relay.rate, self.wake) if relay.rate else None
        self._opening: set[asyncio.Task[None]] = set()
        self._probing: asyncio.Task[None] | None = None
        self._closing = False
        self._opening_since = 0.0
        self._too_many = 0  # times in a row that one more lane was refused, with how many open, and until when to wait
        self._open_then = 0
        self._no_more_until = 0.0

    @property
    def usable(self) -> bool:
        """True if a message that is handed in now is likely to be offered soon."""
        if self.circuit.state is CircuitState.OPEN:
            return False
        if not self.lanes:
            return self.circuit.may_connect
        return self._answering > 0 or len(self.lanes) < self._room

    @property
    def serves(self) -> bool:
        """True while there is no sign that this relay does not take mail."""
        if self.circuit.state is not CircuitState.CLOSED:
            return False
        if self.lanes:
            return self._answering > 0
        waits = asyncio.get_running_loop().time() - self._opening_since if self._opening else 0.0
        return not self.circuit.failing and waits < STANDBY_AFTER

    @property
    def _answering(self) -> int:
        """Lanes whose answers come."""
        return sum(not lane.overdue for lane in self.lanes)

    @property
    def _room(self) -> int:
        """How many lanes there may be. A relay on trial gets one more, for those it has may hang for long."""
        return self._most + (self.circuit.state is CircuitState.HALF_OPEN)

    @property
    def hopeless(self) -> bool:
        """True if what waits here would wait in vain: the circuit is open, or no lane gets an answer."""
        if self.circuit.state is CircuitState.OPEN:
            return True
        return len(self.lanes) >= self._room and not self._answering

    @property
    def trouble(self) -> str:
        """Why this relay is not usable; empty if it is."""
        if self.circuit.reason:
            return self.circuit.reason
        return f"The relay {self.relay.name} has not answered for {OVERDUE:.0f} seconds." if self.hopeless else ""

    def idle(self) -> list[Lane]:
        """Lanes that could take something now."""
        return [lane for lane in self.lanes if not lane.busy] if self.enabled else []

    def report(self) -> RelayReport:
        busy = sum(lane.busy for lane in self.lanes)
        overdue = sum(lane.overdue for lane in self.lanes)
        circuit = self.circuit
        return RelayReport(self.relay.name, circuit.state, self.trouble, circuit.since, len(self.lanes), busy, overdue)

    def take(self) -> Parcel | None:
        if not self.enabled or not self.circuit.take():
            return None
        if self._purse is not None and not self._purse.take():
            self.circuit.untake()
            return None
        parcel = self._backlog.take(self._domains.admit if self._domains.limited else None)
        if parcel is None:
            self.circuit.untake()
            if self._purse is not None:
                self._purse.put_back()
        return parcel

    def give_back(self, parcel: Parcel) -> None:
        self.circuit.lost()
        self._free(parcel.address)
        self._backlog.give_back(parcel)

    def judge(self, parcel: Parcel, outcome: Outcome) -> Outcome:
        if self._domains.limited:
            self._free(parcel.address, success=outcome.fate is Fate.ACCEPTED)
        if outcome.fate is Fate.ACCEPTED:
            self.circuit.accepted()
            return outcome
        return self._learn(parcel, outcome)

    def _learn(self, parcel: Parcel, outcome: Outcome) -> Outcome:
        fate, circuit = outcome.fate, self.circuit
        if outcome.code is None and fate is Fate.FAILED:
            circuit.untake()  # it was never offered: the relay is not to blame
        elif outcome.code is None:
            circuit.lost()
        elif fate is Fate.FAILED:
            circuit.failed_for_good(bad_address=outcome.bad_address)
            if outcome.bad_address and not circuit.believes_bad_addresses:
                return outcome._replace(bad_address=False)
        elif fate is Fate.REFUSED:
            on_trial = circuit.state is not CircuitState.CLOSED
            circuit.refused(outcome.reply)
            if on_trial:  # it is the relay that is on trial, and the reader must not pay for it
                return outcome._replace(fate=Fate.DEFERRED)
        elif fate is Fate.DEFERRED:
            too_much = outcomes.is_too_much(outcome)
            circuit.deferred(outcome.reply, domain_of(parcel.address), too_much=too_much)
            if too_much:
                self._domains.complain(parcel.address)
        return outcome

    def wake(self) -> None:
        """Put idle lanes to work, and open more where that is not enough."""
        for lane in self.idle():
            if not len(self._backlog):
                return
            lane.wake()
        self.grow()

    def grow(self) -> None:
        """Open more lanes for what the idle ones have left."""
        self._open_more(len(self._backlog))

    def expect(self) -> None:
        """Open the first lanes, if there is none."""
        if not self.lanes:
            self._open_more(FIRST)

    def news(self) -> None:
        """Another process says that the relay answers again: try it."""
        if self.circuit.state is CircuitState.OPEN:
            self._try_again()

    def look_after(self) -> None:
        """Once a second: close lanes that idle, and those whose relay has been silent for too long; probe."""
        now = asyncio.get_running_loop().time()
        self.circuit.tick()
        for lane in list(self.lanes):
            waited = now - lane.waiting_since
            if lane.deadline < now or (lane.stuck and waited > TIMEOUT_BLOCK):
                lane.expire()
            elif waited > OVERDUE and not lane.overdue:
                log.warning("lane gets no answer", relay=self.relay.name, waited_s=round(waited))
                lane.be_overdue()
                self._gave_no_answer()
            elif not lane.busy and lane.idle_since is not None and now - lane.idle_since > IDLE:
                lane.quit()
        if self._too_many and now >= self._no_more_until and len(self.lanes) > self._open_then:
            self._too_many = 0
        if self.circuit.may_probe and self._probing is None and not self._closing:
            self._probing = asyncio.create_task(self._probe())

    def quit(self) -> None:
        self._closing = True
        for task in (*self._opening, self._probing):
            if task is not None:
                task.cancel()
        if self._purse is not None:
            self._purse.close()
        for lane in list(self.lanes):
            lane.quit()

    def abort(self) -> None:
        for lane in list(self.lanes):
            lane.expire()

    def _open_more(self, wanted: int) -> None:
        now = asyncio.get_running_loop().time()
        if (
            not self.enabled
            or self._closing
            or not self.circuit.may_connect
            or (self.lanes and now < self._no_more_until)
        ):
            return
        most = self._most
        if self.circuit.state is CircuitState.HALF_OPEN:
            most = min(self._room, len(self.lanes) - self._answering + 1)
        elif self.circuit.failing:
            most = 1
        elif not self.lanes:
            most = min(most, FIRST)
        room = most - len(self.lanes) - len(self._opening)
        if self._too_many:
            room = min(room, 1 - len(self._opening))
        for _ in range(min(room, wanted)):
            self._open_one()

    def _open_one(self) -> None:
        if not self._opening:
            self._opening_since = asyncio.get_running_loop().time()
        task = asyncio.create_task(self._open())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        since = loop.time()
        try:
            lane = await open_lane(self.relay, self, self._closed)
        except RelayUnavailable as error:
            self._opening.discard(task)
            self._failed(error.message, silent=loop.time() - since > OVERDUE)
            return
        self._opening.discard(task)
        self.lanes.add(lane)
        if self.circuit.state is CircuitState.HALF_OPEN and self.circuit.unreachable and not len(self._backlog):
            # There is a session again, and nothing here to try it with: somebody else may have something.
            self._fleet.relay_is_back(self.relay.name)
        lane.wake()
        self._on_change()

    def _failed(self, why: str, *, silent: bool = False) -> None:
        """No session. Lanes that are open go on: the relay may only allow so many."""
        if self.lanes:
            self._back_off(why)
        else:
            log.warning("relay takes no session", relay=self.relay.name, reason=why)
            self._count_failure(why, silent=silent)
        self._on_change()

    def _closed(self, lane: Lane, reason: str) -> None:
        self.lanes.discard(lane)
        if reason:
            log.info("lane closed", relay=self.relay.name, reason=reason, sent=lane.sent)
            now = asyncio.get_running_loop().time()
            short = now - lane.opened_at < SHORT
            if not lane.sent and not lane.given_up and (lane.offered or short):
                if any(other.sent or not other.offered for other in self.lanes):
                    self._back_off(reason)
                else:
                    self._count_failure(reason, silent=lane.offered and now - lane.asked_at > OVERDUE)
        self._on_change()

    def _gave_no_answer(self) -> None:
        """A lane has waited for long. If none does better, it is the relay that does not answer."""
        if self.circuit.state is CircuitState.HALF_OPEN:
            self.circuit.lost()
        elif self.hopeless:
            self.circuit.failed(f"The relay {self.relay.name} has not answered for {OVERDUE:.0f} seconds.", silent=True)
        self._on_change()

    def _back_off(self, why: str) -> None:
        """The relay takes no more lanes than are open: ask it again later, and for one at a time."""
        now = asyncio.get_running_loop().time()
        if now < self._no_more_until:
            return
        pause = BACKOFF[min(self._too_many, len(BACKOFF) - 1)] * random.uniform(0.75, 1.25)  # noqa: S311
        self._too_many += 1
        self._no_more_until = now + pause
        self._open_then = len(self.lanes)
        log.warning("relay takes no more lanes", relay=self.relay.name, open=self._open_then, reason=why)

    def _count_failure(self, why: str, *, silent: bool) -> None:
        self.circuit.failed(why, silent=silent)
        if self.circuit.state is CircuitState.CLOSED:
            asyncio.get_running_loop().call_later(self.circuit.pause, self._on_change)

    async def _probe(self) -> None:
        try:
            if await self._fleet.may_probe(self.relay.name) and self.circuit.may_probe:
                self._try_again()
        finally:
            self._probing = None

    def _try_again(self) -> None:
        self.circuit.probe()
        if not self._answering and not self._opening and not self._closing and len(self.lanes) < self._room:
            self._open_one()

    def _free(self, address: str, *, success: bool = False) -> None:
        domain, room = self._domains.leave(address, success=success)
        if room > 0 and self._backlog.unpark(domain, room) > 1:
            # The lane that this message leaves takes one of them; the others are for whoever is idle.
            asyncio.get_running_loop().call_soon(self._on_change)

    def _circuit_changed(self) -> None:
        circuit = self.circuit
        log.warning("circuit", relay=self.relay.name, state=str(circuit.state), reason=circuit.reason)
        if circuit.state is CircuitState.CLOSED:
            self._fleet.relay_is_back(self.relay.name)
        self._on_change()
