"""What 10, 100 and 1,000 million readers need: machines, disks, relays and lanes, from the measured costs of a mail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.figures import readable

#: What the plan cannot do without, in the figures of the benchmark.
NEEDED = (
    *("worker_us", "database_us", "wal_bytes", "ledger_bytes", "cut_us", "import_us", "first_ms"),
    "two_processes_per_second",
)
MAIL_BYTES = 20 * 1024
#: Lanes of a process that are tried, the fewest that do being taken.
LANES = (10, 32, 64, 128, 200)
GOOD_ENOUGH = 0.95  #: of what the most lanes reach
#: How busy machines are planned to be, and how many there are beyond that, so that the loss of one is no trouble.
USE = 0.7
SPARE = 1
#: The share of the time that may pass before the audience is frozen.
MOST_CUT = 0.2
#: Readers whose ledger rows lie well in one partition: a few GB, which a vacuum gets through in minutes.
PARTITION_ROWS = 50_000_000
MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the machines are like. None of this was measured: put in what yours are."""

    cores: int = 8  #: of a worker machine, each with a worker process
    database_cores: int = 32  #: of one PostgreSQL server
    database_rtt_ms: float = 0.5
    database_wal_mb: float = 400.0  #: that its disks take a second, for as long as it lasts
    gigabits: float = 10.0  #: that a worker machine's network takes a second
    relay_rtt_ms: float = 2.0
    relay_ms: float = 10.0  #: until a relay has a mail safe on its disk
    relay_per_second: float = 2_000.0  #: mails that one relay takes


@dataclass(frozen=True)
class Goal:
    """So many readers within so many minutes."""

    readers: int
    minutes: float


GOALS = (Goal(10 * MILLION, 15), Goal(100 * MILLION, 30), Goal(1_000 * MILLION, 60))


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a goal takes."""

    goal: Goal
    per_second: float
    lanes: int  #: of each process
    machines: int
    databases: int
    limit: str  #: what says how many databases there must be
    relays: int
    all_lanes: int
    gigabits: float
    wal_mb: float  #: a second, of all databases
    ledger_gb: float
    partitions: int
    cut_seconds: float
    import_minutes: float
    last_minutes: float


def plan(costs: dict[str, float], site: Site, rates: dict[int, float], goal: Goal, *, friction: float = 1.0) -> Needs:
    """What `goal` takes.

    `rates`: mails a second of one worker machine by the lanes of its processes. `friction`: by what CPU times have to
    be multiplied, see the simulation.
    """
    best = max(rates.values())
    lanes = min(count for count, rate in rates.items() if rate >= GOOD_ENOUGH * best)
    # Each database cuts its own share of the audience, which one statement does on one processor.
    databases, limit = 1, ""
    while True:
        cut = goal.readers / databases * costs["cut_us"] / 1e6
        seconds = goal.minutes * 60 - cut - costs["first_ms"] / 1000
        rate = goal.readers / seconds if seconds > 0 else math.inf
        needed = {
            "processors": rate * costs["database_us"] * friction / 1e6 / (site.database_cores * USE),
            "log": rate * costs["wal_bytes"] / 1e6 / (site.database_wal_mb * USE),
            "freezing the audience": cut * databases / (goal.minutes * 60 * MOST_CUT),
        }
        most = max(needed.values())
        if seconds > 0 and most <= databases:
            limit = max(needed, key=lambda name: needed[name])
            break
        databases += 1
    per_second = goal.readers / seconds
    machines = math.ceil(per_second / (rates[lanes] * USE)) + SPARE
    return Needs(
        goal=goal,
        per_second=per_second,
        lanes=lanes,
        machines=machines,
        databases=databases,
        limit=limit,
        relays=math.ceil(per_second / (site.relay_per_second * USE)) + SPARE,
        all_lanes=machines * site.cores * lanes,
        gigabits=per_second * MAIL_BYTES * 8 / 1e9,
        wal_mb=per_second * costs["wal_bytes"] / 1e6,
        ledger_gb=goal.readers * costs["ledger_bytes"] / 1e9,
        partitions=math.ceil(goal.readers / PARTITION_ROWS),
        cut_seconds=cut,
        import_minutes=goal.readers / databases * costs["import_us"] / 6e7,
        last_minutes=(cut + costs["first_ms"] / 1000 + goal.readers / per_second) / 60,
    )


def table(plans: Sequence[Needs]) -> str:
    """The plans side by side, in Markdown."""
    rows: list[tuple[str, list[str]]] = [
        ("mails a second", [readable(each.per_second) for each in plans]),
        ("worker machines", [f"{each.machines:,}" for each in plans]),
        ("lanes of each process, of all", [f"{each.lanes}, {each.all_lanes:,}" for each in plans]),
        ("relays", [f"{each.relays:,}" for each in plans]),
        ("network, Gbit/s", [readable(each.gigabits) for each in plans]),
        ("PostgreSQL servers, because of", [_databases(each) for each in plans]),
        ("log of all servers, MB/s", [readable(each.wal_mb) for each in plans]),
        ("ledger of one blast, GB", [readable(each.ledger_gb) for each in plans]),
        ("partitions of the ledger for it", [f"{each.partitions}" for each in plans]),
        ("freezing the audience, s", [readable(each.cut_seconds) for each in plans]),
        ("importing the readers once, min", [readable(each.import_minutes) for each in plans]),
        ("button to last acceptance, min", [readable(each.last_minutes) for each in plans]),
    ]
    head = ["readers", *(f"{each.goal.readers // MILLION:,} million in {each.goal.minutes:g} min" for each in plans)]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join([name, *values]) + " |" for name, values in rows)])


def _databases(needs: Needs) -> str:
    return f"{needs.databases}, {needs.limit}" if needs.databases > 1 else "1"


def assumptions(costs: dict[str, float], site: Site, rates: dict[int, float]) -> str:
    """What the plan rests on, the measured and the assumed apart."""
    speeds = ", ".join(f"{readable(rate)}/s with {lanes}" for lanes, rate in rates.items())
    return (
        f"Measured for one mail of 20 KB: {readable(costs['worker_us'])} µs CPU in the workers, "
        f"{readable(costs['database_us'])} µs in the database, {readable(costs['wal_bytes'])} bytes of its log, "
        f"{readable(costs['ledger_bytes'])} bytes of ledger; "
        f"freezing the audience {costs['cut_us']:.2f} µs and importing {readable(costs['import_us'])} µs a reader.\n\n"
        f"Simulated: one worker machine with {site.cores} processors reaches, by the lanes of each process, "
        f"{speeds}.\n\n"
        f"Assumed: {site.gigabits:g} Gbit/s of network for each worker machine; "
        f"a PostgreSQL server with {site.database_cores} processors whose disks take "
        f"{readable(site.database_wal_mb)} MB of log a second, {site.database_rtt_ms:g} ms away; relays "
        f"{site.relay_rtt_ms:g} ms away that need {site.relay_ms:g} ms for a mail and take "
        f"{readable(site.relay_per_second)} a second each; no machine more than {USE:.0%} busy, "
        f"and {SPARE} of each kind to spare."
    )
