"""Dispatcher itself: a whole installation in a throw-away directory, with its real workers, to be measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from dispatcher import benchmarking, config, db
from dispatcher.config import Settings
from dispatcher.embedded.box import Box
from dispatcher.nudges import Bell
from tests.benchmarks.programs import ROOT, plain_env
from tests.support.directories import service_directory

LANES = 64
PROCESSES = 2


def bench(port: int, messages: int, *, size_kb: int, lanes: int = LANES, processes: int = PROCESSES) -> dict[str, Any]:
    """`dispatcher bench`, as anybody can run it, into a relay on this machine. Raises `RuntimeError` with its words."""
    command = [sys.executable, "-m", "dispatcher.cli", "bench", "--messages", str(messages), "--json"]
    options = ["--size-kb", str(size_kb), "--processes", str(processes), "--lanes", str(lanes)]
    with service_directory() as directory:
        os.chmod(directory, 0o755)  # noqa: PTH101  # PostgreSQL does not run as root, and must get in
        done = subprocess.run(
            [*command, *options, "--smtp", f"smtp://127.0.0.1:{port}"],
            env=plain_env({"DISPATCHER_DATA_DIR": str(directory)}),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"dispatcher bench failed:\n{done.stdout}{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


class Installation:
    """A box that runs, as `dispatcher up` runs it, and a way to send blasts through it."""

    def __init__(self, box: Box, workers: int) -> None:
        self._box = box
        self._workers = workers

        self.settings: Settings = config.load(box.env)
        self.url = box.url  #: where the pages are, if there are any
        self.port = box.port

    def used(self) -> list[benchmarking.Use]:
        """What its processes have used so far."""
        return benchmarking.uses_of(self._box.pids())

    @asynccontextmanager
    async def bench(self) -> AsyncIterator[benchmarking.Bench]:
        """The benchmark, once all workers are up."""
        async with db.Database(self.settings.database_url, size=4) as database:
            bench = benchmarking.Bench(self.settings, database, Bell(self.settings.broker_url), self.used)
            await bench.workers_up(self._workers)
            yield bench


@contextmanager
def installation(
    port: int,
    *,
    lanes: int = 10,
    processes: int = PROCESSES,
    web: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Installation]:
    """An installation whose relay listens on `port`: workers, one more that is reserved for breaking news, beat.

    With `web` it serves its pages too. `settings`: more of them, by their short names.
    """
    with service_directory() as directory:
        os.chmod(directory, 0o755)  # noqa: PTH101  # as above
        given = config.as_env({"SMTP_URL": f"smtp://127.0.0.1:{port}?lanes={lanes}", **(settings or {})})
        with Box(
            directory / "box",
            web=web,
            concurrency=processes,
            env=plain_env(given),
            extra_env={"DISPATCHER_LOG_LEVEL": "warning"},
            log=_quiet,
        ) as box:
            yield Installation(box, processes + 1)


def _quiet(part: str, line: str) -> None:
    """Tell what goes wrong, and nothing else."""
    if "error" in line.lower():
        print(f"{part}: {line}", file=sys.stderr)
