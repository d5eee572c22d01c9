"""A story desk's night in a real box, whose mail goes to a relay that a test holds back and lets go.

with a_desk_night(database_url) as (night, relay):
    relay.hold_after(300)
    …  # send an update to 2,000: the relay says yes to 300 mails, and keeps the others waiting for an answer
    relay.go_on()
"""

from __future__ import annotations

import asyncio
import binascii
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Page, expect

from tests.api.serving import SECRET
from tests.browser.night import Night, Window, a_night, beside
from tests.browser.test_desk_in_a_browser import wrong_with
from tests.support.push_service import Device
from tests.support.sink import SILENCE, Session, Sink, Taken, a_sink

READERS = 2_000
#: More mails than any test sends.
NO_END = 1_000_000
#: Seconds after which a mail that has to wait is looked at again.
AGAIN = 0.01
#: The key below a channel's bar, read in one go: the page changes while it is read.
SUMS = """channel => {
  const section = [...document.querySelectorAll("section.card")].find(each =>
    each.querySelector("h2").textContent.trim() === channel);
  return Object.fromEntries([...(section ? section.querySelectorAll("dl.sums > div") : [])].map(each => [
    each.querySelector("dt").textContent.trim(), Number(each.querySelector("dd").textContent.replaceAll(",", ""))]));
}"""


@dataclass
class Relay:
    """Takes every mail, and says yes to as many as it may, each after `pace` seconds; it refuses `refused` for now."""

    pace: float = 0.0
    refused: set[str] = field(default_factory=set)
    answered: int = 0  #: mails that it has said yes to
    sink: Sink = field(init=False)
    _taken: int = 0
    _most: int = NO_END

    @property
    def port(self) -> int:
        return self.sink.port

    @property
    def count(self) -> int:
        """Mails that have come, answered or not; what was given up on the way is none."""
        return len(self.sink.taken)

    @property
    def unanswered(self) -> int:
        return self._taken - self.answered

    def hold_after(self, more: int) -> None:
        """From now on say yes to so many more mails."""
        self._most = self._taken + more

    def go_on(self) -> None:
        """Say yes to whatever comes, and to all that has waited."""
        self._most = NO_END

    def mails(self, since: int = 0) -> list[Taken]:
        """What has come, the oldest first, but for the first `since`."""
        return self.sink.taken[since:]

    def __call__(self, step: str, argument: str, session: Session) -> str | None:
        if step == "RCPT" and argument in self.refused:
            return "550 not today"
        if step != "BODY":
            return None
        self._taken += 1
        asyncio.get_running_loop().call_later(self.pace, self._answer, self._taken, session)
        return SILENCE

    def _answer(self, number: int, session: Session) -> None:
        if number > self._most:
            asyncio.get_running_loop().call_later(AGAIN, self._answer, number, session)
            return
        self.answered += 1
        session.speak("250 2.0.0 Ok: taken")


@contextmanager
def a_desk_night(database_url: str) -> Iterator[tuple[Night, Relay]]:
    """A box that hands its mail to a relay of the test's own. It has to start in the main thread."""
    with beside(_a_relay) as relay:
        smtp_url = f"smtp://127.0.0.1:{relay.port}?starttls=never&lanes=10"
        with a_night(database_url, SMTP_URL=smtp_url, SECRET_KEY=SECRET) as night:
            yield night, relay


@asynccontextmanager
async def _a_relay() -> AsyncIterator[Relay]:
    relay = Relay()
    async with a_sink(relay) as relay.sink:
        yield relay


def sums(page: Page, channel: str = "Mail") -> dict[str, int]:
    """What the live page says of a channel; it adds up, or the page is wrong. Empty while readers are being counted."""
    found: dict[str, int] = page.evaluate(SUMS, channel)
    assert sum(found.values()) == 2 * found.get("= candidates", 0), found
    return found


@dataclass
class Desk:
    """Who sits at the desk this night, and at what."""

    night: Night
    relay: Relay
    page: Page
    phone: Page
    reader: Window
    devices: list[Device]
    me: str
    second: str
    slug: str
    trouble: list[str]
    seq: int = 0  #: of the newest update
    sent: dict[str, int] = field(default_factory=dict)  #: how many mails had come before it went out, by headline

    @property
    def url(self) -> str:
        return self.night.url

    @property
    def readers(self) -> list[str]:
        return [f"r{number}@{self.slug}.example" for number in range(READERS)]

    def home(self) -> None:
        self.page.goto(f"{self.url}/desk/stories/{self.slug}")

    def open(self, name: str) -> None:
        """A page of the desk by its link, which a narrow window has behind Menu."""
        size = self.page.viewport_size
        assert size is not None
        if size["width"] < 992:
            self.page.get_by_role("button", name="Menu").click()
        self.page.get_by_role("link", name=name).click()

    def live(self) -> None:
        """Wait for the page of what was sent."""
        self.page.wait_for_url(re.compile(rf"/desk/stories/{self.slug}/updates/{self.seq}(\?|#|$)"))

    def is_fine(self, page: Page | None = None) -> None:
        """Axe finds nothing wrong with the page, at its width, nor at the narrowest."""
        page = page or self.page
        size = page.viewport_size
        assert size is not None
        # So high that the bar at the foot covers nothing: what it covers could be scrolled out from under it.
        for width in {size["width"], size["width"] if size["width"] > 400 else 320}:
            page.set_viewport_size({"width": width, "height": 6_000})
            assert wrong_with(page) == []
        page.set_viewport_size(size)


def accepted(page: Page, channel: str = "Mail") -> int:
    """How many mails or pushes the live page says are accepted; -1 if it does not say so yet."""
    return sums(page, channel).get("accepted", -1)


def in_card(page: Page, name: str) -> None:
    """Wait until the card has saved what was typed, and shows this button."""
    expect(page.locator("#saved")).to_contain_text("Saved ", timeout=15_000)
    expect(page.get_by_role("button", name=name)).to_be_visible(timeout=15_000)


def subject_of(mail: Taken) -> str:
    """The subject of a mail, in ASCII."""
    found = re.search(rb"^Subject: (.*(?:\r\n[ \t].*)*)", mail.data, re.MULTILINE)
    assert found is not None
    return re.sub(r"\r?\n", "", found[1].decode()).strip()


def says(mail: Taken, words: str) -> bool:
    """Whether words in ASCII stand in a mail, in whatever way its parts are encoded."""
    return words.encode() in b" ".join(binascii.a2b_qp(mail.data).split())


def header(mail: Taken, name: str) -> str:
    found = re.search(rf"^{name}: *(.*(?:\r\n[ \t].*)*)".encode(), mail.data, re.MULTILINE | re.IGNORECASE)
    return "" if found is None else found[1].decode().strip()
