"""An SMTP server that takes everything, throws it away, and costs so little that the sender is what is measured.

    python -m tests.benchmarks.sink [--processes N]

prints one line, {"port": …, "counts": "/path"}, and runs until it is ended. It counts the messages of each process in
eight bytes of that file, so whoever reads it disturbs nobody.

It speaks PIPELINING (RFC 2920) and answers everything that came in one packet in one packet. It looks for the end of a
message from the end of what it has read: a client may send nothing but the next envelope behind a message before it
has seen the 354 for another, so the last dot that stands alone is the only one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import os
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import uvloop

from dispatcher.embedded.process import die_with_parent

BUFFER = 256 * 1024
#: A longer command is no SMTP (RFC 5321 §4.5.3.1.4 allows 512).
LONGEST_COMMAND = 4096
BACKLOG = 1024
END = b"\r\n.\r\n"

GREETING = b"220 sink ESMTP\r\n"
OFFERS = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n"
OK = b"250 2.0.0 Ok\r\n"
GO_AHEAD = b"354 go ahead\r\n"
BYE = b"221 2.0.0 Bye\r\n"
UNKNOWN = b"502 5.5.2 unknown\r\n"
TOO_LONG = b"500 5.5.2 line too long\r\n"

_M, _R, _D, _E, _H, _Q, _N = b"MRDEHQN"


class Session(asyncio.BufferedProtocol):
    """One connection. All of a process share one buffer, as each read is through before the next begins."""

    def __init__(self, buffer: bytearray, count: Callable[[], None]) -> None:
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._count = count
        self._tail = b""  # read, and not yet understood
        self._in_data = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(GREETING)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def get_buffer(self, sizehint: int) -> memoryview:
        tail = self._tail
        if not tail:
            return self._view
        self._buffer[: len(tail)] = tail
        return self._view[len(tail) :]

    def buffer_updated(self, nbytes: int) -> None:
        buffer, end = self._buffer, len(self._tail) + nbytes
        replies: list[bytes] = []
        at = 0
        while at < end:
            if self._in_data:
                found = buffer.rfind(END, at, end)
                if found < 0:
                    at = max(at, end - len(END) + 1)
                    break
                at = found + len(END)
                self._in_data = False
                self._count()
                replies.append(OK)
                continue
            stop = buffer.find(b"\n", at, end)
            if stop < 0:
                break
            reply = self._reply(buffer[at])
            replies.append(reply)
            at = stop + 1
            if reply is GO_AHEAD:
                self._in_data = True
                at = max(stop - 1, 0)  # the line end behind DATA may be the one before a dot that stands alone
        self._tail = bytes(buffer[at:end])
        self._say(b"".join(replies), ends=BYE in replies)

    def _reply(self, first: int) -> bytes:
        """The reply to a command, by its first letter: no two that get different replies share one."""
        verb = first & 0xDF
        if verb in (_M, _R, _N, _H):
            return OK
        if verb == _D:
            return GO_AHEAD
        if verb == _E:
            return OFFERS
        return BYE if verb == _Q else UNKNOWN

    def _say(self, reply: bytes, *, ends: bool) -> None:
        if self._transport is None:
            return
        if not self._in_data and len(self._tail) > LONGEST_COMMAND:
            reply, ends = reply + TOO_LONG, True
        if reply:
            self._transport.write(reply)
        if ends:
            self._transport.close()


class Counts:
    """How many messages each process of a sink has taken, in a file that they share."""

    def __init__(self, path: Path, processes: int) -> None:
        self.path = path
        self._file = path.open("r+b")
        self._file.truncate(8 * processes)
        self._map = mmap.mmap(self._file.fileno(), 8 * processes)

    def counter(self, number: int) -> Callable[[], None]:
        """Counts one message of process `number`."""
        place, pack = self._map, struct.Struct("q").pack_into
        taken = 0

        def count() -> None:
            nonlocal taken
            taken += 1
            pack(place, 8 * number, taken)

        return count

    def total(self) -> int:
        return sum(struct.unpack(f"{len(self._map) // 8}q", self._map[:]))

    def close(self) -> None:
        self._map.close()
        self._file.close()


def listener(port: int) -> socket.socket:
    """A socket on which several processes may listen at once."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind(("127.0.0.1", port))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--processes", type=int, default=1)
    buffer = bytearray(BUFFER)
    run(lambda count: lambda: Session(buffer, count), processes=parser.parse_args().processes)


def run(sessions: Callable[[Callable[[], None]], Callable[[], asyncio.BaseProtocol]], *, processes: int = 1) -> None:
    """Take whatever comes with so many processes, until SIGTERM or SIGINT; print port and counts when it may come.

    `sessions` is called once in each process with what counts one message, and gives what makes the protocol of one
    connection.
    """
    die_with_parent()
    sockets = [listener(0)]
    port = int(sockets[0].getsockname()[1])
    sockets += [listener(port) for _ in range(1, processes)]
    handle, name = tempfile.mkstemp(prefix="dispatcher-sink-")
    os.close(handle)
    counts = Counts(Path(name), processes)
    for each in sockets:
        each.listen(BACKLOG)
    parent = os.getpid()
    mine = 0
    for number in range(1, processes):
        if os.fork() == 0:
            die_with_parent(parent)
            mine = number
            break
    if not mine:
        print(json.dumps({"port": port, "counts": name}), flush=True)
    try:
        uvloop.run(serve(sockets[mine], sessions(counts.counter(mine))))
    finally:
        if not mine:
            Path(name).unlink(missing_ok=True)
    sys.exit(0)


async def serve(sock: socket.socket, session: Callable[[], asyncio.BaseProtocol]) -> None:
    """Take everything that comes, until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, ended.set)
    server = await loop.create_server(session, sock=sock)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    main()
