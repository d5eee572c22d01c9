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
from dispatcher.config import Settings
from dispatcher.embedded.inbox import Inbox
from dispatcher.rendering import environment
from dispatcher.tokens import Links, leave_links, manage_links
from dispatcher.web import times
from dispatcher.web.assets import Assets

#: Pages that anybody may keep for a moment: short enough that nobody waits for news.
PUBLIC = "public, max-age=5"
#: Smaller pages do not become smaller on the wire.
GZIP_FROM = 1000


@dataclass(frozen=True, slots=True)
class Front:
    """The parts that the pages of one application share."""

    settings: Settings
    database: db.Database
    assets: Assets
    leaving: Links
    managing: Links
    inbox: Inbox | None  #: None unless mail goes to the embedded catcher

    @classmethod
    def of(cls, settings: Settings, database: db.Database, assets: Assets) -> Front:
        """The front of an application with these settings."""
        environment("web").filters.update(times.FILTERS, code=code)
        return cls(
            settings=settings,
            database=database,
            assets=assets,
            leaving=leave_links(settings.secret_key),
            managing=manage_links(settings.secret_key),
            inbox=None if settings.inbox_dir is None else Inbox(settings.inbox_dir),
        )

    def html(self, template: str, /, **values: Any) -> str:
        """A template of `templates/web` as text. A name that it uses and nobody gives is an error."""
        return (
            environment("web")
            .get_template(template)
            .render(
                newsroom=self.settings.newsroom,
                public_url=self.settings.public_url,
                asset=self.assets.url,
                has_inbox=self.inbox is not None,
                **values,
            )
        )

    def page(
        self, template: str, /, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
    ) -> Response:
        """A page for one reader: nobody keeps a copy."""
        return HTMLResponse(
            self.html(template, **values), status, headers={"Cache-Control": "no-store", **(headers or {})}
        )

    def public_page(self, request: Request, template: str, /, *, changed: datetime | None, **values: Any) -> Response:
        """A page for everybody: compressed, kept for a moment, and not sent again to those who have it.

        `changed` is when its content last changed, if that is known. The entity tag is weak (RFC 9110 §8.8.1): the
        compressed page has the same one.
        """
        content = self.html(template, **values).encode()
        headers = {
            "Cache-Control": PUBLIC,
            "Vary": "Accept-Encoding",
            "ETag": f'W/"{hashlib.blake2b(content, digest_size=12).hexdigest()}"',
        }
        now = datetime.now(UTC)
        # Within one second a page can change twice, and the time of the first change would hide the second.
        if changed is not None and (now - changed).total_seconds() > 2:
            headers["Last-Modified"] = format_datetime(changed.astimezone(UTC).replace(microsecond=0), usegmt=True)
        if _is_known(request, headers):
            return Response(status_code=304, headers=headers)
        if len(content) >= GZIP_FROM and "gzip" in request.headers.get("accept-encoding", ""):
            content = gzip.compress(content, compresslevel=5, mtime=0)
            headers["Content-Encoding"] = "gzip"
        return HTMLResponse(content, headers=headers)


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
