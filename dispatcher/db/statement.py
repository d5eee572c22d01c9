"""One prepared statement on a connection of its own, run again and again at a fraction of a cursor's cost.

A cursor converts, prepares, registers and unregisters with the event loop for each execution, about 250 µs; the ledger
writes some hundred times a second. Here the socket stays registered and parameters are text that is ready to send.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from typing import Self

import psycopg
from psycopg import errors, pq

from dispatcher import db

_NAME = b"statement"
#: Seconds after which a statement without an answer looks at its connection again.
LOOK_EVERY = 1.0
#: After so many looks the connection counts as lost: what lies between us and the server may be deaf and not gone.
MOST_LOOKS = 20
_GOOD = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


class Statement:
    """A named statement, prepared. One execution at a time; the connection serves nothing else."""

    def __init__(self, connection: db.Connection, name: str, parameters: Sequence[str]) -> None:
        """`parameters` are the statement's `%(name)s` in the order in which `run` will give their values."""
        numbers = {parameter: number for number, parameter in enumerate(parameters, 1)}
        text = re.sub(r"%\((\w+)\)s", lambda found: f"${numbers[found[1]]}", db.statements()[name])
        self._connection = connection
        self._pgconn = connection.raw.pgconn
        # A descriptor of our own: libpq closes its one as soon as the connection is lost, and the number may then be
        # another connection's while the loop still watches it for this one. Nobody would hear from either.
        self._fd = os.dup(self._pgconn.socket)
        self._sql = text.replace("%%", "%").encode()
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._error: Exception | None = None

    async def __aenter__(self) -> Self:
        # Registered for as long as the connection lives: a connection that ends is then noticed at once.
        self._loop.add_reader(self._fd, self._readable)
        try:
            await self._send(lambda: self._pgconn.send_prepare(_NAME, self._sql))
        except BaseException:
            self._forget()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._forget()

    def _forget(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    async def run(self, values: Sequence[bytes]) -> None:
        """Execute and wait for the commit. `values` are in Postgres's text format. Raises what a cursor would."""
        await self._send(lambda: self._pgconn.send_query_prepared(_NAME, values))

    async def _send(self, start: object) -> None:
        if self._error is not None:
            raise self._error
        self._done = self._loop.create_future()
        self._watch = self._loop.call_later(LOOK_EVERY, self._look)
        try:
            start()  # type: ignore[operator]
            while self._pgconn.flush():
                await self._writable()
            await self._done
        finally:
            self._watch.cancel()
            self._done = None

    async def _writable(self) -> None:
        """Wait until the socket takes more; what the server says meanwhile is read by the reader."""
        self._room = self._loop.create_future()
        self._loop.add_writer(self._fd, _settle, self._room, None)
        try:
            await self._room
        finally:
            self._loop.remove_writer(self._fd)

    def _look(self, times: int = 1) -> None:
        """Look unasked: libuv tells of a broken socket once, perhaps before all of it is read, and then never again."""
        self._readable()
        if self._done is None or self._done.done():
            return
        if times < MOST_LOOKS:
            self._watch = self._loop.call_later(LOOK_EVERY, self._look, times + 1)
        else:
            self._lose(psycopg.OperationalError(f"no answer for {MOST_LOOKS * LOOK_EVERY:.0f} seconds"))

    def _readable(self) -> None:
        try:
            self._pgconn.consume_input()
            failed = None
            while not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is None:
                    self._finish(failed)
                    return
                if result.status not in _GOOD:
                    failed = _error_of(result)
        except psycopg.Error as error:
            self._lose(error)

    def _lose(self, error: psycopg.Error) -> None:
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._error = error
        _settle(self._room, error)
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        _settle(self._done, error)


def _settle(future: asyncio.Future[None] | None, error: Exception | None) -> None:
    if future is None or future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _error_of(result: pq.abc.PGresult) -> psycopg.Error:
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    kind = errors.lookup(state.decode()) if state else psycopg.OperationalError
    return kind(result.error_message.decode(errors="replace").strip())
