"""From a frozen audience to the ledger: real Postgres, a real SMTP dialogue, one sender on this event loop."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy

from dispatcher import db, upkeep
from dispatcher.addresses import address_hash, parse_address
from dispatcher.model import BlastState, DeliveryState, Importance, Kind
from tests.support.newsroom import SECRET, newsroom
from tests.support.sink import HANG_UP, SILENCE, Session, a_sink


async def test_every_follower_gets_one_mail_and_one_row(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=1203)
        published = await room.publish()
        async with room.sender() as sender:
            report = await room.finish(sender, published)

    assert report.candidates == report.states[DeliveryState.ACCEPTED] == 1203
    assert report.state is BlastState.DONE
    assert sink.copies() == {f"reader{n}@example.org": 1 for n in range(1, 1204)}
    assert len({each.message_id for each in sink.taken}) == 1203


async def test_who_is_in_the_audience(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story()
        await room.story("other", followers=1)
        await room.follow("dam", "every@example.org")
        await room.follow("dam", "major@example.org", cadence="major")
        await room.follow("dam", "daily@example.org", cadence="daily")
        await room.follow("dam", "unconfirmed@example.org", confirmed=False)
        await room.follow("dam", "gone@example.org")
        await room.run(
            "UPDATE subscriptions SET ended_at = now(), ended_reason = 'reader' WHERE subscriber_id = "
            "(SELECT id FROM subscribers WHERE email = 'gone@example.org')"
        )
        routine = await room.publish(importance=Importance.ROUTINE)
        breaking = await room.publish(importance=Importance.BREAKING)
        await room.follow("dam", "too-late@example.org")
        async with room.sender() as sender:
            reached = [(await room.settle(sender, each)).candidates for each in (routine, breaking)]
            correction = await room.publish(importance=Importance.ROUTINE, kind=Kind.CORRECTION, corrects_seq=1)
            reached.append((await room.settle(sender, correction)).candidates)

    assert reached == [1, 2, 1]
    assert sink.copies() == {"every@example.org": 3, "major@example.org": 1}


async def test_a_story_without_followers_is_done_at_once(database: db.Database) -> None:
    room = newsroom(database)
    await room.story()
    published = await room.publish()

    await room.cut()

    report = await room.report(published)
    assert (report.candidates, report.waiting, report.state) == (0, 0, BlastState.DONE)


async def test_ten_cutters_freeze_an_audience_once(database: db.Database) -> None:
    room = newsroom(database)
    await room.story(followers=1100)
    published = await room.publish()

    cut = await asyncio.gather(*(room.cut() for _ in range(10)))

    assert sum(cut) == 1
    assert (await room.report(published)).candidates == 1100
    batches = await room.run("SELECT subscriber_ids FROM batches ORDER BY id")
    ids = [each for batch in batches for each in batch["subscriber_ids"]]
    assert [len(batch["subscriber_ids"]) for batch in batches] == [500, 500, 100]
    assert ids == sorted(set(ids))


async def test_leaving_or_being_suppressed_after_the_cut_counts_and_is_not_written_to(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=5)
        published = await room.publish()
        await room.cut()
        await room.run("UPDATE subscriptions SET ended_at = now(), ended_reason = 'reader' WHERE subscriber_id = 1")
        await room.run("DELETE FROM subscribers WHERE id = 2")
        await room.run("UPDATE subscriptions SET cadence = 'daily' WHERE subscriber_id = 3")
        hashed = address_hash(SECRET, parse_address("Reader4@example.org"))
        await room.run("INSERT INTO suppressions (address_hash, reason) VALUES (%s, 'complaint')", hashed)
        async with room.sender() as sender:
            report = await room.settle(sender, published)

    assert report.states == {DeliveryState.WITHDRAWN: 2, DeliveryState.SUPPRESSED: 1, DeliveryState.ACCEPTED: 2}
    assert report.candidates == 5
    assert set(sink.copies()) == {"reader3@example.org", "reader5@example.org"}


async def test_refusals_are_sorted_and_only_the_temporary_ones_are_tried_again(database: db.Database) -> None:
    refuse = {"reader1@example.org": "550 5.1.1 No such user", "reader2@example.org": "452 4.2.2 Mailbox full"}

    def script(step: str, argument: str, session: Session) -> str | None:
        return refuse.get(argument) if step == "RCPT" else None

    async with a_sink(script) as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=4)
        published = await room.publish()
        async with room.sender() as sender:
            first = await room.settle(sender, published)
            due = await room.run(
                "SELECT extract(epoch FROM next_at - recorded_at)::float8 AS s FROM deliveries "
                "WHERE next_at IS NOT NULL"
            )
            refuse.clear()
            await room.run("UPDATE deliveries SET next_at = now() WHERE next_at IS NOT NULL")
            last = await room.finish(sender, published)

    assert first.states == {DeliveryState.ACCEPTED: 2, DeliveryState.FAILED: 1, DeliveryState.DEFERRED: 1}
    assert first.state is BlastState.SENDING
    assert dict(first.reasons) == {"5.1.1 No such user": 1, "4.2.2 Mailbox full": 1}
    assert 45 <= due[0]["s"] <= 75
    assert last.states == {DeliveryState.ACCEPTED: 3, DeliveryState.FAILED: 1}
    assert sink.copies() == {f"reader{n}@example.org": 1 for n in (2, 3, 4)}


async def test_a_reader_in_doubt_is_written_to_again_twice_with_the_same_message_id(database: db.Database) -> None:
    def script(step: str, argument: str, session: Session) -> str | None:
        return HANG_UP if step == "BODY" and argument == "reader1@example.org" else None

    async with a_sink(script) as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=3)
        published = await room.publish()
        async with room.sender() as sender, asyncio.timeout(15):
            while (report := await room.report(published)).state is not BlastState.DONE:
                await room.cut()
                await upkeep.tick(database)
                await room.run("UPDATE deliveries SET next_at = now() WHERE next_at IS NOT NULL")
                sender.nudge()
                await asyncio.sleep(0.02)

    assert report.states == {DeliveryState.ACCEPTED: 2, DeliveryState.IN_DOUBT: 1}
    copies = [each for each in sink.taken if each.recipient == "reader1@example.org"]
    assert len(copies) == 3
    assert len({each.message_id for each in copies}) == 1


async def test_an_update_that_has_expired_is_not_sent(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=3)
        published = await room.publish(expires_at=datetime.now(UTC) + timedelta(seconds=0.2))
        await room.cut()
        await asyncio.sleep(0.3)
        async with room.sender() as sender:
            report = await room.settle(sender, published)

    assert report.states == {DeliveryState.EXPIRED: 3}
    assert not sink.taken


async def test_mail_waits_while_the_relay_is_away_and_the_blast_says_why(database: db.Database) -> None:
    async with a_sink() as sink:
        port = sink.port
    room = newsroom(database, port)
    await room.story(followers=700)
    published = await room.publish()
    await room.cut()
    async with room.sender() as sender:
        async with asyncio.timeout(20):
            while not (report := await room.report(published)).holding:
                sender.nudge()
                await asyncio.sleep(0.02)
        rows = await room.run("SELECT count(*) AS n FROM deliveries")
        attempts = await room.run("SELECT max(attempts) AS n FROM batches")

    assert f"127.0.0.1:{port} is not available" in report.holding
    assert report.waiting == 700
    assert rows[0]["n"] == 0
    assert attempts[0]["n"] == 0


async def test_two_relays_share_a_blast_and_one_that_is_dead_holds_nobody_up(database: db.Database) -> None:
    async with a_sink() as dead:
        gone = dead.port
    async with a_sink() as one, a_sink() as two:
        room = newsroom(database, one.port, gone, two.port)
        await room.story(followers=600)
        published = await room.publish()
        async with room.sender() as sender:
            report = await room.settle(sender, published)

    assert report.states == {DeliveryState.ACCEPTED: 600}
    assert len(one.taken) > 50
    assert len(two.taken) > 50


async def test_two_senders_never_write_to_the_same_reader(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=3000)
        published = await room.publish()
        async with room.sender() as one, room.sender() as two:
            one.nudge()
            report = await room.settle(two, published)

    assert report.states == {DeliveryState.ACCEPTED: 3000}
    assert set(sink.copies().values()) == {1}


async def test_a_breaking_blast_overtakes_a_running_one(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port, lanes=2)
        await room.story(followers=4000)
        await room.story("strike")
        await room.follow("strike", *(f"urgent{n}@example.org" for n in range(100)))
        bulk = await room.publish(importance=Importance.ROUTINE)
        await room.cut()
        async with room.sender() as sender:
            sender.nudge()
            async with asyncio.timeout(20):
                while len(sink.taken) < 300:
                    await asyncio.sleep(0.005)
            urgent = await room.publish("strike", importance=Importance.BREAKING)
            await room.cut()
            sender.nudge()
            await room.settle(sender, urgent)
            behind = (await room.report(bulk)).waiting
            await room.settle(sender, bulk, seconds=20)

    assert behind > 1500
    assert set(sink.copies().values()) == {1}


async def test_a_worker_for_urgent_work_leaves_the_rest_alone(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=10)
        routine = await room.publish(importance=Importance.ROUTINE)
        breaking = await room.publish(importance=Importance.BREAKING)
        await room.cut()
        async with room.sender(urgency=10) as sender:
            await room.settle(sender, breaking)
            await sender.send_next(1)

        assert (await room.report(routine)).waiting == 10


async def test_the_newest_update_that_a_reader_received_is_noted(database: db.Database) -> None:
    def script(step: str, argument: str, session: Session) -> str | None:
        return "550 5.1.1 no" if step == "RCPT" and argument == "reader2@example.org" else None

    async with a_sink(script) as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=3)
        async with room.sender() as sender:
            for _ in range(2):
                await room.finish(sender, await room.publish())

    rows = await room.run("SELECT last_seq FROM subscriptions ORDER BY subscriber_id")
    assert [row["last_seq"] for row in rows] == [2, 0, 2]


async def test_closing_finishes_what_is_on_its_way_and_gives_the_rest_back(database: db.Database) -> None:
    answered: list[Session] = []

    def slow(step: str, argument: str, session: Session) -> str | None:
        if step != "BODY":
            return None
        asyncio.get_running_loop().call_later(0.2, session.speak, "250 2.0.0 Ok")
        answered.append(session)
        return SILENCE

    async with a_sink(slow) as sink:
        room = newsroom(database, sink.port, lanes=3)
        await room.story(followers=900)
        published = await room.publish()
        await room.cut()
        async with room.sender() as sender:
            sender.nudge()
            async with asyncio.timeout(20):
                while len(answered) < 3:
                    await asyncio.sleep(0.005)
        stopped = await room.report(published)
        batches = await room.run("SELECT state, attempts FROM batches")

    assert stopped.states == {DeliveryState.ACCEPTED: len(sink.taken)}
    assert 3 <= len(sink.taken) < 50
    assert {(row["state"], row["attempts"]) for row in batches} == {("waiting", 0)}
    assert set(sink.copies().values()) == {1}


async def test_thread_and_headers_of_a_real_mail(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=1)
        async with room.sender() as sender:
            for _ in range(2):
                await room.settle(sender, await room.publish())

    first, second = (message_from_bytes(each.data, policy=policy.default) for each in sink.taken)
    assert first["References"] == second["References"] == first["In-Reply-To"]
    assert first["Message-ID"] != second["Message-ID"]
    assert second["List-Unsubscribe"].strip().startswith("<https://alerts.example.org/u/")
    assert second["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert second["Auto-Submitted"] == "auto-generated"
    assert second["To"] == "reader1@example.org"
    assert [part.get_content_type() for part in second.walk()] == ["multipart/alternative", "text/plain", "text/html"]


async def test_a_sender_with_nothing_to_do_opens_no_connection(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        async with room.sender() as sender:
            await sender.send_next(0.2)

    assert sink.connections == 0


async def test_a_worker_whose_database_connection_ends_stops_and_nobody_gets_two(database: db.Database) -> None:
    """Others hold it for dead and take its batches back, so it must not start another message of them."""
    async with a_sink(lambda step, *_: SILENCE if step == "BODY" else None) as sink:
        room = newsroom(database, sink.port, lanes=2)
        await room.story(followers=300)
        published = await room.publish()
        await room.cut()
        async with room.sender() as sender:
            sender.nudge()
            async with asyncio.timeout(20):
                while len(sink.taken) < 2:
                    await asyncio.sleep(0.01)
            await room.run(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
            )
            await asyncio.sleep(0.2)
            for session in list(sink.sessions):
                session.speak("250 2.0.0 Ok")
            sink.script = lambda *_: None
            for session in list(sink.sessions):
                session.speak("250 2.0.0 Ok")
            report = await room.settle(sender, published)

    assert report.states == {DeliveryState.ACCEPTED: 300}
    assert set(sink.copies().values()) == {1}
