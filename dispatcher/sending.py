"""Send: claim the most urgent batch, load its readers, splice their letters, hand them to the lanes, keep the ledger.

Claim in a short transaction, send in none, record in group commits. A worker process has one `Sender`; it keeps
about two batches on their way, so that its lanes never wait for the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from dispatcher import db
from dispatcher.channels.email.channel import EmailChannel
from dispatcher.channels.email.letter import Letter, Values
from dispatcher.channels.feed import Backlog
from dispatcher.config import Settings
from dispatcher.errors import DatabaseUnavailable
from dispatcher.fleet import Fleet
from dispatcher.ledger import Entry, Ledger
from dispatcher.letters import Content, LetterFailed, Letters
from dispatcher.model import BlastState, DeliveryState
from dispatcher.parcels import SUSPECT, Batch, Mail, Reader, entry_of
from dispatcher.pulse import ALIVE, LEASE, RESERVE, Pulse
from dispatcher.rendering.press import Press
from dispatcher.tokens import MessageIds, leave_links, manage_links

log = structlog.get_logger()

NEVER = datetime.min.replace(tzinfo=UTC)
#: With fewer parcels than this waiting for a lane, the next batch is claimed.
LOW_WATER = 200
#: Seconds before a batch is tried again that failed for a reason of ours.
ERROR_PAUSE = 15.0
#: Seconds to claim nothing after a batch failed for such a reason: what failed for one mostly fails for the next.
INTERRUPTION = 1.0
#: Seconds to wait for a claimed batch to be loaded before the next is claimed.
LOADING = 1.0
#: How often a batch is offered back, a second apart, before its lease is left to lapse.
RELEASE_TRIES = 5
STOPS = "the worker stops"
#: What a batch needs of the database, with values that touch nothing: run once when a connection is made.
WARM: Mapping[str, Mapping[str, Any]] = {
    "cut_next": {"urgency": -1, "batch_size": 1},
    "claim_batch": {"urgency": -1, "class": ALIVE, "worker": 0, "lease": 1.0, "suspect": 0, "alone": False},
    "blast_content": {"blast_id": 0},
    "earlier_updates": {"story_id": 0, "before": 0, "limit": 1},
    "load_recipients": {"ids": [], "story_id": 0, "blast_id": 0, "since": NEVER, "expires_at": NEVER},
    "find_letter": {"blast_id": 0, "variant": "", "rest": 0.0},
    "note_received": {"story_id": 0, "ids": [], "seq": 0},
    "finish_batch": {"batch_id": 0, "token": 0},
    "finish_blast": {"blast_id": 0},
}


class Sender:
    """Everything that one worker process needs to send, on one event loop."""

    def __init__(self, settings: Settings, database: db.Database, *, urgency: int, press: Press | None = None) -> None:
        """Claims only batches at least as urgent as `urgency`. Letters are made in `press`, if there is one."""
        self._database = database
        self._urgency = urgency
        self._return_path = settings.mail_from.addr_spec
        self._public_url = settings.public_url
        self._message_ids = MessageIds(settings.secret_key, settings.mail_domain)
        self._leave = leave_links(settings.secret_key)
        self._manage = manage_links(settings.secret_key)
        self._in_doubt = settings.in_doubt
        self._letters = Letters(settings, database, press)
        self._poke = asyncio.Event()
        self._idle = asyncio.Event()
        self._backlog = Backlog(self._poke.set, LOW_WATER)
        self._fleet = Fleet(database, settings.broker_url, lambda: self._pulse.worker, lambda: self._channel.reports())
        self._channel = EmailChannel(
            settings.relays, self._backlog, self._fleet, on_unavailable=self._no_relay, on_change=self._relays_changed
        )
        self._ledger = Ledger(database)
        self._pulse = Pulse(database, self._held, self._renewed, self._heard)
        self._batches: dict[int, Batch] = {}  # by lease token
        self._running: set[asyncio.Task[None]] = set()
        self._drain: asyncio.Task[None] | None = None
        self._late: set[asyncio.Task[None]] = set()
        self._stopped_blasts: set[int] = set()  # those of which news came while a claim was on its way
        self._interrupted = False
        self._stopping = False
        self.on_published: Callable[[], None] = lambda: None  #: called when an update was published, by anybody

    def start(self) -> None:
        self._channel.start()
        self._ledger.start()
        self._pulse.start()
        self._fleet.start()
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
        if unfinished := self._running | self._late:
            await asyncio.wait(unfinished, timeout=2)
        if self._drain is not None:
            self._drain.cancel()
        await self._fleet.close()
        await self._pulse.close()

    def values(self, batch: Batch, reader: Reader) -> Values:
        """What fills the slots of the reader's letter."""
        return Values(
            address=reader.email or "",
            name=reader.name,
            message_id=self._message_ids.make(batch.blast_id, reader.id),
            leave_url=f"{self._public_url}/u/{self._leave.make(batch.story_id, reader.id)}",
            manage_url=f"{self._public_url}/manage/{self._manage.make(0, reader.id)}",
            wish=self._letters.wish(reader.cadence, reader.confirmed_at, reader.locale, reader.timezone),
        )

    def record(self, entry: Entry) -> None:
        """Write an entry down with the next commit."""
        self._ledger.put(entry)

    def received_late(self, batch: Batch, reader: Reader) -> None:
        """The relay accepted a mail when its batch no longer waited for it."""
        self._later("note_received_late", story_id=batch.story_id, subscriber_id=reader.id, seq=batch.seq)

    def refused_late(self, batch: Batch, reader: Reader) -> None:
        """The relay refused a mail for now when its batch no longer waited for it: it was not in doubt after all."""
        self._later("note_refused_late", blast_id=batch.blast_id, subscriber_id=reader.id, doubts=reader.in_doubt_count)

    def _later(self, statement: str, **values: int) -> None:
        task = asyncio.create_task(self._note_late(statement, values))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _note_late(self, statement: str, values: dict[str, int]) -> None:
        try:
            async with self._database.connection() as connection:
                await connection.execute(statement, **values)
        except DatabaseUnavailable as error:
            log.error("late answer not noted", statement=statement, reason=error.message, **values)

    async def _drain_for_ever(self) -> None:
        while not self._stopping:
            if self._interrupted:
                self._interrupted = False
                await asyncio.sleep(INTERRUPTION)
                continue
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
        self._stopped_blasts.clear()  # what was known before, the claim itself sees
        claimed_at = time.monotonic()
        async with self._database.connection() as connection:
            row = await connection.one(
                "claim_batch",
                urgency=limit,
                worker=worker,
                lease=LEASE,
                suspect=SUSPECT,
                alone=not self._batches,
                **{"class": ALIVE},
            )
        if row is None:
            if full:
                await self._poke.wait()
            return full
        batch = Batch(row, claimed_at + LEASE - RESERVE)
        # The claim counts for the worker number that it was made under, and that may be another by now.
        batch.lost = self._pulse.worker != worker
        # The news that its blast was stopped may have come while the claim was on its way.
        batch.called_back = batch.blast_id in self._stopped_blasts
        self._batches[batch.token] = batch
        task = asyncio.create_task(self._run(batch))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        with suppress(TimeoutError):
            # Not for ever: its letters may take long to make, and what is more urgent must not wait for them.
            await asyncio.wait_for(batch.loaded.wait(), LOADING)
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
            batch.lost = self._interrupted = True
            log.error("batch interrupted", batch=batch.id, reason=error.message)
            await self._release(batch, "the database did not answer")
        except Exception as error:
            log.exception("batch failed", batch=batch.id)
            batch.pause, self._interrupted = ERROR_PAUSE, True
            await self._release(batch, f"an error in the worker ({type(error).__name__}); its log tells more")
        finally:
            batch.lost = True
            batch.loaded.set()
            del self._batches[batch.token]
            self._poke.set()

    async def _load(self, batch: Batch, content: Content) -> None:
        batch.story_id, batch.seq = content.story_id, content.update.seq
        batch.expires_at = batch.claimed_at + (content.expires_at - batch.claimed_when).total_seconds()
        batch.in_doubt = batch.story_in_doubt or self._in_doubt
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
        letters: dict[tuple[str, str], Letter | LetterFailed] = {}
        for row in rows:
            reader = Reader(*row)
            if reader.is_done(retry=batch.retry):
                if reader.state == DeliveryState.ACCEPTED:
                    batch.received.append(reader.id)
                continue
            if (skip := reader.skipped(batch.in_doubt)) is not None:
                state, why = skip
                entries.append(entry_of(batch, reader, state, why))
                continue
            variant = (reader.locale, reader.timezone)
            letter = letters.get(variant)
            if letter is None:
                letter = letters[variant] = await self._letter(batch, content, reader)
            if isinstance(letter, Letter):
                parcels.append(Mail(self, batch, reader, self._return_path, letter))
            elif letter.final:
                entries.append(entry_of(batch, reader, DeliveryState.FAILED, letter.reason))
            else:
                batch.unsent += 1
        batch.expect(len(parcels) + len(entries))
        self._ledger.put_all(entries)
        self._backlog.add(batch.urgency, parcels)
        if self._stopping:
            self._backlog.drop(STOPS)
        elif batch.is_stopped:
            self._backlog.sweep()

    async def _letter(self, batch: Batch, content: Content, reader: Reader) -> Letter | LetterFailed:
        """The reader's letter. If it cannot be made, that is not the reader's fate at once: the batch waits."""
        try:
            return await self._letters.letter(batch.blast_id, content, reader.locale, reader.timezone)
        except DatabaseUnavailable:
            raise
        except LetterFailed as error:
            failed = error
        except Exception as error:
            log.exception("letter cannot be made", blast=batch.blast_id, variant=reader.variant)
            why = f"the letter for {reader.variant} cannot be made ({type(error).__name__})"
            failed = LetterFailed(why, final=False)
        if not failed.final:
            batch.pause = ERROR_PAUSE
            batch.reason = failed.reason
        return failed

    async def _end(self, batch: Batch, content: Content) -> None:
        if batch.unsent or batch.lost:
            await self._release(batch, batch.reason)
            return
        async with self._database.connection() as connection:
            # No transaction: a host that is cut off in the middle must not leave locks behind, and of two last batches
            # that end together each must see the other's end.
            await connection.execute(
                "note_received", story_id=content.story_id, ids=batch.received, seq=content.update.seq
            )
            await connection.execute("finish_batch", batch_id=batch.id, token=batch.token)
            if await connection.execute("finish_blast", blast_id=batch.blast_id):
                log.info("blast done", blast=batch.blast_id)

    async def _release(self, batch: Batch, reason: str) -> None:
        if self._stopping or batch.called_back:
            reason, batch.pause = "", 0.0
        for _ in range(RELEASE_TRIES):
            try:
                async with self._database.connection() as connection:
                    await connection.execute(
                        "release_batch", batch_id=batch.id, token=batch.token, pause=batch.pause, reason=reason or None
                    )
            except DatabaseUnavailable as error:
                log.error("batch cannot be given back", batch=batch.id, reason=error.message)
                await asyncio.sleep(1)
            else:
                return

    def _no_relay(self, reason: str) -> None:
        log.warning("no relay takes mail", reason=reason)

    def _relays_changed(self) -> None:
        self._fleet.changed()
        self._poke.set()

    def _heard(self, news: str) -> None:
        """News for all workers: see the triggers in the schema."""
        kind, _, rest = news.partition(":")
        if kind == "relay":
            self._channel.news(rest)
        elif kind == "left" and rest.isdecimal():
            for batch in self._batches.values():
                batch.left.add(int(rest))
        elif kind == "blast":
            number, _, state = rest.partition(":")
            if number.isdecimal():
                self._blast_became(int(number), state)

    def _blast_became(self, blast_id: int, state: str) -> None:
        if state == BlastState.CUTTING:
            self._channel.expect()
            self.on_published()
        elif state == BlastState.SENDING:
            self._stopped_blasts.discard(blast_id)
            self.nudge()
        else:
            self._stopped_blasts.add(blast_id)
            for batch in self._batches.values():
                if batch.blast_id == blast_id:
                    batch.called_back = True
            self._backlog.sweep()

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
