"""Send: claim the most urgent batch, load its readers, splice their letters, hand them to the lanes, keep the ledger.

Claim in a short transaction, send in none, record in group commits. A worker process has one `Sender`; on each channel
it keeps about two batches on their way, so that its lanes never wait for the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from dispatcher import db
from dispatcher.channels.dryrun import DrillBacklog, DryRun
from dispatcher.channels.email.channel import EmailChannel
from dispatcher.channels.feed import Backlog
from dispatcher.channels.webpush import PushBacklog
from dispatcher.channels.webpush.channel import WebPushChannel
from dispatcher.config import Settings
from dispatcher.errors import DatabaseUnavailable
from dispatcher.fleet import Fleet
from dispatcher.ledger import Ledger
from dispatcher.letters import Content, Letters
from dispatcher.loading import ERROR_PAUSE, Loader, received_statement
from dispatcher.model import BlastState, ChannelName
from dispatcher.notices import Notices
from dispatcher.outbound import Outbound
from dispatcher.parcels import SUSPECT, Batch, Owed
from dispatcher.pulse import ALIVE, LEASE, RESERVE, Pulse
from dispatcher.rendering.press import Press
from dispatcher.vapid import Vapid

log = structlog.get_logger()

NEVER = datetime.min.replace(tzinfo=UTC)
#: With fewer parcels than this waiting for a lane, the next batch is claimed.
LOW_WATER = 200
#: Seconds to claim nothing after a batch failed for such a reason: what failed for one mostly fails for the next.
INTERRUPTION = 1.0
#: Seconds to wait for a claimed batch to be loaded before the next is claimed.
LOADING = 1.0
#: How often a batch is offered back, a second apart, before its lease is left to lapse.
RELEASE_TRIES = 5
STOPS = "the worker stops"
#: What `claim_batch` calls the channel of all drills, and the database one that has just begun.
DRILL = "drill"
#: What a batch needs of the database, with values that touch nothing: run once when a connection is made.
WARM: Mapping[str, Mapping[str, Any]] = {
    "cut_next": {"urgency": -1, "batch_size": 1, "drills": False},
    "cut_correction": {"urgency": -1, "batch_size": 1, "drills": False},
    "claim_batch": {
        "urgency": -1,
        "channels": ["email"],
        "limits": [-1],
        "class": ALIVE,
        "worker": 0,
        "lease": 1.0,
        "suspect": 0,
        "alone": False,
    },
    "blast_content": {"blast_id": 0},
    "newest_correction": {"story_id": 0, "before": 0},
    "earlier_updates": {"story_id": 0, "before": 0, "known": 0, "limit": 1},
    "count_earlier": {"story_id": 0, "before": 0, "known": 0},
    "running_blasts": {"story_id": 0, "seq": 0, "channel": "email", "limit": 1},
    "load_recipients": {
        "ids": [],
        "story_id": 0,
        "blast_id": 0,
        "since": NEVER,
        "expires_at": NEVER,
        "running": [],
        "seqs": [],
    },
    "find_letter": {"blast_id": 0, "variant": "", "rest": 0.0},
    "note_received": {"story_id": 0, "ids": [], "seq": 0},
    "finish_batch": {"batch_id": 0, "token": 0},
    "finish_blast": {"blast_id": 0},
    "claim_notices": {"class": ALIVE, "worker": 0, "lease": 1.0, "most": 0, "suspect": 0, "alone": False},
}


@dataclass(frozen=True, slots=True)
class Outbox:
    """One channel of a worker process, and what waits there for a lane."""

    name: str
    backlog: Backlog | PushBacklog | DrillBacklog
    channel: EmailChannel | WebPushChannel | DryRun

    def limit(self, urgency: int) -> int:
        """The least urgency that may still be claimed: if enough waits already, only what overtakes all of it."""
        most_urgent = self.backlog.most_urgent
        if most_urgent is None or not self.is_full:
            return urgency
        return min(urgency, most_urgent - 1)

    @property
    def is_full(self) -> bool:
        return len(self.backlog) >= LOW_WATER and self.backlog.most_urgent is not None

    def add(self, urgency: int, parcels: list[Owed]) -> None:
        self.backlog.add(urgency, parcels)  # type: ignore[arg-type]  # a batch's parcels are those of its channel


class Sender:
    """Everything that one worker process needs to send, on one event loop."""

    def __init__(self, settings: Settings, database: db.Database, *, urgency: int, press: Press | None = None) -> None:
        """Claims only batches at least as urgent as `urgency`. Letters are made in `press`, if there is one."""
        self._database = database
        self._urgency = urgency
        self._letters = Letters(settings, database, press)
        self._poke = asyncio.Event()
        self._idle = asyncio.Event()
        backlog = Backlog(self._poke.set, LOW_WATER)
        self._fleet = Fleet(database, settings.broker_url, lambda: self._pulse.worker, lambda: self._channel.reports())
        self._channel = EmailChannel(
            settings.relays, backlog, self._fleet, on_unavailable=self._no_relay, on_change=self._relays_changed
        )
        self._outbound = Outbound(trusted=[each for each in settings.push_services if "://" in each])
        pushes = PushBacklog(self._poke.set, LOW_WATER)
        drills = DrillBacklog(self._poke.set, LOW_WATER)
        vapid = Vapid(database, settings.secret_key, f"mailto:{settings.mail_from.addr_spec}")
        push = WebPushChannel(
            pushes,
            self._outbound,
            vapid.authorise,
            services=settings.push_services,
            on_unavailable=self._no_relay,
            on_change=self._poke.set,
        )
        self._outboxes = {
            str(ChannelName.EMAIL): Outbox(str(ChannelName.EMAIL), backlog, self._channel),
            str(ChannelName.WEBPUSH): Outbox(str(ChannelName.WEBPUSH), pushes, push),
            DRILL: Outbox(DRILL, drills, DryRun(drills)),
        }
        self._notices = Notices(
            settings, database, self._letters, backlog, worker=self._mailing_worker, offered=self._channel.wake
        )
        self._ledger = Ledger(database)
        self._loader = Loader(settings, database, self._letters, self._ledger)
        self._pulse = Pulse(database, self._held, self._renewed, self._heard)
        self._batches: dict[int, Batch] = {}  # by lease token
        self._running: set[asyncio.Task[None]] = set()
        self._drain: asyncio.Task[None] | None = None
        self._stopped_blasts: set[int] = set()  # those of which news came while a claim was on its way
        self._interrupted = False
        self._stopping = False
        self.on_published: Callable[[], None] = lambda: None  #: called when an update was published, by anybody
        self.on_superseded: Callable[[], None] = lambda: None  #: called when a later update took a blast's place
        self.on_asked: Callable[[], None] = lambda: None  #: called when somebody asked for something at a form

    def start(self) -> None:
        for outbox in self._outboxes.values():
            outbox.channel.start()
        self._notices.start()
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
            self._notices.nudge()

    async def close(self, patience: float) -> None:
        """Stop claiming, finish the messages that are on their way, record, give the rest back, within `patience`."""
        self._stopping = True
        self._poke.set()
        self._idle.set()
        self._notices.stop()
        for outbox in self._outboxes.values():
            outbox.backlog.drop(STOPS)
        await asyncio.gather(*(outbox.channel.close(patience) for outbox in self._outboxes.values()))
        for outbox in self._outboxes.values():
            outbox.backlog.drop(STOPS)  # what closing lanes gave back
        if self._running:
            await asyncio.wait(self._running, timeout=2)
        await self._notices.close()
        await self._ledger.close()
        await self._outbound.close()
        if unfinished := self._running | self._loader.late:
            await asyncio.wait(unfinished, timeout=2)
        if self._drain is not None:
            self._drain.cancel()
        await self._fleet.close()
        await self._pulse.close()

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
        ready = [outbox for outbox in self._outboxes.values() if not outbox.channel.holding]
        if any(not batch.is_drill for batch in self._batches.values()):
            ready = [outbox for outbox in ready if outbox.name != DRILL]  # nothing is rehearsed beside the real thing
        if worker is None or not ready or self._ledger.trouble:
            return False
        if any(batch.is_suspect for batch in self._batches.values()):
            return False  # should this process die now, it must be clear of what
        full = any(outbox.is_full for outbox in ready)
        self._stopped_blasts.clear()  # what was known before, the claim itself sees
        claimed_at = time.monotonic()
        async with self._database.connection() as connection:
            row = await connection.one(
                "claim_batch",
                urgency=self._urgency,
                channels=[outbox.name for outbox in ready],
                limits=[outbox.limit(self._urgency) for outbox in ready],
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
            outbox = self._outboxes[DRILL if batch.is_drill else str(batch.channel)]
            outbox.add(batch.urgency, await self._loader.load(batch, content))
            if self._stopping:
                outbox.backlog.drop(STOPS)
            elif batch.is_stopped:
                outbox.backlog.sweep()
            batch.loaded.set()
            outbox.channel.wake()
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

    async def _end(self, batch: Batch, content: Content) -> None:
        if batch.unsent or batch.lost:
            await self._release(batch, batch.reason)
            return
        async with self._database.connection() as connection:
            # No transaction: a host that is cut off in the middle must not leave locks behind, and of two last batches
            # that end together each must see the other's end.
            if not batch.is_drill:
                await connection.execute(
                    received_statement(batch), story_id=content.story_id, ids=batch.received, seq=content.update.seq
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
        self._notices.nudge()

    def _mailing_worker(self) -> int | None:
        """This worker's number, if it lives, some relay takes mail, and no batch here may be the death of it."""
        if self._channel.holding or any(batch.is_suspect for batch in self._batches.values()):
            return None
        return self._pulse.worker

    def _heard(self, news: str) -> None:
        """News for all workers: see the triggers in the schema."""
        kind, _, rest = news.partition(":")
        if kind == "relay":
            self._channel.news(rest)
        elif kind == "left" and rest.isdecimal():
            for batch in self._batches.values():
                batch.left.add(int(rest))
            self._notices.left(int(rest))
        elif kind == "notices":
            self._channel.expect()
            self._notices.nudge()
        elif kind == "asks":
            self._channel.expect()
            self.on_asked()
        elif kind == "blast":
            number, _, state = rest.partition(":")
            if number.isdecimal():
                self._blast_became(int(number), state)

    def _blast_became(self, blast_id: int, state: str) -> None:
        if state == BlastState.CUTTING:
            for outbox in self._outboxes.values():
                outbox.channel.expect()
            self.on_published()
        elif state == DRILL:
            self.on_published()  # and no lane is opened for it
        elif state == BlastState.SENDING:
            self._stopped_blasts.discard(blast_id)
            self.nudge()
        else:
            self._stopped_blasts.add(blast_id)
            for batch in self._batches.values():
                if batch.blast_id == blast_id:
                    batch.called_back = True
            for outbox in self._outboxes.values():
                outbox.backlog.sweep()
            if state == BlastState.SUPERSEDED:
                self.on_superseded()

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
        if self._pulse.worker is None:
            self._notices.interrupted()
        self._poke.set()
        self._notices.nudge()
