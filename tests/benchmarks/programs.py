"""The small programs of the suite, each in a process of its own: started, asked where they are, and ended."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.sink import Counts

ROOT = Path(__file__).resolve().parents[2]
#: Debian keeps Postfix's programs where users do not look.
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Sink:
    """A sink that runs."""

    name: str
    port: int
    counts: Counts | None

    def taken(self) -> int:
        """How many messages it has taken since its start."""
        if self.counts is None:
            raise ValueError(f"{self.name} does not tell")
        return self.counts.total()


@contextmanager
def own_sink(processes: int = 1) -> Iterator[Sink]:
    """The suite's own sink, on a free port."""
    with (
        running("tests.benchmarks.sink", "--processes", str(processes)) as told,
        _counted(told, processes) as counts,
    ):
        yield Sink("own sink", told["port"], counts)


@contextmanager
def push_sink() -> Iterator[Sink]:
    """The suite's own push service, on a free port."""
    with running("tests.benchmarks.push_sink") as told, _counted(told, 1) as counts:
        yield Sink("own push service", told["port"], counts)


@contextmanager
def _counted(told: Mapping[str, Any], processes: int) -> Iterator[Counts]:
    path = Path(told["counts"])
    counts = Counts(path, processes)
    path.unlink()  # both have it open; so nothing is left behind, however they end
    try:
        yield counts
    finally:
        counts.close()


@contextmanager
def delayed(port: int, rtt_ms: float) -> Iterator[int]:
    """The port of a proxy from which `port` looks `rtt_ms` milliseconds away."""
    with running("tests.benchmarks.delay", "--to", str(port), "--rtt-ms", str(rtt_ms)) as told:
        yield int(told["port"])


@contextmanager
def running(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """A module of ours as a program, and what it told in its first line. It is ended afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, cwd=ROOT, env=plain_env(env), text=True
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        if not first:
            raise RuntimeError(f"{module} did not start: exit code {process.wait()}")
        told: dict[str, Any] = json.loads(first)
        yield told
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def output_of(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a module of ours to its end, and return the one JSON object that it prints. Raises `RuntimeError`."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=plain_env(env), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def plain_env(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without any setting of Dispatcher's, so that nobody's installation is measured by mistake."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DISPATCHER_")}
    return {**kept, **(more or {})}


def found(program: str) -> str | None:
    """Where a program is, or None."""
    return shutil.which(program, path=PATH)
