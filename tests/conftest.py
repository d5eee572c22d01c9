"""What every test may ask for: a real PostgreSQL and a real Valkey, started once each, and only if needed."""

from __future__ import annotations

import gc
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from dispatcher import db
from dispatcher.embedded.postgres import Postgres
from dispatcher.embedded.valkey import Valkey
from tests.support.databases import HastyPostgres, Shelf, make_template
from tests.support.directories import running, service_directory


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server. It does not wait for the disk: tests that cut its power start one of their own."""
    with service_directory() as directory, running(HastyPostgres(directory / "postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def template_database(postgres: Postgres) -> str:
    """The name of a migrated, empty database that nobody is connected to."""
    return make_template(postgres)


@pytest.fixture(scope="session")
def shelf(postgres: Postgres, template_database: str) -> Shelf:
    """Databases that tests borrow one after the other."""
    return Shelf(postgres, template_database)


@pytest.fixture
def database_url(shelf: Shelf) -> Iterator[str]:
    """The URL of a migrated, empty database of the test's own."""
    with shelf.lend() as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[db.Database]:
    """An open pool on a database of the test's own."""
    async with db.Database(database_url, size=4) as opened:
        yield opened


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """A Valkey server."""
    with service_directory() as directory, running(Valkey(directory / "valkey")) as server:
        yield server


@pytest.fixture
def broker_url(valkey: Valkey) -> str:
    """A broker that holds nothing, as Celery names it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(valkey.socket))
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(16) == b"+OK\r\n"
    return valkey.url


def pytest_collection_finish() -> None:
    """Spare the garbage collector what all tests share: it would look at each module and test again and again."""
    gc.collect()
    gc.freeze()
