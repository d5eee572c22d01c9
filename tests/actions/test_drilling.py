"""A drill does everything that an update does, and reaches nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dispatcher import approval, db, drilling, monitoring, reporting, steering, stories, superseding, upkeep
from dispatcher.approval import Rule
from dispatcher.channels import dryrun
from dispatcher.errors import Conflict, Invalid, StoryClosed
from dispatcher.model import BlastReport, BlastState, DeliveryState, Draft, Importance, Kind, Published
from dispatcher.sending import Sender
from tests.actions.test_pushing import a_room, browser
from tests.support.newsroom import Newsroom, newsroom
from tests.support.relays import until

State = DeliveryState


async def drill(room: Newsroom, **more: Any) -> Published:
    draft = Draft(
        **{"headline": "The dam gives way", "body": "Walk **uphill**.", "importance": Importance.BREAKING, **more}
    )
    return await drilling.drill(room.database, room.bell, "dam", draft, by="anna")


async def finish(room: Newsroom, sender: Sender, published: Published) -> list[BlastReport]:
    return [
        await room.finish(sender, replace(published, blast_ids=(each,)), seconds=20) for each in published.blast_ids
    ]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each message that is rehearsed."""
    sizes: list[int] = []
    real = dryrun._rehearsed

    def counted(parcel: Any) -> Any:
        sizes.append(parcel.rehearse())
        return real(parcel)

    monkeypatch.setattr(dryrun, "_rehearsed", counted)
    return sizes


async def test_a_drill_makes_every_message_and_no_connection(database: db.Database, made: list[int]) -> None:
    """Who would be left out is left out; nothing that readers or other systems see tells of it."""
    async with a_room(database) as (room, service, sink):
        await room.follow("dam", *(f"reader{n}@example.org" for n in range(60)))
        devices = [await browser(room, service) for _ in range(20)]
        await room.run("UPDATE subscribers SET paused_until = now() + '1 day' WHERE email = 'reader7@example.org'")
        await approval.write(database, Rule(all=True), by="lea")
        before = await everything_of_readers(room)
        async with room.sender() as sender:
            await until(lambda: room.run("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"))
            rehearsed = await drill(room)
            mailed, pushed = await finish(room, sender, rehearsed)
            listed = await reporting.blasts(database)
        story = await stories.find(database, "dam")

        assert rehearsed.update.seq == -1
        assert mailed.states == {State.ACCEPTED: 59, State.CAPPED: 1}
        assert pushed.states == {State.ACCEPTED: 20}
        assert (mailed.is_drill, mailed.as_json()["is_drill"], listed[0].is_drill) == (True, True, True)
        assert len(made) == 79
        assert min(made) > 400
        assert (len(sink.taken), sink.connections, service.connections, service.count) == (0, 0, 0, 0)
        assert all(not device.received for device in devices)
        assert await everything_of_readers(room) == before
        assert await stories.timeline(database, story) == []
        assert (await room.run("SELECT * FROM relay_reports")) == []


