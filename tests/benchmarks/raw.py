"""The limit: a client that neither renders nor records, and sends the same ready bytes over and over.

    python -m tests.benchmarks.raw --port P --messages N [--size-kb K] [--lanes L] [--processes P] [--plain]

prints one object, {"messages", "seconds", "per_second", "cpu_us_per_message"}. Each lane sends MAIL, RCPT and DATA in
one write, the next envelope behind the last byte of a message: one round trip for each mail (RFC 2920). With --plain
every command waits for its answer, as most programs do: four round trips. The clock runs from the moment when all
lanes of all processes have said EHLO.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import cast

import uvloop

from dispatcher.embedded.process import die_with_parent

ENVELOPE = (b"MAIL FROM:<bench@example.test>\r\n", b"RCPT TO:<reader@example.test>\r\n", b"DATA\r\n")
LINE = b"The gauge at the bridge shows 6.12 metres, 38 centimetres more than befo\r\n"
PATIENCE = 300.0


class Work:
    """What the lanes of one process share: how many messages are still to be sent, and how many are through."""

    def __init__(self, messages: int) -> None:
        self.left = messages
        self.open = messages
        self.done = asyncio.get_running_loop().create_future()
        if not messages:
            self.done.set_result(None)

    def take(self) -> bool:
        if not self.left:
            return False
        self.left -= 1
        return True

    def one_through(self) -> None:
        self.open -= 1
        if not self.open and not self.done.done():
            self.done.set_result(None)

    def fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(why))


class Client(asyncio.Protocol):
    """A connection that has been greeted and has said EHLO when `ready` is done."""

    def __init__(self, work: Work, body: bytes) -> None:
        self.ready = asyncio.get_running_loop().create_future()
        self._work = work
        self._body = body + b".\r\n"
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._work.fail(f"the relay closed the connection: {exc}")

    def data_received(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line[3:4] == b"-":
                continue
            if line[:1] not in b"23" or not line:
                self._work.fail(f"the relay said {line!r}")
            elif self.ready.done():
                self.answered(line)
            elif self._greeted:
                self.ready.set_result(None)
            else:
                self._greeted = True
                self.write(b"EHLO bench.example.test\r\n")

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def start(self) -> None:
        """Send the first message."""

    def answered(self, line: bytes) -> None:
        """One reply has come."""


class Pipelined(Client):
    """One round trip for each mail: the answer to DATA is the last of every four."""

    def __init__(self, work: Work, body: bytes) -> None:
        super().__init__(work, body)
        self._envelope = b"".join(ENVELOPE)
        self._with_rider = self._body + self._envelope
        self._out = False  # a body is out
        self._first = True  # the next reply is the one to a body

    def start(self) -> None:
        if self._work.take():
            self.write(self._envelope)
            self._first = False

    def answered(self, line: bytes) -> None:
        if self._out and self._first:
            self._first = False
            self._work.one_through()
        elif line[:3] == b"354":
            self._out = self._first = True
            self.write(self._with_rider if self._work.take() else self._body)


class Plain(Client):
    """Four round trips for each mail."""

    def __init__(self, work: Work, body: bytes) -> None:
        super().__init__(work, body)
        self._steps = (*ENVELOPE, self._body)
        self._at = 0

    def start(self) -> None:
        if self._work.take():
            self._at = 0
            self.write(self._steps[0])

    def answered(self, line: bytes) -> None:
        self._at += 1
        if self._at < len(self._steps):
            self.write(self._steps[self._at])
        else:
            self._work.one_through()
            self.start()


def body_of(size_kb: int) -> bytes:
    """A message of about so many KiB, headers and all."""
    head = (
        b"From: <bench@example.test>\r\nTo: <reader@example.test>\r\nSubject: Benchmark\r\n"
        b"Message-ID: <1@example.test>\r\nDate: Sun, 08 Mar 2026 12:00:00 +0000\r\n\r\n"
    )
    return head + LINE * max((size_kb * 1024 - len(head)) // len(LINE), 1)


async def _send(port: int, messages: int, body: bytes, lanes: int, plain: bool, gate: Connection) -> None:
    loop = asyncio.get_running_loop()
    work = Work(messages)
    kind = Plain if plain else Pipelined
    clients = [
        (await loop.create_connection(lambda: kind(work, body), "127.0.0.1", port))[1]
        for _ in range(min(lanes, messages))
    ]
    await asyncio.gather(*(client.ready for client in clients))
    gate.send("ready")
    await asyncio.to_thread(gate.recv)
    began = time.process_time()
    for client in clients:
        client.start()
    async with asyncio.timeout(PATIENCE):
        await work.done
    gate.send((time.monotonic(), time.process_time() - began))


def _process(port: int, messages: int, body: bytes, lanes: int, plain: bool, gate: Connection) -> None:
    die_with_parent()
    uvloop.run(_send(port, messages, body, lanes, plain, gate))


def send(
    port: int, messages: int, *, size_kb: int = 20, lanes: int = 32, processes: int = 1, plain: bool = False
) -> dict[str, float]:
    """Send so many messages over `lanes` connections of each process. Raises `RuntimeError` if the relay refuses."""
    body = body_of(size_kb)
    context = multiprocessing.get_context("spawn")
    shares = [messages // processes + (number < messages % processes) for number in range(processes)]
    gates, children = [], []
    for share in shares:
        ours, theirs = context.Pipe()
        child = context.Process(target=_process, args=(port, share, body, lanes, plain, theirs), daemon=True)
        child.start()
        theirs.close()
        gates.append(ours)
        children.append(child)
    try:
        for gate in gates:
            gate.recv()
        began = time.monotonic()
        for gate in gates:
            gate.send("go")
        ends = [gate.recv() for gate in gates]
    except EOFError as error:
        raise RuntimeError("a process of the raw client ended early") from error
    finally:
        for child in children:
            child.join(5)
            child.kill()
    seconds = max(end for end, _ in ends) - began
    return {
        "messages": messages,
        "seconds": seconds,
        "per_second": messages / seconds,
        "cpu_us_per_message": sum(cpu for _, cpu in ends) / messages * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--size-kb", type=int, default=20)
    parser.add_argument("--lanes", type=int, default=32, help="of each process (32)")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="wait for the answer to each command")
    options = vars(parser.parse_args())
    die_with_parent()
    print(json.dumps(send(options.pop("port"), options.pop("messages"), **options)))


if __name__ == "__main__":
    main()
