"""A newsroom's night in a real box, as `dispatcher up` runs it: how to publish, and what has come of it.

with a_night(database_url) as night:
    window = night.window(chromium)
    …  # follow in it
    night.tell("tarrow-flood", "The levee gives way")
    window.device.received[-1].payload
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page
from playwright.sync_api import TimeoutError as NotInTime

from dispatcher import config
from dispatcher.embedded.box import Box
from dispatcher.embedded.inbox import Inbox, InboxMail
from tests.api.serving import Site
from tests.browser.push_service import stand_in
from tests.browser.screens import Screen, until
from tests.support.directories import service_directory
from tests.support.push_service import Device, Push, PushService, a_push_service, base64url

T = TypeVar("T")


@dataclass
class Window:
    """A window of a browser that is a device of the push service."""

    page: Page
    screen: Screen
    device: Device

    def hand_over(self, push: Push) -> None:
        """Do what a browser does with a push: decrypt it, and give it to the service worker."""
        self.screen.push(push.payload.decode())

    def subscribed_key(self) -> str:
        """The key that the page has subscribed with, as pushes name it (RFC 8292 §3.2)."""
        return base64url(bytes(self.page.evaluate("JSON.parse(sessionStorage.getItem('subscribed'))")))

    def close(self) -> None:
        self.page.context.close()


@dataclass
class Night:
    """A newsroom in a box of its own: what it does, and what has come of it."""

    site: Site
    service: PushService
    said: list[str]  #: every line that the programs of the box have logged

    @cached_property
    def inbox(self) -> Inbox:
        """What the mail catcher has taken; there is none where a relay is set."""
        assert self.site.settings.inbox_dir is not None
        return Inbox(self.site.settings.inbox_dir)

    @property
    def url(self) -> str:
        return self.site.url

    def window(self, chromium: Browser, **context: Any) -> Window:
        """A window of a browser that nobody knows yet, and that may show notifications."""
        device = self.service.device()
        page = chromium.new_context(permissions=["notifications"], locale="en-GB", **context).new_page()
        page.add_init_script(stand_in(subscription=device.subscription))
        return Window(page, Screen(page), device)

    def tell(self, slug: str, headline: str, importance: str = "breaking", **more: Any) -> dict[str, tuple[int, int]]:
        """Publish, and wait until nobody waits. Of each channel: how many were to be told, and how many were."""
        published = self.site.publish(slug, headline=headline, importance=importance, **more)
        end = time.monotonic() + 60
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
def a_night(database_url: str, **more: str) -> Iterator[Night]:
    """A box with one worker on this database, and a push service. It has to start in the main thread.

    `more` are settings by their short names.
    """
    said: list[str] = []
    kept = {key: value for key, value in os.environ.items() if not key.startswith(config.PREFIX)}
    with service_directory() as directory, beside(a_push_service) as service:
        settings = {
            "DATABASE_URL": database_url,
            "PUSH_SERVICES": service.origin,
            "NEWSROOM": "The Ostermere Courier",
            "NEWSROOM_ADDRESS": "14 Chandler’s Row, Ostermere",
            "MAIL_FROM": "The Ostermere Courier <alerts@courier.example>",
            "LOG_LEVEL": "debug",
            **more,
        }
        box = Box(
            directory / "box",
            env=kept | config.as_env(settings),
            urgent=False,
            beat=False,
            concurrency=1,
            log=lambda *line: said.append(line[1]),
        )
        with box:
            yield Night(Site(box.url, config.load(box.env)), service, said)


@contextmanager
def beside(open_it: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """A server on a thread of its own, until the block ends: the browser has the loop of this one."""
    loop = asyncio.new_event_loop()
    started: list[T] = []
    ready, over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with open_it() as server:
            started.append(server)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10), "the server did not start"
        yield started[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


def click_through(context: BrowserContext, mail: FrameLocator, link: str) -> Page:
    """Click a link of a mail. Returns the tab that opens."""
    for tries_left in (2, 1, 0):
        try:
            # A click that falls into the frame's loading is lost, for people too: they click again.
            with context.expect_page(timeout=10_000) as opened:
                mail.get_by_role("link", name=link).click()
            break
        except NotInTime:
            if not tries_left:
                raise
    opened.value.wait_for_load_state()
    return opened.value
