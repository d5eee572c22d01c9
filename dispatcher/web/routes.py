"""Every address of the pages, in one table."""

from __future__ import annotations

from starlette.routing import Route

from dispatcher.web import health, inbox, reading, reference, subscriptions
from dispatcher.web.assets import Assets

GET = ["GET"]
GET_POST = ["GET", "POST"]


def routes(assets: Assets, *, has_inbox: bool) -> list[Route]:
    """The routes of the pages. HEAD is served wherever GET is."""
    return [
        Route("/", reading.all_stories, methods=GET),
        Route("/s/{slug}", reading.one_story, methods=GET),
        Route("/u/{token}", subscriptions.leave, methods=GET_POST),
        Route("/manage/{token}", subscriptions.manage, methods=GET_POST),
        Route("/static/{digest}/{name}", assets.serve, methods=GET),
        Route("/robots.txt", reading.robots, methods=GET),
        Route("/api/v1/docs", reference.reference, methods=GET),
        Route("/healthz", health.healthz, methods=GET),
        Route("/readyz", health.readyz, methods=GET),
        Route("/metrics", health.metrics, methods=GET),
        *(_inbox() if has_inbox else ()),
    ]


def _inbox() -> list[Route]:
    return [
        Route("/inbox", inbox.listing, methods=GET),
        Route("/inbox/{name}", inbox.one_mail, methods=GET),
        Route("/inbox/{name}/html", inbox.mail_html, methods=GET),
        Route("/inbox/{name}/raw", inbox.mail_raw, methods=GET),
    ]
