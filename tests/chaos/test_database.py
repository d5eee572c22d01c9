"""The database crashes, falls silent or fills with work for later: nobody is lost, and nothing hangs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import psutil
import pytest
import redis

from dispatcher import db
from dispatcher.errors import DatabaseUnavailable
from dispatcher.model import DeliveryState
from dispatcher.pulse import LEASE
from dispatcher.upkeep import UPKEEP_LOCK
from tests.chaos.conftest import Ground, Scale
from tests.support.crowd import a_crowd, disconnect, everyone_mid_message, given_up, holds, works_again
from tests.support.fleet import LANES, PROCESSES, Fleet, a_fleet
from tests.support.newsroom import Newsroom
from tests.support.standing import bring_back, crash

pytestmark = pytest.mark.chaos

MIB = 1024 * 1024
#: Seconds after which a standstill counts as a hang.
HANG = 60


async def test_a_database_that_crashes_loses_nobody_and_repeats_at_most_one_mail_a_lane(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R6. SIGQUIT: the server ends at once and recovers at its next start."""
    crashes = scale.times(4, 2)
    bound = crashes * len(fleet.workers) * PROCESSES * LANES
    crowd = await a_crowd(room, scale.readers)

    def crash_and_recover() -> None:
        crash(ground.postgres)
        bring_back(ground.postgres)

    published = await crowd.publish()
    verdict = await crowd.watch(
        ground.relay,
        published,
        seconds=scale.seconds,
        disturb=crash_and_recover,
        times=crashes,
        seed=scale.seed,
    )
    print(f"R6: {crashes} crashes of PostgreSQL: {verdict}, bound {bound}")

    assert verdict.lost == 0
    assert verdict.duplicates <= bound
    assert verdict.standstill <= HANG
    assert verdict.report.states == {DeliveryState.ACCEPTED: crowd.size}


async def test_everything_at_once_loses_nobody(room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale) -> None:
    """R7. Workers, the broker and the database die and the broker is emptied, all in one blast, in any order."""
    kills, flushes, breaks, crashes = scale.times(10, 2), scale.times(4, 1), scale.times(2, 1), scale.times(4, 1)
    bound = (kills + crashes * len(fleet.workers)) * PROCESSES * LANES
    chance = random.Random(scale.seed)
    crowd = await a_crowd(room, scale.readers)

    def kill() -> None:
        fleet.kill_worker(chance.randrange(len(fleet.workers)))

    def flush() -> None:
        with redis.Redis(unix_socket_path=str(ground.valkey.socket)) as broker:
            broker.flushall()

    def break_broker() -> None:
        crash(ground.valkey)
        bring_back(ground.valkey)

    def crash_database() -> None:
        crash(ground.postgres)
        bring_back(ground.postgres)

    plan: list[Callable[[], None]] = [
        *[kill] * kills,
        *[flush] * flushes,
        *[break_broker] * breaks,
        *[crash_database] * crashes,
    ]
    chance.shuffle(plan)
    published = await crowd.publish()
    verdict = await crowd.watch(
        ground.relay,
        published,
        seconds=scale.seconds,
        disturb=lambda: plan.pop()(),
        times=len(plan),
        seed=scale.seed,
    )
    print(
        f"R7: {kills} kills, {flushes} FLUSHALL, {breaks} broker and {crashes} database crashes: {verdict}, "
        f"bound {bound}"
    )

    assert verdict.lost == 0
    assert verdict.duplicates <= bound
    assert verdict.standstill <= HANG
    assert verdict.report.states == {DeliveryState.ACCEPTED: crowd.size}


