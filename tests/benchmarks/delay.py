"""A relay that is far away: a proxy that holds back every byte for half a round trip, in both directions.

    python -m tests.benchmarks.delay --to PORT --rtt-ms 20

prints one line, {"port": …}, and runs until it is ended. It limits nothing but time: whatever comes in is passed on
whole, so many bytes may be on their way at once, as on a fast line that is long.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections import deque
from typing import cast

import uvloop

from dispatcher.embedded.process import die_with_parent


class Line:
    """One direction of a long line: what is put in comes out at the other end after `seconds`, in order."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._on_its_way: deque[tuple[float, bytes | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._far_end: asyncio.Transport | None = None

    def connect(self, far_end: asyncio.Transport) -> None:
        """Say where it leads. What was put in before comes out no earlier than this."""
        self._far_end = far_end
        self._deliver()

    def put(self, data: bytes | None) -> None:
        """Send bytes, or with None the end of the connection."""
        self._on_its_way.append((self._loop.time() + self._seconds, data))
        if self._timer is None:
            self._deliver()

    def _deliver(self) -> None:
        self._timer = None
        if self._far_end is None:
            return
        if self._far_end.is_closing():
            self._on_its_way.clear()  # nobody is there any more
            return
        now = self._loop.time()
        due: list[bytes] = []
        while self._on_its_way and self._on_its_way[0][0] <= now:
            data = self._on_its_way.popleft()[1]
            if data is None:
                self._far_end.write(b"".join(due))
                self._far_end.close()
                self._on_its_way.clear()
                return
            due.append(data)
        if due:
            self._far_end.write(b"".join(due))
        if self._on_its_way:
            self._timer = self._loop.call_at(self._on_its_way[0][0], self._deliver)


class End(asyncio.Protocol):
    """One end of a connection: puts what it hears into a line."""

    def __init__(self, line: Line, back: Line) -> None:
        """`back` is the line that ends here."""
        self._line = line
        self._back = back

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._back.connect(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._line.put(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.put(None)


async def serve(port: int, rtt: float) -> asyncio.Server:
    """Listen on a free port, and pass everything on to `port` with a round trip of `rtt` seconds."""
    loop = asyncio.get_running_loop()
    connecting: set[asyncio.Task[object]] = set()

    def connection() -> End:
        there, back = Line(rtt / 2), Line(rtt / 2)
        task: asyncio.Task[object] = loop.create_task(
            loop.create_connection(lambda: End(back, there), "127.0.0.1", port)
        )
        connecting.add(task)
        task.add_done_callback(connecting.discard)
        return End(there, back)

    return await loop.create_server(connection, "127.0.0.1", 0, backlog=1024)


async def _run(port: int, rtt: float) -> None:
    server = await serve(port, rtt)
    ended = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, ended.set)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await ended.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--to", type=int, required=True, help="the port of the relay")
    parser.add_argument("--rtt-ms", type=float, required=True, help="the round trip, in milliseconds")
    arguments = parser.parse_args()
    die_with_parent()
    uvloop.run(_run(arguments.to, arguments.rtt_ms / 1000))


if __name__ == "__main__":
    main()
