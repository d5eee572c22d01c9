"""The monitor speaks when published news does not arrive, and keeps quiet while a large queue moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from dispatcher import db, monitoring, steering
from dispatcher.db.migrate import migrate
from dispatcher.embedded.postgres import Postgres
from dispatcher.model import DeliveryState, Importance, Published
from dispatcher.pulse import ALIVE
from tests.support.databases import fresh_database
from tests.support.newsroom import Newsroom, newsroom
from tests.support.sink import a_sink


@asynccontextmanager
async def a_worker(room: Newsroom, number: int = 1) -> AsyncIterator[None]:
    """Somebody who holds a worker's sign of life."""
    connection = await room.database.dedicated()
    await connection.execute("be_alive", **{"class": ALIVE, "worker": number})
    try:
        yield
    finally:
        await connection.close()


@pytest.fixture
async def room(database: db.Database) -> Newsroom:
    """Three readers follow a story."""
    room = newsroom(database)
    await room.story(followers=3)
    return room


async def ago(room: Newsroom, seconds: float, published: Published | None = None) -> None:
    """Let everything about a blast, or about all, have happened so many seconds earlier, to readers of old."""
    await room.run("UPDATE subscriptions SET confirmed_at = now() - interval '1 month'")
    blasts = [published.blast_ids[0]] if published else [row["id"] for row in await room.run("SELECT id FROM blasts")]
    for table, column, which in (
        ("updates", "published_at", "id IN (SELECT update_id FROM blasts WHERE id = ANY (%s))"),
        ("blasts", "created_at", "id = ANY (%s)"),
        ("blasts", "done_at", "id = ANY (%s)"),
        ("blasts", "steered_at", "id = ANY (%s)"),
        ("batches", "created_at", "blast_id = ANY (%s)"),
        ("deliveries", "recorded_at", "blast_id = ANY (%s)"),
        ("tallies", "counted_at", "blast_id = ANY (%s)"),
    ):
        shift = f"UPDATE {table} SET {column} = {column} - make_interval(secs => %s) WHERE {which}"
        await room.run(shift, seconds, blasts)


async def accept(room: Newsroom, published: Published, *readers: int, ago: float = 0, state: str = "accepted") -> None:
    """Write outcomes into the ledger, as of so many seconds ago."""
    await room.run(
        "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, relay, next_at)"
        " SELECT %s, unnest(%s::bigint[]), clock_timestamp() - make_interval(secs => %s), %s::delivery_state, 'mx',"
        " CASE WHEN %s = 'deferred' THEN now() + interval '5 minutes' END",
        published.blast_ids[0], list(readers), ago, state, state,
    )  # fmt: skip


async def incidents(room: Newsroom) -> dict[str, str]:
    """The texts of the open incidents by kind and subject, after one round."""
    await monitoring.watch(room.database)
    rows = await room.run("SELECT kind, subject, text FROM incidents WHERE closed_at IS NULL")
    return {f"{row['kind']} {row['subject']}".strip(): row["text"] for row in rows}


async def report(room: Newsroom, worker: int, circuit: str, reason: str = "", *, lanes: int = 0) -> None:
    await room.run(
        "INSERT INTO relay_reports VALUES (%s, 'mx:25', 'host', 1, %s, %s, now(), %s, 0, 0, now())"
        " ON CONFLICT (worker, relay) DO UPDATE SET circuit = excluded.circuit, reason = excluded.reason",
        worker, circuit, reason, lanes,
    )  # fmt: skip


