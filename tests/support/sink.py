"""An SMTP server that does what it is told: refuses, stalls, hangs up or mixes things up at any step.

It writes down each message before it answers, so what it has taken is known whatever happens next.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

#: Told instead of a reply: close the connection; or say nothing more, in order, until `speak` is called.
HANG_UP = "hang up"
SILENCE = "silence"

EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
REPLIES = {
    "EHLO": "250",
    "HELO": "250 sink",
    "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok",
    "DATA": "354 go ahead",
    "BODY": "250 2.0.0 Ok: taken",
    "RSET": "250 2.0.0 Ok",
    "QUIT": "221 2.0.0 Bye",
}


@dataclass(frozen=True)
class Taken:
    """A message that the sink has read to its end, and the envelope it came in."""

    sender: str
    recipient: str
    data: bytes
    answered: str

    @property
    def message_id(self) -> str:
        found = re.search(rb"^Message-ID:\s*(<[^>]+>)", self.data, re.MULTILINE | re.IGNORECASE)
        return found[1].decode() if found else ""


Script = Callable[[str, str, "Session"], str | None]


@dataclass
class Sink:
    """What the sink has seen. `script(step, argument, session)` returns a reply of its own, or None for the usual."""

    script: Script = lambda step, argument, session: None
    extensions: tuple[str, ...] = EXTENSIONS
    port: int = 0
    taken: list[Taken] = field(default_factory=list)
    reads: list[bytes] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    sessions: set[Session] = field(default_factory=set)

    @property
    def accepted(self) -> list[Taken]:
        return [each for each in self.taken if each.answered.startswith("2")]

    def copies(self) -> Counter[str]:
        """How many copies each recipient has been sent and the sink has said yes to, or not said anything."""
        return Counter(each.recipient for each in self.taken if not each.answered.startswith(("4", "5")))


class Session(asyncio.Protocol):
    """One connection to the sink."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.number = 0
        self.messages = 0
        self._buffer = b""
        self._in_data = False
        self._held: list[str] | None = None
        self._sender = self._recipient = ""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.sink.connections += 1
        self.number = self.sink.connections
        self.sink.sessions.add(self)
        self._answer("BANNER", "", "220 sink ESMTP")

    def connection_lost(self, exc: Exception | None) -> None:
        self.sink.sessions.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self.sink.reads.append(data)
        self._buffer += data
        while self._transport is not None:
            if self._in_data:
                end = 0 if self._buffer.startswith(b".\r\n") else self._buffer.find(b"\r\n.\r\n") + 2
                if end == 1:
                    return
                body, self._buffer = self._buffer[:end], self._buffer[end + 3 :]
                self._in_data = False
                self._take(body)
            else:
                line, found, rest = self._buffer.partition(b"\r\n")
                if not found:
                    return
                self._buffer = rest
                self._command(line.decode())

    def hang_up(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _take(self, body: bytes) -> None:
        self.messages += 1
        usual = REPLIES["BODY"]
        reply = self.sink.script("BODY", self._recipient, self)
        answered = usual if reply is None else reply
        if body:
            self.sink.taken.append(Taken(self._sender, self._recipient, body, answered))
        self._say(answered)

    def _command(self, line: str) -> None:
        self.sink.commands.append(line)
        verb = line[:4].upper()
        argument = line.partition("<")[2].partition(">")[0]
        if verb == "MAIL":
            self._sender = argument
        elif verb == "RCPT":
            self._recipient = argument
        usual = REPLIES.get(verb, "502 5.5.2 unknown")
        if verb == "EHLO":
            lines = ["sink", *self.sink.extensions]
            usual = "\r\n".join(f"250{'-' if each is not lines[-1] else ' '}{each}" for each in lines)
        said = self._answer(verb, argument, usual)
        if verb == "DATA" and said.startswith("354"):
            self._in_data = True
        elif verb == "QUIT" and self._transport is not None:
            self._transport.close()

    def _answer(self, step: str, argument: str, usual: str) -> str:
        reply = self.sink.script(step, argument, self)
        said = usual if reply is None else reply
        self._say(said)
        return said

    def speak(self, reply: str) -> None:
        """Answer what was left in silence, and whatever came after it."""
        held, self._held = self._held or [], None
        for each in [reply, *held]:
            self._say(each)

    def _say(self, reply: str) -> None:
        if self._transport is None:
            return
        if self._held is not None:
            self._held.append(reply)
            return
        if reply == SILENCE:
            self._held = []
            return
        if reply == HANG_UP:
            self.hang_up()
            return
        self._transport.write(reply.encode() + (b"" if reply.endswith("\\") else b"\r\n"))


@asynccontextmanager
async def a_sink(script: Script | None = None, *, extensions: tuple[str, ...] = EXTENSIONS) -> AsyncIterator[Sink]:
    """A sink that listens on a free port of this machine."""
    sink = Sink(extensions=extensions)
    if script is not None:
        sink.script = script
    async with listening(sink, Session):
        yield sink


@asynccontextmanager
async def listening(sink: Sink, kind: type[Session], *, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    """Have a sink take connections, each as a session; afterwards all are closed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: kind(sink), "127.0.0.1", 0, ssl=tls)
    sink.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        for session in list(sink.sessions):
            session.hang_up()
        await server.wait_closed()
