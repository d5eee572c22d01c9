"""What more machines would do: a simulation of lanes, workers and the ledger, fed with the measured costs.

    python -m tests.benchmarks.simulation                what it foretells of this machine beside what was measured,
                                                         and the plan for 10, 100 and 1,000 million readers
    python -m tests.benchmarks.simulation --write-docs   puts both into docs/performance.md

It follows every single mail. A lane waits for its worker process, the process for a processor; the mail travels to the
relay and is answered; the answer waits for the process's committer, the group of answers for the database, and the
lane goes on when the commit is back. The costs are those of docs/performance.json, which `make bench` writes.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks import planning
from tests.benchmarks.figures import Report, readable
from tests.benchmarks.programs import ROOT
from tests.benchmarks.table import filled

#: Of the CPU that a worker needs for a mail, the share that is spent before the relay has it; the rest follows.
BEFORE_ANSWER = 0.7
#: What a commit costs the database whatever is in it, in µs, and how long it waits for the disk.
COMMIT_US = 150.0
FLUSH_MS = 0.4
SINK_US = 15.0
#: Round trips until a lane is open and its first envelope answered: greeting, EHLO, envelope.
OPENING = 2.5
BEGIN, END = "<!-- plan: written by the simulation -->", "<!-- end of plan -->"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is simulated. Costs are CPU time in µs for each mail."""

    mails: int
    processes: int
    lanes: int  #: of each process
    worker_us: float
    database_us: float  #: with its share of a commit
    rtt_ms: float = 0.05  #: to the relay and back
    relay_ms: float = 0.0  #: until the relay has made up its mind
    database_rtt_ms: float = 0.0
    relay_us: float = SINK_US  #: of a relay that runs on the same machine; it is one process
    cores: int = 2
    database_cores: int = 0  #: of its own; 0: it shares ours
    start_ms: float = 0.0  #: from the button to the first mail

    def slowed(self, factor: float) -> Setting:
        """The same with so many times the CPU time for everything."""
        return replace(
            self,
            worker_us=self.worker_us * factor,
            database_us=self.database_us * factor,
            relay_us=self.relay_us * factor,
        )


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    seconds: float
    commits: int

    def per_second(self, mails: int) -> float:
        return mails / self.seconds


