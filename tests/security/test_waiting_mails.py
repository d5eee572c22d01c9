"""Mails that wait for a lane: none goes to whoever has gone meanwhile, none is sent twice, and none is lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg

from dispatcher import db, following, notices, privacy, subscribing, upkeep
from dispatcher.errors import DatabaseUnavailable
from dispatcher.model import Cadence
from dispatcher.pulse import ALIVE
from dispatcher.sending import Sender
from tests.support.crowd import held
from tests.support.newsroom import SECRET, Newsroom, newsroom
from tests.support.relays import relay_at, room_with, slow, until
from tests.support.sink import a_sink

ANA = "ana@example.org"
OWED = (
    "INSERT INTO notices (kind, email, address_hash, subscriber_id, story_id, locale, timezone, expires_at)"
    " SELECT 'following', r.email, r.address_hash, r.id, s.id, 'en', 'UTC', now() + interval '1 hour'"
    " FROM subscribers r, stories s"
)


async def owe(room: Newsroom, kind: str, email: str = ANA, *, update: int | None = None) -> int:
    """A mail of some kind to a reader, about the dam; its number."""
    [row] = await room.run(
        "INSERT INTO notices (kind, email, address_hash, subscriber_id, story_id, update_id, locale, timezone,"
        " expires_at) SELECT %s::notice_kind, r.email, r.address_hash, r.id, s.id, %s, 'en', 'UTC',"
        " now() + interval '1 hour' FROM subscribers r, stories s WHERE r.email = %s AND s.slug = 'dam' RETURNING id",
        *(kind, update, email),
    )
    return int(row["id"])


async def reader(room: Newsroom, email: str = ANA) -> int:
    return int((await room.run("SELECT id FROM subscribers WHERE email = %s", email))[0]["id"])


async def state(room: Newsroom, number: int, sender: Sender) -> str:
    """What became of a mail, once nothing more is tried."""

    async def over() -> bool:
        sender.nudge()
        return (await room.run("SELECT next_at FROM notices WHERE id = %s", number))[0]["next_at"] is None

    await until(over)
    return str((await room.run("SELECT state FROM notices WHERE id = %s", number))[0]["state"])


async def test_who_has_paused_everything_is_not_caught_up_with_the_news(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story()
        await room.follow("dam", ANA)
        await room.run("UPDATE subscribers SET paused_until = now() + interval '1 day'")
        update = (await room.publish()).update.id
        async with room.sender() as sender:
            told = await state(room, await owe(room, "following"), sender)
            caught_up = await state(room, await owe(room, "catch_up", update=update), sender)

    assert (told, caught_up) == ("accepted", "withdrawn")
    assert len(sink.taken) == 1


async def test_who_has_received_the_newest_update_is_not_sent_it_once_more(database: db.Database) -> None:
    """An address that was asked for twice confirms while the update goes out to its follower anyway."""
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story()
        await following.ask_to_follow(
            *(database, SECRET, "dam"), email=ANA, cadence=Cadence.EVERY, locale="en", timezone="UTC", catch_up=True
        )
        await following.answer(database, SECRET)
        await room.follow("dam", ANA)
        published = await room.publish()
        async with room.sender() as sender:
            await room.finish(sender, published)
            assert await state(room, await owe(room, "catch_up", update=published.update.id), sender) == "withdrawn"

    assert [each.recipient for each in sink.taken if b"confirm" not in each.data] == [ANA]


async def test_a_mail_that_waits_does_not_go_to_who_is_erased_or_leaves_meanwhile(database: db.Database) -> None:
    """S32 and R19: the relay is slow, and both mails are in a worker's hands already."""
    async with a_sink(slow(0.1)) as sink:
        room = room_with(database, relay_at(sink.port, lanes=1))
        await room.story()
        emails = [f"reader{number}@example.org" for number in range(12)]
        await room.follow("dam", *emails)
        update = (await room.publish()).update.id
        leaving, erasing = await reader(room, emails[10]), await reader(room, emails[11])
        [story] = await room.run("SELECT id FROM stories")
        numbers = [await owe(room, "catch_up", email, update=update) for email in emails]
        async with room.sender() as sender:
            await until(lambda: sink.taken)
            await subscribing.leave(database, story["id"], leaving)
            await privacy.erase(database, erasing)
            states = [await state(room, number, sender) for number in numbers[:11]]

    assert states == ["accepted"] * 10 + ["withdrawn"]
    assert set(sink.copies()) == set(emails[:10])


