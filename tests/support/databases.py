"""A database for every test: copied from one that is migrated once, or one that was emptied after another test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from dispatcher.embedded.postgres import Postgres
from dispatcher.embedded.process import Part

#: A cluster that no test takes the power from, and whose databases are small and gone in a minute.
HASTY = {
    "full_page_writes": "off",
    "wal_compression": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "1h",
    # It would look at each database in turn; and those of whose tables it took statistics could not be lent again.
    "autovacuum": "off",
}
TEMPLATE = "dispatcher_template"
#: Bytes of rows, dead ones too, from which making a new database is cheaper than emptying the old one.
WORTH_EMPTYING = 4_000_000

#: What differs as soon as a test has changed more than rows: the schema, rights, settings, statistics of the planner.
_SCHEMA = """
    SELECT md5(string_agg(line, ',' ORDER BY line)) FROM (
        SELECT 'c' || oid || ' ' || xmin FROM pg_class WHERE oid >= 16384 AND relnamespace = 'public'::regnamespace
        UNION ALL SELECT 'a' || attrelid || ' ' || xmin FROM pg_attribute WHERE attrelid >= 16384 AND attnum > 0
        UNION ALL SELECT 'p' || oid || ' ' || xmin FROM pg_proc WHERE oid >= 16384
        UNION ALL SELECT 't' || oid || ' ' || xmin FROM pg_trigger
        UNION ALL SELECT 'k' || oid || ' ' || xmin FROM pg_constraint WHERE oid >= 16384
        UNION ALL SELECT 'y' || oid || ' ' || xmin FROM pg_type WHERE oid >= 16384
        UNION ALL SELECT 'n' || oid || ' ' || xmin FROM pg_namespace WHERE oid >= 16384 OR nspname = 'public'
        UNION ALL SELECT 's' || xmin FROM pg_db_role_setting
            WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION ALL SELECT 'analysed ' || starelid FROM pg_statistic WHERE starelid >= 16384
    ) AS lines (line)
"""
_REVISION = "SELECT string_agg(version_num, ',') FROM alembic_version"
_SIZE = """
    SELECT coalesce(sum(pg_relation_size(oid)), 0) FROM pg_class
    WHERE oid >= 16384 AND relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
#: Whoever is still connected; waits until they are gone, so that nothing of theirs comes later.
_SHUT_OUT = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


class HastyPostgres(Postgres):
    """A server for tests of everything but what becomes of data when the power is cut."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, fsync=False)

    def part(self) -> Part:
        part = super().part()
        return replace(part, argv=[*part.argv, *(word for each in HASTY.items() for word in ("-c", "=".join(each)))])


def make_template(server: Postgres) -> str:
    """Make and migrate the database that all others are copied from. Returns its name."""
    from dispatcher.db.migrate import migrate

    _run(server, "CREATE DATABASE {}", TEMPLATE)
    migrate(server.url_of(TEMPLATE))
    return TEMPLATE


@contextmanager
def fresh_database(server: Postgres, template: str = "template0") -> Iterator[str]:
    """The URL of a new database, a copy of `template`, which is dropped afterwards whoever is still connected."""
    name = _copy(server, template)
    try:
        yield server.url_of(name)
    finally:
        _drop(server, name)


@dataclass
class Shelf:
    """Databases to lend, each as empty as the template.

    Emptying one costs a tenth of making one. One in which a test has changed more than rows is not lent again.
    """

    server: Postgres
    template: str
    _free: list[str] = field(default_factory=list)
    _as_new: dict[LiteralString, object] = field(default_factory=dict)  #: what queries say of an untouched one

    @contextmanager
    def lend(self) -> Iterator[str]:
        """The URL of a database that is as the template is, and that nobody else uses meanwhile."""
        name = self._free.pop() if self._free else _copy(self.server, self.template)
        kept = False
        try:
            if not self._as_new:
                with self._connect(name) as connection:
                    self._as_new = {query: _value(connection, query) for query in (_SCHEMA, _REVISION)}
            yield self.server.url_of(name)
            kept = self._clear(name)
        finally:
            if kept:
                self._free.append(name)
            else:
                _drop(self.server, name)

    def _clear(self, name: str) -> bool:
        """Empty a database; whether that has made it as the template is."""
        with self._connect(name) as connection:
            connection.execute(_SHUT_OUT)
            # In this order: without its schema, a database does not know its revision either.
            if any(_value(connection, query) != answer for query, answer in self._as_new.items()):
                return False
            if _value(connection, _SIZE) > WORTH_EMPTYING:
                return False
            empty(connection, keep=("alembic_version",))
            return True

    def _connect(self, name: str) -> psycopg.Connection:
        return psycopg.connect(self.server.url_of(name), autocommit=True)


def empty(connection: psycopg.Connection, *, keep: tuple[str, ...]) -> None:
    """Remove every row of every table but these, and count from one again.

    TRUNCATE would do that too, but it makes new files for each table and index, full or not: it takes 0.1 s.
    """
    tables = [sql.Identifier(name) for name in tables_of(connection, but=keep)]
    steps = [
        sql.SQL("SET LOCAL session_replication_role = replica"),  # the log of the desk is only added to
        sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.SQL(", ").join(tables)),
        *(sql.SQL("DELETE FROM {}").format(table) for table in tables),
        sql.SQL("SELECT setval(seqrelid, seqstart, false) FROM pg_sequence"),
    ]
    with connection.transaction():
        connection.execute(sql.SQL("; ").join(steps))


def tables_of(connection: psycopg.Connection, *, but: tuple[str, ...]) -> list[str]:
    """The names of all tables of ours, but for some."""
    rows = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> ALL (%s)", (list(but),)
    )
    return [name for (name,) in rows]


def _value(connection: psycopg.Connection, query: LiteralString) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def _copy(server: Postgres, template: str) -> str:
    name = f"test_{secrets.token_hex(6)}"
    # By the log: copying files would make two checkpoints first.
    _run(server, "CREATE DATABASE {} TEMPLATE {} STRATEGY wal_log", name, template)
    return name


def _drop(server: Postgres, name: str) -> None:
    _run(server, "DROP DATABASE {} WITH (FORCE)", name)


def _run(server: Postgres, statement: LiteralString, *names: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*(sql.Identifier(name) for name in names)))
