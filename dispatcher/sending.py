"""Send: claim the most urgent batch, load its readers, splice their letters, hand them to the lanes, keep the ledger.

Claim in a short transaction, send in none, record in group commits. A worker process has one `Sender`; it keeps
about two batches on their way, so that its lanes never wait for the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog

from dispatcher import db
from dispatcher.channels.email import EmailChannel
from dispatcher.channels.email.letter import Letter, Values
from dispatcher.channels.feed import Backlog
from dispatcher.config import Settings
from dispatcher.errors import DatabaseUnavailable
from dispatcher.ledger import Entry, Ledger
from dispatcher.letters import Content, Letters
from dispatcher.parcels import SUSPECT, Batch, Mail, Reader, entry_of
from dispatcher.pulse import LEASE, RESERVE, Pulse
from dispatcher.tokens import MessageIds, leave_links, manage_links

log = structlog.get_logger()

#: With fewer parcels than this waiting for a lane, the next batch is claimed.
LOW_WATER = 200
#: Seconds before a batch that could not be offered to any relay is claimed again: first, second, … time in a row.
PAUSES = (1.0, 5.0, 15.0, 30.0, 60.0)
#: Seconds before a batch is tried again that failed for a reason of ours.
ERROR_PAUSE = 15.0
#: How often a batch is offered back, a second apart, before its lease is left to lapse.
RELEASE_TRIES = 5
STOPS = "the worker stops"


class Sender:
    """Everything that one worker process needs to send, on one event loop."""

    def __init__(self, settings: Settings, database: db.Database, *, urgency: int) -> None:
        """Claims only batches at least as urgent as `urgency`."""
        self._database = database
        self._urgency = urgency
        self._return_path = settings.mail_from.addr_spec
        self._public_url = settings.public_url
        self._message_ids = MessageIds(settings.secret_key, settings.mail_domain)
        self._leave = leave_links(settings.secret_key)
        self._manage = manage_links(settings.secret_key)
        self._letters = Letters(settings, database)
        self._poke = asyncio.Event()
        self._idle = asyncio.Event()
        self._backlog = Backlog(self._poke.set, LOW_WATER)
        self._channel = EmailChannel(settings.relays, self._backlog, self._relays_gone)
        self._ledger = Ledger(database)
        self._pulse = Pulse(database, self._held, self._renewed)
        self._batches: dict[int, Batch] = {}  # by lease token
        self._running: set[asyncio.Task[None]] = set()
        self._drain: asyncio.Task[None] | None = None
        self._stopping = False
        self._gone_times = 0

    def start(self) -> None:
        self._channel.start()
        self._ledger.start()
        self._pulse.start()
        self._drain = asyncio.create_task(self._drain_for_ever())

    async def send_next(self, patience: float) -> None:
        """Send whatever waits. Returns when nothing is left to claim, at the latest after `patience` seconds.

        Sending goes on either way: this only says for how long the caller counts as busy.
        """
        self.nudge()
        try:
            await asyncio.wait_for(self._idle.wait(), patience)
        except TimeoutError:
            return

    def nudge(self) -> None:
        """There may be something to claim. Returns at once."""
        if not self._stopping:
            self._idle.clear()
            self._poke.set()

    async def close(self, patience: float) -> None:
        """Stop claiming, finish the messages that are on their way, record, give the rest back, within `patience`."""
        self._stopping = True
        self._poke.set()
        self._idle.set()
        self._backlog.drop(STOPS)
        await self._channel.close(patience)
        self._backlog.drop(STOPS)  # what closing lanes gave back
        if self._running:
            await asyncio.wait(self._running, timeout=2)
        await self._ledger.close()
        if self._drain is not None:
            self._drain.cancel()
        await self._pulse.close()

    async def _drain_for_ever(self) -> None:
        while not self._stopping:
            self._poke.clear()
            try:
                if await self._claim_one():
                    continue
            except Exception as error:  # noqa: BLE001  # a worker that claims no more is dead without knowing it
                log.error("cannot claim", error=type(error).__name__, reason=str(error))
                await asyncio.sleep(1)
                continue
            self._idle.set()
            await self._poke.wait()

    async def _claim_one(self) -> bool:
        """Claim and start one batch if there is room. False if there is nothing to do until the next poke."""
        worker = self._pulse.worker
        if worker is None or self._channel.holding or self._ledger.trouble:
            return False
        if any(batch.is_suspect for batch in self._batches.values()):
            return False  # should this process die now, it must be clear of what
        limit = self._urgency
        most_urgent = self._backlog.most_urgent
        full = len(self._backlog) >= LOW_WATER and most_urgent is not None
        if full and most_urgent is not None:
            limit = min(limit, most_urgent - 1)  # only what overtakes everything that is here already
        claimed_at = time.monotonic()
        async with self._database.connection() as connection:
            row = await connection.one(
                "claim_batch",
                urgency=limit,
                worker=worker,
                lease=LEASE,
                suspect=SUSPECT,
                alone=not self._batches,
            )
        if row is None:
            if full:
                await self._poke.wait()
            return full
        batch = Batch(row, claimed_at + LEASE - RESERVE)
        # The claim counts for the worker number that it was made under, and that may be another by now.
        batch.lost = self._pulse.worker != worker
        self._batches[batch.token] = batch
        task = asyncio.create_task(self._run(batch))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await batch.loaded.wait()
        return True

    async def _run(self, batch: Batch) -> None:
        try:
            content = await self._letters.content(batch.blast_id)
            await self._load(batch, content)
            batch.loaded.set()
            self._channel.wake()
            await batch.finished.wait()
            await self._end(batch, content)
        except DatabaseUnavailable as error:
            batch.lost = True
            log.error("batch interrupted", batch=batch.id, reason=error.message)
            await self._release(batch, "the database did not answer")
        except Exception as error:
            log.exception("batch failed", batch=batch.id)
            batch.pause = ERROR_PAUSE
            await self._release(batch, f"an error in the worker ({type(error).__name__}); its log tells more")
        finally:
            batch.lost = True
            batch.loaded.set()
            del self._batches[batch.token]
            self._poke.set()

    async def _load(self, batch: Batch, content: Content) -> None:
        async with self._database.connection() as connection:
            rows = await connection.tuples(
                "load_recipients",
                ids=batch.subscriber_ids,
                story_id=content.story_id,
                blast_id=batch.blast_id,
                since=batch.created_at,
                expires_at=content.expires_at,
            )
        parcels: list[Mail] = []
        entries: list[Entry] = []
        letters: dict[tuple[str, str], Letter] = {}
        for row in rows:
            reader = Reader(*row)
            if reader.is_done(retry=batch.retry):
                continue
            if (skip := reader.skipped()) is not None:
                state, why = skip
                entries.append(entry_of(batch, reader, state, why))
                continue
            try:
                letter = letters.get((reader.locale, reader.timezone))
                if letter is None:
                    letter = await self._letters.letter(batch.blast_id, content, reader.locale, reader.timezone)
                    letters[reader.locale, reader.timezone] = letter
            except DatabaseUnavailable:
                raise
            except Exception as error:
                # A broken template or installation is not the reader's fate: they wait until it is mended.
                if not batch.unsent:
                    log.exception("letter cannot be made", blast=batch.blast_id, variant=reader.variant)
                batch.unsent += 1
                batch.pause = ERROR_PAUSE
                batch.reason = f"the letter for {reader.variant} cannot be made ({type(error).__name__})"
                continue
            parcels.append(self._mail(batch, content, reader, letter))
        batch.expect(len(parcels) + len(entries))
        self._ledger.put_all(entries)
        self._backlog.add(batch.urgency, parcels)
        if self._stopping:
            self._backlog.drop(STOPS)

    def _mail(self, batch: Batch, content: Content, reader: Reader, letter: Letter) -> Mail:
        values = Values(
            address=reader.email or "",
            name=reader.name,
            message_id=self._message_ids.make(batch.blast_id, reader.id),
            leave_url=f"{self._public_url}/u/{self._leave.make(content.story_id, reader.id)}",
            manage_url=f"{self._public_url}/manage/{self._manage.make(0, reader.id)}",
            wish=self._letters.wish(reader.cadence, reader.confirmed_at, reader.locale, reader.timezone),
        )
        return Mail(self._ledger, batch, reader, self._return_path, letter, values)

    async def _end(self, batch: Batch, content: Content) -> None:
        if batch.unsent or batch.lost:
            await self._release(batch, batch.reason)
            return
        self._gone_times = 0
        async with self._database.transaction() as tx:
            await tx.execute(
                "note_received",
                blast_id=batch.blast_id,
                story_id=content.story_id,
                ids=batch.subscriber_ids,
                seq=content.update.seq,
            )
            await tx.execute("finish_batch", batch_id=batch.id, token=batch.token)
        async with self._database.transaction() as tx:
            # Apart from the batch: two last batches that end together must each see the other's end.
            if await tx.execute("finish_blast", blast_id=batch.blast_id):
                log.info("blast done", blast=batch.blast_id)

    async def _release(self, batch: Batch, reason: str) -> None:
        if self._stopping:
            reason, pause = "", 0.0
        elif batch.pause is not None:
            pause = batch.pause
        else:
            pause = 0.0 if batch.lost else PAUSES[min(max(self._gone_times - 1, 0), len(PAUSES) - 1)]
        for _ in range(RELEASE_TRIES):
            try:
                async with self._database.transaction() as tx:
                    await tx.execute(
                        "release_batch", batch_id=batch.id, token=batch.token, pause=pause, reason=reason or None
                    )
            except DatabaseUnavailable as error:
                log.error("batch cannot be given back", batch=batch.id, reason=error.message)
                await asyncio.sleep(1)
            else:
                return

    def _relays_gone(self, reason: str) -> None:
        log.warning("no relay answers", reason=reason)
        self._gone_times += 1

    def _held(self) -> list[int]:
        return list(self._batches)

    def _renewed(self, asked: Sequence[int], kept: set[int], since: float) -> None:
        for token in asked:
            batch = self._batches.get(token)
            if batch is None:
                continue
            if token in kept:
                batch.deadline = since + LEASE - RESERVE
            elif not batch.lost:
                batch.lost = True
                batch.reason = "the lease was lost"
                log.warning("lease lost", batch=batch.id)
        self._poke.set()
