"""Real workers in real processes, to be killed, and a count of what their readers got."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dispatcher.model import BlastReport, Published
from tests.support.newsroom import SECRET, Newsroom
from tests.support.sink import Sink

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 2  #: in each worker
LANES = 4  #: of each process


@dataclass
class Fleet:
    """Workers on one database, one broker and one relay."""

    env: dict[str, str]
    log: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    kills: int = 0

    def start_worker(self) -> None:
        """One more worker: a Celery parent and its processes, in a session of their own."""
        number = len(self.workers) + self.kills + 1
        command = [sys.executable, "-m", "dispatcher.cli", "worker", "--concurrency", str(PROCESSES)]
        with self.log.open("ab") as log:
            self.workers.append(
                subprocess.Popen(
                    [*command, "--name", f"w{number}"],
                    env=self.env,
                    cwd=ROOT,
                    start_new_session=True,
                    stdout=log,
                    stderr=log,
                )
            )

    def kill_worker(self, index: int) -> None:
        """kill -9 of a whole worker, as a power cut would, and a new one in its place."""
        worker = self.workers.pop(index)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        self.kills += 1
        self.start_worker()

    def stop(self) -> None:
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            try:
                worker.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
        self.workers.clear()


@contextmanager
def a_fleet(
    database_url: str, broker_url: str, relay: Sink, directory: Path, *, workers: int = 2, lanes: int = LANES
) -> Iterator[Fleet]:
    """Workers, stopped in order afterwards whatever became of them."""
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("DISPATCHER_")},
        "DISPATCHER_DATABASE_URL": database_url,
        "DISPATCHER_BROKER_URL": broker_url,
        "DISPATCHER_SMTP_URL": f"smtp://127.0.0.1:{relay.port}?starttls=never&lanes={lanes}",
        "DISPATCHER_PUBLIC_URL": "https://alerts.example.org",
        "DISPATCHER_MAIL_FROM": "alerts@courier.example",
        "DISPATCHER_SECRET_KEY": SECRET,
        "DISPATCHER_DATA_DIR": str(directory),
    }
    fleet = Fleet(env, directory / "workers.log")
    try:
        for _ in range(workers):
            fleet.start_worker()
        yield fleet
    finally:
        fleet.stop()


@dataclass
class Verdict:
    """How a blast ended: from the outside, in what the relay has taken, and from the inside, in the ledger."""

    report: BlastReport
    lost: int
    duplicates: int
    most_copies: int
    moments: int  #: how often the sums were looked at while it ran

    def __str__(self) -> str:
        return (
            f"candidates {self.report.candidates}, lost {self.lost}, duplicates {self.duplicates}, "
            f"most copies {self.most_copies}, {self.report.seconds} s, sums held at {self.moments} moments"
        )


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
) -> Verdict:
    """Disturb a blast `times` times, at random points of its progress, watch its sums, and count when it is done."""
    points = sorted(random.Random(seed).sample(range(audience // 50, audience * 7 // 10), times))
    moments = 0
    async with asyncio.timeout(seconds):
        while True:
            while points and len(sink.taken) >= points[0]:
                points.pop(0)
                disturb()
            report = await room.report(published)
            if report.candidates is not None:
                moments += 1
                assert report.candidates == audience == report.waiting + sum(report.states.values())
                assert report.waiting >= 0
            if report.settled:
                break
            await asyncio.sleep(0.02)
    assert not points, "the blast was over before the last disturbance"
    copies: Counter[str] = sink.copies()
    return Verdict(report, audience - len(copies), copies.total() - len(copies), max(copies.values()), moments)
