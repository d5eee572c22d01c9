"""What the reconciler does about what others left behind."""

from __future__ import annotations

import asyncio

from dispatcher import db, upkeep
from dispatcher.model import DeliveryState
from tests.support.newsroom import Newsroom, newsroom
from tests.support.sink import SILENCE, a_sink


class TestUpkeep:
    """What the reconciler does about what others left behind."""

    async def leased(self, room: Newsroom, *, attempts: int = 1, worker: int = 99) -> None:
        await room.run(
            "UPDATE batches SET state = 'leased', attempts = %s, worker = %s, lease_token = nextval('lease_tokens'), "
            "lease_until = now() + interval '1 hour'",
            attempts,
            worker,
        )

    async def test_the_batches_of_a_worker_that_is_gone_are_free_at_once(self, database: db.Database) -> None:
        room = newsroom(database)
        await room.story(followers=10)
        await room.publish()
        await room.cut()
        await self.leased(room)

        work = await upkeep.tick(database)

        assert work.batches == 1
        assert (await room.run("SELECT state, attempts FROM batches"))[0] == {"state": "waiting", "attempts": 1}

    async def test_the_batches_of_a_worker_that_lives_are_left_alone(self, database: db.Database) -> None:
        async with a_sink(lambda step, *_: SILENCE if step == "BODY" else None) as sink:
            room = newsroom(database, sink.port)
            await room.story(followers=10)
            await room.publish()
            await room.cut()
            async with room.sender() as sender:
                sender.nudge()
                async with asyncio.timeout(20):
                    while not sink.taken:
                        await asyncio.sleep(0.01)
                for _ in range(3):
                    await upkeep.tick(database)
                rows = await room.run("SELECT state FROM batches")
                for session in list(sink.sessions):
                    session.speak("250 Ok")

        assert [row["state"] for row in rows] == ["leased"]

    async def test_a_crashing_batch_is_halved_until_the_poison_is_alone_and_buried(self, database: db.Database) -> None:
        """Workers die on every batch that holds reader 137, and only on those."""
        room = newsroom(database)
        await room.story(followers=500)
        published = await room.publish()
        await room.cut()
        claims = 0
        while rows := await room.run(
            "SELECT id, 137 = ANY (subscriber_ids) AS poisoned FROM batches WHERE state = 'waiting'"
        ):
            for row in rows:
                if row["poisoned"]:
                    claims += 1
                    await room.run(
                        "UPDATE batches SET state = 'leased', attempts = attempts + 1, worker = 99, "
                        "lease_token = 1, lease_until = now() WHERE id = %s",
                        row["id"],
                    )
                else:
                    await room.run("UPDATE batches SET state = 'done' WHERE id = %s", row["id"])
            await upkeep.tick(database)

        report = await room.report(published)
        assert report.states == {DeliveryState.IN_DOUBT: 1}  # the last worker may have sent it before it died
        assert report.reasons == ((upkeep.POISON, 1),)
        assert claims <= 3 + 9
        sizes = await room.run("SELECT sum(cardinality(subscriber_ids)) AS n FROM batches")
        assert sizes[0]["n"] == 500

    async def test_a_lapsed_token_can_neither_finish_nor_release_a_batch(self, database: db.Database) -> None:
        room = newsroom(database)
        await room.story(followers=3)
        await room.publish()
        await room.cut()
        await self.leased(room)
        stale = (await room.run("SELECT id, lease_token FROM batches"))[0]
        await upkeep.tick(database)
        await self.leased(room, worker=100)

        async with database.transaction() as tx:
            finished = await tx.execute("finish_batch", batch_id=stale["id"], token=stale["lease_token"])
            released = await tx.execute(
                "release_batch", batch_id=stale["id"], token=stale["lease_token"], pause=0, reason=None
            )

        assert (finished, released) == (0, 0)

    async def test_an_outcome_that_is_final_is_never_overwritten(self, database: db.Database) -> None:
        room = newsroom(database)
        one = {"attempts": "{1}", "in_doubt": "{0}", "retry_in": "{NULL}", "codes": "{250}", "relays": ["r"]}
        async with database.transaction() as tx:
            for state, reply in (("accepted", "first"), ("failed", "second")):
                await tx.execute(
                    "record", blasts="{1}", subscribers="{1}", states=f"{{{state}}}", replies=[reply], **one
                )

        rows = await room.run("SELECT state, reply FROM deliveries")
        assert rows == [{"state": "accepted", "reply": "first"}]