class TestAlarm:
    @pytest.mark.chaos
    async def test_what_nobody_sends_is_told_once_and_over_when_it_arrives(self, database: db.Database) -> None:
        async with a_sink() as sink:
            room = newsroom(database, sink.port)
            await room.story(followers=3)
            published = await room.publish()
            await ago(room, 150)
            with capture_logs() as logs:
                first = await incidents(room)
                again = await incidents(room)

            blast = published.blast_ids[0]
            assert first == again
            assert first == {
                f"not_sending {blast}": "Update 1 of dam was published 2 minutes ago and nobody has been reached: "
                "no worker is alive.",
                "no_workers": "Work has waited for 2 minutes, and no worker is alive.",
            }
            assert [entry["log_level"] for entry in logs if entry["event"] == "incident"] == ["error"] * 2

            async with room.sender() as sender:
                await room.finish(sender, published)
                with capture_logs() as logs:
                    assert await incidents(room) == {}
        assert {entry["kind"] for entry in logs if entry["event"] == "incident over"} == {"no_workers", "not_sending"}
        assert len(await room.run("SELECT 1 FROM incidents WHERE closed_at IS NOT NULL")) == 2

    async def test_a_blast_is_given_a_minute(self, room: Newsroom) -> None:
        await room.publish()
        await room.cut()
        async with a_worker(room):
            await ago(room, 30)
            assert await incidents(room) == {}
            await ago(room, 31)
            assert list(await incidents(room)) == ["not_sending 1"]

    async def test_a_blast_that_stops_in_the_middle_stands_still(self, room: Newsroom) -> None:
        published = await room.publish()
        await room.cut()
        await ago(room, 300)
        async with a_worker(room):
            await accept(room, published, 1, ago=30)
            assert await incidents(room) == {}
            await ago(room, 31)
            assert (await incidents(room))["not_sending 1"].startswith(
                "Update 1 of dam stands still: nobody was reached in the last minute, and 3 readers wait: "
            )

    async def test_batches_that_come_back_again_and_again_are_owed_all_the_while(self, room: Newsroom) -> None:
        await room.publish()
        await room.cut()
        await ago(room, 150)
        await room.run("UPDATE batches SET not_before = now() + interval '1 minute', reason = 'the letter is broken.'")
        async with a_worker(room):
            assert await incidents(room) == {
                "not_sending 1": "Update 1 of dam was published 2 minutes ago and nobody of 3 has been reached: "
                "the letter is broken."
            }

    async def test_work_without_workers_is_told_after_half_a_minute_and_not_while_they_restart(
        self, room: Newsroom
    ) -> None:
        await room.publish()
        async with a_worker(room):
            assert await incidents(room) == {}
        await ago(room, 40)
        assert await incidents(room) == {}
        await room.run("UPDATE moments SET at = at - interval '40 seconds' WHERE name = 'worker alive'")
        assert list(await incidents(room)) == ["no_workers"]
        async with a_worker(room):
            assert await incidents(room) == {}

    async def test_retries_that_nobody_queues_are_work_too(self, room: Newsroom) -> None:
        published = await room.publish()
        await accept(room, published, 1, 2, 3, state="deferred")
        await room.run("UPDATE blasts SET state = 'paused', candidates = 3")
        assert await incidents(room) == {}
        await room.run("UPDATE deliveries SET next_at = now() - interval '40 seconds'")
        assert list(await incidents(room)) == ["no_workers"]


