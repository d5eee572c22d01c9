"""The log of the desk: who did what to which content."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from starlette.responses import Response

from dispatcher import audit
from dispatcher.web.desk.visiting import Visit

_NUMBER = re.compile(r"[0-9]{1,18}")


async def log(visit: Visit) -> Response:
    """`/desk/log`: the newest first; `?actor=`, `?action=` and `?subject=` filter it, `?before=` turns the page."""
    asked = visit.request.query_params
    filters = {
        name: asked.get(name, "").strip()[: audit.MAX_FILTER].replace("\0", "")
        for name in ("actor", "action", "subject")
    }
    number = asked.get("before", "")
    before = int(number) if _NUMBER.fullmatch(number) else None
    page = await audit.read(
        visit.here.database,
        actor=filters["actor"],
        action=filters["action"],
        subject=filters["subject"],
        before=before,
    )
    given = {name: value for name, value in filters.items() if value}
    return visit.page(
        "log.html",
        at="log",
        entries=page.entries,
        actions=await audit.actions(visit.here.database),
        filters=filters,
        is_filtered=bool(given),
        is_first=before is None,
        newest=f"/desk/log?{urlencode(given)}",
        older="" if page.before is None else f"/desk/log?{urlencode({**given, 'before': page.before})}",
    )
