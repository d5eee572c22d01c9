"""TCP ports of this machine: which are free, and claiming one before the server that will use it is up."""

from __future__ import annotations

import errno
import socket
import sys

from dispatcher.errors import Conflict, Misconfigured

FIRST = 8080
LAST = 8179


class Claim:
    """A port that is ours until `release`, as far as other boxes are concerned.

    Between choosing a port and serving on it lie the seconds in which the database starts. Two boxes that start
    together would choose the same one; so each also takes the port's name in Linux's abstract socket namespace,
    which vanishes with the process (unix(7)). Elsewhere there is no such name, and the second box fails to serve.
    """

    def __init__(self, port: int) -> None:
        """Raises OSError if the port is taken, by anything."""
        self.port = port
        self._name = socket.socket(socket.AF_UNIX)
        try:
            if sys.platform == "linux":
                self._name.bind(f"\0dispatcher-port-{port}")
            _check_free(port)
        except OSError:
            self._name.close()
            raise

    def release(self) -> None:
        """Let others have the port."""
        self._name.close()


def claim(port: int | None) -> Claim:
    """Claim `port`, or the first free one from 8080 on. Raises `Conflict` if it is taken, or none is free."""
    if port is not None:
        if not 1 <= port <= 65535:
            raise Misconfigured("A port is a whole number from 1 to 65535.", field="port")
        try:
            return Claim(port)
        except PermissionError as error:
            raise Misconfigured(
                f"Port {port} may only be used by root.", remedy="Choose one from 1024 on: `--port N`.", field="port"
            ) from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise Conflict(
                f"Port {port} is taken by another program.",
                remedy="Choose another with `--port N`, or leave it out to get a free one.",
                field="port",
            ) from error
    for each in range(FIRST, LAST + 1):
        try:
            return Claim(each)
        except OSError:
            continue
    raise Conflict(f"None of the ports {FIRST} to {LAST} is free.", remedy="Choose one with `--port N`.", field="port")


def _check_free(port: int) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):  # noqa: S104  (bound for a moment, never listened on)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
