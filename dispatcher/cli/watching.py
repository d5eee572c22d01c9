"""Watch blasts until nobody waits any more: a live picture on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


def print_report(report: BlastReport) -> None:
    """A blast in words and numbers, as a result."""
    say(f"Blast {report.id}, update {report.seq} of {report.story}: {report.headline}", style="bold")
    say(f"  {report.state}; {_line(report)}")
    if report.holding:
        say(f"  Standing still: {report.holding}")
    for reason, count in report.reasons:
        say(f"  {count:>9,} × {reason}")


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

    def show(self, reports: Sequence[BlastReport]) -> None:
        settled = all(report.settled for report in reports)
        if not settled and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LINE_EVERY
        for report in reports:
            note(f"blast {report.id}: {_line(report)}" + (f"; standing still: {report.holding}" * bool(report.holding)))


def _block(report: BlastReport) -> RenderableType:
    if report.settled:
        return _bar(report)  # the report that follows has the words
    lines = [_bar(report), Text(_line(report))]
    if report.holding:
        lines.append(Text(clean(f"Standing still: {report.holding}"), style="yellow"))
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
        return "the audience is being counted"
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
