"""A push is a channel like mail: a row for each device in the same ledger, with the same retries, urgency and pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from dispatcher import db, following, steering, upkeep
from dispatcher.following import NewDevice
from dispatcher.ledger import Entry, Ledger
from dispatcher.model import BlastReport, BlastState, Cadence, ChannelName, DeliveryState, Importance, Published
from tests.support.newsroom import Newsroom, newsroom
from tests.support.push_service import Answer, Device, PushService, a_push_service
from tests.support.relays import until
from tests.support.sink import Sink, a_sink

State = DeliveryState


@asynccontextmanager
async def a_room(database: db.Database) -> AsyncIterator[tuple[Newsroom, PushService, Sink]]:
    """A newsroom with a story, a push service and a relay."""
    async with a_push_service() as service, a_sink() as sink:
        room = newsroom(database, sink.port)
        room.settings = replace(room.settings, push_services=(service.origin,))
        await room.story()
        yield room, service, sink


async def browser(room: Newsroom, service: PushService, *, reader: int | None = None, slug: str = "dam") -> Device:
    """A browser that follows by itself, or is one more of a reader's."""
    device = service.device()
    new = NewDevice(
        endpoint=device.endpoint, public_key=device.public_key, auth_secret=device.auth_secret, name="Firefox"
    )
    await following.follow_in_browser(
        room.database, slug, new, cadence=Cadence.EVERY, locale="en", timezone="UTC", subscriber_id=reader
    )
    return device


async def id_of(room: Newsroom, email: str) -> int:
    return int((await room.run("SELECT id FROM subscribers WHERE email = %s", email))[0]["id"])


async def finish_push(room: Newsroom, published: Published, *, seconds: float = 10) -> BlastReport:
    """Send the push blast of an update with a worker of its own until it is done."""
    pushed = replace(published, blast_ids=published.blast_ids[1:])
    async with room.sender() as sender:
        return await room.finish(sender, pushed, seconds=seconds)


async def test_every_device_of_every_follower_gets_one_push_and_one_row(database: db.Database) -> None:
    async with a_room(database) as (room, service, sink):
        await room.follow("dam", "ana@example.org", "ben@example.org")
        ana = await id_of(room, "ana@example.org")
        devices = [await browser(room, service, reader=ana) for _ in range(2)]
        devices += [await browser(room, service) for _ in range(30)]
        published = await room.publish(summary="Everybody south of the river: walk uphill.")
        async with room.sender() as sender:
            mailed = await room.finish(sender, published)
            pushed = await room.finish(sender, replace(published, blast_ids=published.blast_ids[1:]))
        seqs = await room.run("SELECT DISTINCT last_seq FROM subscriptions WHERE channels <> '{email}'")

    assert (mailed.channel, mailed.states) == ("email", {State.ACCEPTED: 2})
    assert (pushed.channel, pushed.states, pushed.candidates) == ("webpush", {State.ACCEPTED: 32}, 32)
    assert [len(device.received) for device in devices] == [1] * 32
    assert sink.copies() == {"ana@example.org": 1, "ben@example.org": 1}
    assert [each["last_seq"] for each in seqs] == [1]


async def test_a_push_says_what_the_update_says_and_how_to_leave(database: db.Database) -> None:
    async with a_room(database) as (room, service, _):
        device = await browser(room, service)
        await finish_push(room, await room.publish(summary="Walk uphill.", importance=Importance.BREAKING))

    (push,) = device.received
    said = push.message
    assert said["title"].endswith("Water is over the wall")
    assert said["body"] == "Walk uphill."
    assert said["url"] == "https://alerts.example.org/s/dam#u1"
    assert said["leave"].startswith("https://alerts.example.org/u/")
    assert said["tag"] == "story-dam"
    assert (push.headers["urgency"], push.headers["content-encoding"]) == ("high", "aes128gcm")
    assert 0 < int(push.headers["ttl"]) <= 6 * 3600
    assert len(push.body) <= 4096


async def test_the_next_update_takes_the_place_of_the_last(database: db.Database) -> None:
    """R39: the same topic and the same slot, so a device that was away shows one notification, the newest."""
    async with a_room(database) as (room, service, _):
        device = await browser(room, service)
        await finish_push(room, await room.publish())
        await finish_push(room, await room.publish())

    first, second = device.received
    assert first.headers["topic"] == second.headers["topic"]
    assert first.message["tag"] == second.message["tag"]
    assert device.waiting == [second]


