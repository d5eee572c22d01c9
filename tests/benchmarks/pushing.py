"""Web pushes: encrypted, accepted by a push service on this machine and in the ledger, beside the usual library."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import http_ece

from dispatcher import db, publishing
from dispatcher.benchmarking import Result, Running
from dispatcher.model import Draft
from dispatcher.nudges import Bell
from tests.benchmarks.figures import Aim, Figure
from tests.benchmarks.installation import Installation, installation
from tests.benchmarks.plan import Found, Plan
from tests.benchmarks.programs import Sink, output_of, own_sink, push_sink
from tests.support.push_service import CREATED, Device

DEVICES = (30_000, 10_000)
#: Pushes of the library, with a connection for each and with one for all.
PYWEBPUSH = (2_000, 500)
#: Devices share keys, or making them would take longer than the benchmark.
KEYS = 300
TARGET = 3_000.0
TIMES_PYWEBPUSH = 5.0
SLUG = "benchmark"
DRAFT = Draft(
    headline="Water over the wall: everyone below Linden Weir should go uphill now",
    summary="Water is coming over the east side of the wall. Walk to higher ground; do not drive.",
    body="Water has been running over the east side of the dam since **23:40**.",
)
#: Browsers that follow by themselves, with endpoints as long as those of real push services.
FOLLOW = """
WITH story AS (
    INSERT INTO stories (slug, headline) VALUES (%(slug)s, 'Benchmark') RETURNING id
), readers AS (
    INSERT INTO subscribers (name) SELECT '' FROM generate_series(1, %(devices)s) RETURNING id
), followed AS (
    INSERT INTO subscriptions (story_id, subscriber_id, channels, confirmed_at)
    SELECT story.id, readers.id, '{webpush}', clock_timestamp() FROM story, readers
), named AS (
    SELECT id, id %% cardinality(%(keys)s::bytea[]) AS number FROM readers
)
INSERT INTO devices (subscriber_id, endpoint, endpoint_hash, public_key, auth_secret, name)
SELECT id, %(origin)s || '/push/' || number || '/' || repeat(md5(id::text), 5), sha256(id::text::bytea),
       (%(keys)s::bytea[])[number + 1], (%(secrets)s::bytea[])[number + 1], 'Firefox on Linux'
FROM named
"""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What one blast of pushes has come to."""

    result: Result
    payload_bytes: int  #: that one device reads
    body_bytes: int  #: of one encrypted push


def pushes(plan: Plan) -> Found:
    """One update to many browsers by two worker processes, and the library in a loop, in turn."""
    devices = plan.pick(*DEVICES)
    ours: list[Pushed] = []
    theirs: defaultdict[str, list[float]] = defaultdict(list)
    for run in plan.each_run():
        plan.note(f"{devices:,} pushes, run {run}")
        with push_sink() as service:
            ours.append(blast(service, devices))
            for rival, per_second in _rivals(service, plan.pick(*PYWEBPUSH), ours[-1].payload_bytes):
                theirs[rival].append(per_second)
    return Found(list(_figures(devices, ours, theirs)))


def blast(service: Sink, devices: int) -> Pushed:
    """Push to so many devices of a new installation, and open a sample of what came.

    Raises `RuntimeError` if one is missing or there is one too many, and `http_ece.ECEException` if one cannot be read.
    """
    keys = [Device("", lambda _: CREATED) for _ in range(KEYS)]
    origin = f"http://127.0.0.1:{service.port}"
    before = service.taken()
    with own_sink() as relay, installation(relay.port, settings={"PUSH_SERVICES": origin}) as box:
        result = asyncio.run(_blast(box, origin, devices, keys))
    if not result.accepted == service.taken() - before == devices:
        raise RuntimeError(f"{devices} devices, {service.taken() - before} pushes, {result.accepted} accepted")
    payloads = [(opened(each, keys), len(base64.b64decode(each["body"]))) for each in samples(service.port)]
    return Pushed(result, *payloads[-1])


