"""Starting boxes for tests, and looking for processes that they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dispatcher.embedded.process import Account

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class RunningBox:
    """A box in a process of its own."""

    process: subprocess.Popen[str]
    pids: dict[str, int]
    settings: dict[str, str]

    def family(self) -> list[psutil.Process]:
        """The box and everything that it has started, grandchildren and all."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


@contextmanager
def box_in_a_process(
    directory: Path, *arguments: str, python: Sequence[str] = (sys.executable,), account: Account | None = None
) -> Iterator[RunningBox]:
    """Run a box of small programs, as `account` if that is given. It is killed afterwards if it still runs."""
    process = subprocess.Popen(
        [*python, "-m", "tests.support.run_box", str(directory), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=_plain_env(),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        if not first:
            raise AssertionError(f"the box did not start: {process.communicate()[1]}")
        up: dict[str, Any] = json.loads(first)
        yield RunningBox(process, up["pids"], up["settings"])
    finally:
        process.kill()
        process.communicate()


def _plain_env() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DISPATCHER_")}
    packages = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    return {**kept, "PYTHONPATH": os.pathsep.join(packages), "PYTHONDONTWRITEBYTECODE": "1"}


def survivors(processes: Sequence[psutil.Process], within: float = 20.0) -> list[str]:
    """Which of these processes still live after `within` seconds; zombies do not."""
    _, alive = psutil.wait_procs(processes, timeout=within)
    return [f"{each.pid} {each.name()}" for each in alive if each.status() != psutil.STATUS_ZOMBIE]


def eventually(condition: Callable[[], bool], within: float = 30.0) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