class TestQuiet:
    @pytest.mark.chaos
    async def test_while_a_large_queue_moves(self, room: Newsroom) -> None:
        """What waits behind a blast that moves waits its turn; what goes before it does not."""
        bulk = await room.publish(importance=Importance.ROUTINE)
        behind = await room.publish(importance=Importance.ROUTINE)
        while await room.cut():
            pass
        await ago(room, 900)
        async with a_worker(room):
            await accept(room, bulk, 1, ago=1)
            assert await incidents(room) == {}

            breaking = await room.publish(importance=Importance.BREAKING)
            await ago(room, 61, breaking)
            assert list(await incidents(room)) == [f"not_sending {breaking.blast_ids[0]}"]

            await ago(room, 61, bulk)
            await accept(room, behind, 1, ago=1)
            assert set(await incidents(room)) == {f"not_sending {each.blast_ids[0]}" for each in (breaking, bulk)}

    async def test_for_a_minute_after_the_blast_before_has_ended(self, room: Newsroom) -> None:
        first = await room.publish()
        await room.publish()
        while await room.cut():
            pass
        await ago(room, 900)
        await accept(room, first, 1, 2, 3, ago=30)
        await room.run("UPDATE batches SET state = 'done' WHERE blast_id = %s", first.blast_ids[0])
        await room.run("UPDATE blasts SET state = 'done', done_at = now() WHERE id = %s", first.blast_ids[0])
        async with a_worker(room):
            assert await incidents(room) == {}
            await ago(room, 31, first)
            assert list(await incidents(room)) == ["not_sending 2"]

    async def test_while_everybody_waits_for_the_next_try(self, room: Newsroom) -> None:
        published = await room.publish()
        await room.cut()
        await accept(room, published, 1, 2, 3, state="deferred")
        await room.run("UPDATE batches SET state = 'done'")
        await ago(room, 900)
        async with a_worker(room):
            assert await incidents(room) == {}

    async def test_while_a_blast_is_paused_and_for_a_minute_after(self, room: Newsroom) -> None:
        published = await room.publish()
        await room.cut()
        await ago(room, 900)
        async with a_worker(room):
            await steering.pause(room.database, published.blast_ids[0], by="test")
            assert await incidents(room) == {}
            await steering.resume(room.database, room.bell, published.blast_ids[0], by="test")
            assert await incidents(room) == {}
            await ago(room, 61)
            assert list(await incidents(room)) == ["not_sending 1"]

    async def test_about_news_that_has_expired_and_stories_that_nobody_follows(self, room: Newsroom) -> None:
        await room.publish()
        await room.story("quiet")
        await room.publish("quiet")
        await ago(room, 7 * 3600)
        async with a_worker(room):
            assert await incidents(room) == {}


class TestRelays:
    async def test_a_relay_is_told_when_no_worker_gets_through_to_it(self, room: Newsroom) -> None:
        async with a_worker(room, 1), a_worker(room, 2):
            await report(room, 1, "open", "connection refused")
            await report(room, 2, "closed", lanes=2)
            assert await incidents(room) == {}
            await report(room, 2, "half_open", "connection refused")
            [(which, text)] = (await incidents(room)).items()
            assert which == "relay mx:25"
            assert text.startswith("Relay mx:25 has been left alone by 2 of 2 workers since ")
            assert text.endswith(" UTC (connection refused).")
            await report(room, 1, "closed")
            await report(room, 2, "closed")
            assert await incidents(room) == {}

    async def test_a_worker_with_nothing_to_do_does_not_hide_a_relay_that_is_away(self, room: Newsroom) -> None:
        async with a_worker(room, 1), a_worker(room, 2):
            await report(room, 1, "open", "connection refused")
            await report(room, 2, "closed")
            assert list(await incidents(room)) == ["relay mx:25"]

    async def test_a_refusal_by_policy_is_told_whoever_meets_it(self, room: Newsroom) -> None:
        async with a_worker(room, 1), a_worker(room, 2):
            await report(room, 1, "open", "it refuses our mail: 550 5.7.1 relaying denied")
            await report(room, 2, "closed", lanes=3)
            assert "refuses our mail by policy since" in (await incidents(room))["relay mx:25"]

    async def test_it_is_the_likeliest_cause_of_a_blast_that_stands_still(self, room: Newsroom) -> None:
        await room.publish()
        await ago(room, 90)
        async with a_worker(room):
            await report(room, 1, "open", "connection refused")
            text = (await incidents(room))["not_sending 1"]
        assert "nobody has been reached: relay mx:25 has taken no mail since" in text

    async def test_what_workers_said_goes_with_them(self, room: Newsroom) -> None:
        async with a_worker(room, 7):
            await report(room, 7, "open")
            await monitoring.watch(room.database)
            assert len(await room.run("SELECT 1 FROM relay_reports")) == 1
        async with asyncio.timeout(20):
            while await room.run("SELECT 1 FROM relay_reports"):
                await monitoring.watch(room.database)
        assert await incidents(room) == {}


