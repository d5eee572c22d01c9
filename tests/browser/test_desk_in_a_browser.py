"""Into the desk with a real browser, at a desk and on a phone; and axe-core on every page of it, in light and dark."""

from __future__ import annotations

import time
from typing import Literal

import pyotp
import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page

from dispatcher.roles import Role
from tests.api.serving import Site
from tests.journeys.desks import PASSWORD, employ, first_link, invite

pytestmark = pytest.mark.browser

ADA = "ada@courier.example"
OFFICE = (
    *("/desk/health", "/desk/settings", "/desk/tokens", "/desk/subscribers", "/desk/subscribers/1"),
    *("/desk/suppressions", "/desk/import"),
)
NAV = ["Stories", "Drafts", "Subscribers", "Log", "Health", "Settings", "People", "Jump to"]
LOOKS: tuple[tuple[int, Literal["light", "dark"]], ...] = (
    (360, "light"),
    (360, "dark"),
    (1280, "light"),
    (1280, "dark"),
)
LOOK = """async () => {
  const options = { resultTypes: ["violations"], rules: { "target-size": { enabled: true } } };
  const { violations } = await axe.run(document, options);
  return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) =>
    `${id}: ${target.join(" ")} ${failureSummary}`));
}"""


def sign_in(page: Page, site: Site, email: str = ADA) -> None:
    page.goto(f"{site.url}/desk/sign-in")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("width", [360, 1280])
def test_somebody_turns_codes_on_signs_out_and_signs_in_with_one(chromium: Browser, site: Site, width: int) -> None:
    employ(site)
    context = chromium.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    sign_in(page, site)
    page.get_by_role("link", name="Ada").click()
    page.get_by_role("link", name="Turn codes on").click()
    totp = pyotp.TOTP(page.locator(".key").inner_text().replace(" ", ""))
    page.get_by_label("The six digits").fill(totp.at(time.time() - 30))
    page.get_by_label("Your password now").fill(PASSWORD)
    page.get_by_role("button", name="Turn codes on").click()
    assert page.get_by_role("listitem").count() == 10
    page.get_by_role("link", name="I have kept them").click()
    page.get_by_role("button", name="Sign out", exact=True).click()

    sign_in(page, site)
    page.get_by_label("The six digits").fill(totp.now())
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url(f"{site.url}/desk")
    assert context.cookies()[0]["httpOnly"]
    assert trouble == []
    context.close()


def wrong_with(page: Page) -> list[str]:
    """What axe-core finds, and whether the page is wider than its window."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found: list[str] = page.evaluate(LOOK)
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("the page is wider than its window")
    return found


def wrong_in_any_look(page: Page) -> list[str]:
    """As `wrong_with`, in any light and at any width, without loading the page anew. Leaves it in the last of them."""
    found: list[str] = []
    for width, scheme in LOOKS:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        found += [f"{width} px, {scheme}: {each}" for each in wrong_with(page)]
    return found


def test_axe_finds_nothing_on_any_page_of_the_desk(chromium: Browser, site: Site) -> None:
    setup = first_link(site)
    context = chromium.new_context()
    page = context.new_page()
    for path in (setup, "/desk/sign-in"):
        page.goto(site.url + path)
        assert wrong_in_any_look(page) == [], path
    employ(site)
    employ(site, "a.very.long.name.of.somebody@newsroom.courier.example", Role.EDITOR)
    joining = invite(site, "ben@courier.example")
    site.create_story()
    site.add_device(site.add_reader("tarrow-flood"))
    site.look("INSERT INTO suppressions SELECT address_hash, 'complaint' FROM subscribers")
    site.publish(importance="breaking")
    with site.cms() as cms:
        draft = {"headline": "The levee holds", "body": "It holds.", "importance": "breaking"}
        waiting = cms.post("/api/v1/stories/tarrow-flood/drafts", json=draft).json()["id"]
    page.get_by_label("Email").fill(ADA)
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    assert page.get_by_role("alert").is_visible()
    assert wrong_in_any_look(page) == []
    sign_in(page, site)
    page.wait_for_url(f"{site.url}/desk")
    paths = ("/desk", "/desk?q=nothing", "/desk/me", "/desk/me/codes", "/desk/people", "/desk/log", joining, "/desk/x")
    for path in (*paths, *OFFICE, "/desk/drafts", f"/desk/drafts/{waiting}/approve"):
        page.goto(site.url + path)
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert wrong_in_any_look(page) == [], path
    page.goto(f"{site.url}/desk")
    page.set_viewport_size({"width": 360, "height": 740})
    page.get_by_role("button", name="Menu").press("Enter")
    nav = page.get_by_role("navigation", name="Desk").get_by_role("link")
    assert [each.inner_text() for each in nav.all() if each.is_visible()] == NAV
    assert wrong_with(page) == []
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "Menu"
    context.close()
