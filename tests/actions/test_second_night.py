"""What went wrong on the second night, and must not again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from dispatcher import db, steering, stories, upkeep
from dispatcher.embedded.postgres import SOCKET, Postgres
from dispatcher.errors import DatabaseUnavailable
from dispatcher.ledger import Entry, Ledger
from dispatcher.model import DeliveryState, Importance, InDoubt, Urgency
from dispatcher.sending import WARM, Sender
from tests.support.newsroom import Newsroom, newsroom
from tests.support.proxy import Proxy, proxies
from tests.support.relays import hurry, until
from tests.support.sink import SILENCE, Session, a_sink

#: The sessions on a test's own database.
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"


def by_way_of(line: Proxy, url: str) -> str:
    """A database's URL on this line."""
    before, _, after = url.partition("@")
    return f"{before}@127.0.0.1:{line.port}/{after.partition('/')[2].partition('?')[0]}"


async def gave_up(room: Newsroom, *replies: str) -> None:
    """The first blast has come to its end: its readers, 1 and so on, failed with these replies."""
    await room.run("UPDATE batches SET state = 'done'")
    for reader, reply in enumerate(replies, 1):
        await room.run(
            "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, attempts, code, reply) "
            "VALUES (1, %s, clock_timestamp(), 'failed', 1, %s, %s)",
            *(reader, int(reply[:3]), reply),
        )


