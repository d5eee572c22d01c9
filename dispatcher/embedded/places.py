"""Directories of a box: who holds them, who owns them, who can reach them, and whether there is room."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from dispatcher.embedded.process import Account
from dispatcher.errors import Conflict, Misconfigured, Unavailable

ELSEWHERE = "Set DISPATCHER_DATA_DIR to a directory that you may write, on a disk with room."
#: A socket's path must fit `sun_path`, with its closing NUL (unix(7)).
MAX_SOCKET_PATH = 107 if sys.platform == "linux" else 103


class Lock:
    """An exclusive lock on a file, held until `release` or the end of this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self, conflict: Callable[[], Conflict]) -> Self:
        """Take the lock. Raises `conflict()` if another holds it for a second; readers hold it for an instant."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + 1.0
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                os.close(file)
                raise conflict() from None
            self._file = file
            return self

    def write(self, text: str) -> None:
        """Leave a note in the file for whoever is turned away."""
        if self._file is None:
            raise RuntimeError(f"{self.path} is not locked")
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text.encode(), 0)

    def release(self) -> None:
        """Give the lock back, if it is held. The file stays: removing it would let two hold "the" lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextmanager
def explained(directory: Path) -> Iterator[None]:
    """Turn what the system says about files into errors that name the directory and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(directory) from error
        name = error.filename or directory
        raise Misconfigured(
            f"{name} cannot be used: {error.strerror or error}.", remedy=ELSEWHERE, field="DATA_DIR"
        ) from error


def no_space(directory: Path) -> Unavailable:
    """The error for a full disk."""
    return Unavailable(
        f"No space is left on the disk that holds {directory}.",
        remedy="Free some, or set DISPATCHER_DATA_DIR to a directory on another disk.",
    )


def check_space(directory: Path, needed: int) -> None:
    """Raise `Unavailable` if fewer than `needed` bytes are free where `directory` is."""
    if shutil.disk_usage(directory).free < needed:
        raise no_space(directory)


def nobody() -> Account:
    """The account of the least privileges that every Unix has."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(65534, 65534)
    return Account(entry.pw_uid, entry.pw_gid)


def can_enter(path: Path, account: Account | None) -> Path | None:
    """The first directory on the way to `path` that `account` may not pass; None if it reaches `path` itself."""
    if account is None or account.uid == 0:
        return None
    for directory in [*reversed(path.parents), path] if path.is_dir() else list(reversed(path.parents)):
        status = directory.stat()
        if status.st_uid == account.uid:
            passes = status.st_mode & 0o100
        elif status.st_gid == account.gid:
            passes = status.st_mode & 0o010
        else:
            passes = status.st_mode & 0o001
        if not passes:
            return directory
    return None


def check_reach(path: Path, account: Account | None) -> None:
    """Raise `Misconfigured`, naming the closed directory, if `account` cannot reach `path`."""
    if account is None:
        return
    closed = can_enter(path.resolve(), account)
    if closed is not None:
        name = _user_name(account.uid)
        raise Misconfigured(
            f"PostgreSQL does not run as root, and the user `{name}`, whom it runs as, cannot enter {closed}.",
            remedy="Set DISPATCHER_DATA_DIR to a directory outside of it, such as /var/lib/dispatcher.",
            field="DATA_DIR",
        )


def make_private(directory: Path, account: Account | None = None) -> None:
    """Make a directory that only we (or `account`) may enter. One that is there already stays as it is."""
    with explained(directory):
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            if not directory.is_dir():
                raise
            return
        if account is not None:
            os.chown(directory, account.uid, account.gid)


def make_ours(directory: Path, mark: str) -> None:
    """Make a directory of ours, with the parents that it lacks: closed to others.

    As root others may pass through it, though not look around, because PostgreSQL's user has to. One that is there
    already is opened so far only if it is certainly ours: empty, or holding the file `mark`.
    """
    root = os.geteuid() == 0
    with explained(directory):
        if not directory.is_dir():
            directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            directory.mkdir(mode=0o700)
        status = directory.stat()
        ours = status.st_uid == os.geteuid() and ((directory / mark).exists() or not any(directory.iterdir()))
        if root and ours and status.st_mode & 0o011 != 0o011:
            directory.chmod(stat.S_IMODE(status.st_mode) | 0o011)


def socket_directory(directory: Path, socket_name: str, account: Account | None = None) -> Path:
    """Make the private directory for the socket `socket_name`: `directory/socket`, or a short one where its path
    would be too long for a socket.

    The short one is new each time, since a name that can be guessed under the system's temporary directory could be
    taken by somebody else; the file `socket-directory` keeps it, so that the next start removes the last one.
    """
    note = directory / "socket-directory"
    usual = directory / "socket"
    with explained(directory):
        if note.exists():
            leave_socket_directory(directory, Path(note.read_text().strip()))
        if len(os.fsencode(usual / socket_name)) <= MAX_SOCKET_PATH:
            make_private(usual, account)
            return usual
        short = Path(tempfile.mkdtemp(prefix="dispatcher-"))
        if len(os.fsencode(short / socket_name)) > MAX_SOCKET_PATH:
            short.rmdir()
            raise Misconfigured(
                f"Neither {directory} nor {short.parent} is short enough to hold a socket.",
                remedy="Set DISPATCHER_DATA_DIR to a shorter path.",
                field="DATA_DIR",
            )
        write_private(note, str(short))
        if account is not None:
            os.chown(short, account.uid, account.gid)
        check_reach(short, account)
        return short


def leave_socket_directory(directory: Path, sockets: Path) -> None:
    """Remove a short directory that `socket_directory` made; the usual one stays."""
    if sockets != directory / "socket":
        if sockets.name.startswith("dispatcher-") and sockets.is_dir() and not sockets.is_symlink():
            shutil.rmtree(sockets, ignore_errors=True)
        (directory / "socket-directory").unlink(missing_ok=True)


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Write a file that only we (or `account`) may read: complete, or not at all."""
    new = path.with_name(f".{path.name}.new")
    with explained(path.parent):
        new.unlink(missing_ok=True)
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as output:
            output.write(text)
            output.flush()
            os.fsync(output.fileno())
        if account is not None:
            os.chown(new, account.uid, account.gid)
        new.replace(path)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
