"""Windows of a real browser, and everything that goes wrong in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's chromium, without a head. It ends with this file, because its event loop would be in others' way."""
    if not CHROMIUM.exists():
        if os.environ.get("DISPATCHER_REQUIRE_BROWSER") == "1":
            pytest.fail(f"{CHROMIUM} is missing, and DISPATCHER_REQUIRE_BROWSER asks for it")
        pytest.skip(f"{CHROMIUM} is missing: install Debian's chromium")
    expect.set_options(timeout=15_000)  # the programs that a page waits for share this machine with other tests
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@dataclass
class Window:
    """A browser's window, and everything that went wrong in it."""

    page: Page
    trouble: list[str] = field(default_factory=list)

    def refuse(self, dialog: Dialog) -> None:
        """Note that something asked for attention, and send it away."""
        self.trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def sideways(self) -> int:
        """How many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@pytest.fixture
def window(chromium: Browser) -> Iterator[Callable[..., Window]]:
    """Opens windows: `window(360)`, `window(1280, javascript=False)`."""
    contexts = []

    def open_window(
        width: int = 1280, *, dark: bool = False, javascript: bool = True, permissions: tuple[str, ...] = ()
    ) -> Window:
        context = chromium.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if dark else "light",
            java_script_enabled=javascript,
            timezone_id="America/New_York",
            locale="de-DE",
        )
        if permissions:
            context.grant_permissions(list(permissions))
        contexts.append(context)
        found = Window(context.new_page())
        found.page.on("console", lambda said: found.trouble.append(f"{said.type}: {said.text}"))
        found.page.on("pageerror", lambda error: found.trouble.append(f"error: {error}"))
        found.page.on("dialog", found.refuse)
        return found

    yield open_window
    for context in contexts:
        context.close()
