"""A small, fast SMTP server that keeps every mail and sends none: what a box has instead of a relay.

`python -m dispatcher.embedded.catcher --host 127.0.0.1 --port 0 --maildir DIR` prints its port on the first line.
It offers PIPELINING (RFC 2920), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), SIZE (RFC 1870) and ENHANCEDSTATUSCODES
(RFC 2034). It is for development: it asks nobody who they are, and should listen on the loopback interface alone.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

from dispatcher.embedded.maildir import Maildir

MAX_SIZE = 32 * 1024 * 1024  #: bytes of one message
MAX_LINE = 4096  #: octets of a command, with its CRLF; RFC 5321 §4.5.3.1.4 asks for 512, RFC 6531 for a little more
MAX_RECIPIENTS = 1000
MAX_PATH = 256  #: RFC 5321 §4.5.3.1.3
ROUND = 60.0  #: seconds between two looks at who is idle
IDLE_ROUNDS = 6  #: five full minutes, RFC 5321 §4.5.3.2.7
END = b"\r\n.\r\n"

_PATH = re.compile(r"(FROM|TO):[ ]?<(?:@[^<>:]+:)?([^<>\x00-\x1f\x7f]*)>(?: (.*))?", re.IGNORECASE)
_MAILBOX = re.compile(r'(?:"[^\r\n]+"|[^\s@"]+)@(?:\[[0-9A-Za-z.:]+\]|[^\s@\[\]]+)')
_EXTENSIONS = ("PIPELINING", f"SIZE {MAX_SIZE}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


class Catcher(asyncio.Protocol):
    """One connection. Input is worked off as it comes, many commands at a time; their answers leave in one write."""

    def __init__(self, maildir: Maildir, connections: set[Catcher]) -> None:
        self._maildir = maildir
        self._connections = connections
        self._buffer = bytearray()
        self._replies: list[bytes] = []
        self._in_data = False
        self._too_large = False
        self._stuffed = False  # whether a line of the message began with a dot
        self._searched = 0  # up to where the buffer holds no end of the message
        self._greeted = False
        self.idle = 0  #: how many rounds in a row nothing was heard
        self._sender: str | None = None  # None: no mail is under way; "" is the sender of bounces
        self._recipients: list[str] = []
        self._utf8 = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports only behave like one
        self._connections.add(self)
        self._transport.write(b"220 catcher.localhost ESMTP keeps all mail and sends none\r\n")

    def connection_lost(self, _: Exception | None) -> None:
        self._connections.discard(self)
        self._buffer.clear()

    def pause_writing(self) -> None:
        # Who does not read our answers is not read either.
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.idle = 0
        self._buffer += data
        while self._take_message() if self._in_data else self._take_command():
            pass
        if self._replies:
            self._transport.write(b"".join(self._replies))
            self._replies.clear()

    def hang_up(self, reply: str) -> None:
        """Say why, and close once that is sent."""
        self._reply(reply)
        self._transport.write(b"".join(self._replies))
        self._replies.clear()
        self._transport.close()

    def _take_command(self) -> bool:
        end = self._buffer.find(b"\n", 0, MAX_LINE)
        if end < 0:
            if len(self._buffer) >= MAX_LINE:
                self.hang_up("500 5.5.2 Line too long")
            return False
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        # A lone CR or LF is where two servers may disagree about what a line is.
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            self.hang_up("500 5.5.2 Lines end with CR LF")
            return False
        try:
            text = line[:-2].decode("utf-8")
        except UnicodeDecodeError:
            self._reply("500 5.5.2 This is not UTF-8")
            return True
        verb, _, rest = text.partition(" ")
        command = _COMMANDS.get(verb.upper())
        if command is None:
            self._reply("500 5.5.2 Unknown command")
        else:
            command(self, rest.strip())
        return not self._transport.is_closing()

    def _take_message(self) -> bool:
        """Take the message once its end is there. CR LF . CR LF alone is the end: see "SMTP smuggling"."""
        buffer = self._buffer
        if self._searched == 0 and not self._too_large and buffer.startswith(b".\r\n"):
            message, taken = b"", 3
        else:
            end = self._find_end()
            if end < 0:
                return False
            message, taken = bytes(buffer[: end + 2]), end + len(END)
        del buffer[:taken]
        if self._too_large or len(message) > MAX_SIZE:
            self._reply("552 5.3.4 The message is too large")
        else:
            self._keep(message)
        self._in_data = self._too_large = self._stuffed = False
        self._searched = 0
        self._forget()
        return True

    def _find_end(self) -> int:
        """Where the end of the message begins, or -1: then what was searched is not searched again."""
        buffer = self._buffer
        while (at := buffer.find(b"\r\n.", self._searched)) >= 0 and len(buffer) >= at + len(END):
            if buffer.startswith(END, at):
                return at
            self._stuffed = True
            self._searched = at + 3
        self._searched = at if at >= 0 else max(len(buffer) - 2, 0)
        if self._too_large or len(buffer) > MAX_SIZE + len(END):
            # Read to its end all the same, or its rest would be taken for commands.
            self._too_large = True
            del buffer[: self._searched]
            self._searched = 0
        return -1

    def _keep(self, message: bytes) -> None:
        if message.startswith(b"."):
            message = message[1:]
        if self._stuffed:
            message = message.replace(b"\r\n.", b"\r\n")
        try:
            name = self._maildir.put(self._sender or "", self._recipients, message)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            self._reply("452 4.3.1 The disk is full" if full else "451 4.3.0 The mail cannot be kept")
        else:
            self._reply(f"250 2.0.0 Kept as {name}")

    def _hello(self, name: str, *, extended: bool) -> None:
        if not name:
            self._reply("501 5.5.4 Say who you are")
            return
        self._greeted = True
        self._forget()
        if extended:
            lines = ("catcher.localhost", *_EXTENSIONS)
            last = len(lines) - 1
            for number, line in enumerate(lines):
                self._reply(f"250{' ' if number == last else '-'}{line}")
        else:
            self._reply("250 catcher.localhost")

    def _mail(self, rest: str) -> None:
        found = _PATH.fullmatch(rest)
        if not self._greeted or self._sender is not None:
            self._reply("503 5.5.1 " + ("One mail at a time" if self._greeted else "Say EHLO first"))
        elif found is None or found[1].upper() != "FROM":
            self._reply("501 5.5.4 The syntax is MAIL FROM:<address>")
        elif problem := self._mail_options(found[3] or "") or (found[2] and self._unfit(found[2])):
            self._utf8 = False
            self._reply(problem)
        else:
            self._sender = found[2]
            self._reply("250 2.1.0 Sender accepted")

    def _mail_options(self, text: str) -> str:
        """Read SIZE, BODY and SMTPUTF8. Returns the reply that refuses them, or nothing."""
        for option in text.split():
            key, _, value = option.partition("=")
            match key.upper(), value.upper():
                case "SIZE", size if size.isascii() and size.isdigit() and len(size) <= 20:
                    if int(size) > MAX_SIZE:
                        return "552 5.3.4 The message is too large"
                case "BODY", "7BIT" | "8BITMIME":
                    pass
                case "SMTPUTF8", "":
                    self._utf8 = True
                case _:
                    return "555 5.5.4 Unknown option"
        return ""

    def _rcpt(self, rest: str) -> None:
        found = _PATH.fullmatch(rest)
        if self._sender is None:
            self._reply("503 5.5.1 MAIL comes first")
        elif found is None or found[1].upper() != "TO":
            self._reply("501 5.5.4 The syntax is RCPT TO:<address>")
        elif found[3]:
            self._reply("555 5.5.4 Unknown option")
        elif problem := self._unfit(found[2], postmaster=True):
            self._reply(problem)
        elif len(self._recipients) >= MAX_RECIPIENTS:
            self._reply("452 4.5.3 Too many recipients")
        else:
            self._recipients.append(found[2])
            self._reply("250 2.1.5 Recipient accepted")

    def _unfit(self, address: str, *, postmaster: bool = False) -> str:
        """The reply that refuses this address, or nothing."""
        if not address.isascii() and not self._utf8:
            return "553 5.6.7 This address needs SMTPUTF8"
        if postmaster and address.lower() == "postmaster":  # RFC 5321 §4.5.1
            return ""
        if len(address.encode("utf-8", "replace")) > MAX_PATH - 2 or not _MAILBOX.fullmatch(address):
            return "501 5.1.3 This is not an address"
        return ""

    def _data(self, rest: str) -> None:
        if rest:
            self._reply("501 5.5.4 DATA takes no argument")
        elif not self._recipients:
            self._reply("503 5.5.1 RCPT comes first")
        else:
            self._in_data = True
            self._reply("354 End the mail with a dot on a line of its own")

    def _reset(self, _: str) -> None:
        self._forget()
        self._reply("250 2.0.0 Forgotten")

    def _forget(self) -> None:
        self._sender = None
        self._recipients = []
        self._utf8 = False

    def _reply(self, text: str) -> None:
        self._replies.append(text.encode() + b"\r\n")


_COMMANDS: dict[str, Callable[[Catcher, str], None]] = {
    "EHLO": lambda this, rest: this._hello(rest, extended=True),
    "HELO": lambda this, rest: this._hello(rest, extended=False),
    "MAIL": Catcher._mail,
    "RCPT": Catcher._rcpt,
    "DATA": Catcher._data,
    "RSET": Catcher._reset,
    "NOOP": lambda this, _: this._reply("250 2.0.0 Still here"),
    "VRFY": lambda this, _: this._reply("252 2.5.0 Any address is kept here"),
    "HELP": lambda this, _: this._reply("214 2.0.0 EHLO, MAIL, RCPT, DATA, RSET, NOOP, VRFY, QUIT: see RFC 5321"),
    "QUIT": lambda this, _: this.hang_up("221 2.0.0 Goodbye"),
    **{
        each: lambda this, _: this._reply("502 5.5.1 Not offered here") for each in ("AUTH", "STARTTLS", "EXPN", "BDAT")
    },
}


async def serve(listener: socket.socket, store: Maildir, ended: asyncio.Event) -> None:
    """Take mail on a listening socket until `ended` is set."""
    loop = asyncio.get_running_loop()
    connections: set[Catcher] = set()
    server = await loop.create_server(lambda: Catcher(store, connections), sock=listener, backlog=512)
    try:
        while not ended.is_set():
            try:
                await asyncio.wait_for(ended.wait(), timeout=ROUND)
            except TimeoutError:
                _drop_idle(connections)
    finally:
        server.close()
        for connection in list(connections):
            connection.hang_up("421 4.3.2 The catcher ends")
        await asyncio.sleep(0)


def _drop_idle(connections: set[Catcher]) -> None:
    for connection in list(connections):
        connection.idle += 1
        if connection.idle >= IDLE_ROUNDS:
            connection.hang_up("421 4.4.2 Idle for too long")


def main(argv: list[str] | None = None) -> None:
    """Run the catcher until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="catcher", description="An SMTP server that keeps all mail and sends none.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--fd", type=int, default=None, help="a listening socket that was inherited, instead of a port")
    parser.add_argument("--maildir", type=Path, required=True)
    options = parser.parse_args(argv)
    if options.fd is not None:
        listener = socket.socket(fileno=options.fd)
    else:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        listener = socket.create_server((options.host, options.port), family=family, backlog=512)
    store = Maildir(options.maildir)
    print(listener.getsockname()[1], flush=True)  # noqa: T201  (the one line that callers wait for)
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        runner.run(_until_told(listener, store))
    store.close()


async def _until_told(listener: socket.socket, store: Maildir) -> None:
    ended = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, ended.set)
    await serve(listener, store, ended)


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    os.umask(0o077)
    main()
