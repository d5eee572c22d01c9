"""A reader's own pages: leave with one click (RFC 8058), and manage what they follow. The link is the key.

GET never changes anything: mail scanners open every link, some of them with JavaScript on.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dispatcher import subscribing
from dispatcher.errors import Invalid
from dispatcher.model import Cadence
from dispatcher.subscribing import Followed
from dispatcher.web.front import front
from dispatcher.web.guards import check_same_site

#: What the manage page says after a button was pressed.
DONE = frozenset({"saved", "stopped", "stopped-all", "back"})
#: Nobody lists a reader's own page.
PRIVATE = {"X-Robots-Tag": "noindex, nofollow"}
MAX_FIELDS = 2000


async def leave(request: Request) -> Response:
    """`/u/{token}`: GET asks, POST ends the subscription and always answers 200 without a redirect (RFC 8058 §3.1).

    The body is not read: whatever a mail program puts there, its reader wants to leave.
    """
    here = front(request)
    story_id, subscriber_id = here.leaving.read(request.path_params["token"])
    if request.method == "POST":
        await subscribing.leave(here.database, story_id, subscriber_id)
    story = await subscribing.story(here.database, story_id)
    template = "left.html" if request.method == "POST" else "leave.html"
    return here.page(template, headers=PRIVATE, story=story, everything=story_id == subscribing.ALL_STORIES)


async def manage(request: Request) -> Response:
    """`/manage/{token}`: what this reader follows; POST changes it and leads back here."""
    here = front(request)
    _, subscriber_id = here.managing.read(request.path_params["token"])
    if request.method == "POST":
        check_same_site(request, here.settings.public_url)
        async with request.form(max_fields=MAX_FIELDS, max_files=0) as form:
            done = await _change(request, subscriber_id, form)
        return RedirectResponse("?" + urlencode(done), 303, headers=PRIVATE)
    found = await subscribing.followed(here.database, subscriber_id)
    return here.page(
        "manage.html",
        headers=PRIVATE,
        following=[each for each in found if each.ended_at is None],
        left=[each for each in found if each.ended_at is not None],
        cadences=subscribing.CADENCES,
        **_done(request, found),
    )


async def _change(request: Request, subscriber_id: int, form: FormData) -> dict[str, str]:
    """Do what the pressed button says. Returns what to tell the reader about it."""
    here = front(request)
    found = {each.story.slug: each for each in await subscribing.followed(here.database, subscriber_id)}
    action, _, slug = str(form.get("do", "")).partition(":")
    if action == "stop-all":
        await subscribing.leave(here.database, subscribing.ALL_STORIES, subscriber_id)
        return {"done": "stopped-all"}
    if action == "save":
        await _save_cadences(request, subscriber_id, form, found)
        return {"done": "saved"}
    if action in ("stop", "again") and slug in found:
        change = subscribing.leave if action == "stop" else subscribing.follow_again
        await change(here.database, found[slug].story.id, subscriber_id)
        return {"done": "stopped" if action == "stop" else "back", "story": slug}
    raise Invalid("This form does not say what to do.", remedy="Go back, reload the page, and try again.", field="do")


async def _save_cadences(request: Request, subscriber_id: int, form: FormData, found: dict[str, Followed]) -> None:
    for slug, each in found.items():
        chosen = form.get(f"cadence:{slug}")
        if each.ended_at is not None or chosen is None or chosen == each.cadence:
            continue
        try:
            cadence = Cadence(str(chosen))
        except ValueError as error:
            raise Invalid("There is no such choice.", remedy="Go back and choose one from the list.") from error
        await subscribing.set_cadence(front(request).database, each.story.id, subscriber_id, cadence)


def _done(request: Request, found: list[Followed]) -> dict[str, Any]:
    """What the last button did, in words of ours only: the address of a page can be made up by anybody."""
    done = request.query_params.get("done", "")
    slug = request.query_params.get("story", "")
    story = next((each.story for each in found if each.story.slug == slug), None)
    if done not in DONE or (done in ("stopped", "back") and story is None):
        done = ""
    return {"done": done, "done_story": story}
