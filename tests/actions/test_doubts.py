"""A worker that died may have sent what it held: whoever it may have reached is never taken for unreached."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher import db, publishing, steering, upkeep
from dispatcher.errors import Conflict
from dispatcher.model import BlastState, DeliveryState, Draft, Kind
from tests.actions.test_replacing import RIGHT, WRONG, catch_up, finish, publish
from tests.support.newsroom import newsroom
from tests.support.sink import a_sink

State = DeliveryState


async def test_a_reader_on_whom_workers_died_gets_the_correction(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=1)
        first = await publish(room, WRONG)
        await room.cut()
        await room.run("UPDATE batches SET attempts = %s", upkeep.MOST_CRASHES)
        await upkeep.tick(database)
        given_up = await room.report(first)
        async with room.sender() as sender:
            done = await finish(room, sender, await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1))

    assert (given_up.states, given_up.reasons) == ({State.IN_DOUBT: 1}, ((upkeep.POISON, 1),))
    assert done.states == {State.ACCEPTED: 1}


async def test_whoever_must_not_be_written_to_after_a_worker_died_gets_the_correction(database: db.Database) -> None:
    """The next worker finds them paused, or the update expired, or no letter to be made: the first may have sent it."""
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=4)
        first = await publish(room, WRONG)
        await room.cut()
        await room.run("UPDATE batches SET attempts = 1")
        await room.run("UPDATE subscribers SET quiet_from = '00:00', quiet_to = '23:59:59' WHERE id = 1")
        await room.run("UPDATE subscribers SET timezone = 'Asia/Tokyo' WHERE id = 2")
        await room.run(
            "INSERT INTO letter_failures (blast_id, variant, failures, reason, failed_at)"
            " VALUES (1, 'en/Asia/Tokyo', 9, 'it crashed', now())"
        )
        await room.run("UPDATE subscriptions SET ended_at = now(), ended_reason = 'left' WHERE subscriber_id = 3")
        async with room.sender() as sender:
            states = (await room.settle(sender, first)).states
            await room.run("UPDATE subscribers SET quiet_from = NULL, quiet_to = NULL")
            await room.run("DELETE FROM letter_failures")
            done = await finish(room, sender, await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1))

    assert states == {State.IN_DOUBT: 1, State.FAILED: 1, State.WITHDRAWN: 1, State.ACCEPTED: 1}
    assert done.states == {State.ACCEPTED: 3}


async def test_an_update_that_expires_after_a_worker_died_leaves_its_readers_in_doubt(database: db.Database) -> None:
    room = newsroom(database)
    await room.story(followers=2)
    first = await publish(room, WRONG)
    await room.cut()
    await room.run("UPDATE batches SET attempts = 1")
    await room.run("UPDATE updates SET published_at = now() - interval '7 hours'")
    async with room.sender() as sender:
        states = (await room.settle(sender, first)).states

    assert states == {State.IN_DOUBT: 2}


async def test_who_was_being_caught_up_when_a_worker_died_gets_the_correction(database: db.Database) -> None:
    """Two of them had not been claimed again, one was given up, and one was never begun."""
    room = newsroom(database)
    await room.story()
    await publish(room, WRONG)
    await room.cut()
    await catch_up(room, 4)
    await room.run("UPDATE notices SET claims = (ARRAY[1, 1, 5, 0])[id]")
    await upkeep.tick(database)
    correction = await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1)
    states = [row["state"] for row in await room.run("SELECT state FROM notices ORDER BY id")]
    await room.cut()
    told = await room.run("SELECT subscriber_ids FROM batches WHERE blast_id = %s", correction.blast_ids[0])

    assert states == ["in_doubt"] * 3 + ["withdrawn"]
    assert [row["subscriber_ids"] for row in told] == [[1, 2, 3]]


async def test_who_is_being_caught_up_at_the_moment_of_a_correction_gets_it(database: db.Database) -> None:
    """A worker has found nothing wrong with the mail, and has not yet said that it has it."""
    room = newsroom(database)
    await room.story()
    await publish(room, WRONG)
    await room.cut()
    await catch_up(room, 1)
    async with database.transaction() as tx:
        await tx.raw.execute(
            "UPDATE notices SET claims = 1, lease_token = 1, worker = 1, lease_until = now() + interval '1 minute'"
        )
        correcting = asyncio.create_task(publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1))
        await asyncio.wait({correcting}, timeout=1)  # it waits, or it is through
        cut = await room.cut()
    correction = await correcting
    assert (cut, await room.cut()) == (0, 0), "a worker may be sending it"
    await room.run("UPDATE notices SET state = 'accepted', next_at = NULL, lease_token = NULL, worker = NULL,"
                   " lease_until = NULL")  # fmt: skip
    await room.cut()

    assert (await room.report(correction)).candidates == 1


async def test_nobody_is_tried_again_with_what_is_being_corrected_at_that_moment(database: db.Database) -> None:
    """The blast is done, so the correction stops nothing; a retry that opens it again meanwhile must see it."""
    room = newsroom(database)
    await room.story(followers=2)
    first = await publish(room, WRONG)
    await room.cut()
    await room.run(
        "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state)"
        " SELECT 1, id, now(), 'failed' FROM subscribers"
    )
    await room.run("UPDATE batches SET state = 'done'")
    await upkeep.tick(database)
    right = Draft(headline=RIGHT, body=RIGHT, kind=Kind.CORRECTION, corrects_seq=1)
    async with database.transaction() as tx:
        await publishing.write(tx, "dam", right, by="ed")
        retrying = asyncio.create_task(steering.retry(database, room.bell, first.blast_ids[0], by="ed"))
        await asyncio.wait({retrying}, timeout=1)  # it waits, or it is through: either way it has looked
    with pytest.raises(Conflict, match="corrected"):
        await retrying

    assert (await room.report(first)).state is BlastState.DONE
    assert await room.run("SELECT subscriber_id FROM deliveries WHERE next_at IS NOT NULL") == []
