"""Debian's chromium for tests, and windows in it that a push service on this machine can reach.

    with a_push_service_beside() as service, chromium() as browser:
        window = PushWindow(browser, service.device())
        …  # the page subscribes, something is published
        window.hand_over(service.received[-1])
        window.notifications()

Chromium's own push service is on the internet, so `PushManager` gives out the device's subscription instead. All else
is real: the page's script, the service worker, its push event, and the notifications that it shows.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from tests.support.push_service import Device, Push, PushService, a_push_service, base64url

CHROMIUM = Path("/usr/bin/chromium")

#: `PushManager` as in the Push API, for a subscription that is filled in. What it gave out outlives the page.
PUSH_MANAGER = """(() => {
  const given = $SUBSCRIPTION;
  const KEY = "test.push-key";
  const made = (key) => ({
    endpoint: given.endpoint,
    options: { userVisibleOnly: true, applicationServerKey: Uint8Array.from(key).buffer },
    toJSON: () => given,
    unsubscribe: async () => { localStorage.removeItem(KEY); return true; },
  });
  PushManager.prototype.subscribe = async (options) => {
    const key = Array.from(new Uint8Array(options.applicationServerKey));
    if (!options.userVisibleOnly) throw new DOMException("Nothing would be shown", "NotAllowedError");
    if (key.length !== 65 || key[0] !== 4) throw new DOMException("Not a key", "InvalidAccessError");
    localStorage.setItem(KEY, JSON.stringify(key));
    return made(key);
  };
  PushManager.prototype.getSubscription = async () => {
    const kept = localStorage.getItem(KEY);
    return kept ? made(JSON.parse(kept)) : null;
  };
})();"""

NOTIFICATIONS = """async () => {
  const registration = await navigator.serviceWorker.ready;
  const found = await registration.getNotifications();
  return found.map(({ title, body, tag, lang, silent, actions }) => (
    { title, body, tag, lang, silent: Boolean(silent), actions: actions.map((each) => each.action) }));
}"""

#: A click as the service worker hears of it. Events made by a script may not wait, so somebody else waits for it; and
#: only a person's click may bring a window to the front, so that is refused at the end.
CLICK = """async (action) => {
  const [notification] = await self.registration.getNotifications();
  const event = new NotificationEvent("notificationclick", { notification, action });
  const waiting = [];
  Object.defineProperty(event, "waitUntil", { value: (promise) => waiting.push(promise) });
  self.dispatchEvent(event);
  await Promise.allSettled(waiting);
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's chromium, without a head; the test is skipped where it is missing.

    No loop of asyncio's can run in this thread meanwhile, so it has to end with the file of tests that wanted it.
    """
    if not CHROMIUM.exists():
        if os.environ.get("DISPATCHER_REQUIRE_BROWSER") == "1":
            pytest.fail(f"{CHROMIUM} is missing, and DISPATCHER_REQUIRE_BROWSER asks for it")
        pytest.skip(f"{CHROMIUM} is missing: install Debian's chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def a_push_service_beside() -> Iterator[PushService]:
    """A push service on a thread of its own, for tests that have no loop to run it on."""
    loop = asyncio.new_event_loop()
    started: list[PushService] = []
    ready, over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with a_push_service() as service:
            started.append(service)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(10), "the push service did not start"
        yield started[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


class PushWindow:
    """A window whose browser may show notifications, and is a device of a push service."""

    def __init__(self, browser: Browser, device: Device, **context: Any) -> None:
        self.device = device
        self.context = browser.new_context(permissions=["notifications"], **context)
        self.context.add_init_script(PUSH_MANAGER.replace("$SUBSCRIPTION", json.dumps(device.subscription)))
        self.page: Page = self.context.new_page()
        self._registrations: dict[str, str] = {}  # by origin
        self._cdp: CDPSession = self.context.new_cdp_session(self.page)
        self._cdp.on("ServiceWorker.workerRegistrationUpdated", self._note)
        self._cdp.send("ServiceWorker.enable")

    def hand_over(self, push: Push) -> None:
        """Give a push to the service worker, decrypted with the device's keys, as the browser's own client does."""
        origin = "/".join(self.page.url.split("/", 3)[:3])
        until(lambda: origin in self._registrations, self.page)
        self._cdp.send(
            "ServiceWorker.deliverPushMessage",
            {"origin": origin, "registrationId": self._registrations[origin], "data": push.payload.decode()},
        )

    def notifications(self) -> list[dict[str, Any]]:
        """What stands on the screen. The page has to be one of the site's."""
        found: list[dict[str, Any]] = self.page.evaluate(NOTIFICATIONS)
        return found

    def click(self, action: str = "") -> None:
        """Click the one notification, or one of its buttons, and wait until the service worker is done with it."""
        (worker,) = self.context.service_workers
        worker.evaluate(CLICK, action)

    def subscribed_key(self) -> str:
        """The key that the page has subscribed with, as pushes name it (RFC 8292 §3.2)."""
        return base64url(bytes(self.page.evaluate("JSON.parse(localStorage.getItem('test.push-key'))")))

    def _note(self, event: dict[str, Any]) -> None:
        for each in event["registrations"]:
            if each["isDeleted"]:
                self._registrations.pop(each["scopeURL"].rstrip("/"), None)
            else:
                self._registrations[each["scopeURL"].rstrip("/")] = each["registrationId"]


def until(condition: Callable[[], object], page: Page, *, seconds: float = 10) -> None:
    """Wait for a condition, while the browser's events are heard. Fails if it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        page.wait_for_timeout(20)