class TestSecondNight:
    """What went wrong on the second night, and must not again."""

    async def test_nothing_is_started_once_the_update_has_expired(self, database: db.Database) -> None:
        """The relay was slow, and mails that waited for a lane were sent whatever the time."""
        async with a_sink(lambda step, *_: SILENCE if step == "BODY" else None) as sink:
            room = newsroom(database, sink.port, lanes=1)
            await room.story(followers=10)
            soon = datetime.now(UTC) + timedelta(seconds=1.5)
            published = await room.publish(expires_at=soon)
            await room.cut()
            async with room.sender() as sender:
                sender.nudge()
                await until(lambda: bool(sink.taken))
                await asyncio.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds()) + 0.1)
                sink.script = lambda *_: None
                for session in list(sink.sessions):
                    session.speak("250 2.0.0 Ok, at last")
                report = await room.settle(sender, published)

        assert len(sink.taken) == 1
        assert report.states == {DeliveryState.ACCEPTED: 1, DeliveryState.EXPIRED: 9}

    async def test_a_worker_that_stops_while_it_loads_a_batch_gives_it_back_at_once(
        self, database: db.Database
    ) -> None:
        """It was left to its lease, and counted as one on which a worker had died."""
        async with a_sink() as sink:
            room = newsroom(database, sink.port)
            await room.story(followers=10)
            await room.publish()
            await room.cut()
            sender = Sender(room.settings, database, urgency=max(Urgency))
            sender.start()
            async with database.transaction() as tx:
                await tx.raw.execute("LOCK TABLE suppressions IN ACCESS EXCLUSIVE MODE")
                sender.nudge()
                await until(lambda: room.run("SELECT id FROM batches WHERE state = 'leased'"))
                closing = asyncio.create_task(sender.close(5))
                await asyncio.sleep(0.3)
            await closing

        assert not sink.taken
        assert await room.run("SELECT state, attempts FROM batches") == [{"state": "waiting", "attempts": 0}]

    async def test_a_worker_that_stops_while_the_ledger_is_slow_still_gives_its_batch_back(
        self, database: db.Database
    ) -> None:
        async with a_sink() as sink:
            room = newsroom(database, sink.port, lanes=1)
            await room.story(followers=3)
            await room.publish()
            await room.cut()
            sender = Sender(room.settings, database, urgency=max(Urgency))
            sender.start()
            async with database.transaction() as tx:
                await tx.raw.execute("LOCK TABLE deliveries IN SHARE MODE")
                sender.nudge()
                await until(lambda: bool(sink.taken))
                closing = asyncio.create_task(sender.close(0.2))
                await asyncio.sleep(2.6)
            await closing

        assert await room.run("SELECT state, attempts FROM batches") == [{"state": "waiting", "attempts": 0}]

    async def test_two_people_who_retry_the_same_reader_at_once_cause_one_mail(self, database: db.Database) -> None:
        """The second had chosen the reader before the first had; meanwhile the first retry was in a batch."""
        async with a_sink() as sink:
            room = newsroom(database, sink.port)
            await room.story(followers=2)
            published = await room.publish()
            await room.cut()
            await gave_up(room, "551 no", "552 no")
            async with database.transaction() as tx:
                await tx.raw.execute("SELECT FROM deliveries WHERE subscriber_id = 1 FOR UPDATE")
                everybody = asyncio.create_task(steering.retry(database, room.bell, 1, by="anna"))
                await until(lambda: room.run(f"{SESSIONS} AND wait_event_type = 'Lock'"))
                await steering.retry(database, room.bell, 1, by="ben", code="552")
                await upkeep.tick(database)
            counted = await everybody
            await upkeep.tick(database)
            async with room.sender() as sender:
                await room.finish(sender, published)

        assert counted.count == 1
        assert sink.copies() == {"reader1@example.org": 1, "reader2@example.org": 1}

    @pytest.mark.parametrize("statement", ["finish_blast", "finish_blasts"])
    async def test_a_blast_does_not_end_over_readers_who_are_just_being_tried_again(
        self, database: db.Database, statement: str
    ) -> None:
        """It was done, and the batch of retries that was made then was never claimed by anybody."""
        room = newsroom(database)
        await room.story(followers=1)
        await room.publish()
        await room.cut()
        await gave_up(room, "551 no")

        async def finish() -> int:
            values = {"blast_id": 1} if statement == "finish_blast" else {}
            async with database.transaction() as other:
                return await other.execute(statement, **values)

        async with database.transaction() as tx:
            chosen = {"states": ["failed"], "reason": None, "lowest": None, "highest": None, "most_doubts": 2}
            chosen |= {"codes": None, "statuses": None, "words": None}
            await tx.one("retry_readers", blast_id=1, story_id=1, dry_run=False, **chosen)
            await tx.one("lock_blast", blast_id=1)
            finishing = asyncio.create_task(finish())
            await until(lambda: room.run(f"{SESSIONS} AND wait_event_type = 'Lock'"))
            await tx.execute("steer_blast", blast_id=1, state="sending", by="anna")

        assert await finishing == 0
        assert await room.run("SELECT state FROM blasts") == [{"state": "sending"}]

    async def test_news_that_comes_late_or_twice_costs_nothing(self, database: db.Database) -> None:
        """The worker believed it for ever, claimed the batch and gave it back, some hundred times a second."""
        async with a_sink() as sink:
            room = newsroom(database, sink.port)
            await room.story(followers=5)
            published = await room.publish()
            await room.cut()
            await room.run("UPDATE batches SET not_before = 'infinity'")
            heard = asyncio.Event()
            async with room.sender() as sender:
                sender.on_published = heard.set
                await until(lambda: room.run(f"{SESSIONS} AND query LIKE 'UPDATE batches SET lease_until%%'"))
                for news in ("blast:1:paused", "blast:1:paused", "blast:99:cutting"):
                    await room.run("SELECT pg_notify('dispatcher', %s)", news)
                await heard.wait()
                await room.run("UPDATE batches SET not_before = '-infinity'")
                report = await room.settle(sender, published)
            claims = await room.run("SELECT last_value FROM lease_tokens")

        assert report.states == {DeliveryState.ACCEPTED: 5}
        assert claims[0]["last_value"] <= 5

    async def test_what_fails_for_a_reason_of_the_database_is_not_tried_all_the_time(
        self, database: db.Database
    ) -> None:
        """Its disk was full: the batch was claimed and given back as fast as the database could."""
        async with a_sink() as sink:
            room = newsroom(database, sink.port)
            await room.story(followers=5)
            published = await room.publish()
            await room.cut()
            await room.run(
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$"
            )
            await room.run("CREATE TRIGGER no_room BEFORE INSERT ON letters EXECUTE FUNCTION full_disk()")
            async with room.sender() as sender:
                for _ in range(20):
                    sender.nudge()
                    await asyncio.sleep(0.1)
                claims = await room.run("SELECT last_value FROM lease_tokens")
                await room.run("DROP TRIGGER no_room ON letters")
                report = await room.settle(sender, published)

        assert 1 <= claims[0]["last_value"] <= 4
        assert report.states == {DeliveryState.ACCEPTED: 5}

    async def test_a_reader_is_tried_again_although_the_clock_was_set_back(self, database: db.Database) -> None:
        """The ledger's row was newer than the batch of retries, which so owed the reader nothing."""
        async with a_sink() as sink:
            room = newsroom(database, sink.port)
            await room.story(followers=1)
            published = await room.publish()
            await room.cut()
            await room.run("UPDATE batches SET state = 'done'")
            await room.run(
                "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, next_at, state, attempts) "
                "VALUES (1, 1, clock_timestamp() + interval '2 minutes', clock_timestamp(), 'deferred', 1)"
            )
            async with room.sender() as sender:
                report = await room.finish(sender, published)

        assert report.states == {DeliveryState.ACCEPTED: 1}

    async def test_a_suspect_batch_of_breaking_news_does_not_wait_for_a_newsletter_to_end(
        self, database: db.Database
    ) -> None:
        """Only a worker with nothing else may claim it, and with a newsletter under way none ever has nothing."""
        async with a_sink() as sink:
            room = newsroom(database, sink.port)
            await room.story(followers=8000)
            newsletter = await room.publish(importance=Importance.ROUTINE)
            await room.story("fire")
            await room.follow("fire", "reader1@example.org")
            breaking = await room.publish("fire", importance=Importance.BREAKING)
            await room.cut()
            await room.run("UPDATE batches SET attempts = 2, not_before = 'infinity' WHERE blast_id = 2")
            async with room.sender() as sender:
                sender.nudge()
                await until(lambda: len(sink.taken) >= 100)
                await room.run("UPDATE batches SET not_before = '-infinity' WHERE blast_id = 2")
                await room.settle(sender, breaking)
                waiting = (await room.report(newsletter)).waiting

        assert waiting > 2000

    async def test_a_late_refusal_leaves_nobody_in_doubt(
        self, database: db.Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where doubts are held for a person, such a reader was never tried again, though the relay had said when."""
        hurry(monkeypatch)
        sessions: list[Session] = []

        def slow(step: str, _: str, session: Session) -> str | None:
            if step == "BODY" and not sessions:
                sessions.append(session)
                return SILENCE
            return None

        async with a_sink(slow) as sink:
            room = newsroom(database, sink.port, lanes=2)
            await room.story(followers=1)
            await stories.set_in_doubt(database, "dam", InDoubt.HOLD)
            published = await room.publish()
            async with room.sender() as sender:
                meanwhile = await room.settle(sender, published)
                sessions[0].speak("451 4.3.2 try later")
                await until(
                    lambda: room.run("SELECT 1 FROM deliveries WHERE state = 'deferred' AND in_doubt_count = 0")
                )
                await room.run("UPDATE deliveries SET next_at = clock_timestamp()")
                report = await room.finish(sender, published)

        assert meanwhile.states == {DeliveryState.IN_DOUBT: 1}
        assert report.states == {DeliveryState.ACCEPTED: 1}

    async def test_doubts_are_held_from_the_moment_that_a_person_says_so(self, database: db.Database) -> None:
        """A worker that had the blast in memory went on sending such messages again."""
        async with a_sink() as sink:
            room = newsroom(database, sink.port)
            await room.story(followers=2)
            published = await room.publish()
            async with room.sender() as sender:
                await room.finish(sender, published)
                await stories.set_in_doubt(database, "dam", InDoubt.HOLD)
                await room.run(
                    "UPDATE deliveries SET state = 'in_doubt', in_doubt_count = 1, next_at = clock_timestamp() "
                    "WHERE subscriber_id = 1"
                )
                await room.run("UPDATE blasts SET state = 'sending', done_at = NULL")
                report = await room.finish(sender, published)

        assert report.states == {DeliveryState.ACCEPTED: 1, DeliveryState.IN_DOUBT: 1}
        assert len(sink.taken) == 2

    async def test_a_host_that_is_cut_off_in_the_middle_of_a_round_does_not_end_all_rounds(
        self, database: db.Database, database_url: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its transaction, and so the lock that lets only one do the round, would have been open for two hours."""
        monkeypatch.setattr(upkeep, "SILENCE", 500)
        room = newsroom(database)
        await room.story(followers=1)
        await room.publish()
        await room.cut()
        await room.run("UPDATE batches SET state = 'leased', worker = 99, lease_token = 1, lease_until = '-infinity'")
        with proxies(postgres._socket_directory / SOCKET) as (line,):
            async with db.Database(by_way_of(line, database_url), size=1) as cut_off:
                async with database.transaction() as tx:
                    await tx.raw.execute("LOCK TABLE batches IN EXCLUSIVE MODE")
                    lost = asyncio.create_task(upkeep.tick(cut_off))
                    await until(lambda: room.run(f"{SESSIONS} AND wait_event_type = 'Lock'"))
                    line.freeze()
                async with asyncio.timeout(10):
                    while not await room.run("SELECT id FROM batches WHERE state = 'waiting'"):
                        await upkeep.tick(database)
                        await asyncio.sleep(0.05)
                line.thaw()
                with pytest.raises(DatabaseUnavailable):
                    await lost

    async def test_whatever_is_run_to_warm_a_connection_can_be_run(self, database: db.Database) -> None:
        """One statement lacked a value, and no worker had a connection."""
        async with database.connection() as connection:
            for name, values in WARM.items():
                await connection.execute(name, **values)

    async def test_one_workers_refusal_does_not_end_anothers_doubt(self, database: db.Database) -> None:
        """Both had made the same try, one without its lease: what the relay told one says nothing of the other."""
        room = newsroom(database)
        ledger = Ledger(database)
        ledger.start()
        for state, doubts, code in ((DeliveryState.IN_DOUBT, 1, None), (DeliveryState.DEFERRED, 0, 451)):
            written = asyncio.Event()
            ledger.put(Entry(1, 1, state, 1, doubts, 60.0, code, "relay", "", written.set))
            await written.wait()
        await ledger.close()

        assert await room.run("SELECT state, in_doubt_count FROM deliveries") == [
            {"state": "in_doubt", "in_doubt_count": 1}
        ]
