"""What a reader's own pages have in common: nobody lists them, and they speak the reader's language."""

from __future__ import annotations

from starlette.requests import Request

from dispatcher import subscribing
from dispatcher.errors import NotFound
from dispatcher.subscribing import ReaderPage
from dispatcher.web.front import front

#: Nobody lists a reader's own page.
PRIVATE = {"X-Robots-Tag": "noindex, nofollow"}


async def reader_or_none(request: Request, subscriber_id: int) -> ReaderPage | None:
    """A reader as their page shows them; None once they are erased."""
    try:
        return await subscribing.reader(front(request).database, subscriber_id)
    except NotFound:
        return None


async def language_of(request: Request, subscriber_id: int) -> str:
    """The language that a reader has chosen; of one who is not known, the one that the browser asks for."""
    reader = await reader_or_none(request, subscriber_id)
    return front(request).language(request) if reader is None else reader.locale
