"""A reader's night, from the first click to the last trace: followed, told by mail and on the screen, and erased.

Everything is real: a box as `dispatcher up` runs it, with its worker and its mail catcher, chromium, and a push
service on this machine. What happens is done in pages and seen in mails and notifications; what the newsroom does and
knows goes over its API. Only the last look is into the database.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from dispatcher.addresses import address_hash, parse_address
from dispatcher.embedded.postgres import Postgres
from tests.api.serving import Site
from tests.browser.night import Night, Window, a_night, click_through
from tests.browser.screens import until
from tests.support.databases import fresh_database

pytestmark = pytest.mark.browser

FLOOD, STRIKE, BRIDGE = "tarrow-flood", "school-strike", "harbour-bridge"
ADA = "ada.winter@mail.example"
BO = "bo.lind@mail.example"


@pytest.fixture(scope="module")
def night(postgres: Postgres, template_database: str) -> Iterator[Night]:
    with fresh_database(postgres, template_database) as database_url, a_night(database_url) as found:
        found.site.create_story(FLOOD, headline="Tarrow flood", summary="The river is high.")
        found.site.create_story(STRIKE, headline="School strike")
        found.site.create_story(BRIDGE, headline="Harbour bridge")
        found.site.publish(FLOOD, headline="The levee holds")
        yield found


def test_a_reader_follows_is_told_changes_leaves_and_is_erased(night: Night, chromium: Browser) -> None:
    ada = night.window(chromium, timezone_id="Europe/London")
    phone = night.window(chromium, viewport={"width": 360, "height": 740})

    follow_by_mail_and_in_this_browser(night, ada)
    manage = confirm_with_the_button(night, ada)
    follow_in_the_browser_alone(night, phone)

    hear_of_an_update(night, ada, phone)
    see_the_next_one_take_its_place(night, ada, phone)
    hear_of_major_news_only(night, ada, phone, manage)
    pause_and_go_on(night, ada, phone, manage)
    stop_on_the_screen(night, phone, ada)
    follow_another_story_and_leave_it(night, ada)

    something_is_there(night, ada, phone)
    erase(ada, manage)
    erase(phone, night.url + phone.page.evaluate("localStorage.getItem('dispatcher.manage')"))
    nothing_is_left(night, ada, phone)
    nobody_is_told(night, ada, phone)
    for window in (ada, phone):
        window.close()


def follow_by_mail_and_in_this_browser(night: Night, ada: Window) -> None:
    page = ada.page
    page.goto(f"{night.url}/s/{FLOOD}")
    expect(page.locator("h1")).to_have_text("Tarrow flood")
    page.get_by_label("Email").fill(ADA)
    page.get_by_label("Send me the latest update at once").check()
    page.get_by_label("Also in this browser").check()
    page.get_by_role("button", name="Follow by email").click()

    page.wait_for_url(f"**/s/{FLOOD}/asked")
    expect(page.locator("h1")).to_have_text("Check your email")


def confirm_with_the_button(night: Night, ada: Window) -> str:
    """Returns the address of the reader's own page."""
    mail = night.open_mail(ada.page, ADA, "Please confirm: follow “Tarrow flood”")
    tab = click_through(ada.page.context, mail, "Yes, follow this story")
    tab.reload()  # looking at it, once or twice, confirms nothing
    expect(tab.locator("dl.facts")).to_contain_text("a…@mail.example")
    assert night.subjects(ADA) == ["Please confirm: follow “Tarrow flood”"]
    expect(tab.get_by_label("Also alert the browser that asked")).to_be_checked()  # it is this one
    tab.get_by_role("button", name="Yes, follow this story").click()

    expect(tab.get_by_role("status")).to_have_text("Welcome. You follow Tarrow flood now.")
    until(lambda: "The levee holds" in night.subjects(ADA), tab)
    address = tab.url.partition("?")[0]
    tab.close()
    return address


def follow_in_the_browser_alone(night: Night, phone: Window) -> None:
    phone.page.goto(f"{night.url}/s/{FLOOD}")
    phone.page.get_by_role("button", name="Follow in this browser").click()
    expect(phone.page.locator("#screen-said")).to_have_text("Done. The next update appears on this screen.")


def hear_of_an_update(night: Night, ada: Window, phone: Window) -> None:
    assert night.tell(FLOOD, "Millgate levee gives way") == {"email": (1, 1), "webpush": (2, 2)}

    assert night.subjects(ADA)[2:] == ["BREAKING: Millgate levee gives way"]
    for window in (ada, phone):
        [push] = window.device.received
        assert b"Millgate" not in push.body
        # A push service takes nothing that is signed with another key than the browser subscribed with.
        assert push.headers["authorization"].endswith(f"k={window.subscribed_key()}")
        shown = show_newest(night, window)
        assert shown["title"] == "BREAKING: Millgate levee gives way"
        assert shown["body"] == "It gave way."
        assert shown["tag"] == f"story-{FLOOD}"
        assert shown["url"] == f"{night.url}/s/{FLOOD}#u2"
        assert shown["actions"] == [["open", "Open"], ["stop", "Stop following"]]


