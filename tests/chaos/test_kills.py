"""Workers and their processes are killed, stopped and raced in the middle of a blast: nobody is lost."""

from __future__ import annotations

import random
import signal

import pytest

from dispatcher.model import DeliveryState
from dispatcher.pulse import LEASE
from tests.chaos.conftest import Ground, Scale
from tests.support.bells import ring_from
from tests.support.crowd import a_crowd, chronicle, claims, disconnect, everyone_mid_message, held, holds
from tests.support.fleet import LANES, PROCESSES, Fleet
from tests.support.newsroom import Newsroom

pytestmark = pytest.mark.chaos


async def test_kill_9_of_workers_loses_nobody_and_repeats_at_most_one_mail_a_lane(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R1. A killed lane leaves at most the one message whose answer it had not written down (RFC 1047)."""
    kills = scale.times(10, 2)
    chance = random.Random(scale.seed)
    crowd = await a_crowd(room, scale.readers)

    published = await crowd.publish()
    verdict = await crowd.watch(
        ground.relay,
        published,
        seconds=scale.seconds,
        disturb=lambda: fleet.kill_worker(chance.randrange(len(fleet.workers))),
        times=kills,
        seed=scale.seed,
    )
    print(f"R1: {kills} kills -9: {verdict}, bound {kills * PROCESSES * LANES}")

    assert verdict.lost == 0
    assert verdict.duplicates <= kills * PROCESSES * LANES
    assert verdict.report.states == {DeliveryState.ACCEPTED: crowd.size}


async def test_kill_9_between_the_answer_and_the_ledger_repeats_exactly_one_mail_a_lane(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R2. The worst moment there is, on every lane at once: the relay has said yes, and nobody has written it down."""
    lanes = len(fleet.workers) * PROCESSES * LANES
    crowd = await a_crowd(room, max(scale.readers, 500 * len(fleet.workers) * PROCESSES))

    async with everyone_mid_message(ground.database_url, crowd, ground.relay, lanes=lanes) as published:
        for worker in list(fleet.workers):
            fleet.kill(worker)
            await disconnect(room, worker.name)  # or the statement that waits would be carried out after all
    for _ in range(2):
        fleet.start_worker()
    verdict = await crowd.watch(ground.relay, published, seconds=scale.seconds)
    print(f"R2: kill -9 on {lanes} lanes between 250 and commit: {verdict}")

    assert (verdict.lost, verdict.duplicates, verdict.most_copies) == (0, lanes, 2)


async def test_kill_9_of_one_process_of_a_worker_loses_nobody(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R33. Celery replaces the process; what it held is free again, and its nudge was not the work."""
    kills = scale.times(5, 2)
    chance = random.Random(scale.seed)
    crowd = await a_crowd(room, scale.readers)

    def kill_one() -> None:
        chance.choice([child for worker in fleet.workers for child in worker.children]).kill()

    published = await crowd.publish()
    verdict = await crowd.watch(
        ground.relay, published, seconds=scale.seconds, disturb=kill_one, times=kills, seed=scale.seed
    )
    print(f"R33: {kills} kills -9 of one process: {verdict}, bound {kills * LANES}")

    assert verdict.lost == 0
    assert verdict.duplicates <= kills * LANES
    assert all(worker.poll() is None for worker in fleet.workers)
    await fleet.up(room)


async def test_a_worker_that_slept_through_its_lease_changes_no_batch_and_repeats_at_most_one_mail_a_lane(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R12. SIGSTOP until others have its batches, then SIGCONT. Long: until the lease lapses by itself.

    Short: the database gives the sleeper up at once, as it does when the machine stops answering.
    """
    crowd = await a_crowd(room, max(scale.readers, 2_500))
    async with chronicle(room):
        lanes = len(fleet.workers) * PROCESSES * LANES
        sleeper = fleet.workers[0]
        async with everyone_mid_message(ground.database_url, crowd, ground.relay, lanes=lanes) as published:
            tokens = await holds(room, sleeper.name)
            sleeper.signal_all(signal.SIGSTOP)
            if not scale.long:
                await disconnect(room, sleeper.name)
        try:
            verdict = await crowd.watch(ground.relay, published, seconds=LEASE + 15 + scale.seconds)
            (woken,) = await room.run("SELECT clock_timestamp() AS at")
        finally:
            sleeper.signal_all(signal.SIGCONT)
        await fleet.up(room)
        following = await a_crowd(room, 200)
        await following.watch(ground.relay, await following.publish(), seconds=60)
        late = await room.run(
            "SELECT * FROM chronicle WHERE worker = %s AND token = ANY (%s) AND at > %s",
            *(sleeper.name, tokens, woken["at"]),
        )
    verdict = await crowd.verdict(ground.relay, published, verdict)
    print(f"R12: asleep with {len(tokens)} batches: {verdict}, bound {PROCESSES * LANES}; late writes {len(late)}")

    assert late == []
    assert verdict.lost == 0
    assert verdict.duplicates <= PROCESSES * LANES


async def test_a_thousand_nudges_for_each_of_two_workers_claim_a_batch_once(
    room: Newsroom, fleet: Fleet, ground: Ground, scale: Scale
) -> None:
    """R10. Nudges are no work: however many come at the same moment, one worker claims the batch, once."""
    crowd = await a_crowd(room, 400)
    async with chronicle(room), held(ground.database_url, "LOCK TABLE batches IN ACCESS EXCLUSIVE MODE") as shut:
        ring_from(2, times=1_000, broker=ground.valkey.url)
        published = await crowd.publish()
        await shut.rollback()
        verdict = await crowd.watch(ground.relay, published, seconds=scale.seconds)
        claimed = await claims(room, published)
    print(f"R10: 2,000 nudges at once: claims {claimed}, {verdict}")

    assert claimed == [1]
    assert (verdict.lost, verdict.duplicates) == (0, 0)
