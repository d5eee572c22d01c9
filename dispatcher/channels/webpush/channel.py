"""The web push channel: one backlog, drained to whichever push services its parcels name.

A lane carries one push at a time: it encrypts, posts, reports, and waits until the ledger holds the outcome. Lanes
are shared by all services; one that is slow has lanes of its own instead, so that nobody waits behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import structlog

from dispatcher.channels import Fate, Outcome
from dispatcher.channels.email.pool import RelayReport
from dispatcher.channels.feed import MOST_PARKED, BacklogOf
from dispatcher.channels.webpush import PushParcel, outcomes
from dispatcher.channels.webpush.encryption import encrypt
from dispatcher.channels.webpush.origins import Hold, Origin
from dispatcher.channels.webpush.services import check_endpoint, origin_of
from dispatcher.errors import DispatcherError, Invalid, TooLarge
from dispatcher.outbound import Answer, Outbound, Refused, Unreachable

log = structlog.get_logger()

LANES = 32
#: So many times more lanes at most, while services are slow.
MOST_LANES = 4
#: Seconds between two looks at services.
LOOK_EVERY = 0.25
#: Seconds for one push, from the connection to the answer.
TIMEOUT = 10.0
#: Seconds after which a service that nothing is sent to is forgotten.
FORGET_AFTER = 600.0
#: Seconds to leave a push alone that cannot be signed.
UNSIGNED_WAIT = 15.0
STOPPED = "the worker stopped before the push service answered"


class WebPushChannel:
    """Drains one backlog to push services. One for a process, on one event loop."""

    def __init__(
        self,
        backlog: BacklogOf[PushParcel],
        outbound: Outbound,
        authorise: Callable[[str], Awaitable[str]],
        *,
        lanes: int = LANES,
        services: Sequence[str] | None = None,
        on_unavailable: Callable[[str], None],
        on_change: Callable[[], None],
    ) -> None:
        """`authorise` gives the Authorization header for an origin. Where `services` are given, nobody else is sent to.

        `on_unavailable` is called, with the reason, when no push service is of use any more. `on_change` is called when
        what `holding` or `reports` say may have changed.
        """
        self._backlog = backlog
        self._outbound = outbound
        self._authorise = authorise
        self._most = lanes
        self._services = services
        self._on_unavailable = on_unavailable
        self._on_change = on_change
        self._origins: dict[str, Origin] = {}
        self._lanes: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._limited: set[Origin] = set()
        self._closing = False

    def start(self) -> None:
        """Begin to watch over the services. Call on the event loop that the lanes live on."""
        self._watch = asyncio.create_task(self._watch_origins())

    @property
    def holding(self) -> str:
        """Why nothing can be sent just now; empty if something can, for all that is known.

        Only services that cannot be reached count: one that wants to be left alone says nothing about the others.
        """
        now = time.monotonic()
        away = [origin for origin in self._origins.values() if not origin.refused]
        if not away or any(origin.hold is not Hold.UNREACHABLE or not origin.held_for(now) for origin in away):
            return ""
        return away[0].reason

    @property
    def lanes(self) -> int:
        """Lanes that are open."""
        return len(self._lanes)

    def reports(self) -> list[RelayReport]:
        """How this process finds each push service."""
        return [_report(origin) for origin in self._origins.values()]

    def wake(self) -> None:
        """The backlog has grown: open lanes for it."""
        if self._closing:
            return
        for _ in range(min(self._room, len(self._backlog))):
            lane = asyncio.create_task(self._lane())
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)

    def expect(self) -> None:
        """There will be work in a moment. Which services it is for is not known yet, so there is nothing to prepare."""

    def news(self, relay: str) -> None:
        """Another process says that a push service answers again."""
        for origin in self._origins.values():
            if origin.relay == relay:
                origin.try_again()
                self._regard(origin)

    async def close(self, patience: float) -> None:
        """Finish the pushes that are on their way, at most `patience` seconds. The rest stays in the backlog."""
        self._closing = True
        tasks = set(self._lanes)
        if tasks:
            await asyncio.wait(tasks, timeout=patience)
        if self._watch is not None:
            tasks.add(self._watch)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _room(self) -> int:
        """How many more lanes there may be. Those that hang at a slow service are not counted."""
        hanging = sum(len(origin.on_the_way) for origin in self._limited if origin.slow)
        return min(self._most + hanging, self._most * MOST_LANES) - len(self._lanes)

    async def _lane(self) -> None:
        recorded = asyncio.Event()
        while not self._closing and self._room >= 0 and (taken := self._take()) is not None:
            parcel, origin = taken
            outcome = await self._send(parcel, origin)
            recorded.clear()
            parcel.settle(outcome, recorded.set)
            await recorded.wait()

    def _take(self) -> tuple[PushParcel, Origin] | None:
        """The next push that may be offered. Those that may not be are given back on the way to it."""
        while (parcel := self._backlog.take(self._admit if self._limited else None)) is not None:
            origin = self._origin(parcel.address)
            if origin.refused:
                parcel.settle(Outcome(Fate.FAILED, None, origin.refused, origin.relay), _nothing)
            elif origin.held_until and (wait := origin.held_for(time.monotonic())):
                parcel.settle(_unsent(origin, wait), _nothing)
            else:
                return parcel, origin
        return None

    def _admit(self, endpoint: str) -> str:
        """The origin of an endpoint, if its push has to wait for others to the same service; else empty."""
        origin = self._origin(endpoint)
        return origin.name if origin.limited and origin.room(self._most) <= 0 else ""

    def _origin(self, endpoint: str) -> Origin:
        name = origin_of(endpoint)
        origin = self._origins.get(name)
        if origin is None:
            origin = self._origins[name] = Origin(name)
            if self._services is not None:
                try:
                    check_endpoint(f"{name}/", self._services)
                except Invalid as error:
                    origin.refused = error.message
        return origin

    async def _send(self, parcel: PushParcel, origin: Origin) -> Outcome:
        """Offer one push, and learn about the service from what becomes of it."""
        origin.start(parcel, time.monotonic())
        try:
            return await self._offer(parcel, origin)
        except asyncio.CancelledError:
            parcel.settle(Outcome(Fate.IN_DOUBT, None, STOPPED, origin.relay), _nothing)
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this one push's fate
            log.error("push failed", relay=origin.relay, error=type(error).__name__)
            return outcomes.cannot_be_made(error, origin.relay)
        finally:
            origin.end(parcel, time.monotonic())
            if origin in self._limited:
                self._regard(origin)

    async def _offer(self, parcel: PushParcel, origin: Origin) -> Outcome:
        try:
            authorisation = await self._authorise(origin.name)
        except DispatcherError as error:
            log.error("push cannot be signed", reason=error.message, remedy=error.remedy)
            return Outcome(Fate.UNSENT, None, error.message, origin.relay, wait=UNSIGNED_WAIT)
        headers = {
            "Authorization": authorisation,
            "TTL": str(parcel.ttl),
            "Urgency": parcel.push_urgency,
            "Topic": parcel.topic,
            "Content-Type": "application/octet-stream",
            "Content-Encoding": "aes128gcm",
        }
        try:
            body = encrypt(parcel.payload(), parcel.public_key, parcel.auth_secret)
            answer, is_second = await self._post(parcel, headers, body)
        except Unreachable as error:
            return self._no_answer(error, origin)
        except (Refused, TooLarge) as error:
            return outcomes.not_allowed(error, origin.relay)
        outcome = self._learn(answer, parcel.address, origin)
        # What is refused for now at the second offer may have been taken at the first.
        return outcome._replace(fate=Fate.IN_DOUBT) if is_second and outcome.fate is Fate.DEFERRED else outcome

    async def _post(self, parcel: PushParcel, headers: dict[str, str], body: bytes) -> tuple[Answer, bool]:
        """The service's answer, and whether it is that to a second offer."""
        try:
            return await self._outbound.post(parcel.address, headers=headers, data=body, timeout=TIMEOUT), False
        except Unreachable as error:
            if not error.lost or self._closing or not parcel.wanted():
                raise
        # The service may just have closed a connection that was idle. Should it have read the push nevertheless, the
        # topic lets the second replace the first.
        try:
            return await self._outbound.post(parcel.address, headers=headers, data=body, timeout=TIMEOUT), True
        except Unreachable as error:
            error.offered = True  # the first time
            raise

    def _learn(self, answer: Answer, endpoint: str, origin: Origin) -> Outcome:
        if origin.answered():
            log.info("push service answers again", relay=origin.relay)
            self._on_change()
        outcome = outcomes.from_answer(answer, endpoint, origin.relay, datetime.now(UTC))
        if outcome.fate is Fate.ACCEPTED:
            origin.accepted(time.monotonic())
        elif outcome.bad_address and not origin.gone():
            log.warning("push service calls every device gone", relay=origin.relay)
            return outcome._replace(bad_address=False)
        elif outcome.code == outcomes.TOO_MANY:
            origin.too_many(endpoint, outcome.wait, time.monotonic())
            log.warning("push service takes no more for now", relay=origin.relay, wait_s=round(outcome.wait))
            self._regard(origin)
            self._on_change()
        return outcome

    def _no_answer(self, error: Unreachable, origin: Origin) -> Outcome:
        now = time.monotonic()
        if origin.no_answer(error.message.rstrip("."), now):
            log.warning("push service cannot be reached", relay=origin.relay, reason=error.message)
            self._regard(origin)
            self._on_change()
            if reason := self.holding:
                self._on_unavailable(reason)
        if (wait := origin.held_for(now)) and not error.offered:
            return _unsent(origin, wait)
        return outcomes.no_answer(error, origin.relay)

    def _regard(self, origin: Origin) -> None:
        """See what may be sent to a service now, and let it be taken."""
        if origin.limited:
            self._limited.add(origin)
        else:
            self._limited.discard(origin)
        # What waits for a service that is left alone is taken too: lanes give it back.
        room = MOST_PARKED if origin.held_until else origin.room(self._most)
        if room > 0 and self._backlog.unpark(origin.name, room):
            self.wake()

    async def _watch_origins(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                self._look_after()
            except Exception:
                # Nobody else ends a hold: whatever happened, the next look must come.
                log.exception("push services not looked after")

    def _look_after(self) -> None:
        now = time.monotonic()
        for name, origin in list(self._origins.items()):
            if origin.look(now):
                log.info("push service is offered pushes again", relay=origin.relay)
                self._on_change()
            if origin.limited or origin in self._limited:
                self._regard(origin)
            if not origin.on_the_way and not origin.held_until and now - origin.used_at > FORGET_AFTER:
                self._limited.discard(origin)
                self._backlog.unpark(name, MOST_PARKED)
                del self._origins[name]
        self.wake()


def _unsent(origin: Origin, wait: float) -> Outcome:
    return Outcome(Fate.UNSENT, None, origin.reason, origin.relay, wait=wait)


def _report(origin: Origin) -> RelayReport:
    open_ = len(origin.on_the_way)
    overdue = open_ if origin.slow else 0
    return RelayReport(origin.relay, origin.circuit, origin.reason, origin.since, open_, open_, overdue)


def _nothing() -> None:
    """What a lane has to do after a push that it never offered: nothing."""
