"""One story for the desk: its facts, its drafts and its updates with what became of them; made and changed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TypedDict

from starlette.responses import JSONResponse, Response

from dispatcher import drafting, merging, overview, stories
from dispatcher.errors import Conflict, DispatcherError, Invalid, NotFound
from dispatcher.model import DraftState, InDoubt, Story
from dispatcher.web.desk.drafts import NOT_SENT, STATES
from dispatcher.web.desk.visiting import Visit, done_word
from dispatcher.web.readers import PRIVATE

DONE = {
    "created": "The story is there. Readers can follow it from now on.",
    "changed": "It is changed. Mails that are on their way keep the words they had.",
    "closed": "The story is closed. Readers were told nothing; what is on its way still goes out.",
    "merged": "The two stories are one now.",
}
#: Drafts that the page of a story shows.
MOST_DRAFTS = 20
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class _Fields(TypedDict):
    headline: str
    summary: str
    in_doubt: InDoubt | None


async def story(visit: Visit) -> Response:
    """`/desk/stories/{slug}`: `?before=N` for the updates before number N."""
    here = visit.here
    number = visit.request.query_params.get("before", "")
    board = await overview.board(
        here.database, here.followers, slug_of(visit), before=int(number) if _NUMBER.fullmatch(number) else None
    )
    writings = await drafting.listing(here.database, slug=board.story.slug) if board.is_first else []
    open_drafts = [each for each in writings if each.state not in {DraftState.PUBLISHED, DraftState.REJECTED}]
    is_moving = board.story.closed_at is not None and board.successor is not None
    return visit.page(
        "story.html",
        at="stories",
        board=board,
        story=board.story,
        drafts=open_drafts[:MOST_DRAFTS],
        draft_states=STATES,
        not_sent=NOT_SENT,
        moving=await merging.left(here.database, board.story) if is_moving else 0,
        default_in_doubt=here.settings.in_doubt,
        done=done_word(visit, DONE),
        now=datetime.now(UTC),
    )


async def new(visit: Visit) -> Response:
    """`/desk/stories/new`: without a slug, one is made of the headline."""
    problem: DispatcherError | None = None
    if visit.is_post:
        try:
            made = await _create(visit)
            return visit.lead_to(f"/desk/stories/{made.slug}", done="created")
        except (Invalid, Conflict) as error:
            problem = await _with_free_slug(visit, error)
    return _form(visit, "story_new.html", None, problem)


async def slug(visit: Visit) -> Response:
    """`/desk/slug?headline=…`: a slug that is free, as JSON."""
    headline = visit.request.query_params.get("headline", "").replace("\0", "")
    found = await stories.free_slug(visit.here.database, headline) if headline.strip() else ""
    return JSONResponse({"slug": found}, headers=PRIVATE)


async def edit(visit: Visit) -> Response:
    """`/desk/stories/{slug}/edit`: everything but the slug, for links in mails must live."""
    found = await stories.find(visit.here.database, slug_of(visit))
    problem: DispatcherError | None = None
    if visit.is_post:
        try:
            await stories.change(visit.here.database, found.slug, by=visit.person.email, **_fields(visit))
            return visit.lead_to(f"/desk/stories/{found.slug}", done="changed")
        except Invalid as error:
            problem = error
    return _form(visit, "story_edit.html", found, problem)


async def follow_up(visit: Visit) -> Response:
    """`POST /desk/stories/{slug}/follow-up`: begin a draft that follows on the last update, and go there."""
    database = visit.here.database
    found = await stories.find(database, slug_of(visit))
    last = await stories.timeline(database, found, limit=1)
    if not last:
        raise NotFound("This story has no update to follow on.", remedy="Write its first update.", field="story")
    draft = await drafting.begin(database, found.slug, by=visit.person, text=drafting.prefilled(found, last[0]))
    return visit.lead_to(f"/desk/drafts/{draft.id}")


def slug_of(visit: Visit) -> str:
    """The slug in the address."""
    found: str = visit.request.path_params["slug"]
    return found


def in_doubt_of(raw: str) -> InDoubt | None:
    """What becomes of messages without an answer; None: as the installation does. Raises `Invalid`."""
    try:
        return InDoubt(raw) if raw else None
    except ValueError as error:
        raise Invalid("There is no such choice.", remedy="Choose one from the list.", field="in_doubt") from error


async def _create(visit: Visit) -> Story:
    fields = _fields(visit)
    wanted = visit.form.get("slug").strip()
    slug = wanted or await stories.free_slug(visit.here.database, fields["headline"])
    return await stories.create(visit.here.database, slug, by=visit.person.email, **fields)


def _fields(visit: Visit) -> _Fields:
    form = visit.form
    return {
        "headline": form.line("headline"),
        "summary": form.line("summary"),
        "in_doubt": in_doubt_of(form.get("in_doubt")),
    }


async def _with_free_slug(visit: Visit, error: DispatcherError) -> DispatcherError:
    """The error, with a slug that is free where the wanted one is taken."""
    if isinstance(error, Conflict):
        free = await stories.free_slug(visit.here.database, visit.form.get("slug"))
        return Conflict(error.message, remedy=f"`{free}` is free, or choose another.", field="slug")
    return error


def _form(visit: Visit, template: str, found: Story | None, problem: DispatcherError | None) -> Response:
    sent = visit.form
    values = {"headline": "", "summary": "", "in_doubt": "", "slug": ""}
    if visit.is_post:
        values = {name: sent.line(name) for name in values}
    elif found is not None:
        values.update(headline=found.headline, summary=found.summary, in_doubt=found.in_doubt or "")
    return visit.page(
        template,
        status=200 if problem is None else problem.status,
        at="stories",
        story=found,
        values=values,
        problem=problem,
        done="",
        most_headline=stories.MAX_HEADLINE,
        most_summary=stories.MAX_SUMMARY,
        most_slug=stories.MAX_SLUG,
        default_in_doubt=visit.here.settings.in_doubt,
    )
