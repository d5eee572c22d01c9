"""The routes of `/api/v1`: stories, updates, blasts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.requests import Request
from starlette.responses import Response

from dispatcher import access, db, drafting, publishing, reporting, steering, stories, withdrawing
from dispatcher.api import openapi, scopes
from dispatcher.api.draft_schemas import DraftOut, NewDraft
from dispatcher.api.problems import UnsupportedMediaType
from dispatcher.api.schemas import (
    BlastList,
    BlastOut,
    ListedStory,
    NewStory,
    NewUpdate,
    PublishedOut,
    RetriedOut,
    RetryOrder,
    StoryChange,
    StoryList,
    StoryOut,
    StoryWithUpdates,
    UpdateOut,
    Withdrawal,
)
from dispatcher.config import Settings
from dispatcher.nudges import Bell

PREFIX = "/api/v1"
#: Larger numbers than any blast will have.
MAX_ID = 2**53


class JsonRoute(APIRoute):
    """A route that refuses a body which does not say that it is JSON, before anything is read of it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def checked(request: Request) -> Response:
            if self.body_field is not None:
                media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if media_type != "application/json":
                    raise UnsupportedMediaType(field="Content-Type")
            return await handler(request)

        return checked


def _database(request: Request) -> db.Database:
    found: db.Database = request.app.state.database
    return found


def _bell(request: Request) -> Bell:
    found: Bell = request.app.state.bell
    return found


def _public_url(request: Request) -> str:
    settings: Settings = request.app.state.settings
    return settings.public_url


Database = Annotated[db.Database, Depends(_database)]
Ringer = Annotated[Bell, Depends(_bell)]
PublicUrl = Annotated[str, Depends(_public_url)]
TOKEN = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="Made with `dispatcher token create NAME`; what is published carries that name. Its scopes say what it "
    "is good for: `read` (GET), `publish` (stories and updates), `steer` (pause, resume, cancel and retry).",
)


async def _caller(request: Request, database: Database, _: Annotated[object, Security(TOKEN)]) -> str:
    needs = scopes.needed(request.method, request.scope["path"])
    return await access.caller(database, request.headers.get("authorization"), needs=needs)


Caller = Annotated[str, Depends(_caller)]
Slug = Annotated[str, Path(description="The story's slug.", examples=["tarrow-flood"])]
Seq = Annotated[int, Path(ge=1, le=2**31 - 1, description="The update's number in its story.", examples=[8])]

BlastId = Annotated[int, Path(ge=1, le=MAX_ID, description="The blast's number.", examples=[48])]

router = APIRouter(prefix=PREFIX, route_class=JsonRoute, dependencies=[Depends(_caller)])


@router.post(
    "/stories",
    status_code=201,
    response_model=StoryOut,
    tags=["Stories"],
    summary="Create a story",
    responses=openapi.answers(201, openapi.STORY, 401, 409, 413, 415, 422, 503),
)
async def create_story(
    body: NewStory, response: Response, database: Database, public_url: PublicUrl, by: Caller
) -> Any:
    """A developing story, which readers can follow from now on."""
    story = await stories.create(
        database, body.slug, headline=body.headline, summary=body.summary, in_doubt=body.in_doubt, by=by
    )
    response.headers["Location"] = f"{public_url}{PREFIX}/stories/{story.slug}"
    return StoryOut.values(story, public_url)


@router.get(
    "/stories",
    response_model=StoryList,
    tags=["Stories"],
    summary="List all stories",
    responses=openapi.answers(200, {"stories": [{**openapi.STORY, "followers": 1204}]}, 401, 503),
)
async def list_stories(database: Database, public_url: PublicUrl) -> Any:
    """Every story with its number of followers, the developing ones first, the newest first."""
    found = await stories.listing(database)
    return StoryList(
        stories=[ListedStory(**StoryOut.values(each, public_url), followers=each.followers or 0) for each in found]
    )


