"""The broker is emptied, killed, cut off or never there: readers get their mail, and the bell works again later."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pickle
import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from dispatcher.embedded.valkey import Valkey
from dispatcher.model import DeliveryState
from dispatcher.nudges import QueueName
from tests.api.serving import Site, running, settings_for
from tests.chaos.conftest import Ground, Scale
from tests.support.bells import listening
from tests.support.crowd import a_crowd
from tests.support.fleet import Fleet, Verdict, a_fleet
from tests.support.newsroom import Newsroom
from tests.support.standing import bring_back, crash

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def shared_fleet(ground: Ground) -> Iterator[Fleet]:
    """Two workers whose line to the broker can be cut."""
    with a_fleet(ground.database_url, ground.broker_url_by_line, ground.relay, ground.directory, gently=False) as fleet:
        yield fleet


async def test_an_emptied_broker_loses_nobody_and_repeats_nothing(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R3. FLUSHALL takes every nudge; the reconciler rings again."""
    crowd = await a_crowd(room, scale.readers)
    with redis.Redis(unix_socket_path=str(ground.valkey.socket)) as broker:
        published = await crowd.publish()
        broker.flushall()
        verdict = await crowd.watch(
            ground.relay, published, seconds=scale.seconds, disturb=broker.flushall, times=3, seed=scale.seed
        )
    print(f"R3: 4 FLUSHALL: {verdict}")

    assert (verdict.lost, verdict.duplicates) == (0, 0)
    assert verdict.report.states == {DeliveryState.ACCEPTED: crowd.size}
    assert verdict.standstill <= 10
    assert all(worker.poll() is None for worker in fleet.workers)