class _Clock:
    """The events to come, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._number), do))

    def run(self) -> None:
        while self._events:
            self.now, _, do = heapq.heappop(self._events)
            do()


class _Cores:
    """So many processors: whoever finds none free waits in line."""

    def __init__(self, clock: _Clock, count: int) -> None:
        self._clock = clock
        self._free = count
        self._line: deque[tuple[float, Callable[[], None]]] = deque()

    def use(self, seconds: float, then: Callable[[], None]) -> None:
        if not self._free:
            self._line.append((seconds, then))
            return
        self._free -= 1
        self._clock.after(seconds, lambda: self._done(then))

    def _done(self, then: Callable[[], None]) -> None:
        self._free += 1
        then()
        if self._line and self._free:
            seconds, following = self._line.popleft()
            self.use(seconds, following)


class _Process:
    """Something that does one thing at a time, on whatever processor is free."""

    def __init__(self, cores: _Cores) -> None:
        self._cores = cores
        self._busy = False
        self._line: deque[tuple[float, Callable[[], None]]] = deque()

    def do(self, seconds: float, then: Callable[[], None]) -> None:
        if self._busy:
            self._line.append((seconds, then))
            return
        self._busy = True
        self._cores.use(seconds, lambda: self._done(then))

    def _done(self, then: Callable[[], None]) -> None:
        self._busy = False
        if self._line:
            seconds, following = self._line.popleft()
            self.do(seconds, following)
        then()


class _Worker(_Process):
    """A worker process: its lanes, and its committer, which writes what has gathered while it wrote the last."""

    def __init__(self, model: _Model, cores: _Cores, mails: int) -> None:
        super().__init__(cores)
        self._model = model
        self._left = mails
        self._waiting = 0
        self._writing = False
        for _ in range(min(model.setting.lanes, mails)):
            self._send()

    def _send(self) -> None:
        if not self._left:
            return
        self._left -= 1
        setting = self._model.setting
        self.do(setting.worker_us * BEFORE_ANSWER / 1e6, lambda: self._model.offer(self._answered))

    def _answered(self) -> None:
        setting = self._model.setting
        self.do(setting.worker_us * (1 - BEFORE_ANSWER) / 1e6, self._settled)

    def _settled(self) -> None:
        self._waiting += 1
        if not self._writing:
            self._write()

    def _write(self) -> None:
        rows, self._waiting = self._waiting, 0
        self._writing = True
        self._model.commit(rows, lambda: self._written(rows))

    def _written(self, rows: int) -> None:
        self._writing = False
        for _ in range(rows):
            self._send()
        if self._waiting:
            self._write()


class _Model:
    """One machine with workers, a database and a relay, here or elsewhere."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.clock = _Clock()
        self.commits = 0
        self.finished = 0
        ours = _Cores(self.clock, setting.cores)
        self._database = _Cores(self.clock, setting.database_cores) if setting.database_cores else ours
        self._relay = _Process(ours)
        shares = [
            setting.mails // setting.processes + (number < setting.mails % setting.processes)
            for number in range(setting.processes)
        ]
        # A group is as large as the lanes that wait for it let it be; half of them is what measured runs come to.
        typical = max(setting.lanes / 2, 1.0)
        self._row_us = max(setting.database_us - COMMIT_US / typical, setting.database_us / 4)
        for share in shares:
            _Worker(self, ours, share)

    def offer(self, answered: Callable[[], None]) -> None:
        """A mail goes out; `answered` is called when the relay's reply is here."""
        half = self.setting.rtt_ms / 2000
        thinks = self.setting.relay_ms / 1000

        def arrives() -> None:
            if self.setting.relay_us:
                self._relay.do(self.setting.relay_us / 1e6, lambda: self.clock.after(half + thinks, answered))
            else:
                self.clock.after(half + thinks, answered)

        self.clock.after(half, arrives)

    def commit(self, rows: int, then: Callable[[], None]) -> None:
        self.commits += 1
        half = self.setting.database_rtt_ms / 2000
        cost = (COMMIT_US + rows * self._row_us) / 1e6
        back = half + FLUSH_MS / 1000

        def written() -> None:
            self.finished += rows
            then()

        self.clock.after(half, lambda: self._database.use(cost, lambda: self.clock.after(back, written)))


def simulate(setting: Setting) -> Outcome:
    """Send `setting.mails` mails. Raises ValueError if there is nothing to send, or nobody to send it."""
    if min(setting.mails, setting.processes, setting.lanes, setting.cores) < 1:
        raise ValueError("a simulation needs mails, processes, lanes and processors")
    model = _Model(setting)
    model.clock.run()
    if model.finished != setting.mails:
        raise AssertionError(f"{model.finished} of {setting.mails} mails were recorded")
    opening = (setting.start_ms + OPENING * setting.rtt_ms) / 1000
    return Outcome(opening + model.clock.now, model.commits)


@dataclass(frozen=True)
class Comparison:
    """What was foretold of a run, and what was measured."""

    name: str
    foretold: float
    measured: float

    @property
    def off(self) -> float:
        """By how many percent the simulation is wrong."""
        return (self.foretold / self.measured - 1) * 100


def here(costs: dict[str, float]) -> Setting:
    """The machine that the costs were measured on, with two worker processes."""
    return Setting(
        mails=10_000,
        processes=2,
        lanes=32,
        worker_us=costs["worker_us"],
        database_us=costs["database_us"],
        start_ms=costs["first_ms"],
    )