def see_the_next_one_take_its_place(night: Night, ada: Window, phone: Window) -> None:
    phone.page.goto(f"{night.url}/s/{FLOOD}")
    assert night.tell(FLOOD, "Corn Square is dry", "major") == {"email": (1, 1), "webpush": (2, 2)}

    assert show_newest(night, ada)["title"] == show_newest(night, phone)["title"] == "Corn Square is dry"

    phone.screen.click()
    newest = phone.page.locator(".timeline h3").first  # in the page that was open already
    expect(newest).to_have_text("Corn Square is dry")
    expect(newest).to_be_focused()
    assert phone.screen.titles() == []


def hear_of_major_news_only(night: Night, ada: Window, phone: Window, manage: str) -> None:
    ada.page.goto(manage)
    ada.page.get_by_label("How often, Tarrow flood").select_option("major")
    ada.page.get_by_role("button", name="Save changes").click()
    expect(ada.page.get_by_role("status")).to_contain_text("Saved.")

    assert night.tell(FLOOD, "Buses run again", "routine") == {"email": (0, 0), "webpush": (1, 1)}
    assert phone.device.received[-1].message["title"] == "Buses run again"


def pause_and_go_on(night: Night, ada: Window, phone: Window, manage: str) -> None:
    page = ada.page
    page.goto(manage)
    page.get_by_label("Until, and including").fill(in_two_days())
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("Paused.")
    before = night.subjects(ADA), len(ada.device.received)
    reports = night.tell(FLOOD, "Rain until morning")
    assert {channel: accepted for channel, (_, accepted) in reports.items()} == {"email": 0, "webpush": 1}
    assert (night.subjects(ADA), len(ada.device.received)) == before

    page.get_by_role("button", name="Go on now").click()
    expect(page.get_by_role("status")).to_contain_text("Welcome back.")
    assert night.tell(FLOOD, "The rain has stopped") == {"email": (1, 1), "webpush": (2, 2)}
    assert show_newest(night, ada)["title"] == show_newest(night, phone)["title"] == "BREAKING: The rain has stopped"


def stop_on_the_screen(night: Night, phone: Window, ada: Window) -> None:
    phone.screen.click("stop")
    [shown] = phone.screen.shown()
    assert shown["title"] == "You no longer follow this story."
    assert shown["body"] == "BREAKING: The rain has stopped"
    assert not shown["actions"]

    assert night.tell(FLOOD, "The river falls") == {"email": (1, 1), "webpush": (1, 1)}
    assert ada.device.received[-1].message["title"] == "BREAKING: The river falls"


def follow_another_story_and_leave_it(night: Night, ada: Window) -> None:
    page = ada.page
    page.goto(f"{night.url}/s/{STRIKE}")
    page.get_by_label("Email").fill(ADA)
    page.get_by_role("button", name="Follow by email").click()
    # Confirmed once, a reader is only told.
    night.open_mail(page, ADA, "You now follow “School strike”")
    assert night.tell(STRIKE, "Schools stay closed", "major")["email"] == (1, 1)

    tab = click_through(
        ada.page.context, night.open_mail(page, ADA, "Schools stay closed"), "Stop following this story"
    )
    tab.get_by_role("button", name="Stop following School strike").click()
    expect(tab.locator("h1")).to_have_text("Done: no more alerts")
    assert night.tell(STRIKE, "Talks begin", "major")["email"] == (0, 0)
    tab.get_by_role("button", name="Follow again").click()
    expect(tab.locator("h1")).to_have_text("Welcome back")
    assert night.tell(STRIKE, "Talks go on", "major")["email"] == (1, 1)
    tab.close()

    # And as mail programs do it (RFC 8058 §3.2).
    headers = dict(night.mail(ADA, "Talks go on").headers)
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    address = headers["List-Unsubscribe"].strip("<>").split(">")[0]
    answer = httpx2.post(address, data={"List-Unsubscribe": "One-Click"}, verify=False)
    assert answer.status_code == 200
    assert night.tell(STRIKE, "Talks end", "major")["email"] == (0, 0)


def erase(window: Window, manage: str) -> None:
    page = window.page
    page.goto(manage)
    page.get_by_role("link", name="Erase me").click()
    page.get_by_role("button", name="Erase me for good").click()
    expect(page.locator("h1")).to_have_text("You are erased")
    page.goto(manage)
    expect(page.locator("h1")).to_have_text("Nothing is kept here any more")


def something_is_there(night: Night, *windows: Window) -> None:
    """What is to be erased, and that `dump` would show it."""
    traces, tables = traces_of(*windows), dump(night.site)

    assert {name for name, rows in tables.items() if holds(rows, traces)} >= {"subscribers", "devices"}
    assert {name for name, rows in tables.items() if hash_of(night) in rows} >= {"subscribers", "notices"}


