"""Double opt-in: the link in the mail opens a page with a button, and only the button confirms."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dispatcher import following
from dispatcher.following import StoryEnded
from dispatcher.web.front import front
from dispatcher.web.guards import check_same_site
from dispatcher.web.readers import PRIVATE
from dispatcher.web.reading import open_successor


async def confirm(request: Request) -> Response:
    """`/confirm/{token}`: GET shows what the button confirms, POST confirms and leads to the reader's own page.

    Raises `BadConfirmLink` for a token that confirms nothing, whatever the reason.
    """
    here = front(request)
    token = request.path_params["token"]
    status = 200
    if request.method == "POST":
        check_same_site(request, here.settings.public_url)
        try:
            done = await following.confirm(here.database, here.settings.secret_key, token)
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
    )
