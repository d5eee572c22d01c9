"""An update for a time of the reader's own day: everybody has it when their own clock says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from dispatcher import db, monitoring, policy, publishing, superseding, upkeep
from dispatcher.model import DeliveryState, Draft, Importance, Kind, Published
from tests.actions.test_pushing import a_room, browser, id_of
from tests.support.newsroom import Newsroom, newsroom
from tests.support.relays import until
from tests.support.sink import Session, a_sink

State = DeliveryState
#: Where it is later than in London by so many hours, all the year.
ZONES = {
    "tokyo": "Asia/Tokyo",
    "quito": "America/Guayaquil",
    "utc": "UTC",
    "nowhere": "Mars/Olympus",
    "mumbai": "Asia/Kolkata",
}


async def with_readers(room: Newsroom) -> None:
    await room.follow("dam", *(f"{name}@example.org" for name in ZONES))
    for name, zone in ZONES.items():
        await room.run("UPDATE subscribers SET timezone = %s WHERE email = %s", zone, f"{name}@example.org")


def clock(zone: str, **later: float) -> datetime:
    """What the clock shows there, or a little later."""
    return (datetime.now(ZoneInfo(zone)) + timedelta(**later)).replace(tzinfo=None)


async def publish(room: Newsroom, local_time: datetime, **more: object) -> Published:
    draft = Draft(headline="Good morning", body="The crest has passed.", local_time=local_time, **more)  # type: ignore[arg-type]
    return await publishing.publish(room.database, room.bell, "dam", draft, by="anna")


async def batches(room: Newsroom, published: Published) -> list[tuple[set[str], float]]:
    """Who is in each batch of a mail blast, and in how many hours it may go."""
    rows = await room.run(
        "SELECT array_agg(s.email) AS emails, extract(epoch FROM b.starts_at - now())::float8 / 3600 AS hours"
        " FROM batches b JOIN subscribers s ON s.id = ANY (b.subscriber_ids)"
        " WHERE b.blast_id = %s GROUP BY b.id ORDER BY b.id",
        published.blast_ids[0],
    )
    return [({email.partition("@")[0] for email in row["emails"]}, round(row["hours"], 2)) for row in rows]


async def test_everybody_has_it_at_that_time_by_their_own_clock(database: db.Database) -> None:
    """At once where it is past; a zone that nobody knows is UTC. By mail and by push."""
    async with a_room(database) as (room, service, sink):
        await with_readers(room)
        mumbai = await browser(room, service, reader=await id_of(room, "mumbai@example.org"))
        tokyo = await browser(room, service, reader=await id_of(room, "tokyo@example.org"))
        published = await publish(room, clock("Asia/Kolkata", minutes=30))
        async with room.sender() as sender:
            await room.cut()
            sender.nudge()
            await until(lambda: len(sink.taken) == 1 and tokyo.received)
            waiting = await room.report(published)
            await room.run("UPDATE batches SET not_before = now() WHERE starts_at < now() + interval '1 hour'")
            sender.nudge()
            await until(lambda: len(sink.taken) == 2 and mumbai.received)
        sliced = await batches(room, published)

    assert [who for who, _ in sliced] == [{"tokyo"}, {"mumbai"}, {"utc", "nowhere"}, {"quito"}]
    assert [hours for _, hours in sliced] == pytest.approx([0, 0.5, 6, 11], abs=0.05)
    assert (waiting.candidates, waiting.states) == (5, {State.ACCEPTED: 1})
    assert list(sink.copies()) == ["tokyo@example.org", "mumbai@example.org"]


async def test_it_expires_so_long_after_each_readers_own_time_and_alarms_nobody_before(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story()
        await with_readers(room)
        published = await publish(room, clock("Asia/Kolkata", minutes=-1))
        async with room.sender() as sender:
            await room.cut()
            sender.nudge()
            await until(lambda: len(sink.taken) == 2)
        alarms = [await alarms_after(room, hours) for hours in (3, 3)]
        await alarms_after(room, 7)
        async with room.sender() as sender:
            report = await room.finish(sender, published)

    assert alarms[0] == []  # everybody waits for a time of their own day
    assert ["no worker is alive" in alarm for alarm in alarms[1]] == [True]  # London is owed it for half an hour
    # 13 hours after publishing London's time is 7.5 hours ago, and Quito's 2.5.
    assert report.states == {State.ACCEPTED: 3, State.EXPIRED: 2}
    assert "quito@example.org" in sink.copies()


async def alarms_after(room: Newsroom, hours: float) -> list[str]:
    """What is not well once so much time has gone by."""
    gone = f"interval '{hours} hours'"
    await room.run(f"UPDATE updates SET published_at = published_at - {gone}")
    await room.run(f"UPDATE batches SET starts_at = starts_at - {gone}, not_before = not_before - {gone}")
    await room.run("UPDATE moments SET at = at - interval '1 minute'")
    await monitoring.watch(room.database)
    return [each["text"] for each in await room.run("SELECT text FROM incidents WHERE closed_at IS NULL")]


def test_the_last_on_earth_decide_until_when_readers_can_be_tried_again() -> None:
    published, local = datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 2, 7)  # noqa: DTZ001

    assert policy.expires_at(published, None) == published + policy.DEFAULT_EXPIRY
    assert (
        policy.expires_at(published, None, local_time=local)
        == datetime(2026, 3, 2, 19, tzinfo=UTC) + policy.DEFAULT_EXPIRY
    )
    assert policy.expires_at(published, published + timedelta(hours=2), starts_at=published + timedelta(hours=5)) == (
        published + timedelta(hours=7)
    )
    assert (
        policy.expires_at(published, None, starts_at=published - timedelta(hours=5))
        == published + policy.DEFAULT_EXPIRY
    )


async def test_who_is_tried_again_keeps_the_time_of_their_own_day(database: db.Database) -> None:
    def refuse(step: str, argument: str, session: Session) -> str | None:
        return "451 4.7.1 not now" if step == "RCPT" and "mumbai" in argument else None

    async with a_sink(refuse) as sink:
        room = newsroom(database, sink.port)
        await room.story()
        await with_readers(room)
        published = await publish(room, clock("Asia/Kolkata", minutes=-1))
        async with room.sender() as sender:
            await room.cut()
            sender.nudge()
            await until(lambda: room.run("SELECT subscriber_id FROM deliveries WHERE state = 'deferred'"))
        await room.run("UPDATE deliveries SET next_at = now() WHERE next_at IS NOT NULL")
        await upkeep.tick(database)
        again = await room.run("SELECT starts_at FROM batches WHERE retry AND blast_id = %s", published.blast_ids[0])
        first = await room.run(
            "SELECT starts_at FROM batches b JOIN subscribers s ON s.id = ANY (b.subscriber_ids)"
            " WHERE NOT b.retry AND s.email LIKE 'mumbai@%%'"
        )

    assert [each["starts_at"] for each in again] == [each["starts_at"] for each in first]


async def test_its_correction_goes_at_once_to_who_has_it_and_to_the_others_at_their_time(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story()
        await with_readers(room)
        await publish(room, clock("Asia/Kolkata", minutes=-5))
        async with room.sender() as sender:
            await room.cut()
            sender.nudge()
            await until(lambda: len(sink.taken) == 2)
            draft = Draft(
                headline="It has not",
                body="It has not.",
                kind=Kind.CORRECTION,
                corrects_seq=1,
                importance=Importance.MAJOR,
            )
            correction = await publishing.publish(database, room.bell, "dam", draft, by="anna")
            await superseding.settle(database, patience=5)
            await room.cut()
            sender.nudge()
            await until(lambda: len(sink.taken) == 4)
        rows = await room.run(
            "SELECT plain, starts_at > now() AS waits, cardinality(subscriber_ids) AS readers FROM batches"
            " WHERE blast_id = %s ORDER BY id",
            correction.blast_ids[0],
        )

    assert [(row["plain"], row["waits"], row["readers"]) for row in rows] == [
        (False, None, 2),
        (True, True, 2),
        (True, True, 1),
    ]
    assert set(sink.copies()) == {"tokyo@example.org", "mumbai@example.org"}