@router.get(
    "/stories/{slug}",
    response_model=StoryWithUpdates,
    tags=["Stories"],
    summary="Show a story",
    responses=openapi.answers(200, {**openapi.STORY, "updates": [openapi.UPDATE]}, 401, 404, 422, 503),
)
async def show_story(slug: Slug, database: Database, public_url: PublicUrl) -> Any:
    """One story with its newest updates."""
    story = await stories.find(database, slug)
    updates = await stories.timeline(database, story)
    return StoryWithUpdates(
        **StoryOut.values(story, public_url), updates=[UpdateOut.of(each, slug, public_url) for each in updates]
    )


@router.patch(
    "/stories/{slug}",
    response_model=StoryOut,
    tags=["Stories"],
    summary="Change a story",
    responses=openapi.answers(200, {**openapi.STORY, "in_doubt": "hold"}, 401, 404, 413, 415, 422, 503),
)
async def change_story(slug: Slug, body: StoryChange, database: Database, public_url: PublicUrl, by: Caller) -> Any:
    """Says what becomes of messages that no relay answered, for this story alone."""
    return StoryOut.values(await stories.set_in_doubt(database, slug, body.in_doubt, by=by), public_url)


@router.post(
    "/stories/{slug}/updates",
    status_code=201,
    response_model=PublishedOut,
    tags=["Updates"],
    summary="Publish an update",
    responses=openapi.answers(201, openapi.PUBLISHED, 401, 404, 409, 413, 415, 422, 503, replayed="PublishedOut"),
)
async def publish_update(
    slug: Slug,
    body: NewUpdate,
    response: Response,
    database: Database,
    bell: Ringer,
    public_url: PublicUrl,
    by: Caller,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Send the same key with the same content as often as you like: the update goes out once, and "
            "every answer is the first one. The same key with other content is refused (409).",
            examples=["cms-48213-v7"],
        ),
    ] = None,
) -> Any:
    """Writes the update, and a blast to everyone who follows the story. The answer comes when both are safely
    written; mails leave a moment later. Watch them at the blast's `url`."""
    published = await publishing.publish(database, bell, slug, body.draft(), by=by, key=key)
    answer = PublishedOut.of(published, public_url)
    response.headers["Location"] = answer.update.url
    if published.replayed:
        response.status_code = 200
        response.headers["Idempotent-Replay"] = "true"
    return answer


@router.post(
    "/stories/{slug}/updates/{seq}/withdraw",
    response_model=PublishedOut,
    tags=["Updates"],
    summary="Withdraw an update",
    responses=openapi.answers(200, openapi.WITHDRAWN, 401, 404, 409, 413, 415, 422, 503),
)
async def withdraw_update(
    slug: Slug,
    seq: Seq,
    body: Withdrawal,
    database: Database,
    bell: Ringer,
    public_url: PublicUrl,
    by: Caller,
) -> Any:
    """Takes an update back: what has not gone out never does, its text is shown no longer, and pushes of it that are on
    screens are replaced by the reason. Nobody is mailed; publish a correction if its readers need the right text."""
    withdrawn = await withdrawing.withdraw(database, bell, slug, seq, by=by, reason=body.reason)
    return PublishedOut.of(withdrawn, public_url)


@router.post(
    "/stories/{slug}/drafts",
    status_code=201,
    response_model=DraftOut,
    tags=["Updates"],
    summary="Hand in a draft",
    responses=openapi.answers(201, openapi.DRAFT, 401, 404, 409, 413, 415, 422, 503, replayed="DraftOut"),
)
async def hand_in_draft(
    slug: Slug,
    body: NewDraft,
    response: Response,
    database: Database,
    public_url: PublicUrl,
    by: Caller,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Send the same key with the same content as often as you like: there is one draft.",
            examples=["cms-48213-v7"],
        ),
    ] = None,
) -> Any:
    """Leaves an update at the desk, where somebody looks at it and sends it. What has to be approved by a second person
    cannot be published here and is handed in so; whoever made the token is its author, and cannot approve it."""
    writing, why, was_there = await drafting.hand_in(database, slug, body.text(), by=by, key=key)
    answer = DraftOut.of(writing, why, public_url)
    response.headers["Location"] = answer.url
    if was_there:
        response.status_code = 200
        response.headers["Idempotent-Replay"] = "true"
    return answer


