"""A story from its first headline to its end with a real browser, and axe-core on the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.api.serving import Site
from tests.browser.test_desk_in_a_browser import sign_in, wrong_with
from tests.browser.windows import Window
from tests.journeys.desks import employ

pytestmark = pytest.mark.browser


def jump(page: Page, letters: str, *keys: str) -> None:
    """Open the palette, type, wait for what it finds, and press keys."""
    page.keyboard.press("Control+k")
    field = page.get_by_role("combobox", name="Story, draft or action")
    expect(field).to_be_focused()
    with page.expect_response(lambda answer: answer.url.endswith(f"q={letters.replace(' ', '%20')}")):
        page.keyboard.type(letters)
    expect(page.get_by_role("option").first).to_be_visible()
    for key in keys:
        page.keyboard.press(key)


@pytest.mark.parametrize("width", [360, 1280])
def test_a_story_is_begun_changed_found_merged_and_closed(
    window: Callable[..., Window], site: Site, width: int
) -> None:
    employ(site)
    site.create_story("levee", "The levee")
    site.add_reader("levee")
    opened = window(width, dark=width == 360)
    page = opened.page
    sign_in(page, site)
    page.wait_for_url(f"{site.url}/desk")

    page.get_by_role("link", name="New story").click()
    page.get_by_label("Headline").press_sequentially("Überschwemmung in Łódź")
    expect(page.get_by_label("Slug")).to_have_value("uberschwemmung-in-lodz")
    assert wrong_with(page) == []
    page.get_by_label("Slug").fill("levee")
    page.get_by_role("button", name="Create the story").click()
    expect(page.get_by_role("alert")).to_be_focused()
    expect(page.get_by_role("alert")).to_contain_text("levee-2 is free")
    page.get_by_label("Slug").fill("uberschwemmung-in-lodz")
    page.get_by_role("button", name="Create the story").dblclick()  # the second press is none
    home = f"{site.url}/desk/stories/uberschwemmung-in-lodz"
    page.wait_for_url(f"{home}?done=created")
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Headline").fill("The Łódka floods")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The Łódka floods")

    site.publish("uberschwemmung-in-lodz", "The first bridge is closed", importance="major")
    page.goto(f"{site.url}/desk/me")
    jump(page, "the", "ArrowDown")
    chosen = page.locator("[role=option][aria-selected=true]")
    expect(chosen).to_have_count(1)
    assert page.get_by_role("combobox").get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    assert wrong_with(page) == []
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("combobox").fill("ada@mail.example")
    expect(page.get_by_text("Readers are looked up under Subscribers.")).to_be_visible()
    assert [each for each in asked if "mail.example" in each] == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Control+k")
    page.keyboard.type("merge levee")
    page.keyboard.press("Enter")  # sooner than the places can be there
    page.wait_for_url(f"{site.url}/desk/stories/levee/merge")
    page.get_by_label("Into").fill("uberschwemmung-in-lodz")
    page.get_by_role("button", name="Count who would move").click()
    assert wrong_with(page) == []
    page.get_by_role("button", name="Merge: 1 reader moves").click()
    page.wait_for_url(f"{site.url}/desk/stories/levee?done=merged")
    assert wrong_with(page) == []
    page.get_by_role("link", name="The Łódka floods").click()
    expect(page.get_by_text("The first bridge is closed")).to_be_visible()
    assert wrong_with(page) == []

    page.get_by_role("link", name="Close…").click()
    assert wrong_with(page) == []
    page.get_by_role("button", name="Close it without telling 1 reader").click()
    page.wait_for_url(f"{home}?done=closed")
    expect(page.get_by_role("button", name="Write an update")).to_have_count(0)
    page.goto(f"{site.url}/desk/jump?q=health")
    assert wrong_with(page) == []
    assert [each for each in opened.trouble if "status of 409" not in each] == []
