"""A push service that takes every push, keeps a few, and costs so little that the sender is what is measured.

    python -m tests.benchmarks.push_sink

prints one line, {"port": …, "counts": "/path"}, as the SMTP sink does, and runs until it is ended. It reads each
request whole (RFC 9112) and answers a push with 201 and where it would be found (RFC 8030 §5). Nothing is decrypted:
it keeps one push in `SAMPLE_EVERY` as it came, and `GET /samples` gives them, for whoever has the devices' keys.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Callable
from typing import Any, cast

from tests.benchmarks.sink import run

#: One push in so many is kept, and so many at most.
SAMPLE_EVERY = 250
MOST_SAMPLES = 400
#: A push has at most 4,096 bytes (RFC 8030 §7.2), and what stands around it less.
LONGEST = 16_384
SAMPLES = b"GET /samples "

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_CREATED = b"HTTP/1.1 201 Created\r\nLocation: /message/1\r\nContent-Length: 0\r\n\r\n"
_REFUSED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Samples:
    """The pushes of one process that were kept."""

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count
        self._taken = 0
        self._kept: list[tuple[bytes, bytes]] = []

    def take(self, head: bytes, body: bytes) -> None:
        self._taken += 1
        self._count()
        if self._taken % SAMPLE_EVERY == 1 and len(self._kept) < MOST_SAMPLES:
            self._kept.append((head, body))

    def shown(self) -> bytes:
        """All of them, as JSON: each with path, headers (names in small letters) and body (base64)."""
        return json.dumps([_shown(head, body) for head, body in self._kept]).encode()


class Session(asyncio.Protocol):
    """One connection: requests with a length, one after the other."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (end := self._rest.find(_END)) >= 0:
            found = _LENGTH.search(self._rest, 0, end + 2)
            body = end + len(_END)
            whole = body + (int(found[1]) if found else 0)
            if whole > LONGEST:
                break
            if len(self._rest) < whole:
                return
            request, self._rest = self._rest[:whole], self._rest[whole:]
            self._answer(request[:end], request[body:])
        if end >= 0 or len(self._rest) > LONGEST:
            self._rest = b""
            self._say(_REFUSED, ends=True)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST /") and body:
            self._samples.take(head, body)
            self._say(_CREATED, ends=_CLOSES.search(head) is not None)
        elif head.startswith(SAMPLES):
            shown = self._samples.shown()
            self._say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(shown), shown), ends=False)
        else:
            self._say(_REFUSED, ends=True)

    def _say(self, answer: bytes, *, ends: bool) -> None:
        if self._transport is None:
            return
        self._transport.write(answer)
        if ends:
            self._transport.close()


def _shown(head: bytes, body: bytes) -> dict[str, Any]:
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {"path": first.split(" ")[1], "headers": headers, "body": base64.b64encode(body).decode()}


def sessions(count: Callable[[], None]) -> Callable[[], Session]:
    """What makes the sessions of one process, which keep their samples together."""
    samples = Samples(count)
    return lambda: Session(samples)


if __name__ == "__main__":
    run(sessions)
