"""What stands around every door: security headers, a bound on bodies, HEAD, and no error that nobody wrote down."""

from __future__ import annotations

import json
import traceback
from collections.abc import Awaitable, Callable, Container
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dispatcher.errors import DispatcherError, Invalid

log = structlog.get_logger()

#: Bytes that a request may carry, and those that the form of a page for everybody may have.
MAX_BODY = 1_000_000
MAX_FORM = 16_000
#: Where somebody writes: a text that is far too long is taken, so that it can be shown again. Strangers are turned away
#: before it is read.
MAX_WRITING = 20_000_000
FOR_WRITERS = "/desk/drafts/"
#: Where somebody hands in a file of readers, which goes to the disk, with what a form puts around it.
MAX_UPLOAD = 100_100_000
FOR_FILES = "/desk/import"
#: Where forms and messages of strangers come in, all of them small.
FOR_STRANGERS = (
    *("/s/", "/push/", "/lost", "/confirm/"),
    *("/desk/sign-in", "/desk/code", "/desk/setup/", "/desk/invitation/", "/desk/oidc"),
)


def content_policy(ancestors: str = "'none'") -> str:
    """The policy of our pages: everything comes from us, and only `ancestors` may show them in a frame."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' https:",  # editors put pictures into updates
            "connect-src 'self'",
            "manifest-src 'self'",
            "frame-src 'self'",  # the inbox shows a mail in a frame
            "form-action 'self'",
            "base-uri 'none'",
            f"frame-ancestors {ancestors}",
        )
    )


class Forbidden(DispatcherError):
    """This form was sent from another site."""

    status = 403
    remedy = "Open the page itself, and press the button there."


class Unexpected(DispatcherError):
    """Something went wrong on our side."""


class SecurityHeaders:
    """Adds the headers that every answer carries, unless the answer brings its own."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self.app = app
        self.headers = {
            "Content-Security-Policy": content_policy(),
            "X-Content-Type-Options": "nosniff",
            # Links hold tokens; no other site is told where its visitor came from.
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
            "Cache-Control": "no-store",
        }
        if https:
            self.headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


class Head:
    """Lets HEAD ask for whatever GET serves (RFC 9110 §9.3.2); the server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The server keeps the scope that it made, so it still knows that this is HEAD.
        head = scope["type"] == "http" and scope["method"] == "HEAD"
        await self.app({**scope, "method": "GET"} if head else scope, receive, send)


class Caught:
    """Writes down every error that is not one of ours under an id, and shows the id and nothing else."""

    def __init__(self, app: ASGIApp, *, show: Callable[[Request, DispatcherError], Awaitable[Response]]) -> None:
        self.app = app
        self.show = show

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:  # noqa: BLE001  # the last place that can write it down
            number = token_hex(6)
            log.error("unexpected error", id=number, where=_where(error), error=type(error).__name__)
            if started:
                raise Unexpected from None  # the server cuts the connection, so that nobody takes the half for whole
            shown = Unexpected(remedy=f"It was written down under {number}. Try again in a moment.")
            response = await self.show(Request(scope), shown)
            await response(scope, receive, send)


class BodyLimit:
    """Refuses a request that is too long, before reading it where it says how long it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # Otherwise the server would go on reading, and throwing away, whatever still comes.
        closing = HTTPException(413, headers={"Connection": "close"})
        most = _most(scope["path"])
        declared = Headers(scope=scope).get("content-length", "")
        too_long = declared.isdecimal() and int(declared[:20]) > most
        seen = 0

        async def bounded() -> Message:
            nonlocal seen
            if too_long:
                raise closing
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise closing
            return message

        await self.app(scope, bounded, send)


def _most(path: str) -> int:
    """The bytes that a request to this path may carry."""
    if path.startswith(FOR_STRANGERS):
        return MAX_FORM
    if path == FOR_FILES:
        return MAX_UPLOAD
    return MAX_WRITING if path.startswith(FOR_WRITERS) else MAX_BODY


def check_same_site(request: Request, public_url: str, also: Container[str] = ()) -> None:
    """Refuse a form that another site sent, but for the origins in `also`. Raises `Forbidden`.

    Browsers say so in `Sec-Fetch-Site`, over plain http only in `Origin`, which is `null` for our own forms too,
    because our pages tell no referrer. Where the path holds a token, this is a second lock: nobody else has that.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin", "null")
    if origin in also:
        return
    if site is not None:
        allowed = site in ("same-origin", "none")
    else:
        host = urlsplit(origin).netloc
        allowed = origin == "null" or host in (request.headers.get("host"), urlsplit(public_url).netloc)
    if not allowed:
        raise Forbidden


async def json_from_us(request: Request, public_url: str) -> dict[str, Any]:
    """The JSON object that one of our own scripts sent. Raises `Forbidden` for anybody else's, and `Invalid`.

    No other site can send JSON that says it is JSON without asking first (Fetch standard, CORS-safelisted request
    header), and we never allow that.
    """
    check_same_site(request, public_url)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Forbidden("This is not sent as JSON.", remedy="Send it with `Content-Type: application/json`.")
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise Invalid("This is no JSON.", remedy="Send one JSON object in UTF-8.") from error
    if not isinstance(found, dict):
        raise Invalid("This is no JSON object.", remedy="Send one JSON object in UTF-8.")
    return found


def _where(error: BaseException) -> list[str]:
    """The last calls before an error, without its message: that may hold an address or a token."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
