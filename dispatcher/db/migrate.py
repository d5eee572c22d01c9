"""Migrations: plain SQL under alembic, forward and back."""

from __future__ import annotations

import time
from importlib import resources
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from dispatcher.errors import Conflict, DatabaseUnavailable

#: Any two migrators of one database wait for each other here.
MIGRATION_LOCK = 7_214_001
#: Seconds between two looks whether it is free.
LOOK_EVERY = 0.05


def migrate(url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`; `base` takes everything down. Several at once wait for each other.

    Raises `DatabaseUnavailable` if the database does not answer.
    """
    engine = create_engine(_sqlalchemy_url(url), poolclass=NullPool)
    config = _config(url)
    try:
        with engine.connect() as connection:
            # Not by waiting in the database: whoever waits there holds up an index that is made beside the work.
            while not connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK}).scalar():
                connection.commit()
                time.sleep(LOOK_EVERY)
            at = MigrationContext.configure(connection).get_current_revision()
            # Alembic commits only transactions of its own; the lock belongs to the session and stays.
            connection.commit()
            config.attributes["connection"] = connection
            backwards = revision == "base" or (
                at is not None and revision != "head" and revision in _ancestors(config, at)
            )
            (command.downgrade if backwards else command.upgrade)(config, revision)
    except OperationalError as error:
        raise DatabaseUnavailable(f"The database does not answer: {str(error.orig).splitlines()[0]}.") from error
    finally:
        engine.dispose()


def make_roles(url: str) -> None:
    """Make the roles of `roles.sql`, or bring their rights up to date. Run it after each migration, as the owner.

    Raises `DatabaseUnavailable` if the database does not answer, and `Conflict` if this user may not do that.
    """
    statements = resources.files(__package__).joinpath("roles.sql").read_text()
    try:
        with psycopg.connect(url) as connection:
            while connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (MIGRATION_LOCK,)).fetchone() == (False,):
                connection.rollback()
                time.sleep(LOOK_EVERY)
            connection.execute(statements.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise Conflict(
            f"This user may not make roles: {str(error).splitlines()[0]}.",
            remedy="Name the owner of the tables, with CREATEROLE, in DISPATCHER_DATABASE_URL for this command.",
        ) from error
    except psycopg.errors.UndefinedTable as error:
        raise Conflict("The tables are not there yet.", remedy="Run `dispatcher migrate` first.") from error
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"The database does not answer: {str(error).splitlines()[0]}.") from error


def _ancestors(config: Config, revision: str) -> set[str]:
    script = ScriptDirectory.from_config(config)
    return {each.revision for each in script.walk_revisions("base", revision)} - {revision}


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("sqlalchemy.url", _sqlalchemy_url(url).replace("%", "%%"))
    return config


def _sqlalchemy_url(url: str) -> str:
    return "postgresql+psycopg://" + url.split("://", 1)[1]
