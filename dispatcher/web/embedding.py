"""The form inside a publisher's own page: a frame without cookies, and the script that puts it there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from dispatcher import stories
from dispatcher.model import Story
from dispatcher.web.forms import Form
from dispatcher.web.front import Front, front
from dispatcher.web.guards import content_policy
from dispatcher.web.reading import find, open_successor

#: Other sites may fetch what is embedded (Fetch standard, Cross-Origin-Resource-Policy), and nothing else of ours.
ELSEWHERE = {"Cross-Origin-Resource-Policy": "cross-origin"}


async def frame(request: Request) -> Response:
    """`/embed/{slug}`: the form to follow a story, small enough for a column; `?asked=1` says what happens now."""
    here = front(request)
    values = await _frame_of(here, await find(request))
    was_asked = request.query_params.get("asked") == "1"
    headers = _headers(here)
    return here.public_page(
        request, "embed.html", changed=None, headers=headers, form=Form(), was_asked=was_asked, **values
    )


async def form_again(request: Request, slug: str, form: Form, status: int, **headers: str) -> Response:
    """The frame once more, with what was filled in and what is wrong with it. Raises `NotFound`."""
    here = front(request)
    values = await _frame_of(here, await find(request, slug))
    more = {**_headers(here), **headers}
    return here.page(request, "embed.html", status=status, headers=more, form=form, was_asked=False, **values)


async def script(request: Request) -> Response:
    """`/embed.js`: puts the frame beside the script that loads it."""
    content = front(request).assets.content("embed.js")
    headers = {**ELSEWHERE, "Cache-Control": "public, max-age=300"}
    return Response(content, headers=headers, media_type="text/javascript; charset=utf-8")


async def _frame_of(here: Front, story: Story) -> dict[str, Any]:
    updates = await stories.timeline(here.database, story, limit=1)
    successor, target = await open_successor(here, story)
    return {
        "story": story,
        "successor": successor,
        "target": target,
        "embedded": True,
        "last": updates[0] if updates else None,
        "origins": " ".join(here.settings.embed_origins),
        "now": datetime.now(UTC),
    }


def _headers(here: Front) -> dict[str, str]:
    policy = content_policy(" ".join(("'self'", *here.settings.embed_origins)))
    return {**ELSEWHERE, "Content-Security-Policy": policy}
