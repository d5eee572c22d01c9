"""What became of a blast so far, in a few hundred numbers that the ledger keeps up to date by itself.

The sums are what counting the ledger would give at this moment; percentiles are as fine as the slots of time are
narrow: 50 ms in the first second, one second in the first minute, five in the first ten.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from typing import Any, NamedTuple

from dispatcher import db
from dispatcher.model import DeliveryState

#: Up to which millisecond after publishing slots are how wide. Later ones have `LAST_WIDTH`. The schema's function
#: `progress_slot` says the same.
WIDTHS = ((1_000, 50), (5_000, 100), (60_000, 1_000), (600_000, 5_000), (7_200_000, 60_000))
LAST_WIDTH = 600_000


class Slot(NamedTuple):
    """So many messages that one relay accepted within one slot of time."""

    after_ms: int  #: where the slot begins, from the publish commit
    relay: str
    messages: int


@dataclass(frozen=True, slots=True)
class Progress:
    """One blast: how many are in each state, and when which relay accepted how many."""

    states: dict[DeliveryState, int] = field(default_factory=dict)  #: those that somebody is in
    slots: tuple[Slot, ...] = ()  #: acceptances, the earliest first
    first_at: datetime | None = None  #: when the first message was accepted, to the microsecond
    last_at: dict[DeliveryState, datetime] = field(default_factory=dict)  #: when the last came into each state

    def percentile(self, part: float) -> float | None:
        """Milliseconds from publishing within which this part (0 to 1) of the acceptances came; None without any."""
        wanted = part * sum(slot.messages for slot in self.slots)
        seen = 0
        for slot in self.slots:
            if seen + slot.messages >= wanted:
                return slot.after_ms + width(slot.after_ms) * max(0.0, wanted - seen) / slot.messages
            seen += slot.messages
        return None

    def relays(self) -> dict[str, int]:
        """How many messages each relay has accepted."""
        found: dict[str, int] = {}
        for slot in self.slots:
            found[slot.relay] = found.get(slot.relay, 0) + slot.messages
        return found

    def accepted_since(self, after_ms: float, relay: str | None = None) -> int:
        """Acceptances, by one relay or by all, in slots that do not begin before so many milliseconds."""
        recent = takewhile(lambda slot: slot.after_ms >= after_ms, reversed(self.slots))
        return sum(slot.messages for slot in recent if relay is None or slot.relay == relay)


def width(after_ms: int) -> int:
    """How many milliseconds long the slot is that begins there."""
    return next((wide for end, wide in WIDTHS if after_ms < end), LAST_WIDTH)


async def read(connection: db.Connection, blast_ids: Iterable[int]) -> dict[int, Progress]:
    """The progress of each of these blasts; of those that nobody has an outcome in, an empty one."""
    rows: dict[int, list[tuple[Any, ...]]] = {blast_id: [] for blast_id in blast_ids}
    for blast_id, *row in await connection.tuples("read_progress", blast_ids=list(rows)):
        rows[blast_id].append(tuple(row))
    return {blast_id: _progress(found) for blast_id, found in rows.items()}


async def states(connection: db.Connection, blast_ids: Iterable[int]) -> dict[int, dict[DeliveryState, int]]:
    """How many readers of each of these blasts are in each state that somebody is in."""
    found: dict[int, dict[DeliveryState, int]] = {blast_id: {} for blast_id in blast_ids}
    for row in await connection.all("count_progress", blast_ids=list(found)):
        found[row["blast_id"]][DeliveryState(row["state"])] = row["count"]
    return found


def _progress(rows: list[tuple[Any, ...]]) -> Progress:
    """One blast's rows of `read_progress`, without its id."""
    counts: dict[str, int] = {}
    last: dict[str, datetime] = {}
    for _, state, _, count, _, last_at in rows:
        counts[state] = counts.get(state, 0) + count
        last[state] = max(last_at, last.get(state, last_at))
    accepted = [row for row in rows if row[0] is not None]
    return Progress(
        states={state: counts[state] for state in DeliveryState if counts.get(state)},
        slots=tuple(Slot(after_ms, relay, count) for after_ms, _, relay, count, _, _ in accepted),
        first_at=min((row[4] for row in accepted), default=None),
        last_at={DeliveryState(state): at for state, at in last.items()},
    )