def nothing_is_left(night: Night, *windows: Window) -> None:
    """Neither the address nor the browsers stand in any table or log; only the keyed hash does, in one place."""
    traces, tables = traces_of(*windows), dump(night.site)

    assert [name for name, rows in tables.items() if holds(rows, traces)] == []
    assert [name for name, rows in tables.items() if hash_of(night) in rows] == ["suppressions"]
    assert tables["subscriptions"] == tables["devices"] == ""
    assert any("blast done" in line for line in night.said)
    assert [line for line in night.said if holds(line, traces)] == []


def hash_of(night: Night) -> str:
    return address_hash(night.site.settings.secret_key, parse_address(ADA)).hex()


def traces_of(*windows: Window) -> list[str]:
    """All that could give the reader of these windows away, as text and as the bytes that a table may hold."""
    texts = [ADA, "ada.winter", *(each.device.endpoint for each in windows)]
    keys = [(each.device.p256dh, each.device.auth) for each in windows]
    raw = [(each.device.public_key.hex(), each.device.auth_secret.hex()) for each in windows]
    return [*texts, *(each.encode().hex() for each in texts), *sum(keys, ()), *sum(raw, ())]


def holds(text: str, traces: list[str]) -> bool:
    return any(each.lower() in text.lower() for each in traces)


def nobody_is_told(night: Night, *windows: Window) -> None:
    before = night.inbox.count(), len(night.service.received)

    assert night.tell(FLOOD, "All is well")["email"] == (0, 0)
    assert night.tell(STRIKE, "Schools open")["email"] == (0, 0)
    assert (night.inbox.count(), len(night.service.received)) == before
    assert {each.device for each in night.service.received} == {each.device for each in windows}


def dump(site: Site) -> dict[str, str]:
    """Every row of every table, as text."""
    names = site.look("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
    return {name: "\n".join(row for (row,) in site.look(f'SELECT t::text FROM "{name}" t')) for (name,) in names}


def show_newest(night: Night, window: Window) -> dict[str, Any]:
    """Hand the newest push to the service worker, and return the only notification that then stands there."""
    push = window.device.received[-1]
    if window.page.url.partition("#")[0] != f"{night.url}/s/{FLOOD}":
        window.page.goto(f"{night.url}/s/{FLOOD}")
    window.hand_over(push)
    until(lambda: window.screen.titles() == [push.message["title"]], window.page)
    [shown] = window.screen.shown()
    return shown


def test_a_reader_needs_no_script(night: Night, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False, locale="en-GB", viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto(f"{night.url}/s/{BRIDGE}")
    expect(page.get_by_role("button", name="Follow in this browser")).to_be_hidden()  # it could not work
    page.get_by_label("Email").fill(BO)
    page.get_by_label("Only major and breaking").check()
    page.get_by_role("button", name="Follow by email").click()
    expect(page.locator("h1")).to_have_text("Check your email")

    page = click_through(context, night.open_mail(page, BO, "Please confirm: follow “Harbour bridge”"), "Yes, follow")
    page.get_by_role("button", name="Yes, follow this story").click()
    expect(page.get_by_role("status")).to_have_text("Welcome. You follow Harbour bridge now.")
    assert night.tell(BRIDGE, "The bridge is open", "routine")["email"] == (0, 0)
    change_everything(page)
    assert night.tell(BRIDGE, "The bridge is shut", "routine")["email"] == (1, 1)

    page = click_through(context, night.open_mail(page, BO, "The bridge is shut"), "Stop following this story")
    page.get_by_role("button", name="Only major and breaking").click()
    expect(page.locator("h1")).to_have_text("Saved: less often")
    page.go_back()
    page.get_by_role("button", name="Stop following Harbour bridge").click()
    expect(page.locator("h1")).to_have_text("Done: no more alerts")
    assert night.tell(BRIDGE, "The bridge is open again")["email"] == (0, 0)
    context.close()


def change_everything(page: Page) -> None:
    """Use every form of a reader's own page."""
    done = page.get_by_role("status")
    page.get_by_label("How often, Harbour bridge").select_option("every")
    page.get_by_role("button", name="Save changes").click()
    expect(done).to_contain_text("Saved. It holds from the next update on.")
    page.get_by_label("Until, and including").fill(in_two_days())
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(done).to_contain_text("Paused.")
    page.get_by_role("button", name="Go on now").click()
    expect(done).to_contain_text("Welcome back.")
    page.get_by_label("From").fill("01:00")
    page.get_by_label("To", exact=True).fill("01:01")
    page.get_by_role("button", name="Save quiet hours").click()
    expect(done).to_contain_text("Your quiet hours hold from now on.")
    page.get_by_role("button", name="No quiet hours").click()
    expect(done).to_contain_text("Alerts come at any hour.")
    page.get_by_label("Language of mails and pages").select_option("uk")
    page.get_by_role("button", name="Save language").click()
    expect(page.locator("html")).to_have_attribute("lang", "uk")
    page.locator("#locale").select_option("en")
    page.locator("#language button").click()
    expect(done).to_contain_text("Mails and pages speak English to you.")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download my data (JSON)").click()
    kept = json.loads(download.value.path().read_text())
    assert kept["reader"]["email"] == BO
    assert [each["story"] for each in kept["stories"]] == [BRIDGE]


def in_two_days() -> str:
    """A day to choose in a form."""
    return (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
