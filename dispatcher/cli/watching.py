"""Watch blasts until nobody waits any more: a live picture on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Protocol

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from dispatcher.cli.output import FAILED, WELL, aside, clean, note, say
from dispatcher.model import BlastReport, BlastState, DeliveryState

if TYPE_CHECKING:
    from dispatcher.db import Database

#: Seconds between two looks: at least this, and so many times as long as the look itself takes.
SHORTEST_PAUSE = 0.2
PAUSE_PER_LOOK = 25
#: Seconds between two lines where there is no terminal.
LINE_EVERY = 2.0
BAR = 48

COLOURS = {
    DeliveryState.ACCEPTED: "green",
    DeliveryState.DEFERRED: "yellow",
    DeliveryState.FAILED: "red",
    DeliveryState.IN_DOUBT: "magenta",
}
OTHER = "blue"
NOT_WELL = (DeliveryState.FAILED, DeliveryState.IN_DOUBT, DeliveryState.EXPIRED)


async def until_settled(database: Database, blast_ids: Sequence[int]) -> list[BlastReport]:
    """Watch until every reader of these blasts has an outcome, showing how it goes on standard error."""
    from dispatcher import reporting

    with _picture() as picture:
        while True:
            began = time.monotonic()
            reports = [await reporting.blast(database, blast_id) for blast_id in blast_ids]
            picture.show(reports)
            if all(report.settled for report in reports):
                return reports
            await asyncio.sleep(max(SHORTEST_PAUSE, PAUSE_PER_LOOK * (time.monotonic() - began)))


def verdict(reports: Sequence[BlastReport]) -> int:
    """The exit code: 0 only if everyone who should be reached was."""
    for report in reports:
        if report.state is BlastState.CANCELLED or any(report.states.get(state) for state in NOT_WELL):
            return FAILED
    return WELL


def print_report(report: BlastReport, *, tell: Callable[..., None] = say) -> None:
    """A blast in words and numbers, as a result, or beside it."""
    what = "a drill, which reaches nobody, in" if report.is_drill else f"update {report.seq} of"
    tell(f"Blast {report.id}, {what} {report.story}: {report.headline}", style="bold")
    tell(f"  {report.state}; {_line(report)}")
    for line in standing(report):
        tell(f"  {line}")
    for reason, count in report.reasons:
        tell(f"  {count:>9,} × {reason}")


def standing(report: BlastReport) -> list[str]:
    """Why a blast stands still and what to do about it, in words; nothing if it goes on by itself."""
    if report.state is BlastState.PAUSED:
        return [f"Paused{_by_whom(report)}. Go on with: dispatcher blast resume {report.id}"]
    if report.state is BlastState.CANCELLED:
        lines = [f"Cancelled{_by_whom(report)}: {_not_written_to(report)}."]
        if report.states.get(DeliveryState.ACCEPTED):
            lines.append("What a relay took cannot be called back. If it was wrong, publish a correction.")
        return lines
    if report.state is BlastState.SUPERSEDED:
        return ["Stopped: a later update has replaced, corrected or withdrawn it."]
    return [f"Standing still: {report.holding}"] if report.holding else []


def _by_whom(report: BlastReport) -> str:
    if report.steered_by is None or report.steered_at is None:
        return ""
    return f" by {report.steered_by} at {report.steered_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _not_written_to(report: BlastReport) -> str:
    if report.candidates is not None and not report.waiting:
        return "everybody had been written to"
    readers = "nobody was written to" if report.candidates is None else f"{report.waiting:,} were not written to"
    return f"{readers}; only a new update reaches them"


class _Picture(Protocol):
    def show(self, reports: Sequence[BlastReport]) -> None: ...


@contextmanager
def _picture() -> Iterator[_Picture]:
    if not aside.is_terminal:
        yield _Lines()
        return
    with Live(console=aside, auto_refresh=False) as live:
        yield _Moving(live)


class _Moving:
    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, reports: Sequence[BlastReport]) -> None:
        self._live.update(Group(*(_block(report) for report in reports)), refresh=True)


class _Lines:
    def __init__(self) -> None:
        self._next = time.monotonic() + LINE_EVERY
        self._states: list[BlastState] = []

    def show(self, reports: Sequence[BlastReport]) -> None:
        states = [report.state for report in reports]
        paused = BlastState.PAUSED in states and states != self._states  # whoever waits must know at once
        settled = all(report.settled for report in reports)
        if not settled and not paused and time.monotonic() < self._next:
            return
        self._states = states
        self._next = time.monotonic() + LINE_EVERY
        for report in reports:
            note("; ".join([f"blast {report.id}: {_line(report)}", *standing(report)]))


def _block(report: BlastReport) -> RenderableType:
    if report.settled:
        return _bar(report)  # the report that follows has the words
    lines = [_bar(report), Text(_line(report))]
    lines += [Text(clean(line), style="yellow") for line in standing(report)]
    return Group(*lines)


def _bar(report: BlastReport) -> Text:
    """The audience as one bar, a colour for each state; those who wait are left dim."""
    bar = Text()
    total = max(report.candidates or 0, 1)
    filled = done = 0
    for state in DeliveryState:
        done += report.states.get(state, 0)
        cells = BAR * done // total - filled
        bar.append("█" * cells, style=COLOURS.get(state, OTHER))
        filled += cells
    return bar.append("░" * (BAR - filled), style="dim")


def _line(report: BlastReport) -> str:
    """A blast in one line: who was reached, who was not, how fast."""
    if report.candidates is None:
        cutting = report.state is BlastState.CUTTING
        return "the audience is being counted" if cutting else "the audience was not counted yet"
    accepted = report.states.get(DeliveryState.ACCEPTED, 0)
    parts = [f"{accepted:,} of {report.candidates:,} accepted"]
    parts += [
        f"{count:,} {_spoken(state)}"
        for state, count in report.states.items()
        if count and state is not DeliveryState.ACCEPTED
    ]
    if report.waiting:
        parts.append(f"{report.waiting:,} waiting")
    if report.per_second is not None:
        parts.append(f"{report.per_second:,.0f} a second")
    for name, value in (("first", report.first_ms), ("p50", report.p50_ms), ("p90", report.p90_ms)):
        if value is not None:
            parts.append(f"{name} {value:,.0f} ms")
    return ", ".join(parts)


def _spoken(state: DeliveryState) -> str:
    return str(state).replace("_", " ")
