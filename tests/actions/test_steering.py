"""A blast is paused, resumed and cancelled, and readers are tried again who were not reached."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dispatcher import db, reporting, steering, stories, upkeep
from dispatcher.addresses import address_hash, parse_address
from dispatcher.errors import Conflict, Invalid, NotFound
from dispatcher.model import BlastReport, BlastState, DeliveryState, Importance, InDoubt, Published, Retried, Urgency
from tests.support.newsroom import SECRET, Newsroom, newsroom
from tests.support.sink import HANG_UP, Session, a_sink

BY = "anna"


async def published(room: Newsroom, followers: int, *, cut: bool = True) -> Published:
    """An update on its way to so many readers; nobody has been written to."""
    await room.story(followers=followers)
    made = await room.publish()
    if cut:
        await room.cut()
    return made


async def outcome(
    room: Newsroom,
    reader: int,
    state: DeliveryState,
    *,
    reply: str = "",
    code: int | None = None,
    next_in: str | None = None,
    attempts: int = 1,
    doubts: int = 0,
) -> None:
    """Write into the ledger what became of a reader."""
    await room.run(
        "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, next_at, state, attempts, in_doubt_count, code, "
        "reply) VALUES (1, %s, clock_timestamp(), clock_timestamp() + %s::interval, %s, %s, %s, %s, %s)",
        *(reader, next_in, str(state), attempts, doubts, code, reply),
    )


async def done(room: Newsroom) -> None:
    """End the blast, whatever became of its readers."""
    await room.run("UPDATE batches SET state = 'done'")
    await room.run("UPDATE blasts SET state = 'done', done_at = clock_timestamp()")


async def ledger(room: Newsroom) -> dict[int, db.Row]:
    rows = await room.run("SELECT *, next_at <= clock_timestamp() AS due FROM deliveries")
    return {row["subscriber_id"]: row for row in rows}


async def claimable(room: Newsroom) -> bool:
    """Whether a worker would be given a batch now."""
    async with room.database.transaction() as connection:
        await connection.raw.execute("SELECT pg_advisory_xact_lock(7214, 99)")  # as a worker that lives just now
        values = {"class": 7214, "worker": 99, "lease": 60, "suspect": 2, "alone": True, "urgency": max(Urgency)}
        return await connection.one("claim_batch", channels=["email"], limits=[max(Urgency)], **values) is not None


def adds_up(report: BlastReport) -> bool:
    return (report.candidates or 0) == report.waiting + sum(report.states.values())


class TestPause:
    async def test_a_blast_paused_on_its_way_stands_still_and_then_reaches_everybody_once(
        self, database: db.Database
    ) -> None:
        under_way = asyncio.Event()

        def script(step: str, argument: str, session: Session) -> None:
            if step == "BODY" and len(sink.taken) >= 20:
                under_way.set()

        async with a_sink(script) as sink, asyncio.timeout(30):
            room = newsroom(database, sink.port)
            update = await published(room, 2000)
            async with room.sender() as sender:
                sender.nudge()
                await under_way.wait()
                await steering.pause(database, 1, by=BY)
                while await room.run("SELECT id FROM batches WHERE state = 'leased'"):
                    await asyncio.sleep(0.02)
                stood = await room.report(update)
                for _ in range(3):
                    assert (await upkeep.tick(database)).batches == 0
                    await sender.send_next(0.2)
                still = await room.report(update)
                await steering.resume(database, room.bell, 1, by=BY)
                last = await room.finish(sender, update, seconds=20)

        assert 20 <= stood.states[DeliveryState.ACCEPTED] < 2000
        assert (stood.state, stood.settled, adds_up(stood)) == (BlastState.PAUSED, False, True)
        assert still.states == stood.states
        assert last.states == {DeliveryState.ACCEPTED: 2000}
        assert sink.copies() == {f"reader{n}@example.org": 1 for n in range(1, 2001)}

    async def test_a_blast_can_be_paused_before_its_audience_is_frozen_and_keeps_that_audience(
        self, database: db.Database
    ) -> None:
        room = newsroom(database)
        update = await published(room, 3, cut=False)

        await steering.pause(database, 1, by=BY)
        assert await room.cut() == 0
        paused = await room.report(update)
        await room.follow("dam", "too-late@example.org")
        resumed = await steering.resume(database, room.bell, 1, by=BY)

        assert (paused.state, paused.candidates, paused.waiting) == (BlastState.PAUSED, None, 0)
        assert (resumed.state, resumed.changed) == (BlastState.CUTTING, True)
        assert await room.cut() == 1
        assert (await room.report(update)).candidates == 3

    async def test_it_is_known_who_paused_a_blast_first(self, database: db.Database) -> None:
        room = newsroom(database)
        update = await published(room, 1)

        first = await steering.pause(database, 1, by="anna")
        second = await steering.pause(database, 1, by="ben")

        report = await room.report(update)
        assert (first.changed, second.changed) == (True, False)
        assert report.steered_by == "anna"
        assert report.steered_at is not None
        assert report.as_json()["steered_at"] == report.steered_at.isoformat()

    async def test_a_paused_blast_whose_readers_all_have_an_outcome_is_done_once_it_goes_on(
        self, database: db.Database
    ) -> None:
        room = newsroom(database)
        update = await published(room, 1)
        await steering.pause(database, 1, by=BY)
        await outcome(room, 1, DeliveryState.ACCEPTED)
        await room.run("UPDATE batches SET state = 'done'")
        await upkeep.tick(database)
        before = (await room.report(update)).state

        await steering.resume(database, room.bell, 1, by=BY)
        await upkeep.tick(database)

        assert (before, (await room.report(update)).state) == (BlastState.PAUSED, BlastState.DONE)


class TestCancel:
    async def test_who_was_not_reached_stays_waiting_and_nobody_is_tried_again(self, database: db.Database) -> None:
        room = newsroom(database)
        update = await published(room, 1100)
        await outcome(room, 1, DeliveryState.ACCEPTED)
        await outcome(room, 2, DeliveryState.DEFERRED, reply="4.2.2 Mailbox full", code=452, next_in="1 minute")
        await outcome(room, 3, DeliveryState.DEFERRED, next_in="-1 minute")
        await outcome(room, 4, DeliveryState.IN_DOUBT, reply="silence", next_in="1 minute", doubts=1)
        await outcome(room, 5, DeliveryState.FAILED, reply="5.6.0 No")

        steered = await steering.cancel(database, 1, by=BY)

        report, rows = await room.report(update), await ledger(room)
        assert (steered.state, steered.changed) == (BlastState.CANCELLED, True)
        assert report.states == {DeliveryState.ACCEPTED: 1, DeliveryState.FAILED: 3, DeliveryState.IN_DOUBT: 1}
        assert (report.candidates, report.waiting, report.settled) == (1100, 1095, True)
        assert (report.steered_by, report.holding) == (BY, "")
        assert {row["next_at"] for row in rows.values()} == {None}
        assert rows[2]["reply"] == "cancelled before the next try; before: 4.2.2 Mailbox full"
        assert rows[3]["reply"] == "cancelled before the next try; before: no reply"
        assert (rows[4]["reply"], rows[5]["reply"]) == ("silence", "5.6.0 No")
        assert not await claimable(room)
        work = await upkeep.tick(database)
        assert (work.to_cut, work.to_send, work.batches) == (None, None, 0)
        assert {row["state"] for row in await room.run("SELECT state FROM batches")} == {"done"}

    async def test_a_cancelled_blast_is_never_cut(self, database: db.Database) -> None:
        room = newsroom(database)
        update = await published(room, 3, cut=False)

        await steering.cancel(database, 1, by=BY)

        assert await room.cut() == 0
        report = await room.report(update)
        assert (report.state, report.waiting, report.settled) == (BlastState.CANCELLED, 0, True)

    async def test_a_paused_blast_can_be_cancelled_and_cancelling_twice_is_well(self, database: db.Database) -> None:
        room = newsroom(database)
        update = await published(room, 3)
        await steering.pause(database, 1, by="anna")

        first = await steering.cancel(database, 1, by="ben")
        second = await steering.cancel(database, 1, by="carl")

        assert (first.changed, second.changed) == (True, False)
        assert (await room.report(update)).steered_by == "ben"

    async def test_other_blasts_go_on(self, database: db.Database) -> None:
        room = newsroom(database)
        await published(room, 3)
        await room.publish(importance=Importance.ROUTINE)
        await room.cut()
        await room.run(
            "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, next_at, state) "
            "VALUES (2, 1, now(), now(), 'deferred')"
        )

        await steering.cancel(database, 1, by=BY)

        assert (await upkeep.tick(database)).batches == 2
        assert (await ledger(room))[1]["state"] == "deferred"

    async def test_an_answer_that_is_on_its_way_still_counts(self, database: db.Database) -> None:
        """A batch of retries is being sent at the moment of cancelling: one answer comes, one reader is given back."""
        room = newsroom(database)
        update = await published(room, 2)
        for reader in (1, 2):
            await outcome(room, reader, DeliveryState.DEFERRED, reply="busy", next_in="-1 second")
        await room.run("UPDATE batches SET state = 'done'")
        await upkeep.tick(database)
        assert await claimable(room)

        await steering.cancel(database, 1, by=BY)
        meanwhile = await room.report(update)
        one = {"attempts": "{2}", "in_doubt": "{0}", "retry_in": "{NULL}", "codes": "{250}", "relays": ["r"]}
        async with database.transaction() as tx:
            await tx.execute("record", blasts="{1}", subscribers="{1}", states="{accepted}", replies=["ok"], **one)
            for batch in await room.run("SELECT id AS batch_id, lease_token AS token FROM batches WHERE worker > 0"):
                await tx.execute("release_batch", **batch, pause=0, reason=None)
            await tx.execute("end_cancelled")

        rows = await ledger(room)
        assert meanwhile.states == {DeliveryState.DEFERRED: 2}
        assert (rows[1]["state"], rows[2]["state"]) == ("accepted", "failed")
        assert rows[2]["reply"] == "cancelled before the next try; before: busy"
        assert {row["state"] for row in await room.run("SELECT state FROM batches")} == {"done"}
        assert adds_up(await room.report(update))

    @pytest.mark.parametrize(("long_ago", "due"), [("0", "1 hour"), ("1 day", "-1 second")])
    async def test_a_refusal_that_comes_after_the_cancel_ends_too(
        self, database: db.Database, long_ago: str, due: str
    ) -> None:
        room = newsroom(database)
        await published(room, 1)
        await steering.cancel(database, 1, by=BY)
        await room.run("UPDATE blasts SET steered_at = steered_at - %s::interval", long_ago)
        await outcome(room, 1, DeliveryState.DEFERRED, reply="busy", next_in=due)

        async with database.transaction() as tx:
            await tx.execute("end_cancelled")

        row = (await ledger(room))[1]
        assert (row["state"], row["next_at"]) == ("failed", None)


class TestRefusals:
    async def test_what_has_ended_cannot_be_steered_and_the_remedy_is_told(self, database: db.Database) -> None:
        room = newsroom(database)
        await published(room, 1)
        actions: list[Callable[[], Awaitable[object]]] = [
            lambda: steering.pause(database, 1, by=BY),
            lambda: steering.resume(database, room.bell, 1, by=BY),
            lambda: steering.cancel(database, 1, by=BY),
            lambda: steering.retry(database, room.bell, 1, by=BY),
        ]
        await done(room)
        for action in actions[:3]:
            with pytest.raises(Conflict, match="is done and cannot be .* publish a correction"):
                await action()
        await room.run("UPDATE blasts SET state = 'cancelled'")
        before = await room.run("SELECT * FROM blasts")
        for action in actions[:2] + actions[3:]:
            with pytest.raises(Conflict, match="is cancelled.* Publish a new update"):
                await action()

        assert await room.run("SELECT * FROM blasts") == before
        await room.run("DELETE FROM blasts")
        for action in actions:
            with pytest.raises(NotFound, match="no blast 1.*blast list"):
                await action()

    async def test_resuming_what_is_not_paused_changes_nothing(self, database: db.Database) -> None:
        room = newsroom(database)
        await published(room, 1, cut=False)
        cutting = await steering.resume(database, room.bell, 1, by=BY)
        await room.cut()
        sending = await steering.resume(database, room.bell, 1, by=BY)

        assert (cutting.state, cutting.changed) == (BlastState.CUTTING, False)
        assert (sending.state, sending.changed) == (BlastState.SENDING, False)
        assert (await room.run("SELECT steered_by FROM blasts"))[0]["steered_by"] is None

    async def test_a_selection_that_means_nothing_is_refused(self, database: db.Database) -> None:
        wrongs: list[tuple[str, object]] = [
            *(
                ("states", value)
                for value in ([], [DeliveryState.EXPIRED], [*steering.RETRIABLE, DeliveryState.CAPPED])
            ),
            *(("reason", value) for value in ("", "a\0b", "\ud800", "x" * 3000)),
            *(("code", value) for value in ("", "5", "5x0", "999", "٥٥٠", "5500")),
        ]
        for field, wrong in wrongs:
            with pytest.raises(Invalid) as caught:
                await steering.retry(database, newsroom(database).bell, 1, by=BY, **{field: wrong})  # type: ignore[arg-type]
            assert caught.value.field == field
            assert caught.value.remedy

    async def test_the_readers_of_an_update_that_has_expired_are_not_tried_again(self, database: db.Database) -> None:
        room = newsroom(database)
        await published(room, 1)
        await outcome(room, 1, DeliveryState.FAILED)
        await room.run("UPDATE updates SET published_at = published_at - interval '7 hours'")

        with pytest.raises(Conflict, match="has expired.* Publish a new update"):
            await steering.retry(database, room.bell, 1, by=BY)

        assert (await ledger(room))[1]["state"] == "failed"


class TestRetry:
    async def retry(self, room: Newsroom, **more: object) -> Retried:
        return await steering.retry(room.database, room.bell, 1, by=BY, **more)  # type: ignore[arg-type]

    async def test_who_failed_is_reached_once_the_relay_is_mended(self, database: db.Database) -> None:
        refused = {"reader1@example.org", "reader2@example.org"}

        def script(step: str, argument: str, session: Session) -> str | None:
            return "554 5.6.0 Not today" if step == "RCPT" and argument in refused else None

        async with a_sink(script) as sink:
            room = newsroom(database, sink.port)
            update = await published(room, 5)
            async with room.sender() as sender:
                first = await room.finish(sender, update)
                dry = await self.retry(room, dry_run=True)
                untouched = await room.report(update)
                refused.clear()
                retried = await self.retry(room, reason="5.6.0 Not today", code="5xx")
                opened = (await room.report(update)).state
                last = await room.finish(sender, update)
                again = await self.retry(room)

        assert first.states == {DeliveryState.ACCEPTED: 3, DeliveryState.FAILED: 2}
        assert (dry.count, dry.dry_run, untouched) == (2, True, first)
        assert (retried.count, retried.left_out, opened) == (2, 0, BlastState.SENDING)
        assert (last.states, last.state) == ({DeliveryState.ACCEPTED: 5}, BlastState.DONE)
        assert sink.copies() == {f"reader{n}@example.org": 1 for n in range(1, 6)}
        assert (again.count, again.state) == (0, BlastState.DONE)
        assert (await room.report(update)).state is BlastState.DONE

    async def test_a_selection_is_made_by_the_exact_reason_or_the_code(self, database: db.Database) -> None:
        room = newsroom(database)
        await published(room, 5)
        await outcome(room, 1, DeliveryState.FAILED, reply="5.6.0 No", code=554)
        await outcome(room, 2, DeliveryState.FAILED, reply="5.6.0 No, thanks", code=550)
        await outcome(room, 3, DeliveryState.FAILED, reply="too large")
        await outcome(room, 4, DeliveryState.FAILED)
        await outcome(room, 5, DeliveryState.ACCEPTED, reply="2.0.0 Ok", code=250)
        wishes: list[tuple[dict[str, object], int]] = [
            ({}, 4),
            ({"reason": "5.6.0 No"}, 1),
            ({"reason": "5.6.0"}, 0),
            ({"reason": "failed"}, 1),
            ({"code": "554"}, 1),
            ({"code": "55x"}, 2),
            ({"code": "5XX", "reason": "too large"}, 0),
            ({"code": "2xx"}, 0),
        ]

        assert [(await self.retry(room, dry_run=True, **wish)).count for wish, _ in wishes] == [n for _, n in wishes]
        await self.retry(room, code="554")

        rows = await ledger(room)
        assert (rows[1]["state"], rows[1]["attempts"], rows[1]["due"]) == ("deferred", 0, True)
        assert [rows[n]["state"] for n in (2, 3, 4, 5)] == ["failed", "failed", "failed", "accepted"]

    async def test_who_left_or_is_suppressed_is_left_out(self, database: db.Database) -> None:
        room = newsroom(database)
        await published(room, 4)
        for reader in range(1, 5):
            await outcome(room, reader, DeliveryState.FAILED)
        await room.run("UPDATE subscriptions SET ended_at = now(), ended_reason = 'reader' WHERE subscriber_id = 1")
        hashed = address_hash(SECRET, parse_address("reader2@example.org"))
        await room.run("INSERT INTO suppressions (address_hash, reason) VALUES (%s, 'complaint')", hashed)
        await room.run("DELETE FROM subscribers WHERE id = 3")

        retried = await self.retry(room)

        assert (retried.count, retried.left_out) == (1, 3)
        assert [row["state"] for _, row in sorted((await ledger(room)).items())] == [*["failed"] * 3, "deferred"]

    async def test_who_is_held_in_doubt_gets_one_more_try_and_who_is_not_held_is_left_alone(
        self, database: db.Database
    ) -> None:
        room = newsroom(database)
        await published(room, 5)
        await outcome(room, 1, DeliveryState.IN_DOUBT, doubts=3)
        await outcome(room, 2, DeliveryState.IN_DOUBT, doubts=1)  # held by the story's wish
        await outcome(room, 3, DeliveryState.IN_DOUBT, doubts=1, next_in="1 hour")
        await outcome(room, 4, DeliveryState.IN_DOUBT, doubts=2)  # on its way in a batch of retries
        await outcome(room, 5, DeliveryState.FAILED, doubts=3)  # refused for good, after it was in doubt
        await room.run("INSERT INTO batches (blast_id, urgency, subscriber_ids, retry) VALUES (1, 20, '{4}', true)")

        nobody = await self.retry(room, states=[DeliveryState.FAILED], reason="nothing like that")
        retried = await self.retry(room, states=[DeliveryState.IN_DOUBT, DeliveryState.FAILED])

        rows = await ledger(room)
        assert (nobody.count, retried.count) == (0, 3)
        assert {row["state"] for row in rows.values()} == {"in_doubt"}
        assert [rows[n]["in_doubt_count"] for n in range(1, 6)] == [2, 1, 1, 2, 2]
        assert [n for n, row in sorted(rows.items()) if row["due"]] == [1, 2, 5]

    async def test_who_is_held_in_doubt_gets_the_same_message_once_more(self, database: db.Database) -> None:
        async with a_sink(lambda step, *_: HANG_UP if step == "BODY" and not sink.taken else None) as sink:
            room = newsroom(database, sink.port)
            update = await published(room, 1)
            await stories.set_in_doubt(database, "dam", InDoubt.HOLD)
            async with room.sender() as sender:
                held = await room.finish(sender, update)
                retried = await self.retry(room, states=[DeliveryState.IN_DOUBT])
                last = await room.finish(sender, update)

        assert (held.states, held.state) == ({DeliveryState.IN_DOUBT: 1}, BlastState.DONE)
        assert (retried.count, last.states) == (1, {DeliveryState.ACCEPTED: 1})
        assert len(sink.taken) == 2
        assert len({each.message_id for each in sink.taken}) == 1

    async def test_a_blast_that_is_tried_again_is_counted_again_and_its_letters_are_made_again(
        self, database: db.Database
    ) -> None:
        room = newsroom(database)
        await published(room, 1)
        await outcome(room, 1, DeliveryState.FAILED)
        await done(room)
        await room.run("INSERT INTO tallies (blast_id, relay, state, count) VALUES (1, 'r', 'failed', 1)")
        await room.run(
            "INSERT INTO letter_failures (blast_id, variant, failures, reason, failed_at) "
            "VALUES (1, 'en/UTC', 3, 'broken', now())"
        )
        notes = "SELECT count FROM tallies UNION ALL SELECT failures FROM letter_failures"

        await self.retry(room, dry_run=True)
        kept = await room.run(notes)
        await self.retry(room)

        assert len(kept) == 2
        assert await room.run(notes) == []
        assert await room.run("SELECT state, done_at, steered_by FROM blasts") == [
            {"state": "sending", "done_at": None, "steered_by": BY}
        ]

    async def test_a_blast_that_is_cancelled_meanwhile_stays_cancelled(self, database: db.Database) -> None:
        room = newsroom(database)
        await published(room, 1)
        await outcome(room, 1, DeliveryState.FAILED)
        async with asyncio.timeout(10):
            async with database.transaction() as tx:
                await tx.raw.execute("SELECT state FROM deliveries FOR UPDATE")
                retry = asyncio.create_task(self.retry(room))
                while not await room.run("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
                    await asyncio.sleep(0.01)
                await steering.cancel(database, 1, by=BY)
            with pytest.raises(Conflict, match="is cancelled"):
                await retry

        assert (await ledger(room))[1]["state"] == "failed"
        assert await room.run("SELECT state FROM blasts") == [{"state": "cancelled"}]

    async def test_a_paused_blast_stays_paused_until_it_is_resumed(self, database: db.Database) -> None:
        room = newsroom(database)
        await published(room, 1)
        await outcome(room, 1, DeliveryState.FAILED)
        await room.run("UPDATE batches SET state = 'done'")
        await steering.pause(database, 1, by=BY)

        retried = await self.retry(room)
        await upkeep.tick(database)

        assert (retried.count, retried.state) == (1, BlastState.PAUSED)
        assert not await claimable(room)
        await steering.resume(database, room.bell, 1, by=BY)
        assert await claimable(room)


async def test_open_blasts_are_listed_first_and_the_newest_of_them(database: db.Database) -> None:
    room = newsroom(database)
    await room.story()
    for _ in range(4):
        await room.publish()
    await room.run("UPDATE blasts SET state = 'cancelled' WHERE id IN (2, 4)")
    await steering.pause(database, 1, by=BY)

    listed = await reporting.blasts(database, limit=3)

    assert [(each.id, each.state) for each in listed] == [
        (3, BlastState.CUTTING),
        (1, BlastState.PAUSED),
        (4, BlastState.CANCELLED),
    ]
    assert (listed[1].steered_by, listed[0].steered_by) == (BY, None)
