"""A mail catcher in a process of its own, for the tests of the catcher and of the inbox."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dispatcher.embedded.inbox import Inbox


@dataclass(frozen=True)
class RunningCatcher:
    """Where it listens, and where it keeps what it gets."""

    port: int
    inbox: Inbox
    process: subprocess.Popen[bytes]


@contextmanager
def running_catcher(maildir: Path) -> Iterator[RunningCatcher]:
    """Run a catcher on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dispatcher.embedded.catcher", "--maildir", str(maildir)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield RunningCatcher(int(process.stdout.readline()), Inbox(maildir), process)
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture(scope="module")
def shared_catcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCatcher]:
    with running_catcher(tmp_path_factory.mktemp("mail") / "Maildir") as catcher:
        yield catcher


@pytest.fixture
def catcher(shared_catcher: RunningCatcher) -> RunningCatcher:
    """A catcher whose inbox is empty."""
    shared_catcher.inbox.clear()
    return shared_catcher