async def _blast(box: Installation, origin: str, devices: int, keys: list[Device]) -> Result:
    async with db.Database(box.settings.database_url, size=2) as database:
        async with database.connection() as connection:
            await connection.raw.execute(
                FOLLOW,
                {
                    "slug": SLUG,
                    "devices": devices,
                    "origin": origin,
                    "keys": [key.public_key for key in keys],
                    "secrets": [key.auth_secret for key in keys],
                },
            )
            await connection.raw.execute("ANALYZE subscribers, subscriptions, devices")
        async with box.bench() as bench:
            async with database.connection() as connection:
                before = await connection.one("bench_sizes") or {}
            used = box.used()
            bell = Bell(box.settings.broker_url)
            published = await publishing.publish(database, bell, SLUG, DRAFT, by="bench")
            _, pushed = published.blast_ids
            return await bench.finish(Running(pushed, 0, 0.0, before["wal"], before["ledger"], used))


def samples(port: int) -> list[dict[str, Any]]:
    """The pushes that a push service of ours has kept."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/samples")
        kept: list[dict[str, Any]] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return kept


def opened(sample: dict[str, Any], keys: list[Device]) -> int:
    """How many bytes the device reads: decrypted with the keys that its path names, and found to be our update."""
    key = keys[int(sample["path"].split("/")[2])]
    body = base64.b64decode(sample["body"])
    text: bytes = http_ece.decrypt(body, private_key=key.private_key, auth_secret=key.auth_secret, version="aes128gcm")
    said = json.loads(text)
    if not said["title"].endswith(DRAFT.headline) or not sample["headers"]["authorization"].startswith("vapid t="):
        raise RuntimeError(f"a push says something else: {said}")
    return len(text)


def _rivals(service: Sink, count: int, size: int) -> Iterator[tuple[str, float]]:
    arguments = ("--port", str(service.port), "--pushes", str(count), "--bytes", str(size))
    for rival, options in (("pywebpush in a loop", ()), ("the same, one connection", ("--keep",))):
        before = service.taken()
        result = output_of("tests.benchmarks.pywebpush_program", *arguments, *options)
        if service.taken() - before != count:
            raise RuntimeError(f"{rival}: {count} pushes, and {service.taken() - before} arrived")
        yield rival, float(result["per_second"])


def _figures(devices: int, ours: list[Pushed], theirs: dict[str, list[float]]) -> Iterator[Figure]:
    name = f"{devices:,} devices"
    speeds = [_speed(each) for each in ours]
    yield Figure(part="pushes", name=f"{name}, accepted", unit="pushes/s", ours=speeds, aim=Aim.AT_LEAST, target=TARGET)
    for number, (rival, speed) in enumerate(theirs.items()):
        yield Figure(
            part="pushes",
            name=name,
            unit="pushes/s",
            ours=speeds,
            rival=rival,
            theirs=speed,
            aim=None if number else Aim.RATIO_AT_LEAST,
            target=None if number else TIMES_PYWEBPUSH,
        )
    for measure, unit, values in (
        ("CPU of all workers a push", "µs", [each.result.cpu_us("worker", "urgent") for each in ours]),
        ("CPU of the database a push", "µs", [each.result.cpu_us("postgres") for each in ours]),
        ("largest worker process", "MB", [each.result.peak_rss_mb for each in ours]),
        ("until the first is accepted", "ms", [each.result.report.first_ms for each in ours]),
        ("until the last is accepted", "ms", [each.result.report.last_ms for each in ours]),
        ("read by a device", "bytes", [each.payload_bytes for each in ours]),
        ("one push, encrypted", "bytes", [each.body_bytes for each in ours]),
    ):
        yield Figure(
            part="pushes",
            name=f"{name}, {measure}",
            unit=unit,
            ours=[float(each) for each in values if each is not None],
        )


def _speed(pushed: Pushed) -> float:
    return float(str(pushed.result.report.as_json()["per_second"]))