async def test_a_story_that_no_browser_follows_has_no_push_blast(database: db.Database) -> None:
    async with a_room(database) as (room, service, _):
        await room.story("strike")
        await browser(room, service, slug="strike")

        assert len((await room.publish("dam")).blast_ids) == 1
        assert len((await room.publish("strike")).blast_ids) == 2


async def test_a_device_that_is_gone_is_removed_after_one_try(database: db.Database) -> None:
    """R37: 404 and 410. A browser that followed by itself follows no longer; a reader with an address still does."""
    async with a_room(database) as (room, service, _):
        await room.follow("dam", "ana@example.org")
        gone = [await browser(room, service), await browser(room, service, reader=await id_of(room, "ana@example.org"))]
        there = [await browser(room, service) for _ in range(10)]
        gone[0].answer(Answer(404))
        gone[1].answer(Answer(410))
        first = await finish_push(room, await room.publish())
        left = await room.run("SELECT endpoint FROM devices")
        following_still = await room.run("SELECT channels FROM subscriptions WHERE ended_at IS NULL")
        second = await finish_push(room, await room.publish())

    assert first.states == {State.FAILED: 2, State.ACCEPTED: 10}
    assert {each["endpoint"] for each in left} == {device.endpoint for device in there}
    assert len(following_still) == 11
    assert second.candidates == 10
    assert [len(device.received) for device in gone] == [1, 1]


async def test_a_device_that_moves_while_its_old_endpoint_is_called_gone_is_tried_at_the_new_one(
    database: db.Database,
) -> None:
    async with a_room(database) as (room, service, _):
        old = await browser(room, service)
        old.answer(Answer(410, delay=0.5))
        published = await room.publish()
        async with room.sender() as sender:
            await room.cut()
            sender.nudge()
            await until(lambda: service.count)
            new = await move(room, service, old)
            report = await room.finish(sender, replace(published, blast_ids=published.blast_ids[1:]))

    assert report.states == {State.ACCEPTED: 1}
    assert (len(old.received), len(new.received)) == (1, 1)


async def test_a_blast_that_is_done_stays_so_when_a_late_answer_calls_a_device_gone(database: db.Database) -> None:
    """Two workers tried it: one was answered in time, and the device has moved since."""
    async with a_room(database) as (room, service, _):
        old = await browser(room, service)
        old.answer(Answer(403, body=b"no"))
        published = await room.publish()
        await finish_push(room, published)
        await move(room, service, old)
        (row,) = await room.run("SELECT * FROM deliveries")
        late = Entry(row["blast_id"], row["subscriber_id"], State.FAILED, 1, 0, None, 410, "", "gone", lambda: None,
                     bad_address=True, channel=ChannelName.WEBPUSH, address=old.endpoint)  # fmt: skip
        ledger = Ledger(database)
        ledger.start()
        ledger.put(late)
        await ledger.close()

        assert await room.run("SELECT * FROM deliveries") == [row]
        assert await room.run("SELECT id FROM devices WHERE endpoint <> %s", old.endpoint) != []


async def move(room: Newsroom, service: PushService, old: Device) -> Device:
    """The push service gives a browser another endpoint."""
    new = service.device()
    moved = NewDevice(endpoint=new.endpoint, public_key=new.public_key, auth_secret=new.auth_secret)
    await following.renew_device(room.database, old.endpoint, old.auth_secret, moved)
    return new


async def test_a_service_in_trouble_costs_nobody_their_subscription(database: db.Database) -> None:
    """R37: 500 and a lost connection are tried again, and the second try is the same push."""
    async with a_room(database) as (room, service, _):
        ill, cut = await browser(room, service), await browser(room, service)
        ill.answer(Answer(500), Answer())
        cut.answer(Answer(drop=True), Answer(drop=True), Answer())
        published = await room.publish()
        push = published.blast_ids[1]
        async with room.sender() as sender:

            async def waits() -> bool:
                rows = await room.run("SELECT state FROM deliveries WHERE blast_id = %s ORDER BY subscriber_id", push)
                return [each["state"] for each in rows] == ["deferred", "in_doubt"]

            await room.cut()
            sender.nudge()
            await until(waits)
            await room.run("UPDATE deliveries SET next_at = now() WHERE next_at IS NOT NULL")
            report = await room.finish(sender, replace(published, blast_ids=(push,)))

    assert report.states == {State.ACCEPTED: 2}
    assert len(ill.accepted) == len(cut.accepted) == 1
    assert len({each.headers["topic"] for each in ill.received}) == 1


