"""A push service on this machine, with devices that have real keys (RFC 8030, RFC 8291).

    async with a_push_service() as service:
        device = service.device()
        …  # hand out device.subscription, publish
        device.received[-1].payload

It writes down each push before it answers, so what it has taken is known whatever happens next.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from ssl import SSLContext
from typing import Any

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """What the service says to a push: after how long, or not at all."""

    status: int = 201
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0  #: seconds
    drop: bool = False  #: close the connection instead
    silent: bool = False  #: say nothing and leave the connection open


CREATED = Answer()
Script = Callable[["Push"], Answer]


@dataclass
class Push:
    """One push as it came in."""

    device: Device
    headers: dict[str, str]  #: names in small letters
    body: bytes = field(repr=False)
    answered: Answer = CREATED
    at: float = field(default_factory=time.monotonic)

    @cached_property
    def payload(self) -> bytes:
        """What the device reads, decrypted with its own keys. Raises `http_ece.ECEException` if it cannot."""
        opened: bytes = http_ece.decrypt(
            self.body, private_key=self.device.private_key, auth_secret=self.device.auth_secret, version="aes128gcm"
        )
        return opened

    @property
    def message(self) -> dict[str, Any]:
        """The payload as the service worker reads it."""
        read: dict[str, Any] = json.loads(self.payload)
        return read

    @property
    def accepted(self) -> bool:
        said = self.answered
        return 200 <= said.status < 300 and not said.drop and not said.silent


class Device:
    """A browser that has subscribed, and what was pushed to it."""

    def __init__(self, endpoint: str, script: Script) -> None:
        self.endpoint = endpoint
        self.private_key = ec.generate_private_key(ec.SECP256R1())
        self.public_key = self.private_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.auth_secret = os.urandom(16)
        self.script = script  #: what the service says to the next pushes
        self.received: list[Push] = []

    @property
    def p256dh(self) -> str:
        return base64url(self.public_key)

    @property
    def auth(self) -> str:
        return base64url(self.auth_secret)

    @property
    def subscription(self) -> dict[str, Any]:
        """What `PushSubscription.toJSON()` gives in the browser."""
        keys = {"p256dh": self.p256dh, "auth": self.auth}
        return {"endpoint": self.endpoint, "expirationTime": None, "keys": keys}

    @property
    def accepted(self) -> list[Push]:
        return [push for push in self.received if push.accepted]

    @property
    def waiting(self) -> list[Push]:
        """What a device that was away all the time gets when it is back: of one topic only the last (RFC 8030 §5.4)."""
        kept: dict[object, Push] = {}
        for push in self.accepted:
            topic = push.headers.get("topic", push)
            kept.pop(topic, None)
            if int(push.headers["ttl"]) > 0:
                kept[topic] = push
        return list(kept.values())

    def answer(self, *answers: Answer) -> None:
        """Say these to the next pushes, one after the other, and the last of them from then on."""
        left = list(answers)
        self.script = lambda _: left.pop(0) if len(left) > 1 else left[0]


class PushService:
    """What the service knows. `script` decides what it says to the pushes for devices that have no script."""

    def __init__(self, *, keep: bool = True) -> None:
        """With `keep` false pushes are only counted: for a benchmark, which has no use for them."""
        self.origin = ""
        self.script: Script = lambda _: CREATED
        self.devices: dict[str, Device] = {}  #: by path
        self.received: list[Push] = []
        self.count = 0  #: pushes that came in
        self.connections = 0
        self.sessions: set[_Session] = set()
        self.open = 0  #: pushes that have no answer yet
        self.most_open = 0
        self.keep = keep

    def device(self) -> Device:
        """A new device that has subscribed here."""
        path = f"/push/{secrets.token_urlsafe(96)}"
        device = Device(self.origin + path, lambda push: self.script(push))
        self.devices[path] = device
        return device

    def gone(self, device: Device) -> None:
        """The device has unsubscribed: its endpoint answers 410."""
        self.devices = {path: each for path, each in self.devices.items() if each is not device}

    def hang_up(self) -> None:
        """Close every connection at once."""
        for session in list(self.sessions):
            session.close()


@asynccontextmanager
async def a_push_service(
    *, host: str = "127.0.0.1", port: int = 0, tls: SSLContext | None = None, name: str = "", keep: bool = True
) -> AsyncIterator[PushService]:
    """A push service that listens for as long as the block lasts. `name` is the host in endpoints, if not `host`."""
    service = PushService(keep=keep)
    server = await asyncio.get_running_loop().create_server(lambda: _Session(service), host, port, ssl=tls)
    taken = server.sockets[0].getsockname()[1]
    service.origin = f"{'http' if tls is None else 'https'}://{name or host}:{taken}"
    try:
        yield service
    finally:
        server.close()
        service.hang_up()
        await server.wait_closed()


class _Session(asyncio.Protocol):
    """One connection: requests with a length, one after the other (RFC 9112)."""

    def __init__(self, service: PushService) -> None:
        self._service = service
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's are not instances of asyncio.Transport
        self._service.connections += 1
        self._service.sessions.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._service.sessions.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._buffer, 0, end)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < whole:
                return
            head, body, self._buffer = self._buffer[:end], self._buffer[end + 4 : whole], self._buffer[whole:]
            self._take(head, body)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _take(self, head: bytes, body: bytes) -> None:
        service = self._service
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        device = service.devices.get(path)
        service.count += 1
        service.open += 1
        service.most_open = max(service.most_open, service.open)
        if device is None:
            self._later(Answer(410))
            return
        if method != "POST":
            self._later(Answer(405))
            return
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        push = Push(device, headers, body)
        push.answered = device.script(push)
        if service.keep:
            device.received.append(push)
            service.received.append(push)
        self._later(push.answered)

    def _later(self, answer: Answer) -> None:
        if answer.delay:
            asyncio.get_running_loop().call_later(answer.delay, self._say, answer)
        else:
            self._say(answer)

    def _say(self, answer: Answer) -> None:
        if answer.silent:
            return
        self._service.open -= 1
        if self._transport is None:
            return
        if answer.drop:
            self._transport.abort()
            return
        headers = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        head = f"HTTP/1.1 {answer.status} Said\r\n{headers}Content-Length: {len(answer.body)}\r\n\r\n"
        self._transport.write(head.encode("latin-1") + answer.body)


def base64url(raw: bytes) -> str:
    """Without padding, as browsers write it."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
