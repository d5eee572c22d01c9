"""Postgres: the pool, transactions, and every statement by name. The only package that knows psycopg.

Statements live in `queries/*.sql`; each has a name and a sentence:

    -- name: find_story
    -- One story by its slug.
    SELECT …

and is called as `await tx.one("find_story", slug=slug)`. Parameters are always bound, never pasted.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from typing import Any, LiteralString, Self

import psycopg
import structlog
from psycopg import errors as pg
from psycopg.rows import DictRow, dict_row, tuple_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from dispatcher.errors import DatabaseUnavailable

log = structlog.get_logger()

#: Seconds to wait for a free connection before the caller is told that the database does not answer.
POOL_TIMEOUT = 10.0
#: Seconds after which the pool's ever longer pauses between two tries to reconnect begin anew.
RECONNECT_WITHIN = 5.0
#: Seconds for anything that a worker does with one connection. The longest, cutting ten million readers, takes 20.
WORKERS_PATIENCE = 45.0
#: Seconds for which a pooled connection that has proved to be alive is taken to be so.
CHECK_EVERY = 1.0
#: How soon a database counts as gone: 5 s without a connection, about 25 s without a sign of life on one.
PATIENCE: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

Row = DictRow
UniqueViolation = pg.UniqueViolation
CheckViolation = pg.CheckViolation


@cache
def statements() -> dict[str, LiteralString]:
    """All named statements. Raises ValueError if a name is used twice or a statement has no sentence."""
    found: dict[str, LiteralString] = {}
    for file in sorted(resources.files(__package__).joinpath("queries").iterdir(), key=lambda entry: entry.name):
        for block in re.split(r"^-- name: ", file.read_text(), flags=re.MULTILINE)[1:]:
            name, _, rest = block.partition("\n")
            if not rest.startswith("-- ") or name.strip() in found:
                raise ValueError(f"{file.name}: statement {name!r} has no sentence, or its name is taken")
            found[name.strip()] = re.sub(r"^--.*\n", "", rest, flags=re.MULTILINE).strip()
    return found


def like(text: str) -> str:
    """A text as a part of a pattern for LIKE: it stands for itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


class Connection:
    """One open transaction, or one connection of its own outside any."""

    def __init__(self, raw: psycopg.AsyncConnection[DictRow]) -> None:
        self.raw = raw

    async def all(self, name: str, /, **values: Any) -> list[Row]:
        """Every row of a named statement, as dictionaries."""
        cursor = await self.raw.execute(statements()[name], values)
        return await cursor.fetchall()

    async def one(self, name: str, /, **values: Any) -> Row | None:
        """The first row of a named statement, or None."""
        cursor = await self.raw.execute(statements()[name], values)
        return await cursor.fetchone()

    async def value(self, name: str, /, **values: Any) -> Any:
        """The first column of the first row, or None."""
        row = await self.one(name, **values)
        return None if row is None else next(iter(row.values()))

    async def tuples(self, name: str, /, **values: Any) -> list[tuple[Any, ...]]:
        """Every row as a tuple: for the hot path, where a dictionary a row would cost more than the query."""
        async with self.raw.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(statements()[name], values, binary=True)
            return await cursor.fetchall()

    async def execute(self, name: str, /, **values: Any) -> int:
        """Run a named statement and say how many rows it touched."""
        cursor = await self.raw.execute(statements()[name], values)
        return cursor.rowcount

    async def copy_in(self, name: str, rows: Iterable[Sequence[Any]]) -> None:
        """Stream rows into a named COPY … FROM STDIN statement."""
        async with self.raw.cursor() as cursor, cursor.copy(statements()[name]) as copy:
            for row in rows:
                await copy.write_row(row)

    async def stay(self, seconds: float, heard: Callable[[str], None]) -> None:
        """Keep the connection open for a while and pass on what is notified on it, also since the last call.

        Raises `Lost` the moment the connection ends, not when it is next used.
        """
        async for news in self.raw.notifies(timeout=seconds):
            heard(news.payload)

    async def close(self) -> None:
        await self.raw.close()


class _Pooled(psycopg.AsyncConnection[DictRow]):
    """A connection that knows when it last proved to be alive, on the monotonic clock."""

    alive_at = 0.0


async def _check(raw: _Pooled) -> None:
    """Prove that a connection lives, but not again a moment later: that would double the round trips of a busy path."""
    now = time.monotonic()
    if now - raw.alive_at > CHECK_EVERY:
        await AsyncConnectionPool.check_connection(raw)
        raw.alive_at = now


class Database:
    """A pool of connections to one database."""

    def __init__(self, url: str, *, size: int = 8, warm: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """A pool of at most `size` connections.

        `warm` names statements, with values that change nothing, that every connection runs once when it is made, and
        `size` - 1 connections are kept. So nothing is planned for the first time while a reader waits.
        """
        self.url = url
        self._warm = warm or {}
        self._patience = WORKERS_PATIENCE if warm else None
        self._pool: AsyncConnectionPool[_Pooled] = AsyncConnectionPool(
            url,
            connection_class=_Pooled,
            kwargs={
                "autocommit": True,
                "row_factory": dict_row,
                "prepare_threshold": 0 if warm else 5,
                **PATIENCE,
            },
            min_size=size - 1 if warm else 1,
            max_size=size,
            timeout=POOL_TIMEOUT,
            reconnect_timeout=RECONNECT_WITHIN,
            max_idle=300,
            open=False,
            configure=self._warm_up,
            check=_check,
            name="dispatcher",
        )

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Begin to connect; a database that is away is no error yet."""
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    async def _warm_up(self, raw: psycopg.AsyncConnection[DictRow]) -> None:
        name = "notice_silence"
        try:
            await raw.execute(statements()[name])
            for name, values in self._warm.items():
                await raw.execute(statements()[name], values)
        except psycopg.Error as error:  # perhaps not migrated yet: whoever really works with it will be told
            log.warning("connection not warmed up", statement=name, reason=_first_line(error))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises `DatabaseUnavailable` if no connection can be had, or the one in use is lost.
        """
        try:
            async with asyncio.timeout(self._patience), self._pool.connection() as raw, raw.transaction():
                yield Connection(raw)
        except TimeoutError as error:
            raise DatabaseUnavailable(f"The database gave no answer within {self._patience} seconds.") from error
        except UNUSABLE as error:
            raise DatabaseUnavailable(f"The database does not answer: {_first_line(error)}.") from error

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One connection on which every statement commits by itself. Raises `DatabaseUnavailable` as above."""
        try:
            async with asyncio.timeout(self._patience), self._pool.connection() as raw:
                yield Connection(raw)
        except TimeoutError as error:
            raise DatabaseUnavailable(f"The database gave no answer within {self._patience} seconds.") from error
        except UNUSABLE as error:
            raise DatabaseUnavailable(f"The database does not answer: {_first_line(error)}.") from error

    async def dedicated(self) -> Connection:
        """A connection of one's own, outside the pool; the caller closes it. Raises `DatabaseUnavailable`."""
        try:
            raw = await psycopg.AsyncConnection.connect(
                self.url,
                autocommit=True,
                row_factory=dict_row,
                prepare_threshold=1,
                **PATIENCE,
            )
            await raw.execute(statements()["notice_silence"])
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable(f"The database does not answer: {_first_line(error)}.") from error
        return Connection(raw)


#: What a database raises that is away, or takes no writes just now.
UNUSABLE = (
    PoolTimeout,
    PoolClosed,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    pg.ReadOnlySqlTransaction,
    pg.IdleInTransactionSessionTimeout,
)
#: The same, as it is met on a connection in use.
Lost = UNUSABLE


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
