"""The first page of the desk: what is sending now, and the stories with those who follow them."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from starlette.responses import Response

from dispatcher import overview
from dispatcher.web.desk.live_drawing import bar
from dispatcher.web.desk.visiting import Visit

MAX_QUERY = 100
_NUMBER = re.compile(r"[0-9]{1,5}")
STATES = ("developing", "closed", "all")


async def stories(visit: Visit) -> Response:
    """`/desk`: `?q=` searches headlines and slugs, `?state=` is developing, closed or all, `?page=` turns the page."""
    asked = visit.request.query_params
    query = query_of(visit)
    state = asked.get("state", "")
    state = state if state in STATES else ("all" if query else "developing")
    number = asked.get("page", "")
    page = max(int(number), 1) if _NUMBER.fullmatch(number) else 1
    here = visit.here
    found = await overview.stories(
        here.database, here.followers, query=query, state="" if state == "all" else state, page=page
    )
    sending = await overview.sending(here.database)
    given = {"q": query, "state": state}
    return visit.page(
        "stories.html",
        at="stories",
        stories=found.stories,
        counts=found.counts,
        sending=[(each, bar(each.sum)) for each in sending],
        query=query,
        state=state,
        newer=f"/desk?{urlencode({**given, 'page': page - 1})}" if page > 1 else "",
        older=f"/desk?{urlencode({**given, 'page': page + 1})}" if found.has_more else "",
        now=found.now,
    )


def query_of(visit: Visit) -> str:
    """What is searched for by `?q=`, without what no headline holds."""
    return visit.request.query_params.get("q", "").strip()[:MAX_QUERY].replace("\0", "")
