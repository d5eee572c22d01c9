"""Which scope a request to the API needs: one rule for all routes, so that none is forgotten."""

from __future__ import annotations

import re

from dispatcher.roles import Scope

#: What changes something there steers what is going out, and so does this; everything else publishes.
STEERED = "/api/v1/blasts/"
WITHDRAWN = re.compile(r"/api/v1/stories/[^/]+/updates/[^/]+/withdraw")


def needed(method: str, path: str) -> Scope:
    """The scope that a token needs for a request."""
    if method in {"GET", "HEAD", "OPTIONS"}:
        return Scope.READ
    return Scope.STEER if path.startswith(STEERED) or WITHDRAWN.fullmatch(path) else Scope.PUBLISH
