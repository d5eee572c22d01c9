"""A fresh database for every test, copied from one that is migrated once."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from psycopg import sql

from dispatcher.embedded.postgres import Postgres

TEMPLATE = "dispatcher_template"


def make_template(server: Postgres) -> str:
    """Make and migrate the database that all others are copied from. Returns its name."""
    from dispatcher.db.migrate import migrate

    _run(server, "CREATE DATABASE {}", TEMPLATE)
    migrate(server.url_of(TEMPLATE))
    return TEMPLATE


@contextmanager
def fresh_database(server: Postgres, template: str = "template0") -> Iterator[str]:
    """The URL of a new database, a copy of `template`, which is dropped afterwards whoever is still connected."""
    name = f"test_{secrets.token_hex(6)}"
    _run(server, "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, template)
    try:
        yield server.url_of(name)
    finally:
        _run(server, "DROP DATABASE {} WITH (FORCE)", name)


def _run(server: Postgres, statement: LiteralString, *names: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*(sql.Identifier(name) for name in names)))