class TestDeadLetters:
    async def test_a_batch_that_was_given_up_is_told_with_its_reason_for_a_day(self, room: Newsroom) -> None:
        await room.publish()
        await room.cut()
        await room.run("UPDATE batches SET state = 'dead', reason = 'It crashed the worker.'")
        await room.run("UPDATE blasts SET state = 'done', done_at = now()")

        assert await incidents(room) == {
            "dead_letters 1": "Given up: 3 readers of update 1 of dam. It crashed the worker."
        }
        await ago(room, 25 * 3600)
        assert await incidents(room) == {}


class TestRounds:
    async def test_two_processes_do_not_look_round_at_the_same_time_nor_too_often(self, room: Newsroom) -> None:
        await room.publish()
        await ago(room, 90)
        with capture_logs() as logs:
            await asyncio.gather(*(monitoring.watch(room.database) for _ in range(4)))
            await room.run("UPDATE incidents SET closed_at = now()")
            await monitoring.watch(room.database, every=3600)

        assert len([entry for entry in logs if entry["event"] == "incident"]) == 2
        assert await room.run("SELECT 1 FROM incidents WHERE closed_at IS NULL") == []

    async def test_a_monitor_that_cannot_look_says_so_once_and_goes_on_when_it_can(self, postgres: Postgres) -> None:
        with capture_logs() as logs, fresh_database(postgres) as url:
            async with db.Database(url, size=1) as database:
                task = asyncio.create_task(monitoring.watch_for_ever(database, 0.01))
                await until(lambda: bool(logs))
                await asyncio.to_thread(migrate, url)
                await until(lambda: logs[-1]["event"] == "monitor looks round again")
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        mine = [(entry["event"], entry.get("error")) for entry in logs if entry["event"].startswith("monitor")]
        assert len(set(mine)) == len(mine)  # one step of the schema may fail otherwise than another
        assert [event for event, _ in mine].count("monitor looks round again") == 1
        assert mine[-1][0] == "monitor looks round again"


