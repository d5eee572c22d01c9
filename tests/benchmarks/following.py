"""Readers who follow a story, all at once: the whole installation runs, and each of them gets a mail to confirm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dispatcher import db, stories
from dispatcher.benchmarking import Use
from tests.benchmarks.figures import Aim, Figure
from tests.benchmarks.installation import Installation, installation
from tests.benchmarks.plan import Found, Plan
from tests.benchmarks.programs import Sink, output_of, own_sink

SLUG = "benchmark"
#: A proxy tells who asks, so that the limit of each client is there and nobody meets it; the brake for all is wide.
SETTINGS = {"TRUSTED_PROXIES": "127.0.0.1", "BRAKE": "1000000"}
WARM_UP = 500
#: Asks a second that come whether or not those before have been answered, and for how many seconds.
RATE = 500
SECONDS = (12, 4)
#: Connections of the proxy then; they never limit.
CONNECTIONS = 128
#: Asks that come as fast as they are answered, over so many connections.
MOST = (8_000, 2_000)
LANES = 32
TARGET = 500.0
P99_TARGET = 150.0
#: Seconds that the last mails may take.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Rush:
    """What one rush of readers has come to."""

    told: dict[str, Any]  #: what `form_load` printed
    mails_ms: float  #: from the last answer to the last mail that a relay accepted
    used: dict[str, float]  #: CPU seconds by part

    def cpu_us(self, *parts: str) -> float:
        """CPU time for each ask, in µs, of the parts whose names begin so."""
        seconds = sum(used for part, used in self.used.items() if part.startswith(parts))
        return seconds / float(self.told["well"]) * 1e6


def following(plan: Plan) -> Found:
    """As many asks as can be, then `RATE` a second; after each rush every mail has to have arrived."""
    most: list[Rush] = []
    steady: list[Rush] = []
    with own_sink() as sink, site(sink) as box:
        asyncio.run(story(box))
        crowd = Crowd(box, sink)
        crowd.rush(WARM_UP)
        for run in plan.each_run():
            plan.note(f"as many asks as can be, run {run}")
            most.append(crowd.rush(plan.pick(*MOST), "--connections", str(LANES)))
            plan.note(f"{RATE} asks a second, run {run}")
            asks = RATE * plan.pick(*SECONDS)
            steady.append(crowd.rush(asks, "--rate", str(RATE), "--connections", str(CONNECTIONS)))
        asyncio.run(check_mails(box, crowd.asks))
    return Found(list(_figures(most, steady)))


class Crowd:
    """Readers who come in rushes, each with an address and a client of their own."""

    def __init__(self, box: Installation, sink: Sink) -> None:
        self._box = box
        self._sink = sink
        self.asks = 0  #: so far

    def rush(self, asks: int, *options: str) -> Rush:
        """Let so many ask, and wait for their mails. Raises `RuntimeError` if an answer or a mail is not as it must."""
        before = self._box.used()
        arguments = ("--port", str(self._box.port), "--slug", SLUG, "--asks", str(asks), "--first", str(self.asks))
        told = output_of("tests.benchmarks.form_load", *arguments, *options)
        self.asks += asks
        if told["well"] != asks:
            raise RuntimeError(f"{asks} asks, and {told['well']} were answered well; the others: {told['others']}")
        waited = self._until_mailed()
        return Rush(told, waited * 1000, _difference(before, self._box.used()))

    def _until_mailed(self) -> float:
        began = time.monotonic()
        while self._sink.taken() < self.asks:
            if time.monotonic() - began > PATIENCE:
                raise RuntimeError(f"{self.asks} asks, and {self._sink.taken()} mails")
            time.sleep(0.005)
        return time.monotonic() - began


def site(sink: Sink) -> Any:
    """A whole installation with pages, whose mail goes to `sink`."""
    return installation(sink.port, web=True, settings=SETTINGS)


async def story(box: Installation) -> None:
    """Make the story that everybody wants to follow, once all workers are up."""
    async with box.bench(), db.Database(box.settings.database_url, size=1) as database:
        await stories.create(database, SLUG, headline="Benchmark")


async def check_mails(box: Installation, asks: int) -> None:
    """Nothing is lost and nobody gets two: a confirmation for each ask, each to another address, each accepted.

    Raises `RuntimeError`. The ledger may be a moment behind the relay.
    """
    deadline = time.monotonic() + PATIENCE
    async with db.Database(box.settings.database_url, size=1) as database:
        while True:
            async with database.connection() as connection:
                cursor = await connection.raw.execute(
                    "SELECT kind, state, count(*) AS mails, count(DISTINCT address_hash) AS addresses FROM notices"
                    " GROUP BY kind, state"
                )
                rows = await cursor.fetchall()
            if rows == [{"kind": "confirm", "state": "accepted", "mails": asks, "addresses": asks}]:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{asks} asks, and these mails: {rows}")
            await asyncio.sleep(0.1)


def _difference(before: Sequence[Use], after: Sequence[Use]) -> dict[str, float]:
    found: dict[str, float] = {}
    for sign, uses in ((-1, before), (1, after)):
        for use in uses:
            found[use.part] = found.get(use.part, 0.0) + sign * use.cpu_seconds
    return found


def _figures(most: list[Rush], steady: list[Rush]) -> Iterator[Figure]:
    def figure(
        name: str, unit: str, rushes: list[Rush], key: str, aim: Aim | None = None, target: float | None = None
    ) -> Figure:
        ours = [float(each.told[key]) for each in rushes]
        return Figure(part="following", name=name, unit=unit, ours=ours, aim=aim, target=target)

    yield figure("as many asks as can be", "asks/s", most, "per_second", Aim.AT_LEAST, TARGET)
    for percentile in ("p50", "p99", "p999"):
        yield figure(f"as many asks as can be: {_named(percentile)}", "ms", most, f"{percentile}_ms")
    for percentile in ("p50", "p99", "p999"):
        aims = percentile == "p99"
        yield figure(
            f"{RATE} asks a second: {_named(percentile)}",
            "ms",
            steady,
            f"{percentile}_ms",
            Aim.AT_MOST if aims else None,
            P99_TARGET if aims else None,
        )
    for name, rushes in (("as many asks as can be", most), (f"{RATE} asks a second", steady)):
        yield Figure(
            part="following",
            name=f"{name}: from the last answer to the last mail accepted",
            unit="ms",
            ours=[each.mails_ms for each in rushes],
        )
        for part, parts in (("pages", ("web",)), ("workers", ("worker", "urgent")), ("database", ("postgres",))):
            ours = [each.cpu_us(*parts) for each in rushes]
            yield Figure(part="following", name=f"{name}: CPU of the {part} an ask", unit="µs", ours=ours)


def _named(percentile: str) -> str:
    return "p99.9" if percentile == "p999" else percentile
