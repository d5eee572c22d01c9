"""The live page by itself: what changes is sent as it changes, to each who watches, by server-sent events.

A stream ends after a minute, and the browser asks for the next: so no stream outlives a session for long, and none
keeps the server from stopping.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from dispatcher import watching
from dispatcher.roles import What
from dispatcher.watching import Watched, Watcher, Watchers
from dispatcher.web.desk.live import figures, place
from dispatcher.web.desk.visiting import Visit, still_in
from dispatcher.web.readers import PRIVATE

#: Seconds that one stream lasts, and after which the browser asks for the next, in milliseconds.
LASTS = 60.0
AGAIN_MS = 1000
#: Seconds after which a line is sent though nothing has changed, and after which the session is looked at again.
HEARTBEAT = 10.0
LOOK_AT_SESSION = 15.0
#: Where the forms of a page carry what makes them somebody's own. It is no token, so no form with it counts.
CSRF = "csrf-of-whoever-watches"


class Streams:
    """What all who watch in this process share: one look at each update, and one page drawn of it for each right."""

    def __init__(self, watchers: Watchers) -> None:
        self.watchers = watchers
        self._drawn: dict[tuple[str, int, bool], tuple[Watched, str]] = {}

    def draw(self, visit: Visit, watched: Watched, *, may_steer: bool) -> str:
        """The live part of the page, drawn once for all who may do the same."""
        key = (watched.story, watched.seq, may_steer)
        known = self._drawn.get(key)
        if known is None or known[0] is not watched:
            given = {**figures(watched), "may_steer": may_steer, "csrf": CSRF}
            known = self._drawn[key] = (watched, visit.here.html("desk/live_parts.html", "en", **given))
        return known[1]

    def forget(self, watched: Watched) -> None:
        """Nobody watches this update any more."""
        for may_steer in (True, False):
            self._drawn.pop((watched.story, watched.seq, may_steer), None)


async def events(visit: Visit) -> Response:
    """`…/events`: the live part of the page, again whenever it has changed."""
    slug, seq = place(visit)
    await watching.exists(visit.here.database, slug, seq)
    headers = {**PRIVATE, "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(visit, slug, seq), media_type="text/event-stream", headers=headers)


async def _stream(visit: Visit, slug: str, seq: int) -> AsyncIterator[str]:
    streams: Streams = visit.request.app.state.streams
    yield f"retry: {AGAIN_MS}\n\n"
    async with streams.watchers.watching(slug, seq) as watcher:
        try:
            async for event in _events(visit, streams, watcher):
                yield event
        finally:
            if watcher.viewers == 1 and watcher.watched is not None:
                streams.forget(watcher.watched)


async def _events(visit: Visit, streams: Streams, watcher: Watcher) -> AsyncIterator[str]:
    ends = time.monotonic() + LASTS
    looks_at = time.monotonic() + LOOK_AT_SESSION
    number, sent, spoke_at = 0, "", time.monotonic()
    while (now := time.monotonic()) < ends:
        if now >= looks_at:
            looks_at = now + LOOK_AT_SESSION
            if not await still_in(visit, What.SEE):
                yield _event("over", "You are signed out, so nothing more is shown here.")
                return
        watched = await watcher.next(number, min(HEARTBEAT, max(ends - now, 0.1)))
        failed, number = watcher.number > number and watched is None, watcher.number
        if failed:
            yield _event("trouble", watcher.trouble)
            sent, spoke_at = "", time.monotonic()
        elif watched is not None:
            page = streams.draw(visit, watched, may_steer=visit.person.may(What.STEER)).replace(CSRF, visit.csrf)
            if page != sent:
                sent, spoke_at = page, time.monotonic()
                yield _event("look", page)
                continue
        if time.monotonic() - spoke_at >= HEARTBEAT:
            spoke_at = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(0)


def _event(name: str, data: str) -> str:
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n"
