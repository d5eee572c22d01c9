"""Chaos runs on servers that do wait for the disk, and prints its seed.

`make chaos` runs it at full size; `make test` runs the same tests small. The tests of a file share their workers where
one cannot harm the next: each has readers of its own, and counts nobody else.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dispatcher import db
from dispatcher.embedded.postgres import Postgres
from dispatcher.embedded.valkey import Valkey
from dispatcher.nudges import Bell
from tests.support.databases import fresh_database, make_template
from tests.support.directories import running, service_directory
from tests.support.fleet import Fleet, a_fleet
from tests.support.newsroom import Newsroom, newsroom
from tests.support.proxy import Proxy, proxies
from tests.support.sink import Sink
from tests.support.standing import a_standing_sink

LONG = os.environ.get("DISPATCHER_CHAOS") == "long"
SOCKET = ".s.PGSQL.5432"


@dataclass(frozen=True)
class Scale:
    """How large a chaos run is."""

    long: bool
    readers: int
    seconds: float  #: that one blast may take
    seed: int

    def times(self, long: int, short: int) -> int:
        """How often something happens."""
        return long if self.long else short


@pytest.fixture
def scale() -> Scale:
    seed = int(os.environ.get("DISPATCHER_CHAOS_SEED", random.randrange(1_000_000)))
    print(f"\nseed {seed} (DISPATCHER_CHAOS_SEED={seed} runs it again)")
    if LONG:
        readers = int(os.environ.get("DISPATCHER_CHAOS_READERS", 24_000))
        return Scale(long=True, readers=readers, seconds=400, seed=seed)
    return Scale(long=False, readers=2_000, seconds=120, seed=seed)


@dataclass
class Ground:
    """Servers, a relay, and the lines to them, on which a fleet works and a test treads."""

    postgres: Postgres
    valkey: Valkey
    relay: Sink
    directory: Path
    database_url: str
    database_line: Proxy
    broker_line: Proxy
    relay_line: Proxy

    @property
    def database_url_by_line(self) -> str:
        """The way to the database that can be cut."""
        return on_line(self.database_url, self.database_line)

    @property
    def broker_url_by_line(self) -> str:
        """The way to the broker that can be cut."""
        return f"redis://127.0.0.1:{self.broker_line.port}/0"


@contextmanager
def a_ground() -> Iterator[Ground]:
    with ExitStack() as stack:
        directory = stack.enter_context(service_directory(on_disk=True))
        postgres = stack.enter_context(running(Postgres(directory / "postgres")))
        valkey = stack.enter_context(running(Valkey(directory / "valkey")))
        relay = stack.enter_context(a_standing_sink())
        url = stack.enter_context(fresh_database(postgres, make_template(postgres)))
        database_socket = postgres._socket_directory / SOCKET
        lines = stack.enter_context(proxies(database_socket, valkey.socket, ("127.0.0.1", relay.port)))
        yield Ground(postgres, valkey, relay, directory, url, *lines)


@asynccontextmanager
async def a_room(url: str, ground: Ground) -> AsyncIterator[Newsroom]:
    async with db.Database(url, size=4) as database:
        found = newsroom(database, ground.relay.port)
        found.bell = Bell(ground.valkey.url)
        yield found


def on_line(url: str, line: Proxy, host: str = "127.0.0.1") -> str:
    """A database's URL, by way of a proxy."""
    return f"{url.partition('@')[0]}@{host}:{line.port}/{url.partition('@')[2].partition('/')[2].partition('?')[0]}"


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """Servers that the tests of one file share."""
    with a_ground() as found:
        yield found


@pytest.fixture
def own_ground() -> Iterator[Ground]:
    """Servers of the test's own, which it may leave in ruins."""
    with a_ground() as found:
        yield found


@pytest.fixture(scope="module")
def shared_fleet(ground: Ground) -> Iterator[Fleet]:
    """Two workers that the tests of one file share. A test that kills one leaves another in its place."""
    with a_fleet(ground.database_url, ground.valkey.url, ground.relay, ground.directory, gently=False) as fleet:
        yield fleet


@pytest.fixture
async def room(ground: Ground) -> AsyncIterator[Newsroom]:
    """A newsroom on the shared servers."""
    async with a_room(ground.database_url, ground) as found:
        yield found


@pytest.fixture
async def own_room(own_ground: Ground) -> AsyncIterator[Newsroom]:
    """A newsroom on the test's own servers."""
    async with a_room(own_ground.database_url, own_ground) as found:
        yield found


@pytest.fixture
async def fleet(shared_fleet: Fleet, room: Newsroom) -> Fleet:
    """The shared workers, all of them up."""
    await shared_fleet.up(room)
    return shared_fleet
