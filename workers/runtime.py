"""One event loop on one background thread per worker process: where lanes, ledger and reconciler live.

Not a loop per task: connections belong to a loop, and a coroutine that a time limit left behind in one would wake
up inside the next task and send mail whose claim was given back.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
import uvloop

from dispatcher import closing, config, db, drafting, fanout, following, merging, monitoring, superseding, upkeep
from dispatcher.config import Settings
from dispatcher.errors import DatabaseUnavailable
from dispatcher.model import URGENT, Urgency
from dispatcher.nudges import Bell, Task
from dispatcher.rendering.press import Press
from dispatcher.sending import WARM, Sender

log = structlog.get_logger()

#: Seconds between two rounds of the reconciler in each process.
RECONCILE_EVERY = 2.0
#: Seconds between two rounds of answers while there is a rush.
ANSWER_EVERY = 0.02
#: Seconds that a stopping process gives to the messages that are on their way.
STOP_PATIENCE = 25.0

_engine: Engine | None = None


def start(*, urgent_only: bool) -> None:
    """Start this process's engine. Call after the fork: threads and connections do not survive one."""
    global _engine  # one for a process is the point
    _engine = Engine(config.load(), urgent_only=urgent_only)
    _engine.start()


def stop() -> None:
    """Stop this process's engine, and return when nothing is on its way any more."""
    if _engine is not None:
        _engine.stop()


def run(job: Callable[[Engine], Coroutine[Any, Any, Any]]) -> None:
    """Run a job on the engine's loop and wait for it; a time limit that strikes here cancels it there."""
    if _engine is None:
        raise RuntimeError("the engine is not running: tasks need a prefork worker")
    _engine.run(job(_engine))


