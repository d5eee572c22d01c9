"""What readers read: the list of stories, a story with its timeline, and whether it has news."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from dispatcher import stories
from dispatcher.errors import NotFound
from dispatcher.markdown import to_html
from dispatcher.model import Kind, Story, StoryState, Update
from dispatcher.web.forms import Form
from dispatcher.web.front import Front, front, public

#: Updates on one page, and the bytes of their texts after which a page ends sooner.
PER_PAGE = 40
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
    begins_day: bool  #: whether the update above it is of another day, or there is none


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
    story = await find(request)
    values = await _page_of(here, story, _number(request.query_params.get("before")))
    return here.public_page(request, "story.html", form=Form(), **values)


async def story_again(request: Request, slug: str, form: Form, status: int, **headers: str) -> Response:
    """The page of a story once more, with what was filled in and what is wrong with it. Raises `NotFound`."""
    here = front(request)
    values = await _page_of(here, await find(request, slug), None)
    del values["changed"]
    return here.page(request, "story.html", status=status, headers=headers, form=form, **values)


async def fresh(request: Request) -> Response:
    """`/s/{slug}/fresh?after=N`: in words, how many updates came after number N; empty if none did."""
    here = front(request)
    story = await find(request)
    updates = await stories.timeline(here.database, story, limit=1)
    after = request.query_params.get("after", "")
    seen = int(after) if re.fullmatch(r"[0-9]{1,9}", after) else 0
    count = max((updates[0].seq if updates else 0) - seen, 0)
    language = here.language(request)
    words = here.html("fresh.html", language, count=count).strip() if count else ""
    headers = {"Content-Language": language}
    return public(request, words.encode(), "text/plain; charset=utf-8", changed=None, headers=headers)


async def robots(_: Request) -> Response:
    """`/robots.txt`: search engines may have the stories, and nothing that is meant for one reader."""
    private = ("/u/", "/manage/", "/confirm/", "/lost", "/push/", "/embed/", "/inbox", "/api/")
    lines = ("User-agent: *", *(f"Disallow: {path}" for path in private), "")
    return PlainTextResponse("\n".join(lines), headers={"Cache-Control": "public, max-age=86400"})


async def find(request: Request, slug: str | None = None) -> Story:
    """The story that the path names, or another one. Raises `NotFound` with words for readers."""
    try:
        return await stories.find(front(request).database, slug or request.path_params["slug"])
    except NotFound as error:
        raise NotFound(
            "There is no such story here.", remedy="Look for it among all stories.", field="story"
        ) from error


async def open_successor(here: Front, story: Story) -> tuple[Story | None, Story | None]:
    """The story that goes on where this one ended, and the one that can be followed: itself, that one, or none."""
    successor = await stories.find(here.database, story.successor) if story.successor else None
    candidates = [each for each in (story, successor) if each is not None and each.closed_at is None]
    return successor, candidates[0] if candidates else None


async def _page_of(here: Front, story: Story, before: int | None) -> dict[str, Any]:
    updates = await stories.timeline(here.database, story, before=before, limit=PER_PAGE + 1)
    newest = updates
    if before is not None:
        newest = await stories.timeline(here.database, story, limit=CORRECTIONS_WITHIN)
    shown = _page(updates, corrections(newest))
    more = len(shown) < len(updates)
    successor, target = await open_successor(here, story)
    return {
        "changed": _changed(story, newest),
        "story": story,
        "successor": successor,
        "target": target if before is None else None,
        "screen_story": target.slug if target else "",
        "screen_manage": "",
        "embedded": False,
        "last": newest[0] if newest else None,
        "shown": shown,
        "first_page": before is None,
        "earlier": shown[-1].update.seq if more else None,
        "now": datetime.now(UTC),
    }


def corrections(updates: Sequence[Update]) -> dict[int, Update]:
    """What corrects each of these updates, newest first, that is corrected: the last word on it, not withdrawn."""
    found: dict[int, Update] = {}
    for each in updates:
        if each.kind is Kind.CORRECTION and each.corrects_seq is not None and each.withdrawn_at is None:
            found.setdefault(each.corrects_seq, found.get(each.seq, each))
    return found


def _page(updates: Sequence[Update], corrected: Mapping[int, Update]) -> list[Shown]:
    shown: list[Shown] = []
    size = 0
    for update in updates[:PER_PAGE]:
        body = body_of(update)
        size += len(body)
        if shown and size > PAGE_BYTES:
            break
        above = shown[-1].update.published_at.astimezone(UTC).date() if shown else None
        begins_day = update.published_at.astimezone(UTC).date() != above
        shown.append(Shown(update, body, corrected.get(update.seq), begins_day))
    return shown


def body_of(update: Update) -> Markup:
    """An update's text as clean HTML; nothing of one that was withdrawn, or whose headline says it all."""
    if update.withdrawn_at is not None or update.kind is Kind.WITHDRAWAL:
        return Markup("")
    markdown = update.body
    return _remembered_body(markdown) if len(markdown) <= 8000 else body_html(markdown)


def body_html(markdown: str) -> Markup:
    """A text as clean HTML for our pages."""
    # Our policy forbids `style`. In cleaned HTML `<td` is always a tag: text and attributes have `<` or `"` escaped.
    return Markup(_ALIGNED.sub(r'\1 align="\2"', str(to_html(markdown))))  # noqa: S704


_remembered_body = lru_cache(maxsize=1024)(body_html)


def _changed(story: Story, updates: Sequence[Update]) -> datetime:
    return max([story.created_at, *filter(None, [story.closed_at]), *(update.published_at for update in updates[:1])])


def _number(text: str | None) -> int | None:
    """A page's number from its URL; anything else asks for the first page."""
    return int(text) if text and re.fullmatch(r"[1-9][0-9]{0,8}", text) else None
