"""The parcels of one process that wait for a lane, the most urgent first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from dispatcher.channels import Fate, Outcome, Parcel

#: How often a parcel may come back without ever being offered, before it is deferred like a refused one.
MOST_RETURNS = 3


class Backlog:
    """A `Feed` with one lane-side end (`take`, `give_back`) and one sender-side end (`add`, `drop`)."""

    def __init__(self, on_low: Callable[[], None], low_water: int) -> None:
        """`on_low` is called when the backlog sinks below `low_water` parcels, to claim the next batch."""
        self._queues: dict[int, deque[Parcel]] = {}
        self._order: list[int] = []
        self._size = 0
        self._on_low = on_low
        self._low_water = low_water

    def __len__(self) -> int:
        return self._size

    @property
    def most_urgent(self) -> int | None:
        """The urgency of the parcel that `take` would return."""
        return next((urgency for urgency in self._order if self._queues[urgency]), None)

    def add(self, urgency: int, parcels: Iterable[Parcel]) -> None:
        """Append parcels of one urgency."""
        queue = self._queue(urgency)
        before = len(queue)
        queue.extend(parcels)
        self._size += len(queue) - before

    def take(self) -> Parcel | None:
        for urgency in self._order:
            queue = self._queues[urgency]
            while queue:
                parcel = queue.popleft()
                self._size -= 1
                if self._size == self._low_water - 1:
                    self._on_low()
                if parcel.wanted():
                    return parcel
                parcel.settle(Outcome(Fate.UNSENT, reply="no longer wanted"), _nothing)
        return None

    def give_back(self, parcel: Parcel) -> None:
        parcel.returns += 1
        if parcel.returns > MOST_RETURNS:
            reason = "the connection was lost before the message was offered"
            parcel.settle(Outcome(Fate.DEFERRED, reply=reason), _nothing)
            return
        self._queue(parcel.urgency).appendleft(parcel)
        self._size += 1

    def drop(self, reason: str) -> None:
        """Settle everything that waits as unsent: nobody can take it now."""
        for queue in self._queues.values():
            waiting = list(queue)
            queue.clear()
            self._size -= len(waiting)
            for parcel in waiting:
                parcel.settle(Outcome(Fate.UNSENT, reply=reason), _nothing)
        self._on_low()

    def _queue(self, urgency: int) -> deque[Parcel]:
        if urgency not in self._queues:
            self._queues[urgency] = deque()
            self._order = sorted(self._queues)
        return self._queues[urgency]


def _nothing() -> None:
    """What a lane has to do after a parcel that it never held: nothing."""
