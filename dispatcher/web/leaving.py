"""Leave with one click (RFC 8058), from a mail, a notification or a page; or hear of a story less often instead.

GET never changes anything: mail scanners open every link, some of them with JavaScript on.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from dispatcher import subscribing
from dispatcher.errors import Invalid, NotFound
from dispatcher.model import Cadence, Story
from dispatcher.web.forms import URLENCODED
from dispatcher.web.front import front
from dispatcher.web.guards import check_same_site
from dispatcher.web.readers import PRIVATE, language_of

#: What the buttons of our own page ask for instead of leaving.
INSTEAD = frozenset({"major", "daily", "again"})
#: The bytes that a body of ours has at most. Of a longer one nothing is read.
LONGEST = 200


async def leave(request: Request) -> Response:
    """`/u/{token}`: GET asks, POST ends the subscription and always answers 200 without a redirect (RFC 8058 §3.1).

    Whatever a mail program puts into the body, its reader wants to leave: but for the few wishes of our own buttons.
    """
    here = front(request)
    story_id, subscriber_id = here.leaving.read(request.path_params["token"])
    story = await subscribing.story(here.database, story_id)
    wish = await _wish(request) if request.method == "POST" and story is not None else ""
    if wish and story is not None:
        check_same_site(request, here.settings.public_url)
        wish = await _grant(request, story, subscriber_id, wish)
    elif request.method == "POST":
        await subscribing.leave(here.database, story_id, subscriber_id)
    return here.page(
        request,
        "left.html" if request.method == "POST" else "leave.html",
        language=await language_of(request, subscriber_id),
        headers=PRIVATE,
        story=story,
        everything=story_id == subscribing.ALL_STORIES,
        done=wish,
    )


async def _wish(request: Request) -> str:
    """What a button of ours asks for; empty for everything else, which is to leave."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    length = request.headers.get("content-length", "")
    if kind != URLENCODED or not length.isdecimal() or int(length[:9]) > LONGEST:
        return ""
    body = (await request.body()).decode("ascii", errors="replace")
    wish = parse_qs(body).get("do", [""])[-1]
    return wish if wish in INSTEAD else ""


async def _grant(request: Request, story: Story, subscriber_id: int, wish: str) -> str:
    """Do what a button says. `already` if there is nothing any more to be done it to."""
    database = front(request).database
    try:
        if wish == "again":
            await subscribing.follow_again(database, story.id, subscriber_id)
        else:
            await subscribing.set_cadence(database, story.id, subscriber_id, Cadence(wish))
    except (NotFound, Invalid):
        return "already"
    return wish
