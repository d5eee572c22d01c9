"""An editor watches an update go out, on a phone and at a desk: the page moves by itself, and is steered from there."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.serving import Site
from tests.browser.test_desk_in_a_browser import ADA, sign_in, wrong_with
from tests.journeys.desks import employ
from tests.journeys.test_desk_live import LIVE, READERS, REFUSED, Relay, add_readers
from tests.support.background import a_worker

pytestmark = pytest.mark.browser


def accepted(page: Page, count: int) -> None:
    """Wait until so many are accepted on the page."""
    expect(page.locator(".sums dd").first).to_have_text(str(count), timeout=20_000)


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_an_update_is_watched_paused_looked_into_and_withdrawn(
    chromium: Browser, site: Site, width: int, scheme: Literal["light", "dark"]
) -> None:
    employ(site, ADA)
    site.create_story()
    add_readers(site)
    relay = Relay()
    with a_worker(site.settings.database_url, relay):
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page = context.new_page()
        trouble: list[str] = []
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        sign_in(page, site)
        page.wait_for_url(f"{site.url}/desk")
        site.publish(importance="breaking")
        page.goto(site.url + LIVE)
        accepted(page, 60)
        page.evaluate("window.isTheSamePage = true")
        pause = page.get_by_role("button", name="Pause")
        if width == 360:  # the numbers under a slow thumb change while it is down
            pause.hover()
            page.mouse.down()
        relay.most = REFUSED + 100
        accepted(page, 100)
        expect(pause).to_be_visible()

        page.mouse.up() if width == 360 else pause.press("Enter")
        expect(page.get_by_role("button", name="Resume")).to_be_visible()
        expect(page.get_by_role("status").first).to_have_text("Paused. Nothing more goes out until you resume it.")
        assert wrong_with(page) == []

        page.get_by_role("link", name="Correct…").click()
        question = page.get_by_role("dialog", name="Correct update 1")
        expect(question).to_be_visible()
        expect(question.locator("[data-n=reached]")).to_have_text("100")
        expect(question.locator("[data-n=unreached]")).to_have_text(str(READERS - 100 - 20))
        assert wrong_with(page) == []
        page.keyboard.press("Escape")
        expect(question).to_be_hidden()
        assert page.evaluate("document.activeElement.id") == "to-correct"

        page.get_by_role("link", name="No such mailbox").click()
        expect(page.get_by_text("reader5@mail.example")).to_be_visible()
        assert wrong_with(page) == []
        page.go_back()

        relay.most = 2 * READERS
        page.get_by_role("link", name="Withdraw…").click()
        page.get_by_label("Why, for readers").fill("The levee holds. We were told wrongly.")
        page.get_by_role("button", name="Withdraw update 1").click()
        expect(page.get_by_text("Withdrawn by update 2")).to_be_visible()
        expect(page.get_by_role("link", name="Withdraw…")).to_be_hidden()
        assert wrong_with(page) == []
        assert trouble == []
        context.close()


def test_without_scripts_the_page_comes_again_by_itself_and_asks_its_questions(chromium: Browser, site: Site) -> None:
    employ(site, ADA)
    site.create_story()
    add_readers(site, 30)
    site.publish()
    context = chromium.new_context(java_script_enabled=False, viewport={"width": 360, "height": 800})
    page = context.new_page()
    sign_in(page, site)
    page.goto(site.url + LIVE)
    assert page.locator("meta[http-equiv=refresh]").count() == 1
    page.wait_for_url("**?again=1")  # it has looked again by itself
    page.get_by_role("link", name="Cancel the rest…").click()
    page.get_by_role("dialog").get_by_role("button").click()
    expect(page.get_by_text("Cancelled. Nothing more goes out.")).to_be_visible()
    context.close()


def test_a_reason_is_tried_again_although_the_page_changes_under_the_press(chromium: Browser, site: Site) -> None:
    employ(site, ADA)
    site.create_story()
    add_readers(site, 30)
    site.publish()
    site.look("UPDATE blasts SET state = 'sending', candidates = 30, frozen_at = now()")
    settle(site, 0, 8, "'failed', 550, '5.7.1 not today'")
    settle(site, 8, 11, "'failed', 552, '5.2.2 full'")
    settle(site, 11, 15, "'accepted', 250, ''")
    context = chromium.new_context(viewport={"width": 360, "height": 800}, color_scheme="dark")
    page = context.new_page()
    sign_in(page, site)
    page.wait_for_url(f"{site.url}/desk")
    page.goto(site.url + LIVE)
    assert wrong_with(page) == []

    page.get_by_role("button", name="Try these 8 again").hover()
    page.mouse.down()
    settle(site, 15, 18, "'failed', 550, '5.7.1 not today'")
    expect(page.locator(".sums a[href$='state=failed']")).to_have_text("14", timeout=20_000)
    page.mouse.up()
    expect(page.get_by_text("They are tried again.")).to_be_visible()
    assert site.look("SELECT count(*) FROM deliveries WHERE state = 'deferred'") == [(11,)]

    page.get_by_role("button", name="Try these 3 again").focus()
    page.keyboard.down(" ")
    settle(site, 18, 20, "'failed', 552, '5.2.2 full'")
    expect(page.locator(".sums a[href$='state=failed']")).to_have_text("5", timeout=20_000)
    page.keyboard.up(" ")
    expect(page.get_by_text("They are tried again.")).to_be_visible()
    expect(page.get_by_role("button", name="Try these")).to_have_count(0)
    assert site.look("SELECT count(*) FROM deliveries WHERE state = 'deferred'") == [(16,)]
    context.close()


def settle(site: Site, first: int, behind: int, outcome: str) -> None:
    """What became of some readers: state, code and reply, as a worker writes them."""
    site.look(
        "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, code, reply)"
        f" SELECT b.id, r.id, now(), {outcome} FROM blasts b,"
        " (SELECT id FROM subscribers ORDER BY id OFFSET %s LIMIT %s) AS r",
        *(first, behind - first),
    )