def friction(costs: dict[str, float]) -> float:
    """By what the CPU time has to be multiplied for the simulation to be as fast as two real worker processes are.

    Processors are never used to the last microsecond, and nobody counts what the kernel does between processes. It is
    found in this one run, and every other run then shows whether it holds.
    """
    low, high = 0.5, 4.0
    setting = here(costs)
    for _ in range(7):
        middle = (low + high) / 2
        if simulate(setting.slowed(middle)).per_second(setting.mails) > costs["two_processes_per_second"]:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def comparisons(report: Report) -> list[Comparison]:
    """The simulation beside every run that it can be held against but the one it learnt from, in mails a second."""
    base = here(report.costs).slowed(friction(report.costs))
    measured = {(each.part, each.name): each.value for each in report.figures}
    settings = {
        ("processes", "1 process"): replace(base, processes=1),
        ("processes", "4 processes"): replace(base, processes=4),
        ("distance", "20 ms round trip"): replace(base, processes=1, lanes=10, mails=3_000, rtt_ms=20.0),
        ("distance", "100 ms round trip"): replace(base, processes=1, lanes=10, mails=700, rtt_ms=100.0),
    }
    found = [
        Comparison(name, simulate(setting).per_second(setting.mails), measured[part, name])
        for (part, name), setting in settings.items()
        if (part, name) in measured
    ]
    if "measured_seconds" in report.costs:
        readers, seconds = report.costs["measured_readers"], report.costs["measured_seconds"]
        cut = readers * report.costs["cut_us"] / 1e6
        rate = simulate(base).per_second(base.mails)
        found.append(Comparison(f"{readers:,.0f} readers", readers / (cut + readers / rate), readers / seconds))
    return found


def machine_rate(costs: dict[str, float], site: planning.Site, lanes: int, factor: float = 1.0) -> float:
    """Mails a second of one worker machine of this site, with so many lanes for each of its processes.

    `factor` is the friction of the machine that the costs were measured on.
    """
    setting = Setting(
        mails=max(20_000, lanes * site.cores * 4),
        processes=site.cores,
        lanes=lanes,
        worker_us=costs["worker_us"],
        database_us=costs["database_us"],
        rtt_ms=site.relay_rtt_ms,
        relay_ms=site.relay_ms,
        relay_us=0.0,
        database_rtt_ms=site.database_rtt_ms,
        cores=site.cores,
        database_cores=site.database_cores,
    )
    network = site.gigabits * 1e9 / 8 / planning.MAIL_BYTES
    return min(simulate(setting.slowed(factor)).per_second(setting.mails), network)


def text_of(report: Report) -> str:
    """Everything that the simulation says, in Markdown."""
    lines = ["| run | foretold, mails/s | measured, mails/s | off by |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {each.name} | {readable(each.foretold)} | {readable(each.measured)} | {each.off:+.0f} % |"
        for each in comparisons(report)
    ]
    site = planning.Site()
    factor = friction(report.costs)
    rates = {lanes: machine_rate(report.costs, site, lanes, factor) for lanes in planning.LANES}
    plans = [planning.plan(report.costs, site, rates, goal, friction=factor) for goal in planning.GOALS]
    learnt = f"Learnt from the run with two worker processes: everything takes {factor:.2f} times its CPU time."
    said = planning.assumptions(report.costs, site, rates)
    return "\n".join([*lines, "", learnt, "", planning.table(plans), "", said])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--figures", type=Path, default=ROOT / "docs" / "performance.json", help="what was measured")
    parser.add_argument("--write-docs", action="store_true", help="put the result into docs/performance.md")
    arguments = parser.parse_args()
    report = Report.load(arguments.figures)
    if missing := [name for name in planning.NEEDED if name not in report.costs]:
        print(f"{arguments.figures} lacks {', '.join(missing)}: run `make bench` first.", file=sys.stderr)
        return 1
    text = text_of(report)
    print(text)
    if arguments.write_docs:
        document = ROOT / "docs" / "performance.md"
        document.write_text(filled(document.read_text(), text, BEGIN, END))
    return 0


if __name__ == "__main__":
    sys.exit(main())
