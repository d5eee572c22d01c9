"""Workers are killed and the broker is emptied in the middle of a blast: nobody is lost."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
import redis

from dispatcher import db
from dispatcher.embedded.valkey import Valkey
from dispatcher.model import DeliveryState
from dispatcher.nudges import Bell
from tests.chaos.conftest import Scale
from tests.support.fleet import LANES, PROCESSES, a_fleet, watch
from tests.support.newsroom import newsroom
from tests.support.sink import a_sink

pytestmark = pytest.mark.chaos


async def test_kill_9_of_workers_loses_nobody_and_repeats_at_most_one_mail_a_lane(
    disk_database: db.Database, own_valkey: Valkey, tmp_path: Path, scale: Scale
) -> None:
    """R1. A killed lane leaves at most the one message whose answer it had not written down (RFC 1047)."""
    chance = random.Random(scale.seed)
    async with a_sink() as sink:
        room = newsroom(disk_database, sink.port)
        room.bell = Bell(own_valkey.url)
        await room.story(followers=scale.readers)
        with a_fleet(disk_database.url, own_valkey.url, sink, tmp_path) as fleet:
            published = await room.publish()
            verdict = await watch(
                room,
                sink,
                published,
                disturb=lambda: fleet.kill_worker(chance.randrange(len(fleet.workers))),
                times=scale.kills,
                seed=scale.seed,
                audience=scale.readers,
                seconds=scale.seconds,
            )
    print(f"{scale.kills} kills -9: {verdict}")

    assert verdict.lost == 0
    assert verdict.duplicates <= scale.kills * PROCESSES * LANES
    assert verdict.report.states == {DeliveryState.ACCEPTED: scale.readers}


async def test_an_emptied_broker_loses_nobody_and_repeats_nothing(
    disk_database: db.Database, own_valkey: Valkey, tmp_path: Path, scale: Scale
) -> None:
    """R3. FLUSHALL takes every nudge; the reconciler rings again."""
    broker = redis.Redis(unix_socket_path=str(own_valkey.socket))
    async with a_sink() as sink:
        room = newsroom(disk_database, sink.port)
        room.bell = Bell(own_valkey.url)
        await room.story(followers=scale.readers)
        with a_fleet(disk_database.url, own_valkey.url, sink, tmp_path) as fleet:
            published = await room.publish()
            broker.flushall()
            verdict = await watch(
                room,
                sink,
                published,
                disturb=broker.flushall,
                times=scale.flushes,
                seed=scale.seed,
                audience=scale.readers,
                seconds=scale.seconds,
            )
            assert all(worker.poll() is None for worker in fleet.workers)
    broker.close()
    print(f"{scale.flushes + 1} FLUSHALL: {verdict}")

    assert (verdict.lost, verdict.duplicates) == (0, 0)
    assert verdict.report.states == {DeliveryState.ACCEPTED: scale.readers}


async def test_without_any_broker_everything_is_sent_by_the_reconciler_alone(
    disk_database: db.Database, tmp_path: Path, scale: Scale
) -> None:
    """R5. Workers start, and go on, while nothing answers at the broker's address."""
    readers = scale.readers // 4
    async with a_sink() as sink:
        room = newsroom(disk_database, sink.port)
        await room.story(followers=readers)
        with a_fleet(disk_database.url, "redis://127.0.0.1:1/0", sink, tmp_path, workers=1):
            published = await room.publish()
            verdict = await watch(
                room, sink, published, disturb=lambda: None, times=0, seed=0, audience=readers, seconds=scale.seconds
            )

    assert (verdict.lost, verdict.duplicates) == (0, 0)


async def test_a_worker_that_is_told_to_stop_repeats_nothing(
    disk_database: db.Database, own_valkey: Valkey, tmp_path: Path, scale: Scale
) -> None:
    """R8. SIGTERM: the open message is finished and written down, the rest is given back."""
    async with a_sink() as sink:
        room = newsroom(disk_database, sink.port)
        room.bell = Bell(own_valkey.url)
        await room.story(followers=scale.readers)
        with a_fleet(disk_database.url, own_valkey.url, sink, tmp_path) as fleet:

            def replace() -> None:
                worker = fleet.workers.pop(0)
                fleet.start_worker()
                worker.terminate()
                stopped.append(worker)

            stopped: list[subprocess.Popen[bytes]] = []
            published = await room.publish()
            verdict = await watch(
                room,
                sink,
                published,
                disturb=replace,
                times=scale.kills,
                seed=scale.seed,
                audience=scale.readers,
                seconds=scale.seconds,
            )
            codes = [worker.wait(30) for worker in stopped]
    print(f"{scale.kills} SIGTERM: {verdict}")

    assert codes == [0] * scale.kills
    assert (verdict.lost, verdict.duplicates) == (0, 0)
