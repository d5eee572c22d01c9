"""(b): 1,000 to 1,000,000 readers: the cost of a mail, the memory of each process, the time to freeze the audience."""

from __future__ import annotations

from statistics import median
from typing import Any

from tests.benchmarks.figures import Aim, Figure
from tests.benchmarks.installation import bench
from tests.benchmarks.plan import Found, Plan
from tests.benchmarks.programs import own_sink

SIZES = (1_000, 10_000, 100_000, 1_000_000)
QUICK_SIZES = SIZES[:-1]
#: An audience up to this is measured in every run, a larger one once: it is its own average.
MANY_RUNS_UP_TO = 10_000
COMPARED_WITH = 10_000
COST_TARGET = 1.15
MEMORY_TARGET = 120.0
CUT_TARGET = 2_000.0


def readers(plan: Plan) -> Found:
    """Every audience gets one mail of 20 KB. The costs are compared with those of 10,000 readers."""
    results: dict[int, list[dict[str, Any]]] = {}
    for size in QUICK_SIZES if plan.quick else SIZES:
        runs = plan.runs if size <= MANY_RUNS_UP_TO else 1
        for run in range(1, runs + 1):
            plan.note(f"{size:,} readers, run {run}")
            with own_sink() as sink:
                results.setdefault(size, []).append(bench(sink.port, size, size_kb=20))
                if sink.taken() != size:
                    raise RuntimeError(f"{size} readers, and {sink.taken()} mails arrived")
    return Found(_figures(results), _costs(results))


def _figures(results: dict[int, list[dict[str, Any]]]) -> list[Figure]:
    found: list[Figure] = []
    largest = max(results)
    for size, runs in results.items():
        last = size == largest
        for measure, unit, key in (
            ("time a mail", "µs", "per_second"),
            ("CPU of workers a mail", "µs", "cpu_us_per_message"),
            ("CPU of the database a mail", "µs", "database_cpu_us_per_message"),
        ):
            ours = [_value(each, key) for each in runs]
            base = median(_value(each, key) for each in results[COMPARED_WITH])
            compares = size > COMPARED_WITH
            found.append(
                Figure(
                    part="readers",
                    name=f"{size:,} readers, {measure}",
                    unit=unit,
                    ours=ours,
                    rival=f"{COMPARED_WITH:,} readers" if compares else "",
                    theirs=[base] * len(ours) if compares else (),
                    aim=Aim.RATIO_AT_MOST if last and key != "database_cpu_us_per_message" else None,
                    target=COST_TARGET if last and key != "database_cpu_us_per_message" else None,
                )
            )
        for measure, unit, key, target in (
            ("largest worker process", "MB", "peak_rss_mb", MEMORY_TARGET),
            ("until the audience is frozen", "ms", "cut_ms", CUT_TARGET),
        ):
            found.append(
                Figure(
                    part="readers",
                    name=f"{size:,} readers, {measure}",
                    unit=unit,
                    ours=[float(each[key]) for each in runs],
                    aim=Aim.AT_MOST if last else None,
                    target=target if last else None,
                )
            )
    found += _memory(largest, results[largest][-1])
    return found


def _memory(size: int, result: dict[str, Any]) -> list[Figure]:
    """The most that any process of each part has needed. PostgreSQL's count the memory that they share."""
    peaks: dict[str, float] = {}
    for process in result["processes"]:
        peaks[process["part"]] = max(peaks.get(process["part"], 0.0), process["peak_rss_mb"])
    return [
        Figure(part="readers", name=f"{size:,} readers, largest process of {part}", unit="MB", ours=[peak])
        for part, peak in peaks.items()
        if not part.startswith("worker")
    ]


def _costs(results: dict[int, list[dict[str, Any]]]) -> dict[str, float]:
    """What grows with the audience, for the simulation: taken from the largest that was measured."""
    size = max(results)
    last = results[size][-1]
    return {
        "cut_us": last["cut_ms"] * 1000 / size,
        "import_us": last["import_seconds"] * 1e6 / size,
        "ledger_bytes": last["ledger_bytes_per_message"],
        "wal_bytes": last["wal_bytes_per_message"],
        "measured_readers": float(size),
        "measured_seconds": last["seconds"],
    }


def _value(result: dict[str, Any], key: str) -> float:
    return 1e6 / result["per_second"] if key == "per_second" else float(result[key])
