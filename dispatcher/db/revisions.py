"""Which schema a database has, and which one this program was written for: without alembic, which loads for long."""

from __future__ import annotations

from functools import cache
from importlib import resources

import psycopg

from dispatcher.db import PATIENCE
from dispatcher.errors import DatabaseUnavailable


def revisions(url: str) -> tuple[str | None, str]:
    """The revision that the database is at, and the newest one that this program knows.

    Raises `DatabaseUnavailable` if the database does not answer.
    """
    try:
        with psycopg.connect(url, **PATIENCE) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"The database does not answer: {str(error).splitlines()[0]}.") from error
    return (None if row is None else str(row[0])), newest()


@cache
def newest() -> str:
    """The newest revision that this program knows. Their files are named by their numbers."""
    files = resources.files(__package__).joinpath("migrations", "versions").iterdir()
    return max(file.name.partition("_")[0] for file in files if file.name[0].isdigit())
