"""Every address of the pages, in one table."""

from __future__ import annotations

from starlette.routing import Route

from dispatcher.web import (
    asking,
    confirming,
    embedding,
    feed,
    health,
    inbox,
    leaving,
    managing,
    pushing,
    reading,
    reference,
)
from dispatcher.web.assets import Assets
from dispatcher.web.desk.routes import routes as desk_routes

GET = ["GET"]
POST = ["POST"]
GET_POST = ["GET", "POST"]


def routes(assets: Assets, *, has_inbox: bool) -> list[Route]:
    """The routes of the pages. HEAD is served wherever GET is."""
    return [
        *_for_everybody(),
        *_for_one_reader(),
        *_for_browsers(),
        *desk_routes(),
        Route("/static/{digest}/{name}", assets.serve, methods=GET),
        Route("/robots.txt", reading.robots, methods=GET),
        Route("/api/v1/docs", reference.reference, methods=GET),
        Route("/healthz", health.healthz, methods=GET),
        Route("/readyz", health.readyz, methods=GET),
        Route("/metrics", health.metrics, methods=GET),
        *(_inbox() if has_inbox else ()),
    ]


def _for_everybody() -> list[Route]:
    return [
        Route("/", reading.all_stories, methods=GET),
        Route("/s/{slug}", reading.one_story, methods=GET),
        Route("/s/{slug}/fresh", reading.fresh, methods=GET),
        Route("/s/{slug}/feed.xml", feed.story_feed, methods=GET),
        Route("/s/{slug}/follow", asking.follow, methods=POST),
        Route("/s/{slug}/asked", asking.asked, methods=GET),
        Route("/lost", asking.lost, methods=GET_POST),
        Route("/lost/asked", asking.lost_asked, methods=GET),
        Route("/embed/{slug}", embedding.frame, methods=GET),
        Route("/embed.js", embedding.script, methods=GET),
    ]


def _for_one_reader() -> list[Route]:
    return [
        Route("/confirm/{token}", confirming.confirm, methods=GET_POST),
        Route("/manage/{token}", managing.manage, methods=GET_POST),
        Route("/manage/{token}/erase", managing.erase, methods=GET_POST),
        Route("/u/{token}", leaving.leave, methods=GET_POST),
    ]


def _for_browsers() -> list[Route]:
    return [
        Route("/sw.js", pushing.worker, methods=GET),
        Route("/manifest.webmanifest", pushing.manifest, methods=GET),
        Route("/push/key", pushing.key, methods=GET),
        Route("/push/follow", pushing.follow, methods=POST),
        Route("/push/state", pushing.state, methods=POST),
        Route("/push/stop", pushing.stop, methods=POST),
        Route("/push/renew", pushing.renew, methods=POST),
    ]


def _inbox() -> list[Route]:
    return [
        Route("/inbox", inbox.listing, methods=GET),
        Route("/inbox/{name}", inbox.one_mail, methods=GET),
        Route("/inbox/{name}/html", inbox.mail_html, methods=GET),
        Route("/inbox/{name}/raw", inbox.mail_raw, methods=GET),
    ]
