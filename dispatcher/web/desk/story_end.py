"""The end of a story: close it, with a last word to its readers or without, or merge it into another."""

from __future__ import annotations

from starlette.responses import Response

from dispatcher import drafting, merging, overview, stories
from dispatcher.drafting import Text
from dispatcher.errors import Conflict, DispatcherError, Invalid, NotFound
from dispatcher.model import Importance, Kind, Story, StoryState
from dispatcher.web.desk.story import slug_of
from dispatcher.web.desk.visiting import Visit


async def close(visit: Visit) -> Response:
    """`/desk/stories/{slug}/close`: `do=final` begins a final update, `do=close` closes it without a word."""
    database = visit.here.database
    board = await overview.board(database, visit.here.followers, slug_of(visit))
    problem: DispatcherError | None = None
    if visit.is_post:
        try:
            return await _close(visit, board.story)
        except (Invalid, Conflict, NotFound) as error:
            problem = error
    return visit.page(
        "story_close.html",
        status=200 if problem is None else problem.status,
        at="stories",
        story=board.story,
        followers=board.followers,
        is_going_out=any(each.is_open for each in board.updates),
        drafts=await _drafts(visit, board.story),
        others=await _others(visit, board.story),
        successor=visit.form.get("successor"),
        problem=problem,
    )


async def merge(visit: Visit) -> Response:
    """`/desk/stories/{slug}/merge`: `?into=SLUG` counts what would happen, POST does it."""
    database = visit.here.database
    found = await stories.find(database, slug_of(visit))
    into = (visit.form.get("into") if visit.is_post else visit.request.query_params.get("into", "")).strip()
    problem: DispatcherError | None = None
    outlook: merging.Outlook | None = None
    try:
        if visit.is_post:
            done = await merging.merge(database, found.slug, into, by=visit.person.email)
            visit.here.followers.forget(done.story.id, done.into.id)
            return visit.lead_to(f"/desk/stories/{found.slug}", done="merged")
        if into:
            outlook = await merging.outlook(database, found.slug, into)
    except (Invalid, Conflict, NotFound) as error:
        problem = error
    return visit.page(
        "story_merge.html",
        status=200 if problem is None else problem.status,
        at="stories",
        story=found,
        into=into,
        outlook=outlook,
        drafts=await _drafts(visit, found),
        others=await _others(visit, found),
        problem=problem,
    )


async def _close(visit: Visit, story: Story) -> Response:
    database = visit.here.database
    successor = visit.form.get("successor").strip() or None
    if successor is not None:
        stories.check_successor(story.slug, successor)
        try:
            await stories.find(database, successor)
        except NotFound as error:
            raise Invalid(error.message, remedy="Choose one from the list.", field="successor") from error
    do = visit.form.get("do")
    if do == "close":
        await stories.close(database, story.slug, successor=successor, by=visit.person.email)
        return visit.lead_to(f"/desk/stories/{story.slug}", done="closed")
    if do != "final":
        raise Invalid("This form does not say what to do.", remedy="Reload the page, and try again.", field="do")
    text = Text(kind=Kind.FINAL, importance=Importance.ROUTINE, headline="", summary="", body="", successor=successor)
    draft = await drafting.begin(database, story.slug, by=visit.person, text=text)
    return visit.lead_to(f"/desk/drafts/{draft.id}")


async def _drafts(visit: Visit, story: Story) -> int:
    """How many drafts of a story could not be sent any more once it is closed."""
    return len(await drafting.listing(visit.here.database, slug=story.slug))


async def _others(visit: Visit, story: Story) -> list[overview.StoryLine]:
    """Stories that go on, to choose from: those with the newest updates."""
    here = visit.here
    found = await overview.stories(here.database, here.followers, state=StoryState.DEVELOPING)
    return [each for each in found.stories if each.slug != story.slug]