class TestTallies:
    async def finished(self, room: Newsroom, state: str = "done") -> None:
        await room.run("UPDATE batches SET state = 'done'")
        await room.run("UPDATE blasts SET state = %s::blast_state, candidates = 3, done_at = now()", state)

    async def tallies(self, room: Newsroom) -> dict[str, int]:
        await monitoring.watch(room.database)
        return {row["state"]: row["count"] for row in await room.run("SELECT state, count FROM tallies")}

    async def test_a_blast_is_counted_when_it_is_done_and_only_once(self, room: Newsroom) -> None:
        published = await room.publish()
        await room.cut()
        await accept(room, published, 1, 2)
        await accept(room, published, 3, state="failed")
        await room.run(
            "UPDATE deliveries SET recorded_at = published_at + subscriber_id * interval '4 seconds' FROM updates"
        )
        assert await self.tallies(room) == {}
        await self.finished(room)

        assert await self.tallies(room) == {"accepted": 2, "failed": 1}
        [row] = await room.run("SELECT relay, buckets, seconds FROM tallies WHERE state = 'accepted'")
        assert row["relay"] == "mx"
        assert {bound: n for bound, n in zip(monitoring.BOUNDS, row["buckets"], strict=False) if n} == {5: 1, 10: 1}
        assert row["seconds"] == pytest.approx(12)

        await room.run("DELETE FROM deliveries")
        assert await self.tallies(room) == {"accepted": 2, "failed": 1}

    async def test_a_blast_that_nobody_got_is_counted_once_too(self, room: Newsroom) -> None:
        await room.publish()
        await self.finished(room)
        assert await self.tallies(room) == {"accepted": 0}
        async with room.database.connection() as connection:
            assert await connection.all("blasts_to_count", most=9) == []

    async def test_a_blast_whose_tally_was_dropped_is_counted_again(self, room: Newsroom) -> None:
        published = await room.publish()
        await accept(room, published, 1, 2, 3, state="failed")
        await self.finished(room)
        assert await self.tallies(room) == {"failed": 3}
        await steering.retry(room.database, room.bell, published.blast_ids[0], states=[DeliveryState.FAILED], by="test")
        assert await self.tallies(room) == {}
        await room.run("UPDATE deliveries SET state = 'accepted', next_at = NULL")
        await self.finished(room)
        assert await self.tallies(room) == {"accepted": 3}

    async def test_answers_that_come_late_are_counted(self, room: Newsroom) -> None:
        published = await room.publish()
        await accept(room, published, 1, 2, 3, state="in_doubt")
        await self.finished(room)
        assert await self.tallies(room) == {"in_doubt": 3}
        await room.run("UPDATE deliveries SET state = 'accepted' WHERE subscriber_id = 1")
        assert await self.tallies(room) == {"in_doubt": 3}
        await ago(room, 16 * 60)
        assert await self.tallies(room) == {"in_doubt": 2, "accepted": 1}
        await room.run("DELETE FROM deliveries")
        assert await self.tallies(room) == {"in_doubt": 2, "accepted": 1}

    async def test_a_cancelled_blast_is_counted_once_what_was_on_its_way_is_answered(self, room: Newsroom) -> None:
        published = await room.publish()
        await accept(room, published, 1)
        await steering.cancel(room.database, published.blast_ids[0], by="test")
        assert await self.tallies(room) == {}
        await ago(room, 130)
        assert await self.tallies(room) == {"accepted": 1}

    async def test_figures_are_the_same_before_and_after_a_blast_is_counted(self, room: Newsroom) -> None:
        for _ in range(2):
            published = await room.publish()
            await accept(room, published, 1, 2)
            await accept(room, published, 3, state="failed")
        before = await monitoring.deliveries(room.database, 5)
        await self.finished(room)
        await self.tallies(room)
        after = await monitoring.deliveries(room.database, 5)

        assert sorted((count.state, count.readers) for count in before["email"]) == [("accepted", 4), ("failed", 2)]
        assert [count._replace(seconds=0) for count in sorted(before["email"])] == [
            count._replace(seconds=0) for count in sorted(after["email"])
        ]


#: What is asked of the ledger in every round or at every scrape.
QUESTIONS: dict[str, dict[str, Any]] = {
    "accepted_lately": {"blast_id": 30, "lately": 60, "newest": None},
    "why_standing": {"blast_id": 30, "urgency": 20},
    "seconds_overdue": {},
    "work": {"most": monitoring.MOST_DUE},
}


@pytest.mark.parametrize(
    ("name", "analysed"),
    # Of a ledger that was never analysed, Postgres believes that a third is due.
    [(name, analysed) for name in QUESTIONS for analysed in (False, True) if analysed or name != "work"],
)
def test_no_question_reads_the_whole_ledger(database_url: str, name: str, analysed: bool) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state)"
            " SELECT 1 + n / 1000, n, now() - interval '1 hour', 'accepted' FROM generate_series(0, 40000) AS n"
        )
        if analysed:
            connection.execute("ANALYZE deliveries")
        plan = connection.execute(f"EXPLAIN (FORMAT JSON) {db.statements()[name]}", QUESTIONS[name]).fetchone()

    assert plan is not None
    nodes = list(_nodes(plan[0][0]["Plan"]))
    read = [node for node in nodes if node.get("Relation Name") == "deliveries"]
    assert read
    assert all("Index" in node["Node Type"] or "Bitmap" in node["Node Type"] for node in read), read


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
