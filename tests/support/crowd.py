"""Audiences for tests of whole fleets, and hooks in the database that show or stop what workers do there."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from dispatcher import stories
from dispatcher.model import Importance, Published
from tests.support.fleet import Verdict, verdict, watch
from tests.support.newsroom import Newsroom
from tests.support.sink import Sink

#: Blocks whoever writes outcomes down, and nobody who reads them.
LEDGER_SHUT = "LOCK TABLE deliveries IN EXCLUSIVE MODE"
DOMAINS = 40  #: so that no limit on a single domain decides how fast a crowd is reached


@dataclass
class Crowd:
    """A story and so many followers of its own, so that many tests can share one fleet."""

    room: Newsroom
    slug: str
    size: int

    @property
    def domain(self) -> str:
        return f".{self.slug}.example"

    async def publish(self, importance: Importance = Importance.MAJOR) -> Published:
        return await self.room.publish(self.slug, importance=importance)

    async def watch(self, sink: Sink, published: Published, *, seconds: float, **more: Any) -> Verdict:
        """`fleet.watch` for these readers; undisturbed, if nothing else is said."""
        plan: dict[str, Any] = {"disturb": lambda: None, "times": 0, "seed": 0, **more}
        return await watch(self.room, sink, published, audience=self.size, seconds=seconds, domain=self.domain, **plan)

    async def verdict(self, sink: Sink, published: Published, watched: Verdict | None = None) -> Verdict:
        """What became of an audience by now; `watched` is what was seen of it while it ran."""
        report = await self.room.report(published)
        moments, standstill = (watched.moments, watched.standstill) if watched else (0, 0.0)
        return verdict(report, sink, self.size, domain=self.domain, moments=moments, standstill=standstill)

    def taken(self, sink: Sink) -> int:
        """How many mails to these readers the relay has read to the end."""
        return sum(each.recipient.endswith(self.domain) for each in sink.taken)


async def a_crowd(room: Newsroom, size: int) -> Crowd:
    """A new story that so many readers follow."""
    crowd = Crowd(room, f"s{secrets.token_hex(4)}", size)
    await stories.create(room.database, crowd.slug, headline="The dam above the city")
    await room.run(
        """
        WITH readers AS (
            INSERT INTO subscribers (email, address_hash)
            SELECT email, sha256(email::bytea)
            FROM (SELECT 'reader' || n || '@d' || n %% %s || %s AS email FROM generate_series(1, %s) AS n) AS made
            RETURNING id
        )
        INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at)
        SELECT stories.id, readers.id, now() FROM stories, readers WHERE slug = %s
        """,
        *(DOMAINS, crowd.domain, size, crowd.slug),
    )
    await room.run("ANALYZE subscribers, subscriptions")
    return crowd


@asynccontextmanager
async def chronicle(room: Newsroom) -> AsyncIterator[None]:
    """While this is open, `claims` and `entries` know every change of a batch, and which worker made it."""
    await room.run(
        """
        CREATE TABLE chronicle (at timestamptz DEFAULT clock_timestamp(), batch bigint, blast bigint, was text,
                                became text, token bigint, worker text)
        """
    )
    await room.run(
        """
        CREATE FUNCTION write_chronicle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO chronicle (batch, blast, was, became, token, worker)
            VALUES (NEW.id, NEW.blast_id, OLD.state, NEW.state, coalesce(OLD.lease_token, NEW.lease_token),
                    current_setting('application_name'));
            RETURN NULL;
        END $$
        """
    )
    await room.run("CREATE TRIGGER chronicle AFTER UPDATE ON batches FOR EACH ROW EXECUTE FUNCTION write_chronicle()")
    try:
        yield
    finally:
        await room.run("DROP TABLE chronicle")
        await room.run("DROP FUNCTION write_chronicle() CASCADE")


async def claims(room: Newsroom, published: Published) -> list[int]:
    """How often each batch of a blast was claimed."""
    rows = await room.run(
        """
        SELECT count(c.batch) AS claims FROM batches b
        LEFT JOIN chronicle c ON c.batch = b.id AND c.became = 'leased' AND c.was = 'waiting'
        WHERE b.blast_id = %s GROUP BY b.id ORDER BY b.id
        """,
        published.blast_ids[0],
    )
    return [row["claims"] for row in rows]


@asynccontextmanager
async def held(url: str, *statements: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A transaction of the test's own that holds locks until the block ends."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        for statement in statements:
            await connection.execute(statement.encode())
        yield connection
        await connection.rollback()


@asynccontextmanager
async def everyone_mid_message(url: str, crowd: Crowd, sink: Sink, *, lanes: int) -> AsyncIterator[Published]:
    """Publish, and stop so many lanes at the worst moment: the relay has said yes, and nobody has written it down.

    The ledger is open again when the block ends. The crowd needs a batch for every process.
    """
    async with held(url, LEDGER_SHUT):
        published = await crowd.publish()
        end = time.monotonic() + 30
        while (taken := crowd.taken(sink)) < lanes:
            assert time.monotonic() < end, f"{taken} of {lanes} lanes have sent a mail"
            await asyncio.sleep(0.02)
        yield published


async def holds(room: Newsroom, worker: str) -> list[int]:
    """The lease tokens that a worker's processes hold."""
    rows = await room.run(
        "SELECT b.lease_token AS token FROM batches b "
        "JOIN pg_locks l ON l.locktype = 'advisory' AND l.objsubid = 2 AND l.objid::bigint = b.worker "
        "JOIN pg_stat_activity a ON a.pid = l.pid AND a.application_name = %s WHERE b.state = 'leased'",
        worker,
    )
    return [row["token"] for row in rows]


async def works_again(room: Newsroom, sink: Sink, worker: str, *, within: float) -> float:
    """Seconds until a worker claims batches, of blasts that go out one after the other until it does."""
    began = time.monotonic()
    while True:
        crowd = await a_crowd(room, 3_500)
        published = await crowd.publish()
        while not (await room.report(published)).settled:
            if await holds(room, worker):
                took = time.monotonic() - began
                seen = await crowd.watch(sink, published, seconds=60)
                assert (seen.lost, seen.duplicates) == (0, 0)
                return took
            assert time.monotonic() - began < within, f"{worker} has claimed nothing for {within} s"
            await asyncio.sleep(0.005)


async def given_up(room: Newsroom, tokens: list[int], *, within: float) -> float:
    """Seconds until nobody holds any of these leases any more."""
    began = time.monotonic()
    async with asyncio.timeout(within):
        while await room.run("SELECT id FROM batches WHERE lease_token = ANY (%s)", tokens):
            await asyncio.sleep(0.02)
    return time.monotonic() - began


async def disconnect(room: Newsroom, worker: str) -> int:
    """End a worker's database connections from the server's side; says how many there were."""
    rows = await room.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s "
        "AND datname = current_database()",
        worker,
    )
    return len(rows)
