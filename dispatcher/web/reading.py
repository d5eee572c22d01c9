"""What readers read: the list of stories, and a story with its timeline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from dispatcher import stories
from dispatcher.errors import NotFound
from dispatcher.markdown import to_html
from dispatcher.model import Story, StoryState, Update
from dispatcher.web.front import front

#: Updates on one page, and the bytes of their texts after which a page ends sooner.
PER_PAGE = 50
PAGE_BYTES = 200_000
#: Corrections may stand on a later page than what they correct; this far back they are looked for.
CORRECTIONS_WITHIN = 1000

_ALIGNED = re.compile(r'(<t[dh]\b[^<>]*?) style="text-align:\s*(left|center|right);?"')


@dataclass(frozen=True, slots=True)
class Shown:
    """An update as the page shows it."""

    update: Update
    body: Markup
    correction: Update | None  #: the newest correction of this update


async def all_stories(request: Request) -> Response:
    """`/`: every story, developing ones first."""
    here = front(request)
    found = await stories.listing(here.database)
    return here.public_page(
        request,
        "stories.html",
        changed=None,
        developing=[story for story in found if story.state is StoryState.DEVELOPING],
        closed=[story for story in found if story.state is StoryState.CLOSED],
    )


async def one_story(request: Request) -> Response:
    """`/s/{slug}`: a story and its updates, newest first; `?before=N` for those before number N."""
    here = front(request)
    story = await _find(request)
    before = _number(request.query_params.get("before"))
    updates = await stories.timeline(here.database, story, before=before, limit=PER_PAGE + 1)
    newest, corrections = updates, updates
    if before is not None:
        newest = corrections = await stories.timeline(here.database, story, limit=CORRECTIONS_WITHIN)
    shown = _page(updates, corrections)
    more = len(shown) < len(updates)
    successor = await stories.find(here.database, story.successor) if story.successor else None
    return here.public_page(
        request,
        "story.html",
        changed=_changed(story, newest),
        story=story,
        successor=successor,
        last=newest[0] if newest else None,
        shown=shown,
        first_page=before is None,
        earlier=shown[-1].update.seq if more else None,
        now=datetime.now(UTC),
    )


async def robots(_: Request) -> Response:
    """`/robots.txt`: search engines may have the stories, and nothing that is meant for one reader."""
    lines = ("User-agent: *", "Disallow: /u/", "Disallow: /manage/", "Disallow: /inbox", "Disallow: /api/", "")
    return PlainTextResponse("\n".join(lines), headers={"Cache-Control": "public, max-age=86400"})


async def _find(request: Request) -> Story:
    try:
        return await stories.find(front(request).database, request.path_params["slug"])
    except NotFound as error:
        raise NotFound("There is no such story here.", remedy="Look for it among all stories.") from error


def _page(updates: Sequence[Update], corrections: Sequence[Update]) -> list[Shown]:
    corrected: dict[int, Update] = {}
    for each in corrections:
        if each.corrects_seq is not None:
            corrected.setdefault(each.corrects_seq, each)  # the newest comes first
    shown: list[Shown] = []
    size = 0
    for update in updates[:PER_PAGE]:
        body = _body(update.body)
        size += len(body)
        if shown and size > PAGE_BYTES:
            break
        shown.append(Shown(update, body, corrected.get(update.seq)))
    return shown


def _body(markdown: str) -> Markup:
    return _remembered_body(markdown) if len(markdown) <= 8000 else _fresh_body(markdown)


def _fresh_body(markdown: str) -> Markup:
    # Our policy forbids `style`. In cleaned HTML `<td` is always a tag: text and attributes have `<` or `"` escaped.
    return Markup(_ALIGNED.sub(r'\1 align="\2"', str(to_html(markdown))))  # noqa: S704


_remembered_body = lru_cache(maxsize=1024)(_fresh_body)


def _changed(story: Story, updates: Sequence[Update]) -> datetime:
    return max([story.created_at, *filter(None, [story.closed_at]), *(update.published_at for update in updates[:1])])


def _number(text: str | None) -> int | None:
    """A page's number from its URL; anything else asks for the first page."""
    return int(text) if text and re.fullmatch(r"[1-9][0-9]{0,8}", text) else None
