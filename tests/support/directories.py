"""Directories for tests that start servers."""

from __future__ import annotations

import os
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
#: Linux's memory that looks like a disk. Making and removing PostgreSQL's many small files is less work there.
MEMORY = Path("/dev/shm")
ROOM = 6_000_000_000  #: bytes that have to be free there: several processes run tests at once, each with servers


@contextmanager
def service_directory(*, on_disk: bool = False) -> Iterator[Path]:
    """A directory that is gone afterwards, short enough for sockets, and passable for PostgreSQL's user.

    It lies in memory if there is room, unless a test means the disk. pytest's own `tmp_path` lies below a directory
    that only we may enter, so as root the server cannot run there.
    """
    place = None if on_disk or not _memory_has_room() else MEMORY
    directory = Path(tempfile.mkdtemp(prefix="dispatcher-test-", dir=place))
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


def _memory_has_room() -> bool:
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return False
    # A server that its user cannot reach where it is installed is copied there, and has to run.
    runs = not found.f_flag & os.ST_NOEXEC
    return runs and os.access(MEMORY, os.W_OK) and found.f_bavail * found.f_frsize >= ROOM
