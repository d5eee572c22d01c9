"""How the installation is, for everybody at the desk."""

from __future__ import annotations

from starlette.responses import Response

from dispatcher import checkup
from dispatcher.web.desk.visiting import Visit

#: What the colours say: the state of a part, in a word.
WORDS = {
    checkup.Health.OK: ("go", "Well"),
    checkup.Health.WARN: ("wait", "Look"),
    checkup.Health.FAIL: ("stop", "Broken"),
}


async def health(visit: Visit) -> Response:
    """`/desk/health`: the parts, what waits, and the last incidents, in words."""
    found = await checkup.condition(visit.here.settings, visit.here.database)
    return visit.page("health.html", at="health", found=found, words=WORDS)
