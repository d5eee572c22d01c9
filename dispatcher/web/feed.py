"""A story as an Atom feed (RFC 4287): what is corrected says so, and keeps its id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response

from dispatcher import stories
from dispatcher.model import Update
from dispatcher.web.front import front, public
from dispatcher.web.reading import CORRECTIONS_WITHIN, body_of, corrections, find

#: Updates in a feed, the newest first.
ENTRIES = 50
MEDIA_TYPE = "application/atom+xml; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Entry:
    update: Update
    correction: Update | None  #: the newest correction of this update
    html: str  #: not marked as safe: in the feed it stands escaped

    @property
    def changed(self) -> datetime:
        """When what it says was last another."""
        corrected_at = None if self.correction is None else self.correction.published_at
        return max(at for at in (self.update.published_at, self.update.withdrawn_at, corrected_at) if at is not None)


async def story_feed(request: Request) -> Response:
    """`/s/{slug}/feed.xml`: the newest updates of a story, in the language that is asked for."""
    here = front(request)
    story = await find(request)
    updates = await stories.timeline(here.database, story, limit=CORRECTIONS_WITHIN)
    corrected = corrections(updates)
    entries = [Entry(each, corrected.get(each.seq), _text(each, corrected)) for each in updates[:ENTRIES]]
    changed = max([story.created_at, *(each.published_at for each in updates[:1])])
    language = here.language(request)
    content = here.html("feed.xml", language, story=story, entries=entries, changed=changed).encode()
    return public(request, content, MEDIA_TYPE, changed=changed, headers={"Content-Language": language})


def _text(update: Update, corrected: dict[int, Update]) -> str:
    """The text of an entry as HTML; what was wrong begins with what is right."""
    correction = corrected.get(update.seq)
    note = (
        Markup("") if correction is None else Markup("<p><strong>{}</strong></p>").format(escape(correction.headline))
    )
    return str(note + body_of(update))
