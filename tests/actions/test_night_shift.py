"""What went wrong once, and must not again."""

from __future__ import annotations

import asyncio

import psycopg

from dispatcher import db, upkeep
from dispatcher.db.migrate import migrate
from dispatcher.embedded.postgres import Postgres
from dispatcher.model import DeliveryState
from tests.support.databases import fresh_database
from tests.support.newsroom import newsroom
from tests.support.sink import SILENCE, Session, a_sink


class TestNightShift:
    """What went wrong once, and must not again."""

    async def test_a_reader_in_two_batches_of_retries_gets_one_mail(self, database: db.Database) -> None:
        """A batch of retries was given back, and its reader's next try came due before it was claimed again."""
        refuse = {"reader1@example.org", "reader2@example.org"}
        async with a_sink(
            lambda step, argument, _: "452 full" if step == "RCPT" and argument in refuse else None
        ) as sink:
            room = newsroom(database, sink.port)
            await room.story(followers=2)
            published = await room.publish()
            async with room.sender() as sender:
                await room.settle(sender, published)
            refuse.clear()
            await room.run("UPDATE deliveries SET next_at = now()")
            await upkeep.tick(database)
            await room.run(
                "UPDATE deliveries SET recorded_at = clock_timestamp(), next_at = clock_timestamp(), attempts = 2 "
                "WHERE subscriber_id = 1"
            )
            await upkeep.tick(database)
            batches = await room.run("SELECT id FROM batches WHERE retry")
            async with room.sender() as sender:
                await room.finish(sender, published)

        assert len(batches) == 2
        assert sink.copies() == {"reader1@example.org": 1, "reader2@example.org": 1}

    async def test_a_batch_of_retries_that_is_claimed_again_repeats_no_try(self, database: db.Database) -> None:
        """Its worker died after the try was written down and before the batch was closed."""
        async with a_sink() as sink:
            room = newsroom(database, sink.port)
            await room.story(followers=1)
            published = await room.publish()
            await room.cut()
            await room.run(
                "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, attempts, in_doubt_count) "
                "SELECT blast_id, subscriber_ids[1], clock_timestamp(), 'in_doubt', 3, 3 FROM batches"
            )
            await room.run("UPDATE batches SET retry = true")
            async with room.sender() as sender:
                report = await room.finish(sender, published)

        assert not sink.taken
        assert report.states == {DeliveryState.IN_DOUBT: 1}

    async def test_a_worker_outlives_a_database_that_takes_no_writes(
        self, database: db.Database, database_url: str, postgres: Postgres
    ) -> None:
        name = database_url.rsplit("/", 1)[1].partition("?")[0]
        kick = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"

        def decree(setting: str) -> None:
            with psycopg.connect(postgres.url, autocommit=True) as connection:
                connection.execute(f"ALTER DATABASE {name} {setting}")
                connection.execute(kick)

        async with a_sink() as sink:
            room = newsroom(database, sink.port)
            await room.story(followers=5)
            async with room.sender() as sender:
                await asyncio.to_thread(decree, "SET default_transaction_read_only = on")
                for _ in range(10):
                    sender.nudge()
                    await asyncio.sleep(0.1)
                await asyncio.to_thread(decree, "RESET default_transaction_read_only")
                await asyncio.sleep(0.2)
                published = await room.publish()
                report = await room.settle(sender, published)

        assert report.states == {DeliveryState.ACCEPTED: 5}

    async def test_a_worker_that_started_before_the_migration_works_after_it(self, postgres: Postgres) -> None:
        with fresh_database(postgres) as url:
            async with db.Database(url, size=4) as database, a_sink() as sink:
                room = newsroom(database, sink.port)
                async with room.sender() as sender:
                    sender.nudge()
                    await asyncio.sleep(0.3)
                    await asyncio.to_thread(migrate, url)
                    await room.story(followers=5)
                    published = await room.publish()
                    report = await room.settle(sender, published)

        assert report.states == {DeliveryState.ACCEPTED: 5}

    async def test_a_relay_that_allows_few_connections_is_not_stormed(self, database: db.Database) -> None:
        def script(step: str, argument: str, session: Session) -> str | None:
            return "421 4.7.0 too many connections" if step == "EHLO" and len(session.sink.sessions) > 2 else None

        async with a_sink(script) as sink:
            room = newsroom(database, sink.port, lanes=10)
            await room.story(followers=900)
            published = await room.publish()
            async with room.sender() as sender:
                report = await room.settle(sender, published)

        assert report.states == {DeliveryState.ACCEPTED: 900}
        assert sink.connections <= 20

    async def test_a_batch_on_which_workers_died_is_claimed_by_a_worker_with_nothing_else(
        self, database: db.Database
    ) -> None:
        async with a_sink(lambda step, *_: SILENCE if step == "BODY" else None) as sink:
            room = newsroom(database, sink.port, lanes=1)
            await room.story(followers=1100)
            await room.publish()
            await room.cut()
            await room.run("UPDATE batches SET attempts = 2 WHERE id = (SELECT min(id) FROM batches)")
            async with room.sender() as sender:
                sender.nudge()
                async with asyncio.timeout(20):
                    while not sink.taken:
                        await asyncio.sleep(0.01)
                alone = await room.run("SELECT state, attempts FROM batches ORDER BY id")
                for _ in range(5):
                    sender.nudge()
                    await asyncio.sleep(0.02)
                later = await room.run("SELECT state, attempts FROM batches ORDER BY id")
                for session in list(sink.sessions):
                    session.hang_up()

        assert [row["state"] for row in alone] == [row["state"] for row in later] == ["leased", "waiting", "waiting"]

    async def test_a_letter_that_cannot_be_made_leaves_its_readers_waiting_and_says_why(
        self, database: db.Database
    ) -> None:
        """Another version's letter is in the database; readers of other variants get theirs."""
        async with a_sink() as sink:
            room = newsroom(database, sink.port)
            await room.story(followers=4)
            await room.run("UPDATE subscribers SET timezone = 'Asia/Tokyo' WHERE id = 2")
            published = await room.publish()
            await room.cut()
            await room.run("INSERT INTO letters VALUES (%s, 'en/Asia/Tokyo', 'rubbish')", published.blast_ids[0])
            async with room.sender() as sender:
                async with asyncio.timeout(20):
                    while (report := await room.report(published)).waiting > 1 or not report.holding:
                        sender.nudge()
                        await asyncio.sleep(0.02)
                await room.run("DELETE FROM letters WHERE variant = 'en/Asia/Tokyo'")
                await room.run("UPDATE batches SET not_before = '-infinity'")
                done = await room.finish(sender, published)

        assert "en/Asia/Tokyo cannot be made" in report.holding
        assert done.states == {DeliveryState.ACCEPTED: 4}
        assert set(sink.copies().values()) == {1}
