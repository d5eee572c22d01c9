"""What a reader sees while no page asks for anything: pushes reach the service worker, and it shows notifications."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, Worker

SHOWN = """async () => (await (await navigator.serviceWorker.ready).getNotifications()).map(n => (
  { title: n.title, body: n.body, tag: n.tag, lang: n.lang, renotify: n.renotify, url: n.data.url,
    at: n.timestamp, actions: n.actions.map(a => [a.action, a.title]) }))"""


#: Lets the service worker count what it is pushed, and tells what it has counted.
LISTEN = """() => {
  if (!("heard" in self)) {
    self.heard = 0;
    self.addEventListener("push", () => { self.heard += 1; });
  }
  return self.heard;
}"""


class Screen:
    """The notifications of a browser, whose service worker is pushed to over the browser's own protocol."""

    def __init__(self, page: Page) -> None:
        """`page` has to be one of the site's by the time that something is pushed."""
        self.page = page
        self._registrations: dict[str, str] = {}  # by scope
        self._cdp = page.context.new_cdp_session(page)
        self._cdp.on("ServiceWorker.workerRegistrationUpdated", self._note)
        self._cdp.send("ServiceWorker.enable")

    def push(self, *pushes: str) -> None:
        """Hand over pushes that have been decrypted, at once, as the browser's own client of its push service does.

        What the service worker does about them is done when this returns: chromium loses a notification if it is asked
        for those that are shown in the very moment in which this one appears.
        """
        origin = "/".join(self.page.url.split("/", 3)[:3])
        registration = self._registration(f"{origin}/")
        heard = self.worker.evaluate(LISTEN)
        for data in pushes:
            self._cdp.send(
                "ServiceWorker.deliverPushMessage",
                {"origin": origin, "registrationId": registration, "data": data},
            )
        until(lambda: self.worker.evaluate("self.heard") == heard + len(pushes), self.page)
        self.worker.evaluate("turn")

    def _registration(self, scope: str) -> str:
        """The number of a service worker's registration, which has been asked for."""
        until(lambda: scope in self._registrations and self.page.context.service_workers, self.page)
        return self._registrations[scope]

    def shown(self, count: int = 1) -> list[dict[str, Any]]:
        """The notifications that are shown, once there are so many; or those that are there after 10 s."""
        end = time.monotonic() + 10
        while True:
            found: list[dict[str, Any]] = self.page.evaluate(SHOWN)
            if len(found) == count or time.monotonic() > end:
                return found
            self.page.wait_for_timeout(50)

    def titles(self) -> list[str]:
        """The titles of the notifications that are shown now."""
        return [each["title"] for each in self.page.evaluate(SHOWN)]

    @property
    def worker(self) -> Worker:
        """The service worker."""
        return self.page.context.service_workers[0]

    def click(self, action: str = "") -> None:
        """Press a notification as its reader would; what it does is done when this returns."""
        # Only a person may bring a window to the front, and only for a person's press does the browser wait.
        self.worker.evaluate(
            """async (action) => {
              const [notification] = await self.registration.getNotifications();
              const event = new NotificationEvent("notificationclick", { notification, action });
              let work = Promise.resolve();
              event.waitUntil = (promise) => { work = promise; };
              self.dispatchEvent(event);
              await Promise.resolve(work).catch((error) => { if (!/Not allowed/.test(error.message)) throw error; });
            }""",
            action,
        )

    def _note(self, event: dict[str, Any]) -> None:
        self._registrations |= {each["scopeURL"]: each["registrationId"] for each in event["registrations"]}


def until(condition: Callable[[], object], page: Page, *, seconds: float = 30) -> None:
    """Wait for a condition, while the browser's events are heard. Fails if it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        page.wait_for_timeout(50)
