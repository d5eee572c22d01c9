"""A blast's letters: compiled once per variant, kept in the database, so that every worker sends the same bytes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from dispatcher import db, policy
from dispatcher.channels.email.letter import Letter
from dispatcher.config import Settings
from dispatcher.model import Cadence, Importance, Kind, Story, StoryState, Update
from dispatcher.rendering.letters import MAX_EARLIER, Past, UpdateView, render_update
from dispatcher.rendering.wording import wish

#: Blasts and letters that a worker keeps in memory: a letter of 20 KB takes about 50.
MOST_BLASTS = 32
MOST_LETTERS = 256
MOST_WISHES = 4096

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Content:
    """What a blast says, and until when it is worth saying."""

    story_id: int
    update: Update
    view: UpdateView
    expires_at: datetime


class Letters:
    """The letters of one worker process: from memory, else from the database, else compiled and kept there."""

    def __init__(self, settings: Settings, database: db.Database) -> None:
        self._settings = settings
        self._database = database
        self._contents: OrderedDict[int, Content] = OrderedDict()
        self._letters: OrderedDict[tuple[int, str], Letter] = OrderedDict()
        self._wishes: dict[tuple[object, ...], str] = {}

    async def content(self, blast_id: int) -> Content:
        """What the blast says. It is frozen with the blast: a later update changes nothing here."""
        if (known := self._contents.get(blast_id)) is not None:
            return known
        async with self._database.connection() as connection:
            row = await connection.one("blast_content", blast_id=blast_id)
            if row is None:
                raise LookupError(f"blast {blast_id} is gone")
            earlier = await connection.all(
                "earlier_updates", story_id=row["story_id"], before=row["seq"], limit=MAX_EARLIER
            )
        content = self._content(row, earlier)
        _keep(self._contents, blast_id, content, MOST_BLASTS)
        return content

    async def letter(self, blast_id: int, content: Content, locale: str, timezone: str) -> Letter:
        """The letter for readers of one language in one time zone."""
        variant = f"{locale}/{timezone}"
        if (known := self._letters.get((blast_id, variant))) is not None:
            return known
        async with self._database.connection() as connection:
            kept = await connection.value("find_letter", blast_id=blast_id, variant=variant)
        if kept is None:
            made = await asyncio.to_thread(render_update, content.view, locale=locale, timezone=timezone)
            async with self._database.connection() as connection:
                await connection.execute("keep_letter", blast_id=blast_id, variant=variant, letter=made.dumps())
                kept = await connection.value("find_letter", blast_id=blast_id, variant=variant)
        letter = Letter.loads(bytes(kept))
        _keep(self._letters, (blast_id, variant), letter, MOST_LETTERS)
        return letter

    def wish(self, cadence: str, confirmed_at: datetime | None, locale: str, timezone: str) -> str:
        """What the reader asked for, in words. Readers who confirmed on one day share them."""
        key = (cadence, confirmed_at and confirmed_at.replace(minute=0, second=0, microsecond=0), locale, timezone)
        words = self._wishes.get(key)
        if words is None:
            if len(self._wishes) >= MOST_WISHES:
                self._wishes.clear()
            words = self._wishes[key] = wish(Cadence(cadence), confirmed_at, locale=locale, timezone=timezone)
        return words

    def _content(self, row: db.Row, earlier: list[db.Row]) -> Content:
        update = Update(
            id=row["update_id"],
            story_id=row["story_id"],
            seq=row["seq"],
            kind=Kind(row["kind"]),
            importance=Importance(row["importance"]),
            headline=row["headline"],
            summary=row["summary"],
            body=row["body"],
            published_at=row["published_at"],
            expires_at=row["expires_at"],
            corrects=row["corrects"],
            corrects_seq=row["corrects_seq"],
        )
        story = Story(
            id=row["story_id"],
            slug=row["slug"],
            headline=row["story_headline"],
            summary=row["story_summary"],
            state=StoryState(row["story_state"]),
            created_at=row["story_created_at"],
        )
        view = UpdateView(
            newsroom=self._settings.newsroom,
            public_url=self._settings.public_url,
            mail_from=self._settings.mail_from,
            story=story,
            update=update,
            corrected=_corrected(row),
            earlier=tuple(_past(each) for each in earlier),
            earlier_count=row["seq"] - 1,
        )
        return Content(row["story_id"], update, view, policy.expires_at(update.published_at, update.expires_at))


def _corrected(row: db.Row) -> Past | None:
    if row["corrects"] is None:
        return None
    return Past(
        seq=row["corrects_seq"], headline=row["corrects_headline"], published_at=row["corrects_at"], corrected=True
    )


def _past(row: db.Row) -> Past:
    return Past(
        seq=row["seq"],
        headline=row["headline"],
        published_at=row["published_at"],
        kind=Kind(row["kind"]),
        importance=Importance(row["importance"]),
        corrected=row["corrected"],
    )


def _keep(cache: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    cache[key] = value
    if len(cache) > most:
        cache.popitem(last=False)