async def test_a_mail_that_is_claimed_while_the_worker_stops_is_given_back_unharmed(
    database: db.Database, database_url: str
) -> None:
    """The claim is on its way to the database when the worker is told to stop, and comes back to closed lanes."""
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story()
        await room.follow("dam", ANA)
        async with room.sender() as sender:
            await asyncio.sleep(0.3)
            async with held(database_url, "LOCK TABLE notices IN SHARE ROW EXCLUSIVE MODE") as shut:
                await shut.execute(OWED)
                sender.nudge()
                await until(
                    lambda: room.run("SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'notices'::regclass")
                )
                closing = asyncio.create_task(sender.close(1))
                await asyncio.sleep(0.3)
                await shut.commit()
                await closing
            [left] = await room.run("SELECT claims, attempts, lease_token, state FROM notices")

    assert left == {"claims": 0, "attempts": 0, "lease_token": None, "state": None}
    assert sink.taken == []


#: Workers die on mails to the first of these.
POISON, *INNOCENT = (f"reader{number}@example.org" for number in range(12))


async def test_who_waits_beside_a_mail_that_kills_its_worker_is_not_given_up_with_it(database: db.Database) -> None:
    """R27 for notices. A worker that dies has claimed all of them; those that came through it are written down."""
    room = newsroom(database)
    await room.story()
    await room.follow("dam", POISON, *INNOCENT)
    for email in (POISON, *INNOCENT):
        await owe(room, "following", email)
    sent: list[str] = []
    for worker in range(60):
        claimed = await _claim(room, worker)
        if POISON not in claimed:  # it lives, and sends what it has
            sent += claimed
            await room.run(
                "UPDATE notices SET state = 'accepted', next_at = NULL, email = NULL, claims = 0,"
                " lease_token = NULL, lease_until = NULL, worker = NULL WHERE email = ANY (%s)",
                claimed,
            )
        await upkeep.tick(database)
    [row] = await room.run(
        "SELECT n.reply, r.email FROM notices n JOIN subscribers r ON r.id = n.subscriber_id"
        " WHERE n.state <> 'accepted' OR n.state IS NULL"
    )

    assert sorted(sent) == sorted(INNOCENT)
    assert row == {"reply": upkeep.GIVEN_UP, "email": POISON}


async def _claim(room: Newsroom, worker: int) -> list[str]:
    """To whom the mails go that a worker claims, which is gone when this returns."""
    async with room.database.connection() as connection:
        await connection.raw.execute("SELECT pg_advisory_lock(%s, %s)", (ALIVE, worker))
        rows = await notices.claim(connection, worker, may_be_alone=True)
        await connection.raw.execute("SELECT pg_advisory_unlock(%s, %s)", (ALIVE, worker))
    return [row["email"] for row in rows]


async def test_a_database_that_hangs_up_on_everybody_loses_no_mail(database: db.Database, database_url: str) -> None:
    """R6 for notices: every connection ends, while asks are answered and mails are on their way."""
    async with a_sink(slow(0.04)) as sink:
        room = newsroom(database, sink.port)
        await room.story()
        emails = [f"reader{number}@d{number % 20}.example" for number in range(80)]
        for email in emails:
            await following.ask_to_follow(
                *(database, SECRET, "dam"), email=email, cadence=Cadence.EVERY, locale="en", timezone="UTC"
            )
        restarts = [10]
        async with room.sender() as sender, asyncio.timeout(30):
            while len(sink.copies()) < len(emails) or await still_owed(room):
                if restarts and len(sink.taken) >= restarts[0]:
                    restarts.pop(0)
                    await hang_up(database_url)
                with suppress(DatabaseUnavailable):
                    await following.answer(database, SECRET)
                    await upkeep.tick(database)
                sender.nudge()
                await asyncio.sleep(0.05)
            before = -1
            while len(sink.taken) > before:  # whatever is sent once more, let it come
                before = len(sink.taken)
                await asyncio.sleep(0.3)
        states = await room.run("SELECT state, count(*) AS count FROM notices GROUP BY state")

    duplicates = sink.copies().total() - len(emails)
    print(f"R6, notices: once without a database: lost 0, duplicates {duplicates}, bound {LANES}")
    assert restarts == []
    assert set(sink.copies()) == set(emails)
    assert duplicates <= LANES
    assert states == [{"state": "accepted", "count": len(emails)}]


#: Of the one relay that `newsroom` has.
LANES = 4


async def still_owed(room: Newsroom) -> bool:
    try:
        return bool(await room.run("SELECT id FROM notices WHERE next_at IS NOT NULL LIMIT 1"))
    except DatabaseUnavailable:
        return True


async def hang_up(database_url: str) -> None:
    """End every connection but our own, as a restart does."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
