"""What the ledger keeps count of by itself is what counting it would give, whoever writes into it and however."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from dispatcher import db, progress, reporting
from dispatcher.model import DeliveryState
from dispatcher.monitoring import BOUNDS
from tests.support.newsroom import Newsroom, newsroom

MIGRATION = import_module("dispatcher.db.migrations.versions.0007_count_the_ledger")
#: How long ago the updates of the walk were published: one in each width of slot.
AGES = ("0 s", "3 s", "50 s", "300 s", "4000 s", "90000 s")
READERS = 30
STATES = [str(state) for state in DeliveryState]
COUNTED = """
    SELECT d.blast_id, progress_slot(greatest(date_part('epoch', d.recorded_at - u.published_at), 0)) AS after_ms,
           d.state::text AS state, coalesce(d.relay, '') AS relay, count(*) AS count
    FROM deliveries d LEFT JOIN blasts b ON b.id = d.blast_id LEFT JOIN updates u ON u.id = b.update_id
    GROUP BY 1, 2, 3, 4
"""
KEPT = """
    SELECT blast_id, after_ms, state::text AS state, relay, sum(count)::bigint AS count FROM progress
    GROUP BY 1, 2, 3, 4 HAVING sum(count) <> 0
"""


async def written(room: Newsroom, statement: str) -> set[tuple[Any, ...]]:
    return {tuple(row.values()) for row in await room.run(statement)}


async def blasts_of_all_ages(room: Newsroom) -> None:
    await room.run("INSERT INTO stories (slug, headline) VALUES ('dam', 'The dam')")
    for seq, age in enumerate(AGES, 1):
        await room.run(
            """
            WITH made AS (
                INSERT INTO updates (story_id, seq, kind, importance, headline, body, content_hash, published_by,
                                     published_at)
                VALUES (1, %s, 'update', 'major', 'h', 'b', '', 'test', clock_timestamp() - %s::interval) RETURNING id)
            INSERT INTO blasts (update_id, channel, urgency, state, candidates)
            SELECT id, 'email', 30, 'sending', %s FROM made
            """,
            *(seq, age, READERS),
        )


class Walk:
    """Everything that writes into the ledger, called in any order; what it writes is drawn."""

    def __init__(self, room: Newsroom, seed: int) -> None:
        self.room = room
        self.draw = random.Random(seed)

    async def step(self) -> str:
        """Do something, and say what."""
        steps: list[Callable[[], Any]] = [
            *(self.record, self.record, self.record, self.queue_due, self.retry, self.bury, self.refuse_late),
            *(self.cancel, self.supersede, self.settle, self.give_up_retries, self.forget),
        ]
        chosen = self.draw.choice(steps)
        await chosen()
        return str(chosen.__name__)

    def blast(self) -> int:
        return self.draw.randint(1, len(AGES))

    def some(self) -> list[int]:
        return self.draw.sample(range(1, READERS + 1), self.draw.randint(0, 12))

    async def call(self, name: str, **values: Any) -> None:
        """Run a statement of ours on one of two connections: what one has counted the other takes back."""
        async with self.room.database.connection() as one, self.room.database.connection() as other:
            await self.draw.choice([one, other]).execute(name, **values)

    async def record(self) -> None:
        ids = self.some()
        n = len(ids)
        await self.call(
            "record",
            blasts=[self.blast() for _ in ids],
            subscribers=ids,
            states=self.draw.choices(STATES, k=n),
            attempts=[1] * n,
            in_doubt=self.draw.choices([0, 1, 2], k=n),
            retry_in=self.draw.choices([None, -5.0, 60.0], k=n),
            codes=[None] * n,
            relays=self.draw.choices(["a", "b", ""], k=n),
            replies=["x"] * n,
        )

    async def queue_due(self) -> None:
        await self.call("queue_due", most=20, batch_size=5)

    async def retry(self) -> None:
        await self.call(
            "retry_readers",
            blast_id=self.blast(),
            story_id=1,
            states=["failed", "in_doubt"],
            reason=None,
            lowest=None,
            highest=None,
            codes=None,
            statuses=None,
            words=None,
            most_doubts=2,
            dry_run=False,
        )

    async def batch(self, **more: Any) -> None:
        """A batch that waits, and the only one: two never hold the same reader."""
        await self.room.run("DELETE FROM batches WHERE state = 'waiting'")
        await self.room.run(
            "INSERT INTO batches (blast_id, urgency, subscriber_ids, attempts) VALUES (%s, 30, %s, %s)",
            *(self.blast(), more.get("ids") or self.some() or [1], more.get("attempts", self.draw.choice([0, 0, 1]))),
        )

    async def bury(self) -> None:
        await self.batch(ids=[self.draw.randint(1, READERS)], attempts=9)
        await self.call("bury_poison", most=9, reason="its workers died")

    async def refuse_late(self) -> None:
        values = {"blast_id": self.blast(), "subscriber_id": self.draw.randint(1, READERS)}
        await self.call("note_refused_late", doubts=self.draw.choice([0, 1]), **values)

    async def cancel(self) -> None:
        await self.batch()
        blast = self.blast()
        await self.room.run("UPDATE blasts SET state = 'cancelled', steered_at = now() WHERE id = %s", blast)
        await self.call("end_cancelled")
        await self.room.run("UPDATE blasts SET state = 'sending' WHERE id = %s", blast)

    async def supersede(self) -> None:
        await self.batch()
        await self.room.run("UPDATE blasts SET superseded_by = 1, done_at = NULL WHERE id = %s", self.blast())

    async def settle(self) -> None:
        await self.call("settle_superseded", most=3)

    async def give_up_retries(self) -> None:
        await self.call("settle_superseded_retries")

    async def forget(self) -> None:
        await self.room.run("DELETE FROM deliveries WHERE subscriber_id = %s", self.draw.randint(1, READERS))


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_after_whatever_was_written_the_sums_are_those_of_the_ledger(database: db.Database, seed: int) -> None:
    room = newsroom(database)
    await blasts_of_all_ages(room)
    await room.run(
        "INSERT INTO subscribers (email, address_hash) SELECT n || '@example.org', int8send(n) "
        "FROM generate_series(1, %s) AS n",
        READERS,
    )
    await room.run(
        "INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at) SELECT 1, id, now() FROM subscribers"
    )
    walk = Walk(room, seed)
    seen: set[str] = set()
    for number in range(150):
        did = await walk.step()
        seen.add(did)
        assert await written(room, KEPT) == await written(room, COUNTED), (number, did)

    (kinds,) = await room.run("SELECT count(DISTINCT session) AS sessions, min(count) AS least FROM progress")
    assert len(seen) == 10
    assert kinds["sessions"] > 1
    assert kinds["least"] < 0
    async with database.connection() as connection:
        kept = await progress.states(connection, range(1, len(AGES) + 1))
        whole = await progress.read(connection, range(1, len(AGES) + 1))
    assert {blast: found.states for blast, found in whole.items()} == kept


async def test_times_are_as_fine_as_their_slots_and_the_first_and_last_exact(database: db.Database) -> None:
    room = newsroom(database)
    await blasts_of_all_ages(room)
    await room.run(
        "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, relay) "
        "SELECT 1, n, (SELECT published_at FROM updates WHERE id = 1) + n * interval '37 ms', 'accepted', 'a' "
        "FROM generate_series(1, 3000) AS n"
    )
    async with database.connection() as connection:
        found = (await progress.read(connection, [1]))[1]
    exact = await reporting.blast(database, 1)
    published = exact.published_at

    assert exact.p50_ms is not None
    assert exact.p99_ms is not None
    assert found.first_at is not None
    assert (found.first_at - published).total_seconds() == pytest.approx(0.037)
    assert (found.last_at[DeliveryState.ACCEPTED] - published).total_seconds() == pytest.approx(111.0)
    assert found.percentile(0.5) == pytest.approx(exact.p50_ms, abs=1_000)
    assert found.percentile(0.99) == pytest.approx(exact.p99_ms, abs=5_000)
    assert found.states == {DeliveryState.ACCEPTED: 3000}
    assert sum(slot.messages for slot in found.slots if slot.after_ms < 1_000) == 27
    assert len(found.slots) < 160


def test_slots_are_as_wide_here_as_in_the_database() -> None:
    begins = 0
    edges = []
    while begins < 20_000_000:
        edges.append(begins)
        begins += progress.width(begins)

    assert {1_000, 5_000, 60_000, 600_000, 7_200_000} < set(edges)


async def test_every_bound_of_the_metrics_is_the_bound_of_a_slot(database: db.Database) -> None:
    async with database.connection() as connection:
        for bound in BOUNDS:
            cursor = await connection.raw.execute("SELECT progress_slot(%s) AS slot", (bound,))
            row = await cursor.fetchone()
            assert row is not None
            assert row["slot"] == round(bound * 1000)
            assert row["slot"] % progress.width(row["slot"]) == 0


async def test_a_ledger_written_before_there_was_such_a_count_is_counted_while_it_is_written(
    database: db.Database,
) -> None:
    """The migration's own statement, on a ledger whose count was lost, between writes and in the middle of one."""
    room = newsroom(database)
    await blasts_of_all_ages(room)
    walk = Walk(room, 4)
    for _ in range(10):
        await walk.record()
    await room.run("DELETE FROM progress")
    await walk.record()
    blasts = [row["id"] for row in await room.run(MIGRATION.BLASTS)]
    async with database.transaction() as writing:
        await writing.raw.execute("UPDATE deliveries SET state = 'failed', relay = 'other' WHERE state = 'accepted'")
        for blast_id in blasts[:-1] * 2:  # interrupted, and begun anew
            await count(database, blast_id)
    await walk.record()
    for blast_id in blasts:
        await count(database, blast_id)

    assert await written(room, KEPT) == await written(room, COUNTED) != set()


async def count(database: db.Database, blast_id: int) -> None:
    """As the migration does, which waits for nobody."""
    async with database.transaction() as tx:
        await tx.raw.execute("SET LOCAL lock_timeout = 100")
        await tx.raw.execute(MIGRATION.COUNT, {"blast_id": blast_id})
