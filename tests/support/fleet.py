"""Real workers in real processes, to be killed, and a count of what their readers got."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from dispatcher.cli.parts import worker_command
from dispatcher.embedded.process import die_with_parent
from dispatcher.errors import DatabaseUnavailable
from dispatcher.model import BlastReport, Published
from dispatcher.pulse import ALIVE
from tests.support.newsroom import SECRET, Newsroom
from tests.support.sink import Sink

ROOT = Path(__file__).resolve().parents[2]
LOOK_EVERY = 1.0  #: seconds between two looks at the sums, which read the whole audience
PROCESSES = 2  #: in each worker
LANES = 4  #: of each process


class Worker(subprocess.Popen[bytes]):
    """A Celery parent and its processes, in a session of their own. Its name is that of its database connections."""

    name = ""

    @property
    def children(self) -> list[psutil.Process]:
        """The processes that send."""
        return [each for each in psutil.Process(self.pid).children() if not _is_zombie(each)]

    def signal_all(self, signum: int) -> None:
        """Send a signal to the whole worker."""
        os.killpg(self.pid, signum)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@dataclass
class Fleet:
    """Workers on one database, one broker and one relay."""

    env: dict[str, str]
    log: Path
    workers: list[Worker] = field(default_factory=list)
    kills: int = 0
    root: Path = ROOT  #: where the program is
    prefix: tuple[str, ...] = ()  #: goes before the command: runs it on another host
    name: str = "w"
    started: int = 0

    def start_worker(self) -> Worker:
        """One more worker."""
        self.started += 1
        name = f"{self.name}{self.started}"
        # What `dispatcher worker` becomes: the same program, without the second in which it finds that out.
        command = worker_command(urgent_only=False, concurrency=PROCESSES, name=name)
        url = self.env["DISPATCHER_DATABASE_URL"]
        env = {
            **self.env,
            "DISPATCHER_DATABASE_URL": f"{url}{'&' if '?' in url else '?'}application_name={name}",
            "DISPATCHER_URGENT_ONLY": "0",
            "PYTHONPATH": str(self.root),
        }
        with self.log.open("ab") as log:
            worker = Worker(
                [*self.prefix, *command],
                env=env,
                cwd=self.root,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Whatever becomes of the tests, nothing of theirs goes on running.
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        worker.name = name
        self.workers.append(worker)
        return worker

    def kill_worker(self, index: int) -> None:
        """kill -9 of a whole worker, as a power cut would, and a new one in its place."""
        self.kill(self.workers[index])
        self.start_worker()

    def kill(self, worker: Worker) -> None:
        """kill -9 of a whole worker, and none in its place."""
        self.workers.remove(worker)
        worker.signal_all(signal.SIGKILL)
        worker.wait()
        self.kills += 1

    async def replace_worker(self, room: Newsroom) -> Worker:
        """A new worker for the oldest that is at work, which is told to stop; whether it did is the caller's to ask."""
        while not (at_work := [each for each in self.workers if each.name in await self.at_work(room)]):
            await asyncio.sleep(0.05)
        self.start_worker()
        self.workers.remove(at_work[0])
        at_work[0].terminate()
        return at_work[0]

    async def up(self, room: Newsroom, workers: int | None = None, *, seconds: float = 60) -> None:
        """Wait until every process of so many workers, all of them by default, is at work."""
        wanted = PROCESSES * (len(self.workers) if workers is None else workers)
        end = time.monotonic() + seconds
        while (alive := (await self.at_work(room)).total()) < wanted:
            assert time.monotonic() < end, f"{alive} of {wanted} processes work; the log ends:\n{self.last_words()}"
            await asyncio.sleep(0.05)

    async def at_work(self, room: Newsroom) -> Counter[str]:
        """How many processes of each worker of this fleet the database holds for alive."""
        rows = await room.run(
            "SELECT a.application_name AS name FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
            "WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = %s AND l.granted "
            "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND a.application_name LIKE %s",
            ALIVE,
            f"{self.name}%",
        )
        return Counter(row["name"] for row in rows)

    def last_words(self) -> str:
        """The end of what the workers have logged."""
        return self.log.read_bytes()[-3_000:].decode(errors="replace")

    def stop(self, *, gently: bool = True) -> None:
        """End every worker: in order, or at once where a test has seen all that it wants."""
        for worker in self.workers:
            if gently:
                worker.terminate()
            else:
                worker.signal_all(signal.SIGKILL)
        for worker in self.workers:
            try:
                worker.wait(40)
            except subprocess.TimeoutExpired:
                worker.signal_all(signal.SIGKILL)
                worker.wait()
        self.workers.clear()


@contextmanager
def a_fleet(
    database_url: str,
    broker_url: str,
    relay: Sink | int,
    directory: Path,
    *,
    workers: int = 2,
    lanes: int = LANES,
    host: str = "127.0.0.1",
    name: str = "w",
    prefix: Sequence[str] = (),
    gently: bool = True,
) -> Iterator[Fleet]:
    """Workers, ended afterwards whatever became of them. `host` is where they find the relay."""
    port = relay if isinstance(relay, int) else relay.port
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("DISPATCHER_", "PYTEST"))},
        "DISPATCHER_DATABASE_URL": database_url,
        "DISPATCHER_BROKER_URL": broker_url,
        "DISPATCHER_SMTP_URL": f"smtp://{host}:{port}?starttls=never&lanes={lanes}",
        "DISPATCHER_PUBLIC_URL": "https://alerts.example.org",
        "DISPATCHER_MAIL_FROM": "alerts@courier.example",
        "DISPATCHER_SECRET_KEY": SECRET,
        "DISPATCHER_DATA_DIR": str(directory),
    }
    fleet = Fleet(env, directory / "workers.log", name=name, prefix=tuple(prefix))
    try:
        for _ in range(workers):
            fleet.start_worker()
        yield fleet
    finally:
        fleet.stop(gently=gently)


