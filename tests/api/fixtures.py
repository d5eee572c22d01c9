"""The fixtures of everything that is tested over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dispatcher.embedded.postgres import Postgres
from dispatcher.embedded.valkey import Valkey
from tests.api.serving import Site, running, settings_for
from tests.support.databases import fresh_database


@pytest.fixture(scope="module")
def server(postgres: Postgres, template_database: str, valkey: Valkey) -> Iterator[Site]:
    """One server for a file of tests."""
    with fresh_database(postgres, template_database) as url, running(settings_for(url, valkey.url)) as found:
        yield found


@pytest.fixture
def site(server: Site) -> Site:
    """A site on an empty database."""
    server.empty()
    return Site(server.url, server.settings)


@pytest.fixture
def own_site(database_url: str, broker_url: str) -> Iterator[Site]:
    """A site on a database that the test may break."""
    with running(settings_for(database_url, broker_url)) as found:
        yield found
