"""Load a claimed batch: who is in it, what is decided about each without asking anybody, what the others are owed."""

from __future__ import annotations

import asyncio
from datetime import datetime

import structlog

from dispatcher import db
from dispatcher.channels.email.letter import Letter, Values
from dispatcher.channels.webpush.letter import PushLetter
from dispatcher.config import Settings
from dispatcher.errors import DatabaseUnavailable
from dispatcher.ledger import Entry, Ledger
from dispatcher.letters import Aspect, Content, LetterFailed, Letters
from dispatcher.model import ChannelName, DeliveryState
from dispatcher.parcels import TAKING_BACK, Batch, Device, Mail, Owed, Push, Reader, entry_of
from dispatcher.rendering.letters import MAX_EARLIER
from dispatcher.tokens import MessageIds, leave_links, manage_links

log = structlog.get_logger()

#: Seconds before a batch is tried again that failed for a reason of ours.
ERROR_PAUSE = 15.0


class Loader:
    """The `Desk` of one worker process: it makes the parcels, and writes down what becomes of them."""

    def __init__(self, settings: Settings, database: db.Database, letters: Letters, ledger: Ledger) -> None:
        self._database = database
        self._letters = letters
        self._ledger = ledger
        self._in_doubt = settings.in_doubt
        self._return_path = settings.mail_from.addr_spec
        self._public_url = settings.public_url
        self._message_ids = MessageIds(settings.secret_key, settings.mail_domain)
        self._leave = leave_links(settings.secret_key)
        self._manage = manage_links(settings.secret_key)
        self._late: set[asyncio.Task[None]] = set()

    async def load(self, batch: Batch, content: Content) -> list[Owed]:
        """The parcels of a batch. Whoever gets none is in the ledger with the next commit.

        Raises `DatabaseUnavailable`.
        """
        batch.story_id, batch.seq = content.story_id, content.update.seq
        expires_at = content.ends_at(batch.starts_at)
        batch.expires_at = batch.claimed_at + (expires_at - batch.claimed_when).total_seconds()
        batch.in_doubt = (batch.story_in_doubt or self._in_doubt) if batch.channel is ChannelName.EMAIL else None
        parcels: list[Owed] = []
        entries: list[Entry] = []
        letters: dict[tuple[str, str, Aspect], Letter | PushLetter | LetterFailed] = {}
        now = batch.now
        for reader in await self._readers(batch, content, expires_at):
            if reader.is_done(retry=batch.retry):
                if reader.state == DeliveryState.ACCEPTED:
                    batch.received.append(reader.id)
                continue
            skip = reader.skipped(batch.in_doubt) or reader.unwilling(content.update, now)
            if skip is not None:
                entries.append(entry_of(batch, reader, *skip))
                continue
            variant = (reader.locale, reader.timezone, _aspect(batch, content, reader))
            letter = letters.get(variant)
            if letter is None:
                letter = letters[variant] = await self._letter(batch, content, *variant)
            if not isinstance(letter, LetterFailed):
                parcels.append(self._parcel(batch, content, reader, letter))
            elif letter.final:
                entries.append(entry_of(batch, reader, DeliveryState.FAILED, letter.reason))
            else:
                batch.unsent += 1
        batch.expect(len(parcels) + len(entries))
        self._ledger.put_all(entries)
        return parcels

    async def _readers(self, batch: Batch, content: Content, expires_at: datetime) -> list[Reader]:
        mails = batch.channel is ChannelName.EMAIL
        async with self._database.connection() as connection:
            running = await connection.all(
                "running_blasts",
                story_id=content.story_id,
                seq=content.update.seq,
                channel=str(batch.channel),
                limit=MAX_EARLIER,
            )
            rows = await connection.tuples(
                "load_recipients" if mails else "load_devices",
                running=[row["id"] for row in running],
                seqs=[row["seq"] for row in running],
                ids=batch.subscriber_ids,
                story_id=content.story_id,
                blast_id=batch.blast_id,
                since=batch.created_at,
                expires_at=expires_at,
            )
        return [Reader(*row) for row in rows] if mails else [Device(*row) for row in rows]

    async def _letter(
        self, batch: Batch, content: Content, locale: str, timezone: str, aspect: Aspect
    ) -> Letter | PushLetter | LetterFailed:
        """The letter of such readers. If it cannot be made, that is not the reader's fate at once: the batch waits."""
        try:
            if batch.channel is ChannelName.WEBPUSH:
                return await self._letters.push(batch.blast_id, content, locale, aspect)
            return await self._letters.letter(batch.blast_id, content, locale, timezone, aspect)
        except DatabaseUnavailable:
            raise
        except LetterFailed as error:
            failed = error
        except Exception as error:
            variant = f"{locale}/{timezone}{aspect.suffix}"
            log.exception("letter cannot be made", blast=batch.blast_id, variant=variant)
            failed = LetterFailed(f"the letter for {variant} cannot be made ({type(error).__name__})", final=False)
        if not failed.final:
            batch.pause = ERROR_PAUSE
            batch.reason = failed.reason
        return failed

    def _parcel(self, batch: Batch, content: Content, reader: Reader, letter: Letter | PushLetter) -> Owed:
        if isinstance(letter, Letter):
            return Mail(self, batch, reader, self._return_path, letter)
        assert isinstance(reader, Device)  # noqa: S101  # a push is loaded with its devices
        return Push(self, batch, reader, letter, content.update.importance, content.topic)

    def values(self, batch: Batch, reader: Reader) -> Values:
        """What fills the slots of the reader's letter."""
        return Values(
            address=reader.email or "",
            name=reader.name,
            message_id=self._message_ids.make(batch.blast_id, reader.id),
            leave_url=self.leave_url(batch, reader.id),
            manage_url=f"{self._public_url}/manage/{self._manage.make(0, reader.id)}",
            wish=self._letters.wish(reader.cadence, reader.confirmed_at, reader.locale, reader.timezone),
        )

    def leave_url(self, batch: Batch, subscriber_id: int) -> str:
        """Where this reader ends following the story of the batch with one click."""
        return f"{self._public_url}/u/{self._leave.make(batch.story_id, subscriber_id)}"

    def record(self, entry: Entry) -> None:
        """Write an entry down with the next commit."""
        self._ledger.put(entry)

    def received_late(self, batch: Batch, reader: Reader) -> None:
        """The relay accepted a mail when its batch no longer waited for it."""
        self._later(received_statement(batch), story_id=batch.story_id, ids=[reader.id], seq=batch.seq)

    def refused_late(self, batch: Batch, reader: Reader) -> None:
        """The relay refused a mail for now when its batch no longer waited for it: it was not in doubt after all."""
        self._later("note_refused_late", blast_id=batch.blast_id, subscriber_id=reader.id, doubts=reader.in_doubt_count)

    @property
    def late(self) -> set[asyncio.Task[None]]:
        """Late answers that are being noted."""
        return self._late

    def _later(self, statement: str, **values: int | list[int]) -> None:
        task = asyncio.create_task(self._note_late(statement, values))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _note_late(self, statement: str, values: dict[str, int | list[int]]) -> None:
        try:
            async with self._database.connection() as connection:
                await connection.execute(statement, **values)
        except DatabaseUnavailable as error:
            log.error("late answer not noted", statement=statement, reason=error.message, **values)


def _aspect(batch: Batch, content: Content, reader: Reader) -> Aspect:
    """How this reader sees the update: with what they have missed since the last that they received."""
    missed = 0
    if content.update.kind not in TAKING_BACK or batch.plain:
        for past in content.view.earlier:
            if past.seq <= reader.last_seq or reader.confirmed_at is None or past.published_at < reader.confirmed_at:
                break
            missed += 1
    return Aspect(missed, plain=True) if batch.plain else _ASPECTS[missed]


_ASPECTS = tuple(Aspect(missed) for missed in range(MAX_EARLIER + 1))


def received_statement(batch: Batch) -> str:
    """The statement that notes who received the update of a batch."""
    return "note_received" if batch.channel is ChannelName.EMAIL else "note_received_by_devices"
