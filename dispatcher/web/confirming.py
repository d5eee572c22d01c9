"""Double opt-in: the link in the mail opens a page with a button, and only the button confirms."""

from __future__ import annotations

import hashlib
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dispatcher import following
from dispatcher.following import StoryEnded
from dispatcher.web import forms
from dispatcher.web.front import Front, front
from dispatcher.web.guards import check_same_site
from dispatcher.web.readers import PRIVATE
from dispatcher.web.reading import open_successor


async def confirm(request: Request) -> Response:
    """`/confirm/{token}`: GET shows what the button confirms, POST confirms and leads to the reader's own page.

    The browser that asked joins the reader only if they say so: whose it is cannot be known here. A browser that has
    the path of that very page is the one, and ticks the box by itself (`confirm.js`).
    Raises `BadConfirmLink` for a token that confirms nothing, whatever the reason.
    """
    here = front(request)
    token = request.path_params["token"]
    status = 200
    if request.method == "POST":
        check_same_site(request, here.settings.public_url)
        try:
            with_browser = await _brings_browser(request)
            done = await following.confirm(here.database, here.settings.secret_key, token, with_browser=with_browser)
        except StoryEnded:
            status = 409  # it closed while the page was open; the page says so
        else:
            own = here.managing.make(0, done.subscriber_id)
            query = urlencode({"done": "confirmed", "story": done.story.slug})
            return RedirectResponse(f"/manage/{own}?{query}", 303, headers=PRIVATE)
    pending = await following.pending(here.database, token)
    _, target = await open_successor(here, pending.story)
    return here.page(
        request,
        "confirm.html",
        status=status,
        language=pending.locale,
        headers=PRIVATE,
        pending=pending,
        story=pending.story,
        target=target,
        asked_by=_seal(here, pending.asked_by),
    )


async def _brings_browser(request: Request) -> bool:
    """Whether the box is ticked. The button of a mail program may send no form at all."""
    return "content-type" in request.headers and bool((await forms.read(request)).get("browser"))


def _seal(here: Front, asked_by: int | None) -> str:
    """A digest of the token that the browser which asked has kept: it opens nothing, and only that browser knows it."""
    if asked_by is None:
        return ""
    return hashlib.sha256(here.managing.make(0, asked_by).encode()).hexdigest()
