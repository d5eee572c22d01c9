"""Readers, strangers, browsers and workers who all act at once: nobody waits in a ring, and nobody is lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from dispatcher import db, following, privacy, stories, subscribing
from dispatcher.errors import Conflict, DispatcherError, NotFound
from dispatcher.tokens import ConfirmTokens
from tests.actions.test_browsers import browser, follow
from tests.actions.test_following import Forms
from tests.support.newsroom import SECRET, newsroom

ROUNDS = 40
AT_ONCE = 20
STORIES = ("dam", "strike")
EMAILS = [f"reader{number}@example.org" for number in range(4)]
BROWSERS = range(5)


class Crowd:
    """People who press every button there is, in no order, on few addresses and browsers."""

    def __init__(self, forms: Forms, seed: int) -> None:
        self.forms = forms
        self.database = forms.database
        self.chance = random.Random(seed)
        self.troubles: Counter[str] = Counter()

    async def act(self) -> None:
        acts: list[Callable[[], Awaitable[object]]] = [
            *[self.ask] * 4,
            *[self.forms.answer] * 2,
            *[self.confirm] * 4,
            *[self.follow_in_browser] * 4,
            *[self.renew] * 2,
            self.remove_device,
            self.leave,
            self.erase,
            lambda: privacy.erase_address(self.database, SECRET, self.chance.choice(EMAILS)),
        ]
        try:
            await self.chance.choice(acts)()
        except (NotFound, Conflict):
            pass  # somebody else was quicker, and whoever presses is told so
        except DispatcherError as error:
            self.troubles[str(error)] += 1

    async def somebody(self) -> int:
        rows = await self.forms.room.run("SELECT id FROM subscribers")
        return int(self.chance.choice(rows)["id"]) if rows else 1

    async def ask(self) -> None:
        device_of = self.chance.choice([None, await self.somebody()])
        await self.forms.ask(
            self.chance.choice(STORIES), self.chance.choice(EMAILS), device_subscriber_id=device_of, catch_up=True
        )

    async def confirm(self) -> None:
        rows = await self.forms.room.run("SELECT * FROM confirmations WHERE used_at IS NULL")
        if rows:
            row = self.chance.choice(rows)
            token = ConfirmTokens(SECRET).make(row["id"], row["address_hash"], row["story_id"])
            await following.confirm(self.database, SECRET, token, with_browser=self.chance.random() < 0.7)

    async def follow_in_browser(self) -> None:
        joins = self.chance.choice([None, None, await self.somebody()])
        await follow(
            self.forms, browser(self.chance.choice(BROWSERS)), self.chance.choice(STORIES), subscriber_id=joins
        )

    async def renew(self) -> None:
        old, new = (browser(self.chance.choice(BROWSERS)) for _ in range(2))
        await following.renew_device(self.database, old.endpoint, old.auth_secret, new)

    async def remove_device(self) -> None:
        rows = await self.forms.room.run("SELECT id, subscriber_id FROM devices")
        if rows:
            row = self.chance.choice(rows)
            await subscribing.remove_device(self.database, row["subscriber_id"], row["id"])

    async def leave(self) -> None:
        await subscribing.leave(self.database, subscribing.ALL_STORIES, await self.somebody())

    async def erase(self) -> None:
        await privacy.erase(self.database, await self.somebody())


async def test_a_crowd_never_waits_in_a_ring_and_leaves_no_loose_ends(database_url: str) -> None:
    seed = random.randrange(10_000)
    async with db.Database(database_url, size=10) as database:
        room = newsroom(database)
        for slug in STORIES:
            await stories.create(database, slug, headline="One")
        crowd = Crowd(Forms(database, room), seed)
        for _ in range(ROUNDS):
            await asyncio.gather(*(crowd.act() for _ in range(AT_ONCE)))
            await room.run("DELETE FROM notices")
            await room.run("DELETE FROM confirmations WHERE used_at IS NOT NULL")
        lost = await room.run(
            "SELECT r.id FROM subscribers r JOIN subscriptions f ON f.subscriber_id = r.id "
            "WHERE r.email IS NULL AND f.ended_at IS NULL "
            "AND NOT EXISTS (SELECT FROM devices d WHERE d.subscriber_id = r.id)"
        )
        contradictions = await room.run(
            "SELECT r.id FROM subscribers r JOIN suppressions x ON x.address_hash = r.address_hash"
        )

    assert crowd.troubles == {}, f"seed {seed}"
    assert lost == [], f"seed {seed}: readers who follow and cannot be reached"
    assert contradictions == [], f"seed {seed}: readers who are erased and are there"
