"""The two promises of the desk, at random moments, with relays that refuse and hang up and a worker that is killed.

What a later update replaces is never seen by whoever it had not reached, and what they missed stands in the later one.
What was wrong is corrected for exactly those who have it, or may have it, and is never seen by anybody else.
The ledger says who was reached; a relay and a push service of the test's own say what really came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dispatcher import publishing, withdrawing
from dispatcher.model import Draft, Importance, Kind, Published, Urgency
from tests.chaos.conftest import LONG, Ground
from tests.chaos.test_readers import Post, browsers, enough
from tests.security.house import beside
from tests.support.crowd import a_crowd, holds
from tests.support.fleet import a_fleet
from tests.support.newsroom import Newsroom
from tests.support.promises import (
    Reader,
    blasts_of,
    come_to_an_end,
    ill_relay,
    mail_readers,
    make_ill,
    make_well,
    push_readers,
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800 if LONG else 180)]

WRONG, RIGHT, LAST = "Wrongtext of the hospital", "Righttext of the hospital", "Lasttext of the hospital"
#: Readers in a batch of the wrong update.
BATCH = 60
#: Seconds in which everything of one night has to be over.
PATIENCE = 90


@dataclass(frozen=True)
class Night:
    """What happens when. Fractions are of the wrong update's readers; seconds count from the step that is meant."""

    readers: int
    devices: int
    delay: float  #: seconds that relay and push service take for an answer
    ill: float  #: share of messages that they refuse for now; a quarter of it, that they hang up on
    moment: float  #: how much of the first update is out at the step
    kill: float | None  #: seconds after the step at which a worker that is sending is killed; None: none
    again: float  #: seconds after the first step at which a second comes, where there is one
    well: float  #: seconds after the last step at which relay and push service are well again
    seed: int


nights = st.builds(
    Night,
    readers=st.integers(400, 2500 if LONG else 800),
    devices=st.integers(100, 1500 if LONG else 250),
    delay=st.floats(0.004, 0.02),
    ill=st.sampled_from([0.04, 0.0, 0.15]),
    moment=st.floats(0.03, 0.7),
    kill=st.one_of(st.floats(-0.15, 0.25), st.none()),
    again=st.floats(0.0, 0.6),
    well=st.floats(0.2, 1.0),
    seed=st.integers(0, 10_000),
)


