from __future__ import annotations

from tests.api.fixtures import own_site, server, site

__all__ = ["own_site", "server", "site"]