@dataclass
class Verdict:
    """How a blast ended: from the outside, in what the relay has taken, and from the inside, in the ledger."""

    report: BlastReport
    lost: int
    duplicates: int
    most_copies: int
    moments: int  #: how often the sums were looked at while it ran
    standstill: float = 0.0  #: seconds, the longest time in which the relay took nothing

    def __str__(self) -> str:
        return (
            f"candidates {self.report.candidates}, lost {self.lost}, duplicates {self.duplicates}, "
            f"most copies {self.most_copies}, {self.report.seconds} s, sums held at {self.moments} moments, "
            f"longest standstill {self.standstill:.1f} s"
        )


def points(audience: int, times: int, seed: int) -> list[int]:
    """So many random moments of a blast, as numbers of mails that are out; none so late that it may be over before."""
    return sorted(random.Random(seed).sample(range(audience // 50, audience * 7 // 10), times))


async def watch(
    room: Newsroom,
    sink: Sink,
    published: Published,
    *,
    disturb: Callable[[], object],
    times: int,
    seed: int,
    audience: int,
    seconds: float,
    domain: str = "",
) -> Verdict:
    """Disturb a blast `times` times, at random points of its progress, watch its sums, and count when it is done.

    What `disturb` returns is awaited if it can be. Only readers below `domain` count. A database that is away is
    asked again.
    """
    ahead = points(audience, times, seed)
    progress = Progress(sink, domain)
    moments, looked = 0, 0.0
    disturber = asyncio.create_task(_disturb(progress, ahead, disturb))
    try:
        async with asyncio.timeout(seconds):
            while True:
                if disturber.done():
                    disturber.result()
                progress.look()
                began = time.monotonic()
                try:
                    report = await room.report(published)
                    if report.candidates is not None:
                        moments += 1
                        assert report.candidates == audience
                        assert report.waiting >= 0
                    if time.monotonic() - looked > LOOK_EVERY:
                        await hold_the_sums(room, published)
                        looked = time.monotonic()
                except DatabaseUnavailable:
                    await asyncio.sleep(0.1)
                    continue
                if report.settled and (disturber.done() or ahead):
                    break
                # A look at a large ledger is work for the database, which has better to do.
                await asyncio.sleep(max(0.02, 4 * (time.monotonic() - began)))
    finally:
        disturber.cancel()
    assert not ahead, "the blast was over before the last disturbance"
    await hold_the_sums(room, published)
    return verdict(report, sink, audience, domain=domain, moments=moments, standstill=progress.standstill)


class Progress:
    """How many mails below a domain a relay has taken, read on as it grows."""

    def __init__(self, sink: Sink, domain: str) -> None:
        self.mails = 0
        self.standstill = 0.0  #: seconds, the longest time without one more
        self._sink = sink
        self._domain = domain
        self._seen = 0
        self._last = time.monotonic()

    def look(self) -> int:
        fresh = self._sink.taken[self._seen :]
        self._seen += len(fresh)
        new = sum(each.recipient.endswith(self._domain) for each in fresh if not each.answered.startswith(("4", "5")))
        now = time.monotonic()
        self.standstill = max(self.standstill, now - self._last)
        if new:
            self.mails += new
            self._last = now
        return self.mails


async def _disturb(progress: Progress, ahead: list[int], disturb: Callable[[], object]) -> None:
    """Disturb as soon as so many mails are out as the next number ahead says."""
    while ahead:
        if progress.look() >= ahead[0]:
            ahead.pop(0)
            if inspect.isawaitable(done := disturb()):
                await done
        await asyncio.sleep(0.005)


async def hold_the_sums(room: Newsroom, published: Published) -> None:
    """Candidates = waiting + the sum of the states, each counted by itself, from the frozen ids and from the ledger."""
    blast = published.blast_ids[0]
    (row,) = await room.run(
        """
        WITH audience AS (SELECT DISTINCT ids.id FROM batches, unnest(subscriber_ids) AS ids (id)
                          WHERE blast_id = %s AND NOT retry),
             ledger AS (SELECT subscriber_id AS id FROM deliveries WHERE blast_id = %s)
        SELECT (SELECT candidates FROM blasts WHERE id = %s) AS candidates,
               (SELECT count(*) FROM (SELECT id FROM audience EXCEPT SELECT id FROM ledger) AS open) AS waiting,
               (SELECT count(*) FROM ledger) AS recorded
        """,
        *(blast, blast, blast),
    )
    assert row["candidates"] in (None, row["waiting"] + row["recorded"]), row


def verdict(
    report: BlastReport, sink: Sink, audience: int, *, domain: str = "", moments: int = 0, standstill: float = 0.0
) -> Verdict:
    """What became of an audience, as the relay saw it."""
    copies = Counter({who: count for who, count in sink.copies().items() if who.endswith(domain)})
    return Verdict(
        report,
        audience - len(copies),
        copies.total() - len(copies),
        max(copies.values(), default=0),
        moments,
        standstill,
    )
