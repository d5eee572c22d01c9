"""An editor on a phone: brings readers in from a file, watches it, and finds out why one of them got nothing."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from dispatcher.roles import Role
from tests.api.serving import Site
from tests.browser.test_desk_in_a_browser import sign_in, wrong_with
from tests.journeys.desks import employ

pytestmark = pytest.mark.browser

BEN = "ben@courier.example"


def test_readers_come_in_from_a_file_and_one_of_them_is_found(chromium: Browser, site: Site) -> None:
    employ(site, BEN, Role.EDITOR)
    site.create_story()
    context = chromium.new_context(viewport={"width": 360, "height": 800}, color_scheme="dark")
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    sign_in(page, site, BEN)
    page.wait_for_url(f"{site.url}/desk")
    page.goto(f"{site.url}/desk/import")
    page.get_by_label("CSV file").set_input_files(
        {
            "name": "flood.csv",
            "mimeType": "text/csv",
            "buffer": b"email\n" + b"".join(b"reader%d@mail.example\n" % number for number in range(3_000)),
        }
    )
    page.get_by_label("They have agreed").check()
    page.get_by_role("button", name="Check, then import").click()
    page.wait_for_url(re.compile(r"/desk/import/\d+$"))
    expect(page.get_by_text("3,000 new followers.")).to_be_visible(timeout=15_000)
    assert wrong_with(page) == []

    site.publish(headline="The levee gives way")
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Subscribers").click()
    page.get_by_label("Email address, or how it begins").fill("reader7@mail.example")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name="reader7@mail.example")).to_be_visible()
    expect(page.get_by_text("Its audience is not counted yet.")).to_be_visible()
    assert "mail.example" not in page.url
    page.get_by_text("Never write to this address again").click()
    page.locator("#suppress-reason").fill("asked us by phone")
    page.get_by_role("button", name="Suppress the address").click()
    expect(page.get_by_text("Nothing is sent to this address any more.")).to_be_visible()
    assert wrong_with(page) == []
    assert trouble == []
    context.close()