async def everything_of_readers(room: Newsroom) -> list[list[db.Row]]:
    tables = ("subscribers", "subscriptions", "devices", "suppressions", "notices", "confirmations")
    return [await room.run(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


async def test_the_first_real_update_after_a_drill_is_the_first(database: db.Database) -> None:
    """Its number, its since-you list, the reader's own record and the figures know of no drill."""
    async with a_room(database) as (room, _, sink):
        await room.follow("dam", "reader@example.org")
        async with room.sender() as sender:
            await finish(room, sender, await drill(room))
            await finish(room, sender, await drill(room, headline="Another"))
            first = await room.publish()
            await finish(room, sender, first)
        await monitoring.watch(database)
        counted = await monitoring.deliveries(database, 5)
        work = await monitoring.work(database, 5)
        (reader,) = await room.run("SELECT id FROM subscribers WHERE email = 'reader@example.org'")
        async with database.connection() as connection:
            exported = await connection.all("export_deliveries", subscriber_id=reader["id"])

    assert first.update.seq == 1
    assert [each["seq"] for each in exported] == [1]
    assert sum(count.readers for count in counted["email"]) == 1
    assert sum(work["blasts_by_state"].values()) == 1
    assert b"dam gives way" not in sink.taken[0].data


async def test_a_real_update_ends_the_drills_of_its_story(database: db.Database) -> None:
    async with a_room(database) as (room, _, sink):
        await room.follow("dam", "reader@example.org")
        waiting, cut = await drill(room), await drill(room, headline="Another")
        await room.run("UPDATE blasts SET state = 'paused' WHERE id = ANY (%s)", list(waiting.blast_ids))
        await room.cut()
        published = await room.publish()
        states = await room.run("SELECT state, steered_by FROM blasts WHERE is_drill ORDER BY id")
        async with room.sender() as sender:
            await upkeep.tick(database)
            await finish(room, sender, published)
        left = await room.run("SELECT id FROM batches WHERE state = 'waiting'")

    assert len(cut.blast_ids) == 1
    assert [(each["state"], each["steered_by"]) for each in states] == [("cancelled", "test")] * 2
    assert left == []
    assert len(sink.taken) == 1


async def test_a_drill_that_is_being_frozen_holds_up_no_real_update_and_is_ended_by_the_next_round(
    database: db.Database,
) -> None:
    room = newsroom(database)
    await room.story(followers=2)
    rehearsed = await drill(room)
    async with database.transaction() as tx:
        await tx.raw.execute("SELECT FROM blasts WHERE id = %s FOR UPDATE", [rehearsed.blast_ids[0]])
        await room.publish()
    before = await room.report(rehearsed)
    await upkeep.tick(database)

    assert before.state is BlastState.CUTTING
    assert (await room.report(rehearsed)).state is BlastState.CANCELLED


async def test_a_drill_is_never_before_anything_real_and_can_be_cancelled(database: db.Database) -> None:
    async with a_room(database) as (room, _, sink):
        await room.story("strike")
        await room.follow("dam", *(f"reader{n}@example.org" for n in range(4)))
        await room.follow("strike", *(f"reader{n}@example.org" for n in range(4)))
        rehearsed = await drill(room)
        published = await room.publish("strike", importance=Importance.ROUTINE)
        await room.run("UPDATE blasts SET state = 'paused' WHERE id = %s", published.blast_ids[0])
        await room.cut()  # the drill's audience is frozen before the real one's
        cancelled = await drill(room, headline="Another")
        await steering.cancel(database, cancelled.blast_ids[0], by="anna")
        await room.run("UPDATE blasts SET state = 'cutting' WHERE id = %s", published.blast_ids[0])
        await room.cut()
        async with room.sender() as sender:
            sender.nudge()
            real, (drilled,) = await room.finish(sender, published), await finish(room, sender, rehearsed)
        order = await room.run("SELECT blast_id FROM deliveries ORDER BY recorded_at, blast_id")

    assert (real.states, drilled.states) == ({State.ACCEPTED: 4}, {State.ACCEPTED: 4})
    assert [each["blast_id"] for each in order] == [real.id] * 4 + [drilled.id] * 4
    assert (await room.report(cancelled)).state is BlastState.CANCELLED
    assert len(sink.taken) == 4


async def test_a_correction_is_rehearsed_for_those_whom_it_would_reach(database: db.Database, made: list[int]) -> None:
    async with a_room(database) as (room, service, sink):
        await room.follow("dam", "ana@example.org", "ben@example.org")
        await browser(room, service)
        published = await room.publish()
        with pytest.raises(Invalid, match="still going out"):
            await drill(room, kind=Kind.CORRECTION, corrects_seq=1)
        async with room.sender() as sender:
            await finish(room, sender, published)
            await room.follow("dam", "late@example.org")
            mailed, pushed = await finish(room, sender, await drill(room, kind=Kind.CORRECTION, corrects_seq=1))
            replacing = await room.publish(replaces=True)
            await finish(room, sender, replacing)
            await superseding.settle(database)

    assert (mailed.candidates, pushed.candidates, len(made)) == (2, 1, 3)
    assert replacing.superseded == ()
    assert len(sink.taken) == 2 + 3
    assert all(b"CORRECTION" not in mail.data for mail in sink.taken)


async def test_a_drill_that_cannot_be_says_so(database: db.Database) -> None:
    room = newsroom(database)
    await room.story(followers=1)
    await drill(room)
    for wrong in ({"kind": Kind.CORRECTION, "corrects_seq": -1}, {"kind": Kind.WITHDRAWAL}, {"headline": ""}):
        with pytest.raises(Invalid):
            await drill(room, **wrong)
    with pytest.raises(Invalid):  # nor can a drill be corrected in earnest
        await room.publish(kind=Kind.CORRECTION, corrects_seq=-1)
    await stories.close(database, "dam")
    with pytest.raises(StoryClosed):
        await drill(room)
    with pytest.raises(Conflict):
        await steering.retry(database, room.bell, (await _cancelled(room)).id, by="anna")


async def _cancelled(room: Newsroom) -> BlastReport:
    (row,) = await room.run("SELECT id FROM blasts")
    await steering.cancel(room.database, row["id"], by="anna")
    return await reporting.blast(room.database, row["id"])
