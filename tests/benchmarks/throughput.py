"""(a) and (g): mails a second at three sizes and with several worker processes, beside everybody else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from statistics import median
from typing import Any

from tests.benchmarks import raw, rivals
from tests.benchmarks.figures import Aim, Figure
from tests.benchmarks.installation import LANES, PROCESSES, bench
from tests.benchmarks.plan import Found, Plan
from tests.benchmarks.programs import Sink, found, own_sink

#: Mails of each size in one run, and in a quick one.
MAILS = {2: (50_000, 10_000), 20: (50_000, 10_000), 100: (10_000, 3_000)}
RIVALS_MAILS = (1_000, 300)  #: of the usual Celery program, which is slow
RAW_MAILS = 2  #: times as many: it is through too soon to be measured otherwise
#: The least that we want to be, by size: times smtp-source, times the raw client, times the usual program.
TARGETS: dict[int, dict[str, float]] = {
    2: {"smtp-source": 1.0, "raw client": 0.7},
    20: {"smtp-source": 1.2, "raw client": 0.8, "Celery program": 15},
}
CPU_TARGET = 100.0
#: Worker processes, and processes of the raw client. smtp-sink fills a processor by itself: with two of ours beside it,
#: it gets less than one, and everybody is slower.
SENDERS = {"own sink": PROCESSES, "smtp-sink": 1}


def throughput(plan: Plan) -> Found:
    """Every size into our own sink, and 20 and 2 KB into Postfix's; a quick run leaves out what has no target."""
    sinks: list[tuple[str, tuple[int, ...]]] = [("own sink", (20, 2) if plan.quick else (20, 2, 100))]
    if found("smtp-sink"):
        sinks.append(("smtp-sink", (20,) if plan.quick else (20, 2)))
    result = Found()
    for sink, sizes in sinks:
        for size in sizes:
            ours, theirs = _runs(plan, sink, size)
            result.figures += _figures(sink, size, ours, theirs)
            if (sink, size) == ("own sink", 20):
                result.costs |= costs_of(ours)
    return result


def processes(plan: Plan) -> Found:
    """1, 2 and 4 worker processes, beside the raw client with as many; a quick run leaves out 4."""
    mails = plan.pick(20_000, 5_000)
    result = Found()
    for count in (1, 2) if plan.quick else (1, 2, 4):
        ours, theirs = [], []
        for run in plan.each_run():
            plan.note(f"{count} worker processes, run {run}")
            with own_sink() as sink:
                ours.append(bench(sink.port, mails, size_kb=20, processes=count)["per_second"])
                theirs.append(raw.send(sink.port, mails, size_kb=20, processes=count, lanes=LANES)["per_second"])
        if count == PROCESSES:
            result.costs["two_processes_per_second"] = median(ours)
        name = f"{count} process{'es' if count > 1 else ''}"
        result.figures.append(
            Figure(part="processes", name=name, unit="mails/s", ours=ours, rival="raw client", theirs=theirs)
        )
    return result


def costs_of(runs: list[dict[str, Any]]) -> dict[str, float]:
    """What one mail of 20 KB costs, for the simulation: the medians of these runs."""
    names = {
        "worker_us": "cpu_us_per_message",
        "database_us": "database_cpu_us_per_message",
        "wal_bytes": "wal_bytes_per_message",
        "ledger_bytes": "ledger_bytes_per_message",
    }
    return {name: median(float(each[key]) for each in runs) for name, key in names.items()}


def _runs(plan: Plan, sink: str, size: int) -> tuple[list[dict[str, Any]], dict[str, list[float]]]:
    mails = plan.pick(*MAILS[size])
    ours: list[dict[str, Any]] = []
    theirs: defaultdict[str, list[float]] = defaultdict(list)
    for run in plan.each_run():
        plan.note(f"{size} KB into {sink}, run {run}")
        with _sink(sink) as target:
            ours.append(bench(target.port, mails, size_kb=size, processes=SENDERS[sink]))
            if target.counts is not None and target.taken() != mails:
                raise RuntimeError(f"{mails} mails were sent, and {target.taken()} arrived")
            for rival, per_second in _rivals(plan, target, mails, size, SENDERS[sink]):
                theirs[rival].append(per_second)
    return ours, theirs


def _rivals(plan: Plan, sink: Sink, mails: int, size: int, senders: int) -> Iterator[tuple[str, float]]:
    if found("smtp-source"):
        yield "smtp-source", rivals.smtp_source(sink.port, mails, size)
    sent = raw.send(sink.port, mails * RAW_MAILS, size_kb=size, processes=senders, lanes=LANES)
    yield "raw client", sent["per_second"]
    if sink.counts is not None:
        yield "Celery program", rivals.usual_program(sink, plan.pick(*RIVALS_MAILS), size)


def _figures(sink: str, size: int, ours: list[dict[str, Any]], theirs: dict[str, list[float]]) -> Iterator[Figure]:
    name = f"{size} KB, {sink}"
    speeds = [float(each["per_second"]) for each in ours]
    for rival, speed in theirs.items():
        target = TARGETS.get(size, {}).get(rival)
        yield Figure(
            part="throughput",
            name=name,
            unit="mails/s",
            ours=speeds,
            rival=rival,
            theirs=speed,
            aim=Aim.RATIO_AT_LEAST if target else None,
            target=target,
        )
    yield Figure(
        part="throughput",
        name=f"{name}, CPU of all workers a mail",
        unit="µs",
        ours=[float(each["cpu_us_per_message"]) for each in ours],
        aim=Aim.AT_MOST if size == 20 else None,
        target=CPU_TARGET if size == 20 else None,
    )


def _sink(name: str) -> AbstractContextManager[Sink]:
    return rivals.smtp_sink() if name == "smtp-sink" else own_sink()
