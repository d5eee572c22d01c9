"""Chaos runs on servers that do wait for the disk, and prints its seed.

`make chaos` runs it at full size; `make test` runs the same tests small.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from dispatcher import db
from dispatcher.embedded.postgres import Postgres
from dispatcher.embedded.valkey import Valkey
from tests.support.databases import fresh_database, make_template
from tests.support.directories import running, service_directory


@dataclass(frozen=True)
class Scale:
    """How large a chaos run is."""

    readers: int
    kills: int
    flushes: int
    seconds: float
    seed: int


@pytest.fixture
def scale() -> Scale:
    seed = int(os.environ.get("DISPATCHER_CHAOS_SEED", random.randrange(1_000_000)))
    print(f"\nseed {seed} (DISPATCHER_CHAOS_SEED={seed} runs it again)")
    if os.environ.get("DISPATCHER_CHAOS") == "long":
        return Scale(readers=20_000, kills=10, flushes=3, seconds=400, seed=seed)
    return Scale(readers=3_000, kills=2, flushes=2, seconds=90, seed=seed)


@pytest.fixture(scope="module")
def disk_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server that waits for the disk."""
    with service_directory() as directory, running(Postgres(directory / "postgres")) as server:
        yield server


@pytest.fixture(scope="module")
def disk_template(disk_postgres: Postgres) -> str:
    return make_template(disk_postgres)


@pytest.fixture
def disk_database_url(disk_postgres: Postgres, disk_template: str) -> Iterator[str]:
    with fresh_database(disk_postgres, disk_template) as url:
        yield url


@pytest.fixture
async def disk_database(disk_database_url: str) -> AsyncIterator[db.Database]:
    async with db.Database(disk_database_url, size=4) as opened:
        yield opened


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A Valkey server of the test's own, which may be emptied and killed."""
    with service_directory() as directory, running(Valkey(directory / "valkey")) as server:
        yield server