class Engine:
    """Everything that a worker process keeps between nudges."""

    def __init__(self, settings: Settings, *, urgent_only: bool) -> None:
        self.urgency = int(URGENT if urgent_only else max(Urgency))
        self._settings = settings
        self._loop = uvloop.new_event_loop()
        self._end: asyncio.Task[None] | None = None
        self._cutting: asyncio.Task[None] | None = None
        self._to_cut = False
        self._answering: asyncio.Task[None] | None = None
        self._to_answer = False
        self._settling: asyncio.Task[None] | None = None
        self._releasing: asyncio.Task[None] | None = None
        self._publishing: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run_loop, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.run(self._open())
        # What lives as long as the process need not be looked at again, and mails leave no cycles behind: looking for
        # some after every 700 objects took a fifteenth of the time of each mail.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    def stop(self) -> None:
        """Stop, and return when nothing is on its way any more. May be called again, from any thread."""
        try:
            asyncio.run_coroutine_threadsafe(self._closed(), self._loop).result(STOP_PATIENCE + 5)
        except TimeoutError:
            log.error("stopped with messages on their way")

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            future.result()
        except BaseException:
            future.cancel()
            raise

    async def cut(self) -> None:
        """Freeze what waits to be frozen, and start on it in this process at once."""
        if await fanout.cut(self._database, self._bell, urgency=self.urgency):
            self.sender.nudge()

    def _published(self) -> None:
        """Somebody has published: the database said so itself, sooner than any nudge comes."""
        self._to_cut = True
        if self._cutting is None or self._cutting.done():
            self._cutting = self._loop.create_task(self._cut_at_once())

    async def _cut_at_once(self) -> None:
        while self._to_cut:  # more may be published while one is cut
            self._to_cut = False
            try:
                await self.cut()
            except DatabaseUnavailable as error:
                log.error("cannot cut", reason=error.message)

    def _asked(self) -> None:
        """Somebody has asked for something at a form, and waits for a mail."""
        self._to_answer = True
        if self._answering is None or self._answering.done():
            self._answering = self._loop.create_task(self._answer_at_once())

    async def _answer_at_once(self) -> None:
        while self._to_answer:  # more may ask while some are answered
            self._to_answer = False
            try:
                while await following.answer(self._database, self._settings.secret_key, alone=True):  # noqa: ASYNC110
                    # In a rush the next few gather meanwhile, and are answered together. It also sees whoever asked in
                    # the very moment in which the last of those before was answered, and told nobody.
                    await asyncio.sleep(ANSWER_EVERY)
            except DatabaseUnavailable as error:
                log.error("cannot answer", reason=error.message)
            except Exception:
                log.exception("cannot answer")  # the reconciler asks again

    def _superseded(self) -> None:
        """A later update took a blast's place: see to it that everybody in it has an outcome, then cut what waits."""
        if self._settling is None or self._settling.done():
            self._settling = self._loop.create_task(self._settle_superseded())

    async def _settle_superseded(self) -> None:
        try:
            await superseding.settle(self._database, patience=superseding.PATIENCE)
            await self.cut()
        except DatabaseUnavailable as error:
            log.error("cannot settle what was superseded", reason=error.message)

    def _release(self) -> None:
        """Let the readers of closed stories go, and move those of merged ones: a million of them take a while."""
        if self._releasing is None or self._releasing.done():
            self._releasing = self._loop.create_task(self._release_readers())

    async def _release_readers(self) -> None:
        try:
            if await merging.move(self._database):
                await self.cut()  # what was published meanwhile has waited for them
            await closing.release(self._database)
        except DatabaseUnavailable as error:
            log.error("cannot see to the readers of closed stories", reason=error.message)
        except Exception:
            log.exception("cannot see to the readers of closed stories")  # the next round goes on

    def _publish_due(self) -> None:
        """Publish the drafts whose time has come; beside all else, for one may wait for whoever holds its story."""
        if self._publishing is None or self._publishing.done():
            self._publishing = self._loop.create_task(self._publish_drafts())

    async def _publish_drafts(self) -> None:
        try:
            await drafting.publish_due(self._database, self._bell, self._settings)
        except DatabaseUnavailable as error:
            log.error("cannot publish what is due", reason=error.message)
        except Exception:
            log.exception("cannot publish what is due")  # the next round tries again

    async def reconcile(self) -> None:
        """Find work that no nudge told of, do this process's share, and ring for the others."""
        self._publish_due()
        work = await upkeep.tick(self._database)
        if work.superseded:
            self._superseded()
        if work.asks:
            self._asked()
        if work.notices:
            self.sender.nudge()
        self._release()
        if work.to_cut is not None and work.to_cut <= self.urgency:
            await self.cut()
        if work.to_send is not None:
            if work.to_send <= self.urgency:
                self.sender.nudge()
            await self._bell.ring(Task.SEND, urgency=work.to_send, times=min(work.batches, fanout.MOST_NUDGES))

    async def _open(self) -> None:
        self._database = db.Database(self._settings.database_url, size=4, warm=WARM)
        await self._database.open()
        self._bell = Bell(self._settings.broker_url)
        self._press = Press()
        await self._press.start()
        self.sender = Sender(self._settings, self._database, urgency=self.urgency, press=self._press)
        self.sender.on_published = self._published
        self.sender.on_asked = self._asked
        self.sender.on_superseded = self._superseded
        self.sender.start()
        self._clock = asyncio.create_task(self._reconcile_for_ever())
        self._watching = asyncio.create_task(monitoring.watch_for_ever(self._database))

    async def _closed(self) -> None:
        if self._end is None:
            self._end = self._loop.create_task(self._close())
        await asyncio.shield(self._end)

    async def _close(self) -> None:
        self._clock.cancel()
        self._watching.cancel()
        await self.sender.close(STOP_PATIENCE)
        await self._press.close()
        await self._database.close()

    async def _reconcile_for_ever(self) -> None:
        while True:
            try:
                await self.reconcile()
            except DatabaseUnavailable as error:
                log.error("cannot reconcile", reason=error.message)
            except Exception:
                # The reconciler is what everything else leans on: whatever happened, the next round must come.
                log.exception("reconciler failed")
            await asyncio.sleep(RECONCILE_EVERY)

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
