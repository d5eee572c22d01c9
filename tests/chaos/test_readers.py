"""Workers are killed while readers wait for confirmations and while pushes go out: nobody is lost, few get two."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dispatcher import following, merging, stories
from dispatcher.channels.webpush.channel import LANES as PUSH_LANES
from dispatcher.model import Cadence, DeliveryState
from tests.chaos.conftest import Ground, Scale
from tests.security.house import beside
from tests.support.crowd import a_crowd
from tests.support.fleet import LANES, PROCESSES, Fleet, a_fleet, points
from tests.support.newsroom import SECRET, Newsroom
from tests.support.push_service import Answer, Device, PushService
from tests.support.relays import slow
from tests.support.sink import Sink

pytestmark = pytest.mark.chaos

READERS = 300
DEVICES = 2_000


class Post:
    """Workers, and the two places that they send to. No dataclass: nobody wants to read all that was sent."""

    def __init__(self, fleet: Fleet, sink: Sink, service: PushService) -> None:
        self.fleet = fleet
        self.sink = sink
        self.service = service


@pytest.fixture(scope="module")
def post(ground: Ground) -> Iterator[Post]:
    """Two workers of this file, with a push service of its own."""
    with (
        beside() as (sink, service),
        a_fleet(ground.database_url, ground.valkey.url, sink, ground.directory, workers=0, gently=False) as fleet,
    ):
        fleet.env["DISPATCHER_PUSH_SERVICES"] = service.origin
        yield Post(fleet, sink, service)


async def enough(fleet: Fleet, room: Newsroom) -> None:
    """Two workers, both at work."""
    while len(fleet.workers) < 2:
        fleet.start_worker()
    await fleet.up(room)


async def kill_at(fleet: Fleet, moments: list[int], progress: Callable[[], int], chance: random.Random) -> None:
    """kill -9 of a worker each time that so much is out, and, but for the last, a new one in its place."""
    for number, moment in enumerate(moments, 1):
        while progress() < moment:
            await asyncio.sleep(0.002)
        fleet.kill(chance.choice(fleet.workers))
        if number < len(moments):
            fleet.start_worker()


async def test_kill_9_of_workers_loses_no_confirmation_and_repeats_at_most_one_a_lane(
    room: Newsroom, post: Post, scale: Scale
) -> None:
    """R1 for notices. Whether asks are answered or mails on their way just then: what counts are committed rows."""
    kills = scale.times(8, 1)
    await enough(post.fleet, room)
    await stories.create(room.database, "asked", headline="The dam above the city")
    emails = [f"reader{number}@d{number % 40}.asked.example" for number in range(READERS)]
    post.sink.script = slow(0.03)
    killing = asyncio.create_task(
        kill_at(post.fleet, points(READERS, kills, scale.seed), lambda: len(post.sink.taken), random.Random(scale.seed))
    )
    for email in emails:
        await following.ask_to_follow(
            *(room.database, SECRET, "asked"), email=email, cadence=Cadence.EVERY, locale="en", timezone="UTC"
        )
    async with asyncio.timeout(scale.seconds):
        while not killing.done() or await _owed(room):
            await asyncio.sleep(0.05)
    await killing
    post.sink.script = lambda *_: None
    copies = post.sink.copies()
    duplicates, bound = copies.total() - len(copies), kills * PROCESSES * LANES
    states = await room.run("SELECT state, count(*) AS count FROM notices GROUP BY state")
    ids = {(each.recipient, each.message_id) for each in post.sink.taken}
    print(f"R1, notices: {kills} kills -9: lost {READERS - len(copies)}, duplicates {duplicates}, bound {bound}")

    assert set(copies) == set(emails)
    assert duplicates <= bound
    assert [(row["state"], row["count"]) for row in states] == [("accepted", READERS)]
    assert len(ids) == READERS, "a mail that is sent twice is recognised as one"


async def _owed(room: Newsroom) -> bool:
    rows = await room.run(
        "SELECT (SELECT count(*) FROM asks) + (SELECT count(*) FROM notices WHERE next_at IS NOT NULL) AS owed"
    )
    return bool(rows[0]["owed"])


async def test_kill_9_of_workers_loses_no_push_and_shows_each_once(room: Newsroom, post: Post, scale: Scale) -> None:
    """R1 and R39 for pushes: a push that is repeated has the topic of the first, and so replaces it."""
    kills = scale.times(8, 1)
    await enough(post.fleet, room)
    slug = (await a_crowd(room, 1)).slug
    devices = await browsers(room, post.service, slug, DEVICES)
    post.service.script = lambda _: Answer(delay=0.02)
    published = await room.publish(slug)
    pushed = replace(published, blast_ids=published.blast_ids[1:])
    killing = asyncio.create_task(
        kill_at(post.fleet, points(DEVICES, kills, scale.seed), lambda: post.service.count, random.Random(scale.seed))
    )
    async with asyncio.timeout(scale.seconds):
        while not (report := await room.report(pushed)).settled or not killing.done():
            await asyncio.sleep(0.05)
    await killing
    copies = Counter(len(device.received) for device in devices)
    duplicates = sum((count - 1) * many for count, many in copies.items() if count)
    bound = kills * PROCESSES * PUSH_LANES
    print(f"R1, pushes: {kills} kills -9: lost {copies[0]}, duplicates {duplicates}, bound {bound}, {report.seconds} s")

    assert copies[0] == 0
    assert duplicates <= bound
    assert report.states == {DeliveryState.ACCEPTED: DEVICES}
    assert {len(device.waiting) for device in devices} == {1}
    assert len({push.headers["topic"] for device in devices for push in device.received}) == 1
    assert devices[0].received[-1].message["tag"] == f"story-{slug}"


async def browsers(room: Newsroom, service: PushService, slug: str, count: int) -> list[Device]:
    """So many browsers that follow a story by themselves."""
    devices = [service.device() for _ in range(count)]
    [ids] = await room.run(
        "WITH readers AS (INSERT INTO subscribers (locale) SELECT 'en' FROM generate_series(1, %s) RETURNING id),"
        " follows AS (INSERT INTO subscriptions (story_id, subscriber_id, channels, confirmed_at)"
        " SELECT s.id, r.id, '{webpush}', now() FROM readers r, stories s WHERE s.slug = %s)"
        " SELECT array_agg(id) AS ids FROM readers",
        *(count, slug),
    )
    rows = [
        (reader, device.endpoint, device.public_key, device.auth_secret, device.endpoint)
        for reader, device in zip(ids["ids"], devices, strict=True)
    ]
    async with room.database.transaction() as tx, tx.raw.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO devices (subscriber_id, endpoint, public_key, auth_secret, endpoint_hash)"
            " VALUES (%s, %s, %s, %s, sha256(%s::text::bytea))",
            rows,
        )
    return devices


async def test_kill_9_of_workers_leaves_no_reader_of_a_merged_story_behind_and_lets_all_go_when_the_other_ends(
    room: Newsroom, post: Post, scale: Scale
) -> None:
    """A worker that dies in the middle of a slice has moved nobody of it; another begins where it stood."""
    readers = scale.times(200_000, 20_000)
    await enough(post.fleet, room)
    await stories.create(room.database, "levee", headline="The levee")
    await stories.create(room.database, "river", headline="The river")
    await room.run(
        "WITH new AS (INSERT INTO subscribers (email, address_hash)"
        " SELECT n || '@merged.example', decode(md5('merged' || n), 'hex') FROM generate_series(1, %s) n RETURNING id)"
        " INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at)"
        " SELECT s.id, new.id, now() FROM new, stories s WHERE s.slug = 'levee'",
        readers,
    )
    begun = await merging.merge(room.database, "levee", "river", by="ada", seconds=0)
    async with asyncio.timeout(scale.seconds):
        while await merging.left(room.database, begun.story) == readers:
            await asyncio.sleep(0.005)
        post.fleet.kill(post.fleet.workers[0])
        while await merging.left(room.database, begun.story):
            await asyncio.sleep(0.02)
        (now,) = await room.run(
            "SELECT count(*) FILTER (WHERE ended_at IS NULL) AS following, count(*) AS all_of_them"
            " FROM subscriptions f JOIN stories s ON s.id = f.story_id WHERE s.slug = 'river'"
        )
        assert now == {"following": readers, "all_of_them": readers}
        await stories.close(room.database, "river")
        while await room.run("SELECT id FROM stories WHERE slug = 'river' AND released_at IS NULL"):
            await asyncio.sleep(0.05)
    rows = await room.run(
        "SELECT ended_reason, count(*) FROM subscriptions f JOIN stories s ON s.id = f.story_id"
        " WHERE s.slug IN ('levee', 'river') GROUP BY 1 ORDER BY 1"
    )
    assert rows == [
        {"ended_reason": "story closed", "count": readers},
        {"ended_reason": "story merged", "count": readers},
    ]
