"""Readers who follow a story, all at once: the form of its page, posted over a few connections as a proxy keeps them.

    python -m tests.benchmarks.form_load --port P --slug SLUG --asks N [--rate R] [--connections C] [--first F]
                                         [--pages]

prints one object, {"asks", "well", "others", "seconds", "per_second", "p50_ms", "p99_ms", "p999_ms", "max_ms"}.
Each ask has an address and a client of its own, numbered from F. With a rate, asks begin when they are due, whether or
not those before have been answered, and their time runs from then; without one, each connection asks as soon as it
has its answer. With --pages the browser then loads the page that it is led to, and the time runs to its last byte.

An answer is well if it leads to the page that says "check your email": with --pages that page is read each time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, cast

import uvloop

from dispatcher.embedded.process import die_with_parent

SAYS = b"Check your email"
PATIENCE = 120.0
#: Readers are at so many domains.
DOMAINS = 40
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LOCATION = re.compile(rb"\r\nlocation: *([^\r]+)", re.IGNORECASE)

Answered = Callable[[int, bytes, bytes], None]  #: takes the status, the head, and the body


class Connection(asyncio.Protocol):
    """One connection: a request, its answer, and then perhaps the next."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost
        self._rest = b""
        self._answered: Answered | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost()

    def ask(self, request: bytes, answered: Answered) -> None:
        """Send a request; `answered` is called with its answer."""
        self._answered = answered
        if self._transport is not None:
            self._transport.write(request)

    def close(self) -> None:
        self._lost = _nothing
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._rest += data
        end = self._rest.find(_END)
        if end < 0:
            return
        found = _LENGTH.search(self._rest, 0, end + 2)
        whole = end + len(_END) + (int(found[1]) if found else 0)
        if len(self._rest) < whole:
            return
        head, body, self._rest = self._rest[:end], self._rest[end + len(_END) : whole], self._rest[whole:]
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(int(head[9:12]), head, body)


class Load:
    """So many asks, and what became of them."""

    def __init__(self, host: str, slug: str, *, asks: int, first: int, pages: bool, closed: bool) -> None:
        self.host = host
        self.slug = slug
        self.left = deque(range(first, first + asks))  #: the numbers of those who have not asked yet
        self.pages = pages
        self.closed = closed  #: each connection asks as soon as it is free
        self.times: list[float] = []
        self.others: Counter[str] = Counter()
        self.idle: deque[Connection] = deque()
        self.due: deque[float] = deque()  #: since when each ask waits for a connection
        self.done = asyncio.get_running_loop().create_future()
        self._open = asks
        self._asked = f"/s/{slug}/asked".encode()

    def lost(self) -> None:
        """A connection ended by itself: nothing that is measured may do that."""
        if not self.done.done():
            self.done.set_exception(RuntimeError("the server closed a connection"))

    def arrive(self, due: float) -> None:
        """One more reader presses the button."""
        self.due.append(due)
        self.go_on()

    def go_on(self) -> None:
        """Let whoever waits have the connections that are free."""
        while self.idle and self.left and (self.closed or self.due):
            self._ask(self.idle.popleft(), time.monotonic() if self.closed else self.due.popleft())

    def _ask(self, connection: Connection, due: float) -> None:
        def posted(status: int, head: bytes, _: bytes) -> None:
            place = _LOCATION.search(head)
            if status != 303 or place is None or place[1] != self._asked:
                self._end(connection, due, f"status {status}")
            elif self.pages:
                connection.ask(page_request(self.host, self._asked.decode()), shown)
            else:
                self._end(connection, due, "")

        def shown(status: int, _: bytes, body: bytes) -> None:
            self._end(connection, due, "" if status == 200 and SAYS in body else f"page {status}")

        connection.ask(form_request(self.host, self.slug, self.left.popleft()), posted)

    def _end(self, connection: Connection, due: float, problem: str) -> None:
        if problem:
            self.others[problem] += 1
        else:
            self.times.append(time.monotonic() - due)
        self._open -= 1
        self.idle.append(connection)
        if not self._open and not self.done.done():
            self.done.set_result(None)
        self.go_on()


def form_request(host: str, slug: str, number: int) -> bytes:
    """What a browser sends for the form of a story, and what a trusted proxy adds."""
    body = (
        f"timezone=Europe%2FKyiv&website=&email=reader{number}%40d{number % DOMAINS}.example.test"
        "&cadence=every&catch_up=1&device="
    )
    client = f"{20 + (number >> 24)}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return (
        f"POST /s/{slug}/follow HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en,uk;q=0.5\r\n"
        f"Accept-Encoding: gzip, deflate, br\r\nX-Forwarded-For: {client}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def page_request(host: str, path: str) -> bytes:
    """What a browser sends for a page; it takes it uncompressed, so that it can be read here."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nAccept-Language: en\r\n\r\n".encode()


async def run(
    port: int, slug: str, *, asks: int, rate: float = 0.0, connections: int = 32, first: int = 0, pages: bool = False
) -> dict[str, Any]:
    """Send so many asks. Raises `RuntimeError` if a connection is lost, `TimeoutError` if answers do not come."""
    loop = asyncio.get_running_loop()
    load = Load(f"localhost:{port}", slug, asks=asks, first=first, pages=pages, closed=not rate)
    opened: list[Connection] = [
        (await loop.create_connection(lambda: Connection(load.lost), "127.0.0.1", port))[1] for _ in range(connections)
    ]
    load.idle.extend(opened)
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE + (asks / rate if rate else 0.0)):
        load.go_on()
        for number in range(asks if rate else 0):
            due = began + number / rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            load.arrive(due)
        await load.done
    seconds = time.monotonic() - began
    for connection in opened:
        connection.close()
    return found(load, asks, seconds)


def found(load: Load, asks: int, seconds: float) -> dict[str, Any]:
    """What the program prints. Times are milliseconds, of those that went well."""
    times = sorted(load.times)

    def at(share: float) -> float | None:
        return round(times[min(int(len(times) * share), len(times) - 1)] * 1000, 3) if times else None

    return {
        "asks": asks,
        "well": len(times),
        "others": dict(load.others),
        "seconds": seconds,
        "per_second": len(times) / seconds,
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "p999_ms": at(0.999),
        "max_ms": at(1.0),
    }


def _nothing() -> None:
    """A connection that we close ourselves may end."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slug", required=True)
    parser.add_argument("--asks", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="asks a second; as many as can be without it")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--first", type=int, default=0, help="the number of the first reader")
    parser.add_argument("--pages", action="store_true", help="load the page that each is led to")
    options = vars(parser.parse_args())
    die_with_parent()
    print(json.dumps(uvloop.run(run(options.pop("port"), options.pop("slug"), **options))))


if __name__ == "__main__":
    main()
