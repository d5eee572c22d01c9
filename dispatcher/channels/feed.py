"""The parcels of one process that wait for a lane, the most urgent first."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from dispatcher.channels import Fate, Outcome, Parcel

#: How often a parcel may come back without ever being offered, before it is deferred like a refused one.
MOST_RETURNS = 3
#: Parcels that wait for their domain apart from the others; any more are given back to the queue in the database.
MOST_PARKED = 1000
#: Seconds for which they are left alone there: as long as the first in their line has waited, within these bounds.
PARKED_WAIT = (1.0, 15.0)


class Waiting(Protocol):
    """What has to be known of a parcel while it waits, whichever channel it is for."""

    urgency: int
    returns: int  #: how often it came back from a lane without being offered; starts at 0
    address: str

    def wanted(self) -> bool:
        """False once nobody wants this parcel sent any more."""

    def settle(self, outcome: Outcome, recorded: Callable[[], None]) -> None:
        """Report the outcome, once."""


P = TypeVar("P", bound=Waiting)


class BacklogOf(Generic[P]):
    """A `Feed` with one lane-side end (`take`, `give_back`) and one sender-side end (`add`, `drop`)."""

    def __init__(self, on_low: Callable[[], None], low_water: int) -> None:
        """`on_low` is called when the backlog sinks below `low_water` parcels, to claim the next batch."""
        self._queues: dict[int, deque[P]] = {}
        self._order: list[int] = []
        self._size = 0
        self._on_low = on_low
        self._low_water = low_water
        self._parked: dict[str, deque[tuple[float, P]]] = {}  # since when
        self._parked_size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def most_urgent(self) -> int | None:
        """The urgency of the parcel that `take` would return."""
        return next((urgency for urgency in self._order if self._queues[urgency]), None)

    def add(self, urgency: int, parcels: Iterable[P]) -> None:
        """Append parcels of one urgency."""
        queue = self._queue(urgency)
        before = len(queue)
        queue.extend(parcels)
        self._size += len(queue) - before

    def take(self, admit: Callable[[str], str] | None = None) -> P | None:
        """The next parcel. `admit` names the domain of an address that has to wait: then its parcel is parked."""
        for urgency in self._order:
            queue = self._queues[urgency]
            while queue:
                parcel = queue.popleft()
                self._size -= 1
                if self._size == self._low_water - 1:
                    self._on_low()
                if not parcel.wanted():
                    parcel.settle(Outcome(Fate.UNSENT), _nothing)  # as `_is_wanted`, without a call in the hot path
                elif admit is not None and (domain := admit(parcel.address)):
                    self._park(domain, parcel)
                else:
                    return parcel
        return None

    def unpark(self, domain: str, most: int = 1) -> int:
        """Let up to `most` parked parcels of a domain be taken, before everything else of their urgency.

        Says how many there were.
        """
        parked = self._parked.get(domain)
        count = 0
        while parked and count < most:
            _, parcel = parked.popleft()
            self._parked_size -= 1
            if self._parked_size == self._low_water - 1:
                self._on_low()
            self._queue(parcel.urgency).appendleft(parcel)
            self._size += 1
            count += 1
        if parked is not None and not parked:
            del self._parked[domain]
        return count

    def sweep(self) -> None:
        """Settle as unsent what is no longer wanted, without waiting for a lane to take it."""
        for queue in self._queues.values():
            waiting = list(queue)
            queue.clear()
            queue.extend(parcel for parcel in waiting if _is_wanted(parcel))
        for parked in self._parked.values():
            standing = list(parked)
            parked.clear()
            parked.extend((since, parcel) for since, parcel in standing if _is_wanted(parcel))
        self._count()

    def give_back(self, parcel: P) -> None:
        if not _is_wanted(parcel):
            return
        parcel.returns += 1
        if parcel.returns > MOST_RETURNS:
            reason = "the connection was lost before the message was offered"
            parcel.settle(Outcome(Fate.DEFERRED, reply=reason), _nothing)
            return
        self._queue(parcel.urgency).appendleft(parcel)
        self._size += 1

    def drop(self, reason: str) -> None:
        """Settle everything that waits as unsent: nobody can take it now."""
        waiting = [parcel for queue in self._queues.values() for parcel in queue]
        waiting += [parcel for parked in self._parked.values() for _, parcel in parked]
        self._parked.clear()
        for queue in self._queues.values():
            queue.clear()
        for parcel in waiting:
            parcel.settle(Outcome(Fate.UNSENT, reply=reason), _nothing)
        self._count()

    def _park(self, domain: str, parcel: P) -> None:
        now = time.monotonic()
        parked = self._parked.setdefault(domain, deque())
        if self._parked_size < MOST_PARKED:
            parked.append((now, parcel))
            self._parked_size += 1
            return
        least, most = PARKED_WAIT
        waited = now - parked[0][0] if parked else 0.0
        reply = f"{domain} takes only little at once"
        parcel.settle(Outcome(Fate.UNSENT, reply=reply, wait=min(most, max(least, waited))), _nothing)

    def _count(self) -> None:
        self._parked = {domain: queue for domain, queue in self._parked.items() if queue}
        self._parked_size = sum(map(len, self._parked.values()))
        self._size = sum(map(len, self._queues.values()))
        self._on_low()

    def _queue(self, urgency: int) -> deque[P]:
        if urgency not in self._queues:
            self._queues[urgency] = deque()
            self._order = sorted(self._queues)
        return self._queues[urgency]


class Backlog(BacklogOf[Parcel]):
    """The mails of one process that wait for a lane."""


def _is_wanted(parcel: Waiting) -> bool:
    """Whether a parcel is still to be sent. One that is not has been settled as unsent."""
    if parcel.wanted():
        return True
    parcel.settle(Outcome(Fate.UNSENT), _nothing)
    return False


def _nothing() -> None:
    """What a lane has to do after a parcel that it never held: nothing."""
