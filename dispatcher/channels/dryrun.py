"""The channel of drills: every message is made, and none is handed to anybody.

It opens no connection and knows no address. What it calls accepted was made without trouble, and would have been sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from dispatcher.channels import Fate, Outcome
from dispatcher.channels.feed import BacklogOf
from dispatcher.errors import DispatcherError

#: What the ledger names as the relay, and as its answer.
NOBODY = "nobody"
MADE = "a drill: made, and handed to nobody"
#: Messages that are made before everything else on this event loop has its turn.
LOT = 25


class DrillParcel(Protocol):
    """A message that is made to see whether it can be."""

    urgency: int
    returns: int  #: how often it came back; a drill has nobody to come back from
    address: str

    def wanted(self) -> bool:
        """False once nobody wants this parcel any more (lease lost, shutdown, drill cancelled)."""

    def rehearse(self) -> int:
        """Make the message as it would be sent; its bytes."""

    def settle(self, outcome: Outcome, recorded: Callable[[], None]) -> None:
        """Report the outcome, once. `recorded` is called when the ledger holds it."""


class DrillBacklog(BacklogOf[DrillParcel]):
    """The messages of one process that are to be rehearsed."""


class DryRun:
    """Drains one backlog to nobody. One for a process, on one event loop."""

    holding = ""  #: nothing can be in its way

    def __init__(self, backlog: DrillBacklog) -> None:
        self._backlog = backlog
        self._lane: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """There is nothing to prepare."""

    def expect(self) -> None:
        """There will be work in a moment: nothing to prepare either."""

    def news(self, relay: str) -> None:
        """Another process says that a relay answers again: it is none of a drill's."""

    def wake(self) -> None:
        """The backlog has grown."""
        if not self._closing and len(self._backlog) and (self._lane is None or self._lane.done()):
            self._lane = asyncio.create_task(self._run())

    async def close(self, patience: float) -> None:
        """Stop, at most `patience` seconds from now. The rest stays in the backlog."""
        self._closing = True
        if self._lane is not None:
            await asyncio.wait([self._lane], timeout=patience)
            self._lane.cancel()
            await asyncio.gather(self._lane, return_exceptions=True)

    async def _run(self) -> None:
        while not self._closing and (lot := self._take()):
            recorded = asyncio.Event()
            left = len(lot)

            def one_recorded(recorded: asyncio.Event = recorded) -> None:
                nonlocal left
                left -= 1
                if not left:
                    recorded.set()

            for parcel in lot:
                parcel.settle(_rehearsed(parcel), one_recorded)
            await recorded.wait()

    def _take(self) -> list[DrillParcel]:
        lot: list[DrillParcel] = []
        while len(lot) < LOT and (parcel := self._backlog.take()) is not None:
            lot.append(parcel)
        return lot


def _rehearsed(parcel: DrillParcel) -> Outcome:
    try:
        parcel.rehearse()
    except DispatcherError as error:
        return Outcome(Fate.FAILED, None, error.message, NOBODY)
    except Exception as error:  # noqa: BLE001  # to find such a message is what a drill is for
        return Outcome(Fate.FAILED, None, f"it cannot be made ({type(error).__name__})", NOBODY)
    return Outcome(Fate.ACCEPTED, None, MADE, NOBODY)