async def test_a_database_that_falls_silent_holds_up_one_worker_and_not_its_readers(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R13. One worker's line to the database is half open in the middle of a batch; others take its batches.

    Short: the server gives the line up at once, and the worker hears of it when the line is back. Long: nobody gives
    anything up, the lease lapses, and the old connections never come back.
    """
    line = ground.database_line
    far = a_fleet(
        ground.database_url_by_line,
        ground.valkey.url,
        ground.relay,
        ground.directory,
        workers=1,
        lanes=1,  # slow enough to be met in the middle of a batch
        name="far",
        gently=False,
    )
    with far as far_fleet:
        (worker,) = far_fleet.workers
        await far_fleet.up(room)
        crowd = await a_crowd(room, max(scale.readers, 3_500))
        if scale.long:
            published = await crowd.publish()
            async with asyncio.timeout(60):
                while not (held := await holds(room, worker.name)):
                    await asyncio.sleep(0.005)
            line.strand()
        else:
            lanes = len(fleet.workers) * PROCESSES * LANES + PROCESSES
            async with everyone_mid_message(ground.database_url, crowd, ground.relay, lanes=lanes) as published:
                held = await holds(room, worker.name)
                line.freeze()
                await disconnect(room, worker.name)
        freed = await given_up(room, held, within=LEASE + 15)
        verdict = await crowd.watch(ground.relay, published, seconds=scale.seconds)
        if not scale.long:
            line.thaw()
        back = await works_again(room, ground.relay, worker.name, within=75 - freed if scale.long else 30)
    verdict = await crowd.verdict(ground.relay, published, verdict)
    print(
        f"R13: {len(held)} batches on a silent line free after {freed:.1f} s: {verdict}, bound {PROCESSES}; "
        f"at work again {back:.1f} s later"
    )

    assert held
    assert verdict.lost == 0
    assert verdict.duplicates <= PROCESSES
    assert verdict.report.states == {DeliveryState.ACCEPTED: crowd.size}


async def test_a_worker_that_falls_silent_in_the_middle_of_upkeep_does_not_stop_it_for_the_others(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R13. A transaction that holds the lock of upkeep is never ended by its worker: the server ends it in time.

    Short: we only read how long the server waits, and end the connection in its place.
    """
    line = ground.database_line
    crowd = await a_crowd(room, scale.readers)

    async def fall_silent_in_the_middle() -> None:
        url = f"{ground.database_url_by_line}?application_name=silent"
        async with db.Database(url, size=1) as silent, silent.transaction() as tx:
            while not await tx.value("try_upkeep", lock=UPKEEP_LOCK):
                await asyncio.sleep(0.01)
            cursor = await tx.raw.execute("SHOW idle_in_transaction_session_timeout")
            patience.extend((await cursor.fetchone() or {}).values())
            line.freeze()
            holding.set()
            await over.wait()
            await tx.one("work_waiting")

    patience: list[str] = []
    holding, over = asyncio.Event(), asyncio.Event()
    worker = asyncio.create_task(fall_silent_in_the_middle())
    await holding.wait()
    assert patience[0].endswith("s")
    assert 0 < int(patience[0].removesuffix("s")) <= HANG
    if not scale.long:
        await disconnect(room, "silent")
    try:
        published = await crowd.publish()
        # What the killed worker held is free only after a round of upkeep.
        plan = {"disturb": lambda: fleet.kill_worker(0), "times": 1, "seed": scale.seed}
        verdict = await crowd.watch(ground.relay, published, seconds=HANG, **plan)
    finally:
        line.thaw()
        over.set()
    with pytest.raises(DatabaseUnavailable):
        await worker
    print(f"R13: a silent worker in the middle of upkeep: {verdict}, bound {PROCESSES * LANES}")

    assert verdict.lost == 0
    assert verdict.duplicates <= PROCESSES * LANES


async def test_work_for_later_takes_no_memory_of_the_workers(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R34. So many readers are to be tried again later: they are rows, and no worker holds them. Then all are due."""
    pending = scale.times(200_000, 5_000)
    before = await a_crowd(room, 1_000)
    await before.watch(ground.relay, await before.publish(), seconds=scale.seconds)
    crowd = await a_crowd(room, pending)
    memory = _memory(fleet)

    async with room.database.transaction() as tx:  # so that no worker sees the audience before it is put off
        await tx.raw.execute("LOCK TABLE batches IN SHARE ROW EXCLUSIVE MODE")
        published = await crowd.publish()
        blast = published.blast_ids[0]
        await tx.raw.execute(
            "INSERT INTO batches (blast_id, urgency, subscriber_ids, state) "
            "SELECT %s, 2, array_agg(subscriber_id), 'done' FROM subscriptions WHERE story_id = %s",
            (blast, published.story.id),
        )
        await tx.raw.execute(
            "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, next_at, state, attempts) "
            "SELECT %s, subscriber_id, now(), now() + interval '1 hour', 'deferred', 1 "
            "FROM subscriptions WHERE story_id = %s",
            (blast, published.story.id),
        )
        await tx.raw.execute(
            "UPDATE blasts SET state = 'sending', candidates = %s, frozen_at = now() WHERE id = %s", (pending, blast)
        )
    for _ in range(scale.times(5, 1)):  # while they wait, other updates go out
        other = await a_crowd(room, 500)
        await other.watch(ground.relay, await other.publish(), seconds=scale.seconds)
    grown = max(_memory(fleet)[pid] - size for pid, size in memory.items())
    await room.run("UPDATE deliveries SET next_at = now() WHERE blast_id = %s", blast)
    verdict = await crowd.watch(ground.relay, published, seconds=scale.seconds)
    grown_after = max(_memory(fleet)[pid] - size for pid, size in memory.items())
    print(
        f"R34: {pending} retries pending: a process grew by {grown / MIB:.0f} MiB at most, and by "
        f"{grown_after / MIB:.0f} MiB after they were all sent; {verdict}"
    )

    assert grown < 50 * MIB
    assert grown_after < 50 * MIB
    assert (verdict.lost, verdict.duplicates) == (0, 0)


def _memory(fleet: Fleet) -> dict[int, int]:
    """Bytes that each process of the workers has in memory."""
    parents = [psutil.Process(worker.pid) for worker in fleet.workers]
    return {
        each.pid: each.memory_info().rss
        for each in [*parents, *(child for worker in fleet.workers for child in worker.children)]
    }
