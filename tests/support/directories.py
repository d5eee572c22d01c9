"""Directories for tests that start servers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar


class Server(Protocol):
    """Whatever starts and stops."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


S = TypeVar("S", bound=Server)


@contextmanager
def service_directory() -> Iterator[Path]:
    """A directory that is gone afterwards, short enough for sockets, and passable for PostgreSQL's user.

    pytest's own `tmp_path` lies below a directory that only we may enter, so as root the server cannot run there.
    """
    directory = Path(tempfile.mkdtemp(prefix="dispatcher-test-"))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def running(server: S) -> Iterator[S]:
    """A server that is started, and stopped afterwards."""
    server.start()
    try:
        yield server
    finally:
        server.stop()
