"""A small newsroom for tests: a story, its followers, and a way to publish, send and count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.headerregistry import Address
from pathlib import Path
from typing import Any

from dispatcher import db, fanout, publishing, reporting, stories, superseding, upkeep
from dispatcher.addresses import address_hash, parse_address
from dispatcher.config import RelaySettings, Settings
from dispatcher.model import BlastReport, Draft, Importance, Published, Urgency
from dispatcher.nudges import Bell
from dispatcher.sending import Sender

SECRET = "a secret for tests only, long enough for anybody"
#: Nobody listens there: nudges are lost at once, as on a night without a broker.
NO_BROKER = "redis://127.0.0.1:1/0"


def settings_for(database_url: str, *ports: int, lanes: int = 4) -> Settings:
    return Settings(
        data_dir=Path("/nonexistent"),
        database_url=database_url,
        broker_url=NO_BROKER,
        relays=tuple(RelaySettings(host="127.0.0.1", port=port, starttls="never", lanes=lanes) for port in ports),
        public_url="https://alerts.example.org",
        mail_from=Address("The Courier", addr_spec="alerts@courier.example"),
        secret_key=SECRET,
    )


@dataclass
class Newsroom:
    """Everything a test needs to publish and to send, on one database."""

    database: db.Database
    settings: Settings
    bell: Bell

    async def story(self, slug: str = "dam", followers: int = 0, *, cadence: str = "every") -> None:
        """A story, and so many confirmed followers of it: reader1@example.org and so on."""
        await stories.create(self.database, slug, headline="The dam above the city")
        await self.follow(slug, *(f"reader{number}@example.org" for number in range(1, followers + 1)), cadence=cadence)

    async def follow(self, slug: str, *emails: str, cadence: str = "every", confirmed: bool = True) -> None:
        rows = [(email, address_hash(SECRET, parse_address(email))) for email in emails]
        async with self.database.transaction() as tx, tx.raw.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO subscribers (email, address_hash) VALUES (%s, %s) ON CONFLICT DO NOTHING", rows
            )
            await cursor.execute(
                "INSERT INTO subscriptions (story_id, subscriber_id, cadence, confirmed_at) "
                "SELECT t.id, r.id, %s::cadence, CASE WHEN %s THEN now() END FROM stories t, subscribers r "
                "WHERE t.slug = %s AND r.email = ANY (%s)",
                (cadence, confirmed, slug, list(emails)),
            )

    async def run(self, statement: str, *values: object) -> list[db.Row]:
        """Any statement, to bring about what a test is about."""
        async with self.database.connection() as connection:
            cursor = await connection.raw.execute(statement, values)
            return await cursor.fetchall() if cursor.description else []

    async def publish(self, slug: str = "dam", *, importance: Importance = Importance.MAJOR, **more: Any) -> Published:
        draft = Draft(
            headline="Water is over the wall", body="The gauge reads **6.12 m**.", importance=importance, **more
        )
        return await publishing.publish(self.database, self.bell, slug, draft, by="test")

    async def cut(self, urgency: int = max(Urgency)) -> int:
        return await fanout.cut(self.database, self.bell, urgency=urgency)

    async def report(self, published: Published) -> BlastReport:
        return await reporting.blast(self.database, published.blast_ids[0])

    @asynccontextmanager
    async def sender(self, *, urgency: int = max(Urgency)) -> AsyncIterator[Sender]:
        """A worker's sender on this event loop, closed in order afterwards."""
        sender = Sender(self.settings, self.database, urgency=urgency)
        sender.start()
        try:
            yield sender
        finally:
            await sender.close(5)

    async def settle(self, sender: Sender, published: Published, *, seconds: float = 30) -> BlastReport:
        """Send, with the reconciler's help, until nobody of the blast waits any more."""
        async with asyncio.timeout(seconds):
            while (report := await self.report(published)).waiting or report.candidates is None:
                await upkeep.tick(self.database)
                await superseding.settle(self.database)
                await self.cut()
                sender.nudge()
                await asyncio.sleep(0.02)
        return report

    async def finish(self, sender: Sender, published: Published, *, seconds: float = 30) -> BlastReport:
        """Like `settle`, and until the blast itself counts as done."""
        async with asyncio.timeout(seconds):
            while not (report := await self.settle(sender, published, seconds=seconds)).settled:
                await upkeep.tick(self.database)
                sender.nudge()
                await asyncio.sleep(0.02)
        return report


def newsroom(database: db.Database, *ports: int, lanes: int = 4) -> Newsroom:
    settings = settings_for(database.url, *ports or (1,), lanes=lanes)
    return Newsroom(database, settings, Bell(NO_BROKER))
