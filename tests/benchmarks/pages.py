"""The page of a story with thirty updates: how much of it travels, and how long it takes."""

from __future__ import annotations

import asyncio
import http.client
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice

from dispatcher import db, publishing, stories
from dispatcher.nudges import Bell
from dispatcher.samples import sample_story
from tests.benchmarks.figures import Aim, Figure
from tests.benchmarks.installation import Installation, installation
from tests.benchmarks.plan import Found, Plan
from tests.benchmarks.programs import own_sink

UPDATES = 30
GETS = 200
SIZE_TARGET = 40.0
TIME_TARGET = 100.0
KB = 1024
_PARTS = re.compile(rb'<(?:script src|link rel="stylesheet" href)="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Page:
    """A page as a browser gets it. Sizes are bytes, not compressed."""

    html: int
    parts: int  #: stylesheets and scripts
    times: tuple[float, ...]  #: of each time it was asked for, in seconds, to the last byte


def pages(plan: Plan) -> Found:
    """The page for readers, asked for again and again over one connection."""
    found: list[Page] = []
    with own_sink() as sink, installation(sink.port, web=True) as box:
        path = asyncio.run(publish(box))
        for run in plan.each_run():
            plan.note(f"{GETS} times the page of a story, run {run}")
            found.append(fetch(box.port, path, GETS))
    return Found(list(_figures(found)))


async def publish(box: Installation) -> str:
    """A story with so many updates, and its address: those of the sample story, over and over, its longest last."""
    sample = sample_story()
    *short, long = sample.updates
    bell = Bell(box.settings.broker_url)
    async with box.bench(), db.Database(box.settings.database_url, size=1) as database:
        await stories.create(database, sample.slug, headline=sample.headline, summary=sample.summary)
        for draft in (*islice(cycle(short), UPDATES - 1), long):
            await publishing.publish(database, bell, sample.slug, draft, by="bench")
    return f"/s/{sample.slug}"


def fetch(port: int, path: str, times: int) -> Page:
    """Get a page so many times, and everything that it needs once. Raises `RuntimeError` if it is not whole."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        html = _get(connection, path)
        if html.count(b'<li id="u') != UPDATES:
            raise RuntimeError(f"the page shows {html.count(b'<li id=')} updates")
        taken: list[float] = []
        for _ in range(times):
            began = time.perf_counter()
            _get(connection, path, encoding="gzip")  # as browsers take it
            taken.append(time.perf_counter() - began)
        needs = [name.decode() for name in _PARTS.findall(html)]
        parts = sum(len(_get(connection, name)) for name in needs)
    finally:
        connection.close()
    return Page(len(html), parts, tuple(taken))


def _get(connection: http.client.HTTPConnection, path: str, *, encoding: str = "identity") -> bytes:
    connection.request("GET", path, headers={"Accept-Language": "en", "Accept-Encoding": encoding})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status}")
    return body


def _figures(found: list[Page]) -> Iterator[Figure]:
    name = f"{UPDATES} updates"
    yield _size(f"{name}, HTML", [each.html for each in found], SIZE_TARGET)
    yield _size(f"{name}, with stylesheet and scripts", [each.html + each.parts for each in found])
    for percentile, share in (("p50", 0.5), ("p99", 0.99)):
        aims = percentile == "p99"
        yield Figure(
            part="pages",
            name=f"{name}, {percentile} of {GETS}",
            unit="ms",
            ours=[sorted(each.times)[int(len(each.times) * share)] * 1000 for each in found],
            aim=Aim.AT_MOST if aims else None,
            target=TIME_TARGET if aims else None,
        )


def _size(name: str, sizes: list[int], target: float | None = None) -> Figure:
    ours = [size / KB for size in sizes]
    return Figure(part="pages", name=name, unit="KB", ours=ours, aim=Aim.AT_MOST if target else None, target=target)
