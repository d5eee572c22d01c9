"""A line to a server that can be cut as lines are: silently, with a reset, or so that nobody answers.

It runs on a thread of its own, so that a test which waits for something never stands in its way.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: With this set, closing a connection sends RST instead of FIN (socket(7)).
AT_ONCE = struct.pack("ii", 1, 0)


class Proxy:
    """A TCP port before a server on a Unix socket or on another port."""

    def __init__(self, target: Path | tuple[str, int], loop: asyncio.AbstractEventLoop) -> None:
        self.target = target
        self.port = 0
        self._loop = loop
        self._ends: set[_End] = set()
        self._frozen = False
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._server: asyncio.Server | None = None
        self._host = ""
        self._tasks: set[asyncio.Task[None]] = set()

    def freeze(self) -> None:
        """From now on nothing passes either way, and nobody is told: the line is half open."""
        self._do(self._freeze)

    def thaw(self) -> None:
        """Let everything pass again, and first what was held."""
        self._do(self._thaw)

    def reset(self) -> None:
        """End every connection with a reset; new ones are taken."""
        self._do(self._reset)

    def strand(self) -> None:
        """Hold what is open now for ever and let new connections through: what a firewall does that forgot the old."""
        self._do(self._strand)

    def refuse(self) -> None:
        """End every connection, and take no new one."""
        self._do(self._refuse)

    def accept(self) -> None:
        """Take connections again, on the same port."""
        asyncio.run_coroutine_threadsafe(self.listen(self._host), self._loop).result(10)

    async def listen(self, host: str) -> None:
        self._host = host
        self._server = await self._loop.create_server(lambda: _End(self, is_client=True), host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def came(self, client: _End) -> None:
        task = self._loop.create_task(self._connect(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def met(self, end: _End) -> None:
        self._ends.add(end)
        if self._frozen:
            end.hold(True)

    def left(self, end: _End) -> None:
        self._ends.discard(end)

    async def _connect(self, client: _End) -> None:
        await self._thawed.wait()
        try:
            if isinstance(self.target, Path):
                _, server = await self._loop.create_unix_connection(lambda: _End(self), str(self.target))
            else:
                _, server = await self._loop.create_connection(lambda: _End(self), *self.target)
        except OSError:
            client.reset()
            return
        client.join(server)

    def _freeze(self) -> None:
        self._frozen = True
        self._thawed.clear()
        for end in self._ends:
            end.hold(True)

    def _thaw(self) -> None:
        self._frozen = False
        self._thawed.set()
        for end in list(self._ends):
            end.hold(False)

    def _strand(self) -> None:
        for end in self._ends:
            end.pause("stranded", True)

    def _reset(self) -> None:
        for end in list(self._ends):
            end.reset()

    def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._reset()

    def _do(self, what: Callable[[], None]) -> None:
        done = threading.Event()

        def act() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(act)
        assert done.wait(10), "the proxy's thread is stuck"


class _End(asyncio.Protocol):
    """One end of a connection through the proxy; bytes that come in here go out at the other."""

    def __init__(self, proxy: Proxy, *, is_client: bool = False) -> None:
        self.is_client = is_client
        self._proxy = proxy
        self._transport: asyncio.Transport | None = None
        self._other: _End | None = None
        self._early = b""
        self._reasons: set[str] = set()  # why nothing is read here just now

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._proxy.met(self)
        if self.is_client:
            self._proxy.came(self)

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early += data
        else:
            self._other.send(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._proxy.left(self)
        if self._other is not None:
            self._other.finish()

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other.pause("the other end is full", True)

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other.pause("the other end is full", False)

    def join(self, server: _End) -> None:
        if self._transport is None:
            server.finish()
            return
        self._other, server._other = server, self
        if self._early:
            server.send(self._early)
        if server._early:
            self.send(server._early)

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def finish(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def hold(self, on: bool) -> None:
        self.pause("frozen", on)

    def pause(self, reason: str, on: bool) -> None:
        (self._reasons.add if on else self._reasons.discard)(reason)
        if self._transport is None or self._transport.is_closing():
            return
        if self._reasons:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def reset(self) -> None:
        if self._transport is None:
            return
        line = self._transport.get_extra_info("socket")
        if line is not None and line.family != socket.AF_UNIX:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self._transport.abort()


@contextmanager
def proxies(*targets: Path | tuple[str, int], host: str = "127.0.0.1") -> Iterator[list[Proxy]]:
    """A proxy for each of these servers, on free ports of `host`, all on one thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxies", daemon=True)
    thread.start()
    made = [Proxy(target, loop) for target in targets]
    try:
        for each in made:
            asyncio.run_coroutine_threadsafe(each.listen(host), loop).result(10)
        yield made
    finally:
        for each in made:
            asyncio.run_coroutine_threadsafe(each.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
