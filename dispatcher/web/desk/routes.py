"""Every address of the desk, and who may come there."""

from __future__ import annotations

from starlette.routing import Route

from dispatcher.roles import What
from dispatcher.web.desk import (
    approving,
    bringing_in,
    drafts,
    entering,
    everybody,
    front_page,
    health,
    live,
    live_readers,
    live_stream,
    logbook,
    me,
    palette,
    settings,
    story,
    story_end,
    subscribers,
    suppressions,
    vouching,
    writing,
    writing_kept,
)
from dispatcher.web.desk.visiting import anybody, somebody, uploader, with_code_missing

GET = ["GET"]
POST = ["POST"]
GET_POST = ["GET", "POST"]


def routes() -> list[Route]:
    """The routes of the desk. HEAD is served wherever GET is."""
    return [
        Route("/desk", somebody(front_page.stories), methods=GET),
        *_of_stories(),
        *_of_what_goes_out(),
        Route("/desk/sign-in", anybody(entering.sign_in), methods=GET_POST),
        Route("/desk/oidc", anybody(vouching.out), methods=GET),
        Route("/desk/oidc/back", anybody(vouching.back), methods=GET_POST),
        Route("/desk/code", with_code_missing(entering.code), methods=GET_POST),
        Route("/desk/code/leave", with_code_missing(entering.sign_out_half), methods=POST),
        Route("/desk/sign-out", somebody(entering.sign_out), methods=POST),
        Route("/desk/setup/{token}", anybody(entering.setup), methods=GET_POST),
        Route("/desk/invitation/{token}", anybody(entering.invitation), methods=GET_POST),
        Route("/desk/me", somebody(me.me), methods=GET_POST),
        Route("/desk/me/codes", somebody(me.turn_codes_on), methods=GET_POST),
        Route("/desk/people", somebody(everybody.everybody, What.PEOPLE), methods=GET_POST),
        Route("/desk/log", somebody(logbook.log, What.LOG), methods=GET),
        Route("/desk/drafts", somebody(drafts.drafts, What.WRITE), methods=GET_POST),
        Route("/desk/drafts/{id}", writing_kept.keeping(somebody(writing.card, What.WRITE)), methods=GET_POST),
        Route("/desk/drafts/{id}/save", writing_kept.keeping(somebody(writing.save, What.WRITE)), methods=POST),
        Route("/desk/drafts/{id}/present", somebody(writing.present, What.WRITE, by_itself=True), methods=POST),
        Route("/desk/drafts/{id}/preview", somebody(writing.preview, What.WRITE), methods=GET),
        Route("/desk/drafts/{id}/approve", somebody(approving.approve, What.APPROVE), methods=GET_POST),
        Route("/desk/stories/{slug}/write", somebody(drafts.write, What.WRITE), methods=POST),
        Route("/desk/health", somebody(health.health), methods=GET),
        Route("/desk/settings", somebody(settings.settings, What.SETTINGS), methods=GET_POST),
        Route("/desk/tokens", somebody(settings.tokens, What.SETTINGS), methods=GET_POST),
        Route("/desk/subscribers", somebody(subscribers.subscribers, What.READERS), methods=GET_POST),
        Route("/desk/subscribers/{id}", somebody(subscribers.subscriber, What.READERS), methods=GET_POST),
        Route("/desk/import", uploader(bringing_in.bring_in, What.READERS), methods=GET_POST),
        Route("/desk/import/{id}", somebody(bringing_in.progress, What.READERS), methods=GET),
        Route("/desk/import/{id}/lines.csv", somebody(bringing_in.lines, What.READERS), methods=GET),
        Route("/desk/suppressions", somebody(suppressions.suppressions, What.READERS), methods=GET_POST),
    ]


def _of_stories() -> list[Route]:
    return [
        Route("/desk/jump", somebody(palette.jump), methods=GET),
        Route("/desk/slug", somebody(story.slug, What.SEND), methods=GET),
        Route("/desk/stories/new", somebody(story.new, What.SEND), methods=GET_POST),
        Route("/desk/stories/{slug}", somebody(story.story), methods=GET),
        Route("/desk/stories/{slug}/edit", somebody(story.edit, What.SEND), methods=GET_POST),
        Route("/desk/stories/{slug}/follow-up", somebody(story.follow_up, What.WRITE), methods=POST),
        Route("/desk/stories/{slug}/close", somebody(story_end.close, What.SEND), methods=GET_POST),
        Route("/desk/stories/{slug}/merge", somebody(story_end.merge, What.SEND), methods=GET_POST),
    ]


def _of_what_goes_out() -> list[Route]:
    """Of one update, or below zero of a drill, while it goes out and after."""
    update = "/desk/stories/{slug}/updates/{seq}"
    return [
        Route(update, somebody(live.live), methods=GET),
        Route(f"{update}/events", somebody(live_stream.events, by_itself=True), methods=GET),
        Route(f"{update}/steer", somebody(live.steer, What.STEER), methods=POST),
        Route(f"{update}/replace", somebody(live.replace, What.STEER), methods=POST),
        Route(f"{update}/correct", somebody(live.correct, What.STEER), methods=POST),
        Route(f"{update}/withdraw", somebody(live.withdraw, What.STEER), methods=POST),
        Route(f"{update}/readers", somebody(live_readers.readers), methods=GET),
        Route(f"{update}/readers.csv", somebody(live_readers.download), methods=POST),
    ]
