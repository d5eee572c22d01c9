"""Whether the links of a text answer: asked in the background, a few at a time, and remembered."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import structlog

from dispatcher.outbound import Outbound, Redirected, Refused, Unreachable

log = structlog.get_logger()

#: Links of one text that are looked at, and characters of one.
MOST_LINKS = 20
MAX_URL = 2000
#: Seconds for which an answer is good, and that one may take.
GOOD_FOR = 300.0
TIMEOUT = 10.0
#: Seconds beyond which a page counts as slow.
SLOW = 3.0
#: Calls at the same time and those that wait for their turn, links that are remembered, redirects that are followed.
AT_ONCE = 4
MOST_ASKED = 100
MOST_KEPT = 500
MOST_HOPS = 3

#: A link may have brackets of its own, as a Markdown reader understands it (CommonMark 6.3).
_URL = re.compile(r"https?://(?:[^\s<>()\[\]\"'`]|\([^\s<>()]*\))+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Link:
    """A link, and what came of asking for it."""

    url: str
    state: str  #: `checking`, `ok`, `slow`, `gone`, `broken`, `unsure`, or `unreachable`
    words: str = ""  #: the end of a sentence that begins with the host

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc[:80]


def links_of(text: str) -> list[str]:
    """The links of a text, each once, in their order; those beyond `MOST_LINKS` are not looked at."""
    found: dict[str, None] = {}
    for each in _URL.finditer(text):
        url = each.group().rstrip(".,;:!?*_~")
        if len(url) <= MAX_URL and _is_whole(url):
            found[url] = None
        if len(found) == MOST_LINKS:
            break
    return list(found)


def _is_whole(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


class LinkChecker:
    """What one web process knows of links. Close it."""

    def __init__(self, outbound: Outbound | None = None) -> None:
        self._outbound = outbound or Outbound()
        self._known: OrderedDict[str, tuple[float, Link]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._free = asyncio.Semaphore(AT_ONCE)

    def look(self, urls: list[str]) -> list[Link]:
        """What is known of each, at once; what is not known is asked for meanwhile."""
        now = time.monotonic()
        found = []
        for url in urls:
            at, link = self._known.get(url, (0.0, Link(url, "checking")))
            if link.state == "checking" or now - at > GOOD_FOR:
                self._ask_soon(url)
            found.append(link)
        return found

    async def close(self) -> None:
        """Ask for nothing any more."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await self._outbound.close()

    def _ask_soon(self, url: str) -> None:
        if url not in self._asking and len(self._asking) < MOST_ASKED:  # the rest is asked for at a later look
            task = asyncio.create_task(self._ask(url))
            self._asking[url] = task
            task.add_done_callback(lambda _: self._asking.pop(url, None))

    async def _ask(self, url: str) -> None:
        async with self._free:
            try:
                link = await self._answer(url)
            except Exception as error:  # noqa: BLE001  # a link that nobody can ask for is not an error of the desk's
                log.warning("a link cannot be checked", error=type(error).__name__)
                link = Link(url, "unsure", "cannot be checked")
        self._known[url] = time.monotonic(), link
        if len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)

    async def _answer(self, url: str) -> Link:
        began = time.monotonic()
        try:
            status = await self._status(url)
        except Unreachable as error:
            return Link(url, "unreachable", f"does not answer: {error.message[:1].lower()}{error.message[1:]}")
        except Refused as error:
            return Link(url, "unsure", f"was not asked: {error.message[:1].lower()}{error.message[1:]}")
        seconds = time.monotonic() - began
        if status in (404, 410):
            return Link(url, "gone", f"says that there is no such page ({status})")
        if status >= 500:
            return Link(url, "broken", f"answers with an error ({status})")
        if status >= 400:
            return Link(url, "unsure", f"does not let a program look ({status})")
        if seconds > SLOW:
            return Link(url, "slow", f"answers after {seconds:.1f} s")
        return Link(url, "ok")

    async def _status(self, url: str) -> int:
        """The status at the end of a few redirects, each of which is guarded like the first call."""
        for _ in range(MOST_HOPS):
            try:
                return (await self._outbound.get(url.partition("#")[0], timeout=TIMEOUT)).status
            except Redirected as error:
                if not error.location:
                    raise
                url = urljoin(url, error.location)
        raise Refused("It redirects again and again.")