@router.get(
    "/blasts",
    response_model=BlastList,
    tags=["Blasts"],
    summary="List blasts",
    responses=openapi.answers(200, {"blasts": [openapi.LISTED_BLAST]}, 401, 422, 503),
)
async def list_blasts(
    database: Database, limit: Annotated[int, Query(ge=1, le=1000, description="So many at most.")] = 20
) -> Any:
    """The open blasts, then the others, the newest first."""
    return {"blasts": [each.as_json() for each in await reporting.blasts(database, limit=limit)]}


@router.get(
    "/blasts/{blast_id}",
    response_model=BlastOut,
    tags=["Blasts"],
    summary="Show what became of a blast",
    responses=openapi.answers(200, openapi.BLAST, 401, 404, 422, 503),
)
async def show_blast(blast_id: BlastId, database: Database) -> Any:
    """A blast in numbers, all from one moment, so that they add up."""
    return (await reporting.blast(database, blast_id)).as_json()


@router.post(
    "/blasts/{blast_id}/pause",
    response_model=BlastOut,
    tags=["Blasts"],
    summary="Pause a blast",
    responses=openapi.answers(200, openapi.PAUSED, 401, 404, 409, 422, 503),
)
async def pause_blast(blast_id: BlastId, database: Database, by: Caller) -> Any:
    """Nothing more of it goes out until it is resumed; messages whose last byte has left cannot be stopped. Pausing a
    paused blast changes nothing."""
    await steering.pause(database, blast_id, by=by)
    return (await reporting.blast(database, blast_id)).as_json()


@router.post(
    "/blasts/{blast_id}/resume",
    response_model=BlastOut,
    tags=["Blasts"],
    summary="Resume a blast",
    responses=openapi.answers(200, openapi.RESUMED, 401, 404, 409, 422, 503),
)
async def resume_blast(blast_id: BlastId, database: Database, bell: Ringer, by: Caller) -> Any:
    """A paused blast goes on where it stopped. Resuming one that is not paused changes nothing."""
    await steering.resume(database, bell, blast_id, by=by)
    return (await reporting.blast(database, blast_id)).as_json()


@router.post(
    "/blasts/{blast_id}/cancel",
    response_model=BlastOut,
    tags=["Blasts"],
    summary="Cancel a blast",
    responses=openapi.answers(200, openapi.CANCELLED, 401, 404, 409, 422, 503),
)
async def cancel_blast(blast_id: BlastId, database: Database, by: Caller) -> Any:
    """Ends it for good, without asking again: who was not written to yet never will be and stays `waiting`, who was
    `deferred` becomes `failed`. What a relay took cannot be called back."""
    await steering.cancel(database, blast_id, by=by)
    return (await reporting.blast(database, blast_id)).as_json()


@router.post(
    "/blasts/{blast_id}/retry",
    response_model=RetriedOut,
    tags=["Blasts"],
    summary="Try readers again who failed",
    responses=openapi.answers(200, openapi.RETRIED, 401, 404, 409, 413, 415, 422, 503),
)
async def retry_blast(blast_id: BlastId, body: RetryOrder, database: Database, bell: Ringer, by: Caller) -> Any:
    """Once what was in their way is mended. Readers who left or are suppressed are left out; a blast that was done is
    open again."""
    retried = await steering.retry(
        database,
        bell,
        blast_id,
        by=by,
        states=body.chosen(),
        reason=body.reason,
        code=body.code,
        dry_run=body.dry_run,
    )
    report = await reporting.blast(database, blast_id)
    return {**retried.as_json(), "blast": report.as_json()}
