"""What blasts have come to so far, in one line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dispatcher import db, progress
from dispatcher.model import BlastState, ChannelName, DeliveryState

#: The states that a line speaks of besides those who were reached, in this order.
TOLD = (
    DeliveryState.FAILED,
    DeliveryState.IN_DOUBT,
    DeliveryState.DEFERRED,
    DeliveryState.SUPERSEDED,
    DeliveryState.EXPIRED,
    DeliveryState.CAPPED,
    DeliveryState.SUPPRESSED,
    DeliveryState.WITHDRAWN,
)
_OPEN = frozenset({BlastState.CUTTING, BlastState.SENDING, BlastState.PAUSED})


@dataclass(frozen=True, kw_only=True, slots=True)
class BlastLine:
    """A blast with the sums of its ledger."""

    id: int
    channel: ChannelName
    state: BlastState
    candidates: int | None  #: None until the audience is frozen
    is_drill: bool
    states: dict[DeliveryState, int]

    @property
    def is_open(self) -> bool:
        return self.state in _OPEN

    @property
    def accepted(self) -> int:
        return self.states.get(DeliveryState.ACCEPTED, 0)

    @property
    def waiting(self) -> int:
        return max(0, (self.candidates or 0) - sum(self.states.values()))

    @property
    def others(self) -> list[tuple[DeliveryState, int]]:
        """Readers who were not reached, or not for sure, by what became of them."""
        return [(state, self.states[state]) for state in TOLD if self.states.get(state)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sum:
    """Blasts on several channels taken together."""

    candidates: int
    waiting: int
    states: dict[DeliveryState, int]

    @property
    def accepted(self) -> int:
        return self.states.get(DeliveryState.ACCEPTED, 0)


def add_up(blasts: Sequence[BlastLine]) -> Sum:
    """What several blasts have come to."""
    return Sum(
        candidates=sum(each.candidates or 0 for each in blasts),
        waiting=sum(each.waiting for each in blasts),
        states={state: sum(each.states.get(state, 0) for each in blasts) for state in DeliveryState},
    )


async def lines(connection: db.Connection, rows: Sequence[db.Row]) -> dict[int, list[BlastLine]]:
    """The blasts of these rows by the number of their update."""
    states = await progress.states(connection, [row["id"] for row in rows])
    found: dict[int, list[BlastLine]] = {}
    for row in rows:
        line = BlastLine(
            id=row["id"],
            channel=ChannelName(row["channel"]),
            state=BlastState(row["state"]),
            candidates=row["candidates"],
            is_drill=row["is_drill"],
            states=states[row["id"]],
        )
        found.setdefault(row["update_id"], []).append(line)
    return found
