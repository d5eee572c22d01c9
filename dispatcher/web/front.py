"""What every page needs at hand, and how a page becomes an answer."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from dispatcher import db
from dispatcher.addresses import masked
from dispatcher.config import LANGUAGES, Settings
from dispatcher.embedded.inbox import Inbox
from dispatcher.limiting import Limiter, Puzzle
from dispatcher.overview import Followers
from dispatcher.previewing import Previews
from dispatcher.rendering import environment
from dispatcher.rendering.catalogues import best_locale
from dispatcher.tokens import Links, leave_links, manage_links
from dispatcher.vapid import Vapid
from dispatcher.web import times
from dispatcher.web.assets import Assets
from dispatcher.web.desk.writing_counts import Counts
from dispatcher.web.desk.writing_links import LinkChecker

#: Pages that anybody may keep for a moment: short enough that nobody waits for news.
PUBLIC = "public, max-age=5"
#: Smaller pages do not become smaller on the wire.
GZIP_FROM = 1000
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Front:
    """The parts that the pages of one application share."""

    settings: Settings
    database: db.Database
    assets: Assets
    leaving: Links
    managing: Links
    limiter: Limiter
    puzzle: Puzzle
    vapid: Vapid
    followers: Followers
    previews: Previews
    links: LinkChecker
    counts: Counts
    inbox: Inbox | None  #: None unless mail goes to the embedded catcher

    @classmethod
    def of(cls, settings: Settings, database: db.Database, assets: Assets) -> Front:
        """The front of an application with these settings."""
        for language in LANGUAGES:
            environment("web", language).filters.update(times.filters(language), code=code, masked=masked)
        limiter = Limiter(settings.broker_url, brake=settings.brake)
        return cls(
            settings=settings,
            database=database,
            assets=assets,
            leaving=leave_links(settings.secret_key),
            managing=manage_links(settings.secret_key),
            limiter=limiter,
            puzzle=Puzzle(settings.secret_key, limiter),
            vapid=Vapid(database, settings.secret_key, f"mailto:{settings.mail_from.addr_spec}"),
            followers=Followers(database),
            previews=Previews(settings),
            links=LinkChecker(),
            counts=Counts(database),
            inbox=None if settings.inbox_dir is None else Inbox(settings.inbox_dir),
        )

    def language(self, request: Request) -> str:
        """The one of our languages that whoever asks likes best."""
        return best_locale(request.headers.get("accept-language"), self.settings.newsroom.language)

    def html(self, template: str, language: str, /, **values: Any) -> str:
        """A template of `templates/web` as text. A name that it uses and nobody gives is an error."""
        return (
            environment("web", language)
            .get_template(template)
            .render(
                newsroom=self.settings.newsroom,
                public_url=self.settings.public_url,
                asset=self.assets.url,
                logo=self.assets.logo,
                has_brand=self.assets.has_brand,
                has_inbox=self.inbox is not None,
                **values,
            )
        )

    def page(
        self,
        request: Request,
        template: str,
        /,
        *,
        status: int = 200,
        language: str | None = None,
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> Response:
        """A page for one reader, in `language` or else in the one that the browser asks for: nobody keeps a copy."""
        language = language or self.language(request)
        more = {"Cache-Control": "no-store", "Content-Language": language, **(headers or {})}
        return HTMLResponse(self.html(template, language, **values), status, headers=more)

    def public_page(
        self,
        request: Request,
        template: str,
        /,
        *,
        changed: datetime | None,
        language: str | None = None,
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> Response:
        """A page for everybody, in the language that the browser asks for where `language` does not set one."""
        language = language or self.language(request)
        content = self.html(template, language, **values).encode()
        more = {"Content-Language": language, **(headers or {})}
        return public(request, content, HTML, changed=changed, headers=more)


def public(
    request: Request,
    content: bytes,
    media_type: str,
    *,
    changed: datetime | None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer for everybody: compressed, kept for a moment, and not sent again to those who have it.

    `changed` is when its content last changed, if that is known. The entity tag is weak (RFC 9110 §8.8.1): the
    compressed answer has the same one.
    """
    found = {
        "Cache-Control": PUBLIC,
        "Vary": "Accept-Encoding, Accept-Language",
        "ETag": f'W/"{hashlib.blake2b(content, digest_size=12).hexdigest()}"',
        **(headers or {}),
    }
    now = datetime.now(UTC)
    # Within one second a page can change twice, and the time of the first change would hide the second.
    if changed is not None and (now - changed).total_seconds() > 2:
        found["Last-Modified"] = format_datetime(changed.astimezone(UTC).replace(microsecond=0), usegmt=True)
    if _is_known(request, found):
        return Response(status_code=304, headers=found)
    if len(content) >= GZIP_FROM and "gzip" in request.headers.get("accept-encoding", ""):
        content = gzip.compress(content, compresslevel=5, mtime=0)
        found["Content-Encoding"] = "gzip"
    return Response(content, headers=found, media_type=media_type)


def code(text: str) -> Markup:
    """A sentence with `marked` words set as code."""
    parts = re.split(r"`([^`]+)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if odd % 2 else part for odd, part in enumerate(parts)
    )


def front(request: Request) -> Front:
    """The front of the application that serves this request."""
    found: Front = request.app.state.front
    return found


def _is_known(request: Request, headers: Mapping[str, str]) -> bool:
    """Whether the asker has this very page (RFC 9110 §13.1.2, §13.1.3: the tag decides where both are given)."""
    tags = request.headers.get("if-none-match")
    if tags is not None:
        bare = headers["ETag"].removeprefix("W/")
        return tags.strip() == "*" or bare in {tag.strip().removeprefix("W/") for tag in tags.split(",")}
    since = request.headers.get("if-modified-since")
    return since is not None and since == headers.get("Last-Modified")
