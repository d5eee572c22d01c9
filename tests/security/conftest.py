"""The fixtures of tests in which somebody means us ill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dispatcher.embedded.postgres import Postgres
from dispatcher.embedded.valkey import Valkey
from tests.api.fixtures import own_site, server, site
from tests.browser.windows import chromium, window
from tests.chaos.conftest import LONG
from tests.security.house import House, a_house
from tests.support.databases import fresh_database

__all__ = ["chromium", "own_site", "server", "site", "window"]


@pytest.fixture(scope="package")
def house(postgres: Postgres, template_database: str, valkey: Valkey) -> Iterator[House]:
    """A house that all of these tests share."""
    with fresh_database(postgres, template_database) as url, a_house(url, valkey.url) as found:
        yield found


def times(long: int, short: int) -> int:
    """How often something is tried: `make chaos` is the long run."""
    return long if LONG else short
