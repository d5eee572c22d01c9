"""Servers that stand by themselves while a test does other things, and that it can knock over."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dispatcher.embedded.postgres import Postgres
from dispatcher.embedded.process import bring_up
from dispatcher.embedded.valkey import Valkey
from tests.support.sink import Script, Sink, Taken, a_sink


class _Nothing(list[Any]):
    """A list that keeps nothing: a long run would fill the memory with what no test looks at."""

    def append(self, _: Any) -> None:
        return


class Book(list[Taken]):
    """What a relay has taken: to whom and when, without the messages."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []  #: on the monotonic clock

    def append(self, taken: Taken) -> None:
        self.times.append(time.monotonic())
        super().append(Taken(taken.sender, taken.recipient, b"", taken.answered))


@contextmanager
def a_standing_sink(script: Script | None = None) -> Iterator[Sink]:
    """A sink on a thread of its own, which may outlive any test's event loop. It keeps no messages."""
    ready = threading.Event()
    made: list[tuple[Sink, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def stand() -> None:
        async with a_sink(script) as sink:
            sink.taken = Book()
            sink.reads = _Nothing()
            sink.commands = _Nothing()
            end = asyncio.Event()
            made.append((sink, asyncio.get_running_loop(), end))
            ready.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(stand(),), name="sink", daemon=True)
    thread.start()
    assert ready.wait(10), "the sink did not start"
    sink, loop, end = made[0]
    try:
        yield sink
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)


def crash(server: Postgres | Valkey) -> None:
    """End a server as a power cut would: PostgreSQL by an immediate shutdown, Valkey by kill -9."""
    child = server._child
    assert child is not None
    if isinstance(server, Postgres):
        # kill -9 of the postmaster would leave its sessions running on.
        child.signal(signal.SIGQUIT)
        assert child.wait(time.monotonic() + 20), "PostgreSQL did not crash"
    else:
        os.kill(child.pid, signal.SIGKILL)
        child.wait(time.monotonic() + 20)
    child.close()


def bring_back(server: Postgres | Valkey) -> None:
    """Start a server again after `crash`. From the main thread: the server ends with the thread that started it."""
    server._child = bring_up(server.part(), server.log)
