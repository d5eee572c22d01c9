"""(c) and (d): from the button to the first, the middle and the last reader; alone, and during a bulk blast."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack
from dataclasses import dataclass

from dispatcher.benchmarking import Audience, Bench, Result
from dispatcher.model import Importance
from tests.benchmarks import rivals
from tests.benchmarks.figures import Aim, Figure
from tests.benchmarks.installation import Installation, installation
from tests.benchmarks.plan import Found, Plan
from tests.benchmarks.programs import found, own_sink

AUDIENCES = (1, 100, 1_000, 10_000)
#: Seconds without a blast before one counts as coming to an idle machine: lanes are closed by then.
IDLE = 72.0
QUICK_AUDIENCES = (1, 1_000)
TARGETS = {"first": 100.0, "last": 500.0}
TARGET_AUDIENCE = 1_000
TIMES = ("first", "p50", "p99", "last")

BULK = 100_000
BREAKING = 1_000
BLASTS = 3  #: breaking ones before, and as many during the bulk blast
MORE_AT_MOST = 1_000.0
#: The bulk blast counts as running once this share of its readers is through.
UNDER_WAY = 0.05


@dataclass
class _Room:
    """An installation of its own for each audience, so that all of them idle at the same time."""

    bench: Bench
    audience: Audience
    idle_since: float

    async def alert(self) -> Result:
        running = await self.bench.publish(self.audience, size_kb=20, importance=Importance.BREAKING)
        result = await self.bench.finish(running)
        self.idle_since = time.monotonic()
        if result.accepted != self.audience.readers:
            raise RuntimeError(f"{self.audience.readers} readers, and {result.accepted} mails were accepted")
        return result


def latency(plan: Plan) -> Found:
    """Breaking news to 1 to 10,000 readers, on installations that idle and right after another blast."""
    audiences = QUICK_AUDIENCES if plan.quick else AUDIENCES
    with ExitStack() as held:
        sink = held.enter_context(own_sink())
        plan.note(f"starting {len(audiences)} installations")
        boxes = [held.enter_context(installation(sink.port)) for _ in audiences]
        cold, warm = asyncio.run(_alerts(plan, boxes, audiences))
        alone = {
            size: [size / rivals.smtp_source(sink.port, size, 20) * 1000 for _ in range(plan.runs)]
            for size in audiences
            if found("smtp-source")
        }
    figures: list[Figure] = []
    for state, results in (("idle", cold), ("warm lanes", warm)):
        for size in audiences:
            figures += _figures(state, size, results[size], alone.get(size, []))
    last = warm[TARGET_AUDIENCE]
    return Found(figures, {"first_ms": _median_of(last, "first"), "thousand_ms": _median_of(last, "last")})


async def _alerts(
    plan: Plan, boxes: Sequence[Installation], audiences: Sequence[int]
) -> tuple[dict[int, list[Result]], dict[int, list[Result]]]:
    cold: dict[int, list[Result]] = {size: [] for size in audiences}
    warm: dict[int, list[Result]] = {size: [] for size in audiences}
    async with AsyncExitStack() as opened:
        rooms: list[_Room] = []
        for box, size in zip(boxes, audiences, strict=True):
            bench = await opened.enter_async_context(box.bench())
            room = _Room(bench, await bench.audience(size), time.monotonic())
            await room.alert()  # the first blast of a process compiles templates and the like: another matter
            rooms.append(room)
        for run in plan.each_run():
            plan.note(f"idle until lanes are closed, run {run}")
            for room in rooms:
                await asyncio.sleep(max(room.idle_since + IDLE - time.monotonic(), 0))
                cold[room.audience.readers].append(await room.alert())
            for room in rooms:
                warm[room.audience.readers].append(await room.alert())
    return cold, warm


def _figures(state: str, size: int, results: list[Result], alone: Sequence[float]) -> list[Figure]:
    found_here = []
    for name in TIMES:
        target = TARGETS.get(name) if size == TARGET_AUDIENCE and state == "idle" else None
        beside = name == "last" and alone
        found_here.append(
            Figure(
                part="latency",
                name=f"{size:,} reader{'s' if size > 1 else ''}, {state}: {name}",
                unit="ms",
                ours=[_time(each, name) for each in results],
                rival="smtp-source, whole run" if beside else "",
                theirs=alone if beside else (),
                aim=Aim.AT_MOST if target else None,
                target=target,
            )
        )
    return found_here


def overtaking(plan: Plan) -> Found:
    """Breaking news to 1,000 readers: alone, and while a newsletter goes to 100,000."""
    bulk_size = plan.pick(BULK, 40_000)
    with own_sink() as sink, installation(sink.port) as box:
        plan.note(f"breaking news while {bulk_size:,} mails go out")
        alone, during = asyncio.run(_overtake(box.bench(), bulk_size))
    figures = [
        Figure(
            part="overtaking",
            name=f"{BREAKING:,} readers during {bulk_size:,}: {name}",
            unit="ms",
            ours=[_time(each, name) for each in during],
            rival="on an idle machine",
            theirs=[_time(each, name) for each in alone],
            aim=Aim.MORE_AT_MOST if name == "last" else None,
            target=MORE_AT_MOST if name == "last" else None,
        )
        for name in ("first", "last")
    ]
    return Found(figures)


async def _overtake(opening: AbstractAsyncContextManager[Bench], bulk_size: int) -> tuple[list[Result], list[Result]]:
    async with opening as bench:
        newsletter = await bench.audience(bulk_size)
        room = _Room(bench, await bench.audience(BREAKING), time.monotonic())
        await room.alert()
        alone = [await room.alert() for _ in range(BLASTS)]
        bulk = await bench.publish(newsletter, size_kb=20)
        while await bench.progress(bulk) < bulk_size * UNDER_WAY:
            await asyncio.sleep(0.1)
        during = [await room.alert() for _ in range(BLASTS)]
        if await bench.progress(bulk) >= bulk_size:
            raise RuntimeError("the bulk blast was over before the last breaking one: this measured nothing")
        await bench.finish(bulk)
    return alone, during


def _time(result: Result, name: str) -> float:
    return float(str(result.report.as_json()[f"{name}_ms"]))


def _median_of(results: Sequence[Result], name: str) -> float:
    times = sorted(_time(each, name) for each in results)
    return times[len(times) // 2]
