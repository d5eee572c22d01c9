"""What somebody wrote and cannot have saved, shown back to them: a form may hold an hour's work."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from dispatcher.errors import DispatcherError, Invalid, NotFound, Unavailable
from dispatcher.web import forms
from dispatcher.web.desk.visiting import Endpoint, NotAllowed, SignedOut
from dispatcher.web.front import front
from dispatcher.web.guards import Forbidden, check_same_site
from dispatcher.web.readers import PRIVATE

#: Bytes of a form that are read for somebody who is signed out, to show them back what they wrote.
MOST_KEPT = 1_000_000


def keeping(endpoint: Endpoint) -> Endpoint:
    """A page whose form may hold an hour's work: whoever cannot have it saved is shown what they sent.

    They are signed out, or the draft is gone, or the database is away.
    """

    async def kept(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (SignedOut, Forbidden, NotAllowed, NotFound, Unavailable) as error:
            typed = await _typed(request)
            return _lost(request, error, typed) if typed.get("body") or typed.get("headline") else _raise(error)

    return kept


def _raise(error: DispatcherError) -> Response:
    raise error


async def _typed(request: Request) -> forms.Sent:
    """The form of somebody who may send none, if it is one of ours."""
    length = request.headers.get("content-length", "")
    if request.method != "POST" or not length.isdecimal() or int(length[:12]) > MOST_KEPT:
        return forms.Sent()
    try:
        check_same_site(request, front(request).settings.public_url)
        return await forms.read(request)
    except (Forbidden, Invalid):
        return forms.Sent()


def _lost(request: Request, error: DispatcherError, typed: forms.Sent) -> Response:
    """The text back to whoever wrote it, with what to do."""
    return front(request).page(
        request,
        "desk/write_lost.html",
        status=error.status,
        language="en",
        headers=PRIVATE,
        person=None,
        csrf="",
        at="",
        problem=error,
        headline=typed.get("headline"),
        summary=typed.get("summary"),
        body=typed.get("body"),
        **_way_on(error, request.url.path.removesuffix("/save")),
    )


def _way_on(error: DispatcherError, path: str) -> dict[str, str]:
    """The button for whoever could not save: where it leads, and what it says."""
    if isinstance(error, NotFound):
        return {"back": "/desk/drafts", "way": "To the drafts"}
    if isinstance(error, Unavailable):
        return {"back": path, "way": "Open the draft as it was saved"}
    return {"back": f"/desk/sign-in?next={path}", "way": "Sign in"}
