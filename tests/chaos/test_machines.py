"""Workers on three hosts share one blast; one of them is cut off in the middle, and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from dispatcher.model import DeliveryState, Published
from dispatcher.pulse import LEASE
from tests.chaos.conftest import SOCKET, Ground, Scale
from tests.support.crowd import a_crowd, disconnect, everyone_mid_message, given_up, holds, works_again
from tests.support.fleet import LANES, PROCESSES, Fleet, a_fleet
from tests.support.hosts import Host, behind_proxies, has_namespaces, namespaces, url_by
from tests.support.newsroom import Newsroom

pytestmark = pytest.mark.chaos

HOSTS = 3
#: Seconds within which workers notice a line that went dead and was put right.
BACK_WITHIN = 75


async def test_a_host_that_is_cut_off_in_the_middle_loses_nobody(room: Newsroom, ground: Ground, scale: Scale) -> None:
    """Three hosts, one blast. The others take over what the lost one held; it works again when it is back.

    Short: hosts are processes behind proxies, and the server gives the lost one up at once. Long: they are network
    namespaces where that may be, the cable is pulled, and only the lease tells.
    """
    with _hosts(ground, real=scale.long) as hosts, _fleets(hosts, ground) as fleets:
        for each in fleets:
            await each.up(room)
        crowd = await a_crowd(room, max(scale.readers, 3_500))
        lost, worker = hosts[1], fleets[1].workers[0]
        if scale.long:
            published = await crowd.publish()
            async with asyncio.timeout(60):
                while not (held := await holds(room, worker.name)):
                    await asyncio.sleep(0.005)
            lost.cut()
        else:
            lanes = HOSTS * PROCESSES * LANES
            async with everyone_mid_message(ground.database_url, crowd, ground.relay, lanes=lanes) as published:
                held = await holds(room, worker.name)
                lost.cut()
                await disconnect(room, worker.name)
        try:
            freed = await given_up(room, held, within=LEASE + 15)
            verdict = await crowd.watch(ground.relay, published, seconds=scale.seconds)
        finally:
            lost.heal()
        back = await works_again(room, ground.relay, worker.name, within=BACK_WITHIN)
    verdict = await crowd.verdict(ground.relay, published, verdict)
    kind = "namespaces" if lost.prefix else "proxies"
    print(
        f"{HOSTS} hosts ({kind}), one cut off: {verdict}, bound {PROCESSES * LANES}; its {len(held)} batches free "
        f"after {freed:.1f} s, at work {back:.1f} s after its return"
    )

    assert held
    assert verdict.lost == 0
    assert verdict.duplicates <= PROCESSES * LANES
    assert verdict.report.states == {DeliveryState.ACCEPTED: crowd.size}


async def test_a_line_to_the_relay_that_dies_stops_no_worker_and_repeats_at_most_one_mail_a_lane(
    room: Newsroom, ground: Ground, scale: Scale
) -> None:
    """R13. All lanes of a worker die in the middle of a blast, and new ones could be opened at once.

    Short: they are reset. Long: they are forgotten on the way, and nothing ever comes back on them. When nobody else
    waits, the ten minutes are cut short in which the last answers might still come.
    """
    line = ground.relay_line
    lanes = 2
    near = a_fleet(
        ground.database_url,
        ground.valkey.url,
        line.port,
        ground.directory,
        workers=1,
        lanes=lanes,
        name="near",
        gently=False,
    )
    with near as fleet:
        await fleet.up(room)
        crowd = await a_crowd(room, min(scale.readers, 4_000))
        published = await crowd.publish()
        hurry = asyncio.create_task(_hurry(room, published))
        verdict = await crowd.watch(
            ground.relay,
            published,
            seconds=scale.seconds,
            disturb=line.strand if scale.long else line.reset,
            times=1,
            seed=scale.seed,
        )
        hurry.cancel()
    print(f"R13: every lane of a worker dead: {verdict}, bound {PROCESSES * lanes}")

    assert verdict.lost == 0
    assert verdict.standstill <= BACK_WITHIN
    assert verdict.duplicates <= PROCESSES * lanes
    assert verdict.report.states == {DeliveryState.ACCEPTED: crowd.size}


async def _hurry(room: Newsroom, published: Published) -> None:
    """As soon as nobody waits for a first try, let whoever is to be tried again later be tried again now."""
    while True:
        report = await room.report(published)
        if report.candidates is not None and not report.waiting:
            await room.run(
                "UPDATE deliveries SET next_at = now() WHERE blast_id = %s AND next_at > now()", published.blast_ids[0]
            )
        await asyncio.sleep(0.2)


@contextmanager
def _hosts(ground: Ground, *, real: bool) -> Iterator[list[Host]]:
    targets = (ground.postgres._socket_directory / SOCKET, ground.valkey.socket, ("127.0.0.1", ground.relay.port))
    make = namespaces if real and has_namespaces() else behind_proxies
    with make(HOSTS, *targets) as hosts:
        yield hosts


@contextmanager
def _fleets(hosts: list[Host], ground: Ground) -> Iterator[list[Fleet]]:
    """One worker on each host."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                a_fleet(
                    url_by(host, ground.database_url, 0),
                    f"redis://{host.address}:{host.lines[1].port}/0",
                    host.lines[2].port,
                    ground.directory,
                    workers=1,
                    host=host.address,
                    name=host.name,
                    prefix=host.prefix,
                    gently=False,
                )
            )
            for host in hosts
        ]
