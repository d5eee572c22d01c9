"""One clock decides what is past, and when: the database's, however wrong the hosts' are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from dispatcher import db, drafting, publishing, subscribing
from dispatcher.errors import Invalid
from dispatcher.model import Draft
from dispatcher.roles import Role
from tests.support.desk import TEXT, employ, log_of
from tests.support.newsroom import Newsroom, newsroom

#: How far this host is behind the database.
AHEAD = timedelta(days=3)
HOUR = timedelta(hours=1)


@pytest.fixture
async def room(database_url: str) -> AsyncIterator[Newsroom]:
    """A newsroom whose database believes it to be three days later."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            """
            CREATE SCHEMA skewed;
            CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
                $$ SELECT pg_catalog.clock_timestamp() + interval '3 days' $$;
            ALTER TABLE updates ALTER COLUMN published_at SET DEFAULT skewed.clock_timestamp();
            DO $$ BEGIN
                EXECUTE format('ALTER DATABASE %I SET search_path = skewed, pg_catalog, public', current_database());
            END $$;
            """
        )
    async with db.Database(database_url, size=4) as opened:
        made = newsroom(opened)
        await made.story(followers=1)
        yield made


def here(ahead: timedelta) -> datetime:
    """A moment as this host would name it."""
    return datetime.now(UTC) + ahead


async def publish(room: Newsroom, *, key: str | None = None, **more: Any) -> datetime | None:
    draft = Draft(headline="Water is over the wall", body="Walk uphill.", **more)
    return (await publishing.publish(room.database, room.bell, "dam", draft, by="ed", key=key)).update.expires_at


async def test_what_expires_is_past_or_not_by_the_databases_clock(room: Newsroom) -> None:
    with pytest.raises(Invalid, match="in the past"):
        await publish(room, expires_at=here(AHEAD - HOUR))
    at = await publish(room, expires_at=here(AHEAD + HOUR))
    after = await publish(room, expires_in=2 * HOUR, key="one")
    again = await publish(room, expires_in=2 * HOUR, key="one")

    assert at is not None
    assert after is not None
    assert HOUR < after - at < 3 * HOUR
    assert again == after, "the same words are the same update, whenever they are sent again"


async def test_a_draft_is_scheduled_published_and_expires_by_the_databases_clock(room: Newsroom) -> None:
    ed = await employ(room, "ed", Role.EDITOR)
    first = await drafting.begin(room.database, "dam", by=ed, text=replace(TEXT, expires_in=HOUR))
    with pytest.raises(Invalid, match="past"):
        await schedule(room, first, ed, here(AHEAD - HOUR))
    sent = await drafting.send(room.database, room.bell, first.id, version=1, by=ed)
    second = await drafting.begin(room.database, "dam", by=ed, text=replace(TEXT, expires_in=HOUR))
    await schedule(room, second, ed, here(AHEAD + HOUR))
    await room.run("UPDATE drafts SET send_at = clock_timestamp() - interval '2 hours' WHERE state = 'scheduled'")
    await drafting.publish_due(room.database, room.bell, room.settings)

    assert sent.update.expires_at is not None
    assert timedelta() < sent.update.expires_at - here(AHEAD) <= HOUR
    assert (await log_of(room, f"draft:{second.id}"))[-1] == "did not send at the scheduled time"


async def schedule(room: Newsroom, writing: drafting.Writing, by: Any, at: datetime) -> None:
    text = at.strftime("%Y-%m-%dT%H:%M")
    await drafting.schedule(room.database, writing.id, version=1, by=by, at=text, clock="newsroom", zone="UTC")


async def test_a_reader_pauses_until_a_day_that_is_not_over_by_the_databases_clock(room: Newsroom) -> None:
    with pytest.raises(Invalid, match="over"):
        await subscribing.pause(room.database, 1, here(AHEAD - timedelta(days=1)).date())
    await subscribing.pause(room.database, 1, here(AHEAD).date())
    assert (await subscribing.reader(room.database, 1)).paused_until is not None
