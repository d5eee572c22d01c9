"""A bare SMTP client: what it is told to send is sent as it is, byte for byte."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self


class Dialogue:
    """One connection. Replies are whole: all lines of a reply joined by newlines, without line ends."""

    def __init__(self, port: int, *, hello: str = "EHLO test.example") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._file = self._socket.makefile("rb")
        self.greeting = self.reply()
        self.offers = self.ask(hello).splitlines() if hello else []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def send(self, raw: bytes) -> None:
        """Send bytes."""
        self._socket.sendall(raw)

    def reply(self) -> str:
        """Read one reply; empty once the other side has hung up."""
        lines = []
        while line := self._file.readline():
            lines.append(line.decode().rstrip("\r\n"))
            if line[3:4] != b"-":
                break
        return "\n".join(lines)

    def ask(self, command: str) -> str:
        """Send a command and read its reply."""
        self.send(command.encode() + b"\r\n")
        return self.reply()

    def mail(self, message: bytes, *, recipient: str = "reader@example.org") -> str:
        """Send a message that needs no stuffing; the reply to it."""
        self.ask("MAIL FROM:<desk@example.org>")
        self.ask(f"RCPT TO:<{recipient}>")
        self.ask("DATA")
        self.send(message + b".\r\n")
        return self.reply()