async def test_while_the_broker_is_dead_everybody_can_publish_and_everything_is_sent(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R4. kill -9 of the broker, twice, with updates published over HTTP meanwhile."""
    small = await a_crowd(room, 10)
    back: list[float] = []
    took: list[float] = []
    verdicts: list[Verdict] = []

    async def die_for_a_while() -> None:
        crash(ground.valkey)
        await asyncio.to_thread(lambda: took.extend(publish_for(site, small.slug, 30 if scale.long else 1)))
        bring_back(ground.valkey)
        back.append(await listening(ground.valkey, workers=len(fleet.workers), within=10))

    with running(settings_for(ground.database_url, ground.valkey.url)) as site:
        assert site.token
        for number in range(2):
            crowd = await a_crowd(room, scale.readers // 2)
            published = await crowd.publish()
            verdicts.append(
                await crowd.watch(
                    ground.relay,
                    published,
                    seconds=scale.seconds,
                    disturb=die_for_a_while,
                    times=1,
                    seed=scale.seed + number,
                )
            )
    p99 = statistics.quantiles(took, n=100)[-1]
    print(
        f"R4: 2 × broker dead: {verdicts[0]}; {verdicts[1]}; {len(took)} updates published "
        f"meanwhile, p99 {p99 * 1000:.0f} ms; "
        f"listening again after {max(back):.1f} s"
    )

    assert [(verdict.lost, verdict.duplicates) for verdict in verdicts] == [(0, 0), (0, 0)]
    assert p99 < 1
    async with asyncio.timeout(60):
        while small.taken(ground.relay) < len(took) * small.size:
            await asyncio.sleep(0.05)


async def test_without_any_broker_workers_start_and_the_reconciler_alone_sends_everything(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R5. Nothing answers at the broker's address while workers start and for a whole blast; then it does."""
    crowd = await a_crowd(room, scale.readers // 2)
    with no_broker(ground):
        for _ in range(len(fleet.workers)):
            fleet.kill_worker(0)
        await fleet.up(room)
        published = await crowd.publish()
        verdict = await crowd.watch(ground.relay, published, seconds=scale.seconds)
    back = await listening(ground.valkey, workers=len(fleet.workers), within=60)
    print(f"R5: no broker: {verdict}; listening {back:.1f} s after there was one")

    assert (verdict.lost, verdict.duplicates) == (0, 0)


async def test_a_connection_to_the_broker_that_died_is_noticed(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R31. Idle connections are reset. Long: and then forgotten on the way, so that nothing tells of it."""
    await listening(ground.valkey, workers=len(fleet.workers), within=60)
    ground.broker_line.reset()
    reset = await listening(ground.valkey, workers=len(fleet.workers), within=60)
    forgotten = 0.0
    if scale.long:
        ground.broker_line.strand()
        with redis.Redis(unix_socket_path=str(ground.valkey.socket)) as broker:
            # What waits behind the stranded connections is over when the server finds out by itself.
            broker.client_kill_filter(_type="normal", skipme=True)
        forgotten = await listening(ground.valkey, workers=len(fleet.workers), within=60)
    print(f"R31: listening {reset:.1f} s after a reset, {forgotten:.1f} s after the line was forgotten")

    crowd = await a_crowd(room, 100)
    verdict = await crowd.watch(ground.relay, await crowd.publish(), seconds=scale.seconds)
    assert (verdict.lost, verdict.duplicates) == (0, 0)


async def test_workers_listen_again_every_time_the_broker_restarts(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R32. The nudges that follow a restart are taken: the reconciler, which hides a deaf worker, takes none."""
    times: list[float] = []
    for _ in range(scale.times(10, 2)):
        crash(ground.valkey)
        bring_back(ground.valkey)
        times.append(await listening(ground.valkey, workers=len(fleet.workers), within=10))
    print(f"R32: {len(times)} restarts of the broker, listening again after at most {max(times):.1f} s")

    crowd = await a_crowd(room, 100)
    verdict = await crowd.watch(ground.relay, await crowd.publish(), seconds=scale.seconds)
    assert (verdict.lost, verdict.duplicates) == (0, 0)


async def test_whoever_can_write_to_the_broker_runs_no_code_and_sends_nobody_a_mail(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale, tmp_path: Path
) -> None:
    """S34, S35: pickles and YAML are refused; a task that is none, and ids that a nudge names, mean nothing."""
    canary = tmp_path / "canary"
    crowd = await a_crowd(room, 50)
    await listening(ground.valkey, workers=len(fleet.workers), within=60)
    published = await crowd.publish()
    await crowd.watch(ground.relay, published, seconds=scale.seconds)
    sent, before = len(ground.relay.taken), fleet.log.stat().st_size

    for content_type, body in (
        ("application/x-python-serialize", pickle.dumps(((Canary(canary),), {}, {}))),
        ("application/x-yaml", f'[[!!python/object/apply:os.system ["touch {canary}"]], {{}}, {{}}]'.encode()),
        ("application/json", b"[[], {}, {}"),
    ):
        put_in(ground.valkey, "dispatcher.send", content_type, body)
    for task, arguments in (
        ("dispatcher.erase_everybody", []),
        ("os.system", [f"touch {canary}"]),
        ("dispatcher.send", [published.blast_ids[0]]),
        ("dispatcher.cut", [crowd.slug, "reader1@example.org"]),
    ):
        put_in(ground.valkey, task, "application/json", json.dumps([arguments, {}, {}]).encode())
    await listening(ground.valkey, workers=len(fleet.workers), within=60)
    said = fleet.log.read_bytes()[before:].decode(errors="replace")
    verdict = await crowd.verdict(ground.relay, published)

    assert not canary.exists()
    assert len(ground.relay.taken) == sent
    assert (verdict.lost, verdict.duplicates, verdict.report.states) == (0, 0, {DeliveryState.ACCEPTED: 50})
    assert "ContentDisallowed" in said
    assert "dispatcher.erase_everybody" in said
    assert all(worker.poll() is None for worker in fleet.workers)
    following = await a_crowd(room, 20)
    await following.watch(ground.relay, await following.publish(), seconds=scale.seconds)


class Canary:
    """Whoever unpickles it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def put_in(valkey: Valkey, task: str, content_type: str, body: bytes) -> None:
    """Put a message into the workers' queue, as anybody could who can write to the broker."""
    name = str(QueueName.BULK)
    tag = str(uuid.uuid4())
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "binary" if "python" in content_type else "utf-8",
        "content-type": content_type,
        "headers": {"lang": "py", "task": task, "id": tag, "root_id": tag, "parent_id": None, "group": None},
        "properties": {
            "correlation_id": tag,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": name},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": tag,
        },
    }
    with redis.Redis(unix_socket_path=str(valkey.socket)) as broker:
        broker.lpush(name, json.dumps(message))


@contextmanager
def no_broker(ground: Ground) -> Iterator[None]:
    ground.broker_line.refuse()
    try:
        yield
    finally:
        ground.broker_line.accept()


def publish_for(site: Site, slug: str, seconds: float, *, hands: int = 2) -> list[float]:
    """Publish updates over HTTP for a while, from several hands; how long each answer took, in seconds."""
    took: list[float] = []
    end = time.monotonic() + seconds

    def publish() -> None:
        while not took or time.monotonic() < end:
            began = time.monotonic()
            site.publish(slug)
            took.append(time.monotonic() - began)
            time.sleep(0.1)  # a newsroom, not a benchmark

    threads = [threading.Thread(target=publish) for _ in range(hands)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took
