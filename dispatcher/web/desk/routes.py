"""Every address of the desk, and who may come there."""

from __future__ import annotations

from starlette.routing import Route

from dispatcher.roles import What
from dispatcher.web.desk import approving, drafts, entering, everybody, front_page, health, logbook, me, settings
from dispatcher.web.desk.visiting import anybody, somebody, with_code_missing

GET = ["GET"]
POST = ["POST"]
GET_POST = ["GET", "POST"]


def routes() -> list[Route]:
    """The routes of the desk. HEAD is served wherever GET is."""
    return [
        Route("/desk", somebody(front_page.stories), methods=GET),
        Route("/desk/sign-in", anybody(entering.sign_in), methods=GET_POST),
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
        Route("/desk/drafts/{id}/approve", somebody(approving.approve, What.APPROVE), methods=GET_POST),
        Route("/desk/stories/{slug}/write", somebody(drafts.write, What.WRITE), methods=POST),
        Route("/desk/health", somebody(health.health), methods=GET),
        Route("/desk/settings", somebody(settings.settings, What.SETTINGS), methods=GET_POST),
        Route("/desk/tokens", somebody(settings.tokens, What.SETTINGS), methods=GET_POST),
    ]
