"""The live page's bars and lines as numbers for SVG: attributes alone, for the policy of our pages forbids styles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from dispatcher.model import DeliveryState
from dispatcher.watching import WatchedBlast

#: The least width of a part, in per cent: 3 px of the narrowest bar there is, which is 288 px on a phone of 320.
LEAST = 1.05
GAP = 0.2
#: The size of the line's drawing, in units of its own.
WIDE, HIGH, MARGIN = 410, 74, 2
#: Parts of the bar from the left, each with the states that share its colour.
PARTS: tuple[tuple[str, tuple[DeliveryState, ...]], ...] = (
    ("accepted", (DeliveryState.ACCEPTED,)),
    ("deferred", (DeliveryState.DEFERRED,)),
    ("failed", (DeliveryState.FAILED,)),
    ("in-doubt", (DeliveryState.IN_DOUBT,)),
    ("held", (DeliveryState.CAPPED,)),
    ("held", (DeliveryState.SUPPRESSED,)),
    ("held", (DeliveryState.WITHDRAWN,)),
    ("held", (DeliveryState.EXPIRED,)),
    ("held", (DeliveryState.SUPERSEDED,)),
)
#: The order of the key, in which everybody who waits comes second.
KEY = tuple(state for _, states in PARTS for state in states)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a bar, in per cent of its width."""

    name: str
    begins: float
    wide: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line of acceptances a second, as paths of a drawing that is `WIDE` by `HIGH`."""

    path: str
    area: str
    most: float  #: a second, at the highest point
    begins: float  #: seconds from publishing
    ends: float


class Counted(Protocol):
    """A blast, or several together, with the sums of its ledger."""

    @property
    def candidates(self) -> int | None: ...
    @property
    def states(self) -> Mapping[DeliveryState, int]: ...
    @property
    def waiting(self) -> int: ...


def bar(blast: Counted) -> list[Part]:
    """The parts of a blast's bar: every state that somebody is in can be seen, and who waits is what is left free."""
    counts = [(name, sum(blast.states.get(state, 0) for state in states)) for name, states in PARTS]
    shown = [(name, count) for name, count in counts if count > 0]
    whole = max(blast.candidates or 0, sum(count for _, count in shown), 1)
    waits = blast.waiting > 0
    widths = _widths([count / whole for _, count in shown], blast.waiting / whole if waits else 0.0)
    parts, at = [], 0.0
    for (name, _), wide in zip(shown, widths, strict=True):
        parts.append(Part(name, round(at, 2), round(max(wide - GAP, LEAST), 2)))
        at += wide
    if parts and not waits:  # nobody is left: the track is full
        parts[-1] = replace(parts[-1], wide=max(round(100 - parts[-1].begins, 2), LEAST))
    return parts


def line(blast: WatchedBlast) -> Line | None:
    """How many were accepted a second; None before there is anything to draw."""
    points = blast.line
    most = max((point.per_second for point in points), default=0.0)
    if not points or not most:
        return None
    begins, ends = points[0].begins, points[-1].begins + points[-1].lasts
    across = WIDE / max(ends - begins, 0.001)
    up = (HIGH - 2 * MARGIN) / most
    tops = [((at + lasts / 2 - begins) * across, HIGH - MARGIN - rate * up) for at, lasts, rate in points]
    corners = [(0.0, float(HIGH - MARGIN)), *tops, (float(WIDE), tops[-1][1])]
    path = "M" + " L".join(f"{x:.0f} {y:.0f}" for x, y in corners)
    return Line(path, f"{path} L{WIDE} {HIGH - MARGIN} Z", most, begins, ends)


def _widths(shares: list[float], waiting: float) -> list[float]:
    """Widths in per cent: none is less than `LEAST`, also of those who wait; the large ones give what is missing."""
    least = LEAST + GAP
    everything = [*shares, waiting] if waiting else shares
    raised = [max(100 * share, least) for share in everything]
    too_much = sum(raised) - 100
    if too_much > 0:
        spare = sum(wide - least for wide in raised)
        raised = [wide - too_much * (wide - least) / spare if spare else wide for wide in raised]
    return raised[: len(shares)]