def some(short: int, long: int) -> Callable[[Any], Any]:
    """So many nights. None of them is tried to be made simpler: no two are alike."""
    return settings(
        max_examples=long if LONG else short,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def post(ground: Ground) -> Iterator[Post]:
    """Workers of this file, with a relay and a push service that keep what they are given."""
    with (
        beside() as (sink, service),
        a_fleet(ground.database_url, ground.valkey.url, sink, ground.directory, workers=0, gently=False) as fleet,
    ):
        fleet.env["DISPATCHER_PUSH_SERVICES"] = service.origin
        yield Post(fleet, sink, service)


Step = Callable[[str], Awaitable[Published]]


async def run(room: Newsroom, post: Post, night: Night, *steps: Step) -> list[tuple[str, dict[str, Reader]]]:
    """Publish, and take the steps while it goes out; then everybody by mail, and everybody by push."""
    await enough(post.fleet, room)
    post.sink.taken.clear()
    post.service.received.clear()
    post.service.count = 0
    slug = (await a_crowd(room, night.readers)).slug
    await browsers(room, post.service, slug, night.devices)
    post.sink.script = ill_relay(night.delay, night.ill, night.seed)
    make_ill(post.service, night.delay, night.ill, night.seed)
    async with asyncio.timeout(PATIENCE):
        published = [await in_small_batches(room, slug)]
        while len(post.sink.taken) < night.moment * night.readers:
            await asyncio.sleep(0.002)
        killing = asyncio.create_task(kill_one(room, post, (night.kill or 0.0) + 0.15, really=night.kill is not None))
        await asyncio.sleep(0.15)
        for number, step in enumerate(steps):
            await asyncio.sleep(night.again if number else 0)
            published.append(await step(slug))
        await killing
        await asyncio.sleep(night.well)
        make_well(post.sink, post.service)
        while not await come_to_an_end(room, blasts_of(*published)):
            await asyncio.sleep(0.1)
    mails, pushes = await mail_readers(room, slug, post.sink), await push_readers(room, slug, post.service)
    reached = [sum(each.was_reached(1) for each in readers.values()) for readers in (mails, pushes)]
    print(f"{night}: had the first update: {reached[0]} mails, {reached[1]} pushes")
    assert (len(mails), len(pushes)) == (night.readers, night.devices)
    return [("mail", mails), ("push", pushes)]


async def kill_one(room: Newsroom, post: Post, after: float, *, really: bool) -> None:
    """kill -9 of a worker that is sending, if one is, and a new one in its place."""
    await asyncio.sleep(after)
    if really:
        at_it = [worker for worker in post.fleet.workers if await holds(room, worker.name)]
        post.fleet.kill((at_it or post.fleet.workers)[0])
        post.fleet.start_worker()


async def in_small_batches(room: Newsroom, slug: str) -> Published:
    """The wrong update, cut so small that a killed worker leaves some readers in doubt and not nearly all of them."""
    draft = Draft(headline=WRONG, body=f"{WRONG}.", importance=Importance.MAJOR)
    async with room.database.transaction() as tx:
        published = await publishing.write(tx, slug, draft, by="anna")
        for _ in published.blast_ids:
            await tx.one("cut_next", urgency=max(Urgency), batch_size=BATCH, drills=False)
    return published


async def publish(room: Newsroom, slug: str, headline: str, **more: Any) -> Published:
    draft = Draft(headline=headline, body=f"{headline}.", importance=Importance.MAJOR, **more)
    return await publishing.publish(room.database, room.bell, slug, draft, by="anna")


@given(night=nights)
@some(2, 25)
async def test_whoever_was_not_reached_gets_only_the_later_update_with_what_they_missed(
    room: Newsroom, post: Post, night: Night
) -> None:
    found = await run(room, post, night, lambda slug: publish(room, slug, RIGHT, replaces=True))

    for channel, readers in found:
        for name, reader in readers.items():
            broken = f"{channel} {name} {reader.states}: {[each.title for each in reader.got]}"
            assert reader.states[2] == "accepted", broken
            assert RIGHT in reader.titles(), broken
            assert reader.states[1] in ("accepted", "in_doubt", "superseded"), broken
            if not reader.was_reached(1):
                assert reader.titles() == {RIGHT}, broken
            if WRONG not in reader.titles():
                assert all(each.lists(WRONG) for each in reader.got), broken


@given(night=nights, twice=st.sampled_from([True, False]))
@some(3, 40)
async def test_exactly_those_who_have_the_wrong_text_are_corrected_and_nobody_else_ever_sees_it(
    room: Newsroom, post: Post, night: Night, twice: bool
) -> None:
    """Also while the first correction goes out, which is wrong itself and corrected by a second."""
    steps = [
        lambda slug, n=n: publish(room, slug, (RIGHT, LAST)[n], kind=Kind.CORRECTION, corrects_seq=n + 1)
        for n in (0, 1)
    ]
    found = await run(room, post, night, *steps[: 1 + twice])

    for channel, readers in found:
        for name, reader in readers.items():
            broken = f"{channel} {name} {reader.states}: {[each.title for each in reader.got]}"
            if twice:
                _hold_second(reader, broken)
            else:
                _hold_first(reader, broken)
            assert len({each.slot for each in reader.got}) == 1, broken


def _hold_first(reader: Reader, broken: str) -> None:
    assert reader.states[2] == "accepted", broken
    if reader.was_reached(1):
        assert reader.titles() - {WRONG} == {f"CORRECTION: {RIGHT}"}, broken
    else:
        assert reader.titles() == {RIGHT}, broken
        assert not any(WRONG in each.text for each in reader.got), broken


def _hold_second(reader: Reader, broken: str) -> None:
    assert reader.states[3] == "accepted", broken
    if reader.was_reached(1):
        assert reader.titles() <= {WRONG, f"CORRECTION: {RIGHT}", f"CORRECTION: {LAST}"}, broken
        assert f"CORRECTION: {LAST}" in reader.titles(), broken
    elif reader.was_reached(2):
        assert reader.titles() <= {RIGHT, f"CORRECTION: {LAST}"}, broken
        assert f"CORRECTION: {LAST}" in reader.titles(), broken
    else:
        assert reader.titles() == {LAST}, broken
        assert not any(WRONG in each.text or RIGHT in each.text for each in reader.got), broken


@given(night=nights)
@some(1, 15)
async def test_a_withdrawal_reaches_exactly_the_screens_that_may_show_it(
    room: Newsroom, post: Post, night: Night
) -> None:
    """And nobody else: neither by mail, nor whoever had not been reached."""

    async def withdraw(slug: str) -> Published:
        return await withdrawing.withdraw(room.database, room.bell, slug, 1, by="anna", reason=RIGHT)

    mails, pushes = [readers for _, readers in await run(room, post, night, withdraw)]

    for name, reader in mails.items():
        broken = f"mail {name} {reader.states}: {[each.title for each in reader.got]}"
        assert 2 not in reader.states, broken
        assert reader.titles() <= ({WRONG} if reader.was_reached(1) else set()), broken
    for name, reader in pushes.items():
        broken = f"push {name} {reader.states}: {[each.title for each in reader.got]}"
        if reader.was_reached(1):
            assert reader.states[2] == "accepted", broken
            assert reader.got[-1].title == f"WITHDRAWN: {RIGHT}", broken
            assert len({each.slot for each in reader.got}) == 1, broken
        else:
            assert (reader.got, 2 in reader.states) == ([], False), broken
