from __future__ import annotations

from tests.api.fixtures import own_site, server, site
from tests.browser.windows import chromium, window

__all__ = ["chromium", "own_site", "server", "site", "window"]
