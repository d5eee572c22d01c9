"""A newsroom's night in a real box, as `dispatcher up` runs it: how to publish, and what has come of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import BrowserContext, FrameLocator, Page

from dispatcher import config
from dispatcher.embedded.box import Box
from dispatcher.embedded.inbox import Inbox, InboxMail
from tests.api.serving import Site
from tests.support.browsers import until
from tests.support.directories import service_directory


@dataclass
class Night:
    """A newsroom in a box of its own: what it does, and what has come of it."""

    site: Site
    inbox: Inbox
    said: list[str]  #: every line that the programs of the box have logged

    @property
    def url(self) -> str:
        return self.site.url

    def tell(self, slug: str, headline: str, importance: str = "breaking") -> dict[str, tuple[int, int]]:
        """Publish, and wait until nobody waits. Of each channel: how many were to be told, and how many were."""
        published = self.site.publish(slug, headline=headline, importance=importance)
        end = time.monotonic() + 15
        with self.site.cms() as cms:
            while True:
                blasts = [cms.get(f"/api/v1/blasts/{each['id']}").json() for each in published["blasts"]]
                if all(each["state"] == "done" for each in blasts):
                    return {each["channel"]: (each["candidates"], each["accepted"]) for each in blasts}
                assert time.monotonic() < end, blasts
                time.sleep(0.02)

    def subjects(self, address: str) -> list[str]:
        """What has come for an address, the oldest first."""
        return [each.subject for each in reversed(self.inbox.page(limit=1000, query=address).entries)]

    def mail(self, address: str, subject: str) -> InboxMail:
        """The one mail with this subject."""
        [entry] = [each for each in self.inbox.page(limit=1000, query=address).entries if each.subject == subject]
        return self.inbox.entry(entry.name)

    def open_mail(self, page: Page, address: str, subject: str) -> FrameLocator:
        """Wait for a mail, and open it in the test inbox."""
        until(lambda: subject in self.subjects(address), page)
        page.goto(f"{self.url}/inbox")
        page.get_by_role("link", name=f"{subject} {address}").click()
        return page.frame_locator("iframe")


@contextmanager
def a_night(database_url: str, *push_services: str) -> Iterator[Night]:
    """A box with one worker on this database, that may push to these services. It has to start in the main thread."""
    said: list[str] = []
    settings = {
        "DATABASE_URL": database_url,
        "PUSH_SERVICES": " ".join(push_services),
        "NEWSROOM": "The Ostermere Courier",
        "NEWSROOM_ADDRESS": "14 Chandler’s Row, Ostermere",
        "MAIL_FROM": "The Ostermere Courier <alerts@courier.example>",
        "LOG_LEVEL": "debug",
    }
    kept = {key: value for key, value in os.environ.items() if not key.startswith(config.PREFIX)}
    with service_directory() as directory:
        box = Box(
            directory / "box",
            env=kept | config.as_env(settings),
            urgent=False,
            beat=False,
            concurrency=1,
            log=lambda *line: said.append(line[1]),
        )
        with box:
            assert box.inbox_dir is not None
            yield Night(Site(box.url, config.load(box.env)), Inbox(box.inbox_dir), said)


def click_through(context: BrowserContext, mail: FrameLocator, link: str) -> Page:
    """Click a link of a mail. Returns the tab that opens."""
    with context.expect_page() as opened:
        mail.get_by_role("link", name=link).click()
    opened.value.wait_for_load_state()
    return opened.value
