"""An update from the first letter to the button, in real Chromium: nothing that is typed is lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dispatcher.roles import Role
from tests.api.serving import Site
from tests.browser.test_desk_in_a_browser import sign_in, wrong_with
from tests.browser.windows import Window
from tests.journeys.desks import PASSWORD, employ

pytestmark = pytest.mark.browser

ADA, BEN = "ada@courier.example", "ben@courier.example"
#: What Word puts on the clipboard, and what somebody hostile would add.
FROM_WORD = Path(__file__).with_name("from_word.html").read_text()
AS_MARKDOWN = """## The levee

It **gave way** at *02:44*, the [crisis room](https://crisis.example/a_%28b%29) says.

- Buses leave.
- Trains do not.

1. Walk
   - uphill
2. Do not drive

Snake\\_case \\<b> and 2 \\* 3 **now** tap"""
PASTE = """([html, text]) => {
  const data = new DataTransfer();
  data.setData("text/html", html);
  data.setData("text/plain", text);
  const body = document.getElementById("body");
  body.focus();
  body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
}"""


def begin(window: Window, site: Site, email: str) -> Page:
    """Sign in, and open a new draft."""
    page = window.page
    sign_in(page, site, email)
    page.wait_for_url(f"{site.url}/desk")
    path = page.evaluate(
        """async () => (await fetch("/desk/stories/tarrow-flood/write", { method: "POST",
        body: new URLSearchParams({ csrf: document.querySelector("[name=csrf]").value }) })).url"""
    )
    page.goto(path)
    return page


def saved(page: Page) -> None:
    """Wait until everything is saved."""
    expect(page.locator("#saved")).to_contain_text("Saved ", timeout=15_000)


@pytest.mark.parametrize("width", [360, 1280])
def test_an_editor_writes_pastes_sees_the_mail_and_sends(window: Callable[..., Window], site: Site, width: int) -> None:
    employ(site, ADA)
    employ(site, BEN, Role.EDITOR)
    site.create_story()
    for _ in range(3):
        site.add_reader("tarrow-flood")
    opened = window(width, dark=width == 360)
    page = begin(opened, site, BEN)
    page.get_by_label("Headline").fill("Millgate levee \n gives way")  # as pasted from two lines
    page.get_by_label("Headline").press("Enter")
    expect(page.get_by_label("Headline")).to_have_value("Millgate levee gives way")
    expect(page.locator("#headline-count")).to_have_text("24 of 90")
    page.evaluate(PASTE, [FROM_WORD, "plain"])
    expect(page.locator("#body")).to_have_value(AS_MARKDOWN)
    assert all("The action has been blocked" in each for each in opened.trouble)  # in a document that nobody sees
    opened.trouble.clear()
    page.locator("#body").press("Control+a")
    page.locator("#body").press("Control+i")
    expect(page.locator("#body")).to_have_value(f"*{AS_MARKDOWN}*")
    page.locator("#body").press("Control+z")
    page.locator("#body").fill("The levee gave way.")
    page.locator("#body").select_text()
    page.get_by_role("button", name="Bold").click()
    page.get_by_role("button", name="List").click()
    expect(page.locator("#body")).to_have_value("- **The levee gave way.**")
    page.get_by_text("Breaking", exact=True).click()
    expect(page.get_by_text("BREAKING: Millgate levee gives way").first).to_be_visible()
    saved(page)
    mail = page.frame_locator("#mail")
    expect(mail.get_by_role("heading", name="Millgate levee gives way")).to_be_visible()
    page.get_by_role("button", name="Text", exact=True).click()
    expect(mail.locator("pre")).to_contain_text("* *The levee gave way.*")
    assert wrong_with(page) == []

    foot = page.locator("#part-foot").bounding_box()
    assert foot is not None
    assert foot["height"] <= 112  # of a phone's 740
    expect(page.locator("#part-foot").get_by_role("button", name="Save")).to_be_hidden()  # it saves by itself

    # Somebody else has it open, and saves; then the session ends.
    other = window(1280)
    sign_in(other.page, site, ADA)
    other.page.goto(page.url)
    other.page.get_by_label("Headline").fill("Ada’s headline")
    saved(other.page)
    page.get_by_label("Headline").fill("Ben’s headline")
    expect(page.get_by_role("alert")).to_contain_text("Ada has saved this draft")
    page.get_by_role("button", name="See both").click()
    expect(page.get_by_role("alert")).to_contain_text("Ada has saved this draft meanwhile")
    expect(page.get_by_label("Headline")).to_have_value("Ben’s headline")
    page.get_by_role("button", name="Keep mine").click()
    expect(page.get_by_label("Headline")).to_have_value("Ben’s headline")
    other.page.context.close()

    site.look("DELETE FROM sessions")
    page.get_by_label("Summary").fill("Written while signed out.")
    expect(page.get_by_role("alert")).to_contain_text("You are signed out")
    page.get_by_role("link", name="Sign in, and go on").click()
    page.get_by_label("Email").fill(BEN)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Put it back").click()
    expect(page.get_by_label("Summary")).to_have_value("Written while signed out.")
    saved(page)

    page.get_by_role("button", name="Test to me").click()
    expect(page.get_by_role("status").last).to_contain_text("A test mail to you")
    assert site.mails_owed() == [("test", BEN)]
    page.get_by_label("Headline").fill("The levee gives way: walk uphill")
    site.look("UPDATE subscriptions SET cadence = 'major' WHERE subscriber_id = (SELECT min(id) FROM subscribers)")
    page.get_by_text("Routine", exact=True).click()
    page.locator("#part-foot .w-send").focus()
    expect(page.get_by_role("button", name="Send to 2")).to_be_focused()  # also when the number becomes another
    page.get_by_role("button", name="Send to 2").dblclick()
    page.wait_for_url(f"{site.url}/desk/stories/tarrow-flood/updates/1")
    page.go_back()
    page.wait_for_url(f"{site.url}/desk/stories/tarrow-flood/updates/1")
    assert site.look("SELECT headline, summary, body FROM updates") == [
        ("The levee gives way: walk uphill", "Written while signed out.", "- **The levee gave way.**")
    ]
    assert site.look("SELECT count(*) FROM blasts") == [(1,)]
    assert [each for each in opened.trouble if "status of 403" not in each and "status of 409" not in each] == []


def test_a_letter_by_accident_undoes_no_schedule(window: Callable[..., Window], site: Site) -> None:
    employ(site, BEN, Role.EDITOR)
    site.create_story()
    page = begin(window(360), site, BEN)
    page.get_by_label("Headline").fill("Millgate levee gives way")
    page.get_by_label("What’s new").fill("- It gave way.")
    page.get_by_text("Later, or not at all").click()
    page.get_by_label("At", exact=True).fill(f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%M}")
    page.get_by_role("button", name="Schedule").click()
    expect(page.get_by_text("Scheduled.")).to_be_visible()

    page.get_by_label("Headline").press("End")
    page.keyboard.type("x")
    expect(page.get_by_role("alert")).to_contain_text(
        "Changing it takes it off the schedule; you have to schedule it again."
    )
    page.get_by_label("What’s new").evaluate("field => field.scrollIntoView()")
    expect(page.get_by_role("alert")).to_be_in_viewport(ratio=1)  # wherever one types
    page.get_by_role("button", name="Drop the change").click()
    expect(page.get_by_label("Headline")).to_have_value("Millgate levee gives way")
    assert site.look("SELECT state::text FROM drafts") == [("scheduled",)]

    page.get_by_label("Headline").fill("Millgate levee has given way")
    page.get_by_role("button", name="Save the change").click()
    saved(page)
    assert site.look("SELECT state::text, headline FROM drafts") == [("draft", "Millgate levee has given way")]
