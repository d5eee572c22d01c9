"""What became of a blast so far, in a few hundred numbers that the ledger keeps up to date by itself.

The sums are what counting the ledger would give at this moment; percentiles are as fine as the slots of time are
narrow: 50 ms in the first second, one second in the first minute, five in the first ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from dispatcher import db
from dispatcher.model import DeliveryState

#: Up to which millisecond after publishing slots are how wide. Later ones have `LAST_WIDTH`. The schema's function
#: `progress_slot` says the same.
WIDTHS = ((1_000, 50), (5_000, 100), (60_000, 1_000), (600_000, 5_000), (7_200_000, 60_000))
LAST_WIDTH = 600_000


class Slot(NamedTuple):
    """So many readers in one state at one relay, written down within one slot of time."""

    after_ms: int  #: where the slot begins, from the publish commit
    state: DeliveryState
    relay: str
    readers: int
    seconds: float  #: from the publish commit, of all of them together
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """The slots of one blast, the earliest first."""

    slots: tuple[Slot, ...] = ()

    @property
    def states(self) -> dict[DeliveryState, int]:
        """How many readers are in each state that somebody is in."""
        found: dict[DeliveryState, int] = {}
        for slot in self.slots:
            found[slot.state] = found.get(slot.state, 0) + slot.readers
        return {state: found[state] for state in DeliveryState if found.get(state)}

    @property
    def accepted(self) -> Sequence[Slot]:
        return [slot for slot in self.slots if slot.state is DeliveryState.ACCEPTED]

    @property
    def first_at(self) -> datetime | None:
        """When the first message was accepted, to the microsecond."""
        return min((slot.first_at for slot in self.accepted), default=None)

    @property
    def last_at(self) -> datetime | None:
        """When the last message was accepted so far, to the microsecond."""
        return max((slot.last_at for slot in self.accepted), default=None)

    def percentile(self, part: float) -> float | None:
        """Milliseconds from publishing within which this part (0 to 1) of the acceptances came; None without any."""
        accepted = self.accepted
        wanted = part * sum(slot.readers for slot in accepted)
        seen = 0
        for slot in accepted:
            if slot.readers and seen + slot.readers >= wanted:
                return slot.after_ms + width(slot.after_ms) * max(0.0, wanted - seen) / slot.readers
            seen += slot.readers
        return None

    def relays(self) -> dict[str, int]:
        """How many messages each relay has accepted."""
        found: dict[str, int] = {}
        for slot in self.accepted:
            found[slot.relay] = found.get(slot.relay, 0) + slot.readers
        return found

    def accepted_since(self, after_ms: float, relay: str | None = None) -> int:
        """Acceptances, by one relay or by all, in slots that do not begin before so many milliseconds."""
        return sum(
            slot.readers for slot in self.accepted if slot.after_ms >= after_ms and (relay is None or slot.relay == relay)
        )


def width(after_ms: int) -> int:
    """How many milliseconds long the slot is that begins there."""
    return next((wide for end, wide in WIDTHS if after_ms < end), LAST_WIDTH)


async def read(connection: db.Connection, blast_ids: Iterable[int]) -> dict[int, Progress]:
    """The progress of each of these blasts; of those that nobody has an outcome in, an empty one."""
    wanted = list(blast_ids)
    slots: dict[int, list[Slot]] = {blast_id: [] for blast_id in wanted}
    for blast_id, after_ms, state, *rest in await connection.tuples("read_progress", blast_ids=wanted):
        slots[blast_id].append(Slot(after_ms, DeliveryState(state), *rest))
    return {blast_id: Progress(tuple(found)) for blast_id, found in slots.items()}


async def states(connection: db.Connection, blast_ids: Iterable[int]) -> dict[int, dict[DeliveryState, int]]:
    """How many readers of each of these blasts are in each state that somebody is in."""
    wanted = list(blast_ids)
    found: dict[int, dict[DeliveryState, int]] = {blast_id: {} for blast_id in wanted}
    for row in await connection.all("count_progress", blast_ids=wanted):
        found[row["blast_id"]][DeliveryState(row["state"])] = row["count"]
    return found
