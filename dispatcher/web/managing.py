"""A reader's own page: what they follow, how, when and where; their data, and its end. The link is the key.

GET never changes anything: mail scanners open every link, some of them with JavaScript on.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dispatcher import privacy, subscribing
from dispatcher.config import LANGUAGES
from dispatcher.model import ChannelName
from dispatcher.subscribing import Followed
from dispatcher.web import times
from dispatcher.web.front import front
from dispatcher.web.guards import check_same_site
from dispatcher.web.readers import PRIVATE, reader_or_none
from dispatcher.web.wishes import Wishes

#: What the page says after a button was pressed: words of ours only.
DONE = frozenset(
    {
        *("confirmed", "saved", "stopped", "stopped-all", "back", "paused", "resumed", "quiet", "loud"),
        *("language", "removed", "added"),
    }
)
#: Of these, the ones that speak of a story.
OF_A_STORY = frozenset({"confirmed", "stopped", "back"})
MAX_FIELDS = 6000
#: How each of our languages calls itself.
LANGUAGE_NAMES = {"en": "English", "uk": "Українська"}


async def manage(request: Request) -> Response:
    """`/manage/{token}`: everything that this reader has chosen; POST changes it and leads back here."""
    here = front(request)
    token = request.path_params["token"]
    _, subscriber_id = here.managing.read(token)
    reader = await reader_or_none(request, subscriber_id)
    if request.method == "POST":
        check_same_site(request, here.settings.public_url)
    if reader is None:
        return here.page(request, "gone.html", headers=PRIVATE, was_erased=False)
    found = await subscribing.followed(here.database, subscriber_id)
    if request.method == "POST":
        async with request.form(max_fields=MAX_FIELDS, max_files=0) as form:
            if form.get("do") == "export":
                return await _export(request, subscriber_id)
            done = await Wishes(here.database, subscriber_id, found, form).grant()
        return RedirectResponse(f"?{urlencode(done)}#done", 303, headers=PRIVATE)
    following = [each for each in found if each.ended_at is None]
    return here.page(
        request,
        "manage.html",
        language=reader.locale,
        headers=PRIVATE,
        reader=reader,
        following=following,
        left=[each for each in found if each.ended_at is not None],
        cadences=subscribing.CADENCES,
        channels=_channels(reader),
        zones=times.zones(reader.locale),
        today=datetime.now(times.zone_of(reader.timezone)).date(),
        languages=[(each, LANGUAGE_NAMES[each]) for each in LANGUAGES],
        screen_story="",
        screen_manage=token if any(each.story.closed_at is None for each in following) else "",
        own_path=f"/manage/{token}",
        **_done(request, found),
    )


async def erase(request: Request) -> Response:
    """`/manage/{token}/erase`: GET asks once more, POST erases the reader for good. Repeating it changes nothing."""
    here = front(request)
    token = request.path_params["token"]
    _, subscriber_id = here.managing.read(token)
    reader = await reader_or_none(request, subscriber_id)
    language = None if reader is None else reader.locale
    if request.method == "POST":
        check_same_site(request, here.settings.public_url)
        await privacy.erase(here.database, subscriber_id)
    if request.method == "POST" or reader is None:
        erased = request.method == "POST"
        return here.page(request, "gone.html", language=language, headers=PRIVATE, was_erased=erased)
    return here.page(
        request, "erase.html", language=language, headers=PRIVATE, reader=reader, own_path=f"/manage/{token}"
    )


async def _export(request: Request, subscriber_id: int) -> Response:
    """Everything that is kept about the reader, to be saved as a file."""
    kept = await privacy.export(front(request).database, subscriber_id)
    return Response(
        json.dumps(kept, indent=2, ensure_ascii=False).encode(),
        media_type="application/json",
        headers={**PRIVATE, "Content-Disposition": 'attachment; filename="my-alerts.json"'},
    )


def _channels(reader: subscribing.ReaderPage) -> list[str]:
    """Where this reader can be reached, if there is a choice."""
    by_email, by_push = reader.email is not None, bool(reader.devices)
    return [str(ChannelName.EMAIL), str(ChannelName.WEBPUSH)] if by_email and by_push else []


def _done(request: Request, found: list[Followed]) -> dict[str, Any]:
    """What the last button did, in words of ours only: the address of a page can be made up by anybody."""
    done = request.query_params.get("done", "")
    slug = request.query_params.get("story", "")
    story = next((each.story for each in found if each.story.slug == slug), None)
    if done not in DONE or (done in OF_A_STORY and story is None):
        done = ""
    return {"done": done, "done_story": story}