async def test_a_service_that_asks_for_less_is_left_alone_for_as_long_as_it_says(database: db.Database) -> None:
    """R37: 429 waits at least for Retry-After."""
    async with a_room(database) as (room, service, _):
        device = await browser(room, service)
        device.answer(Answer(429, {"Retry-After": "120"}))
        published = await room.publish()
        async with room.sender() as sender:
            await room.cut()
            sender.nudge()
            await until(lambda: device.received)
            await until(lambda: room.run("SELECT state FROM deliveries WHERE state = 'deferred'"))
            rows = await room.run(
                "SELECT extract(epoch FROM next_at - recorded_at)::float8 AS wait, state FROM deliveries"
            )

    assert len(published.blast_ids) == 2
    assert [each["state"] for each in rows] == ["deferred"]
    assert rows[0]["wait"] >= 119.9
    assert len(device.received) == 1


async def test_a_push_that_is_too_large_for_a_service_is_never_tried_again(database: db.Database) -> None:
    async with a_room(database) as (room, service, _):
        device = await browser(room, service)
        device.answer(Answer(413))
        report = await finish_push(room, await room.publish())
        due = await room.run("SELECT subscriber_id FROM deliveries WHERE next_at IS NOT NULL")

    assert report.states == {State.FAILED: 1}
    assert (len(device.received), due) == (1, [])


async def test_a_reader_who_leaves_is_not_pushed_to_any_more(database: db.Database) -> None:
    async with a_room(database) as (room, service, _):
        devices = [await browser(room, service) for _ in range(2)]
        published = await room.publish()
        await room.cut()
        await room.run(
            "UPDATE subscriptions SET ended_at = now(), ended_reason = 'reader' WHERE subscriber_id ="
            " (SELECT subscriber_id FROM devices WHERE endpoint = %s)",
            devices[0].endpoint,
        )
        report = await finish_push(room, published)

    assert report.states == {State.WITHDRAWN: 1, State.ACCEPTED: 1}
    assert [len(device.received) for device in devices] == [0, 1]


async def test_a_paused_push_blast_waits_and_a_cancelled_one_ends(database: db.Database) -> None:
    async with a_room(database) as (room, service, _):
        device = await browser(room, service)
        published = await room.publish()
        push = published.blast_ids[1]
        await steering.pause(database, push, by="anna")
        async with room.sender() as sender:
            await room.finish(sender, published)
            await upkeep.tick(database)
            sender.nudge()
            await asyncio.sleep(0.2)
            assert device.received == []
            await steering.resume(database, room.bell, push, by="anna")
            report = await room.finish(sender, replace(published, blast_ids=(push,)))

    assert report.states == {State.ACCEPTED: 1}
    assert report.state is BlastState.DONE


async def test_who_failed_can_be_tried_again(database: db.Database) -> None:
    async with a_room(database) as (room, service, _):
        device = await browser(room, service)
        device.answer(Answer(403, body=b"no"), Answer())
        published = await room.publish()
        failed = await finish_push(room, published)
        retried = await steering.retry(database, room.bell, published.blast_ids[1], by="anna")
        report = await finish_push(room, published)

    assert failed.states == {State.FAILED: 1}
    assert (retried.count, retried.left_out) == (1, 0)
    assert report.states == {State.ACCEPTED: 1}


async def test_a_push_service_that_is_away_does_not_hold_up_the_mail(database: db.Database) -> None:
    async with a_room(database) as (room, service, sink):
        await room.follow("dam", *(f"reader{n}@example.org" for n in range(300)))
        for _ in range(300):
            await browser(room, service)
        service.script = lambda _: Answer(silent=True)
        published = await room.publish()
        async with room.sender() as sender:
            report = await room.finish(sender, published, seconds=10)

    assert report.states == {State.ACCEPTED: 300}
    assert len(sink.copies()) == 300


async def test_a_push_to_a_place_that_is_no_push_service_is_never_made(database: db.Database) -> None:
    """S8: what slipped into the table by whatever way is refused again before anything is sent."""
    async with a_room(database) as (room, service, _):
        await browser(room, service)
        canary = await asyncio.start_server(lambda *_: caught.append(1), "127.0.0.1", 0)
        caught: list[int] = []
        port = canary.sockets[0].getsockname()[1]
        await room.run("UPDATE devices SET endpoint = %s", f"http://127.0.0.1:{port}/push")
        report = await finish_push(room, await room.publish())
        canary.close()

    assert report.states == {State.FAILED: 1}
    assert caught == []
