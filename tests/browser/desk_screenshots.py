"""Takes the pictures of the desk in `docs/screenshots` again. Run by hand:

    python -m tests.browser.desk_screenshots [DIRECTORY]

They show a desk in a real box in the night of the sample story: 18,204 made-up readers, and a relay that takes its
time, does not know some mailboxes and turns others away for now.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from dispatcher.embedded.postgres import Postgres
from dispatcher.roles import Role
from dispatcher.samples import sample_story
from tests.browser.desk_night import Relay, a_desk_night, accepted, in_card
from tests.browser.night import Night
from tests.browser.screens import until
from tests.browser.screenshots import OTHERS, Studio
from tests.browser.test_desk_in_a_browser import sign_in
from tests.browser.windows import CHROMIUM
from tests.journeys.desks import employ
from tests.support.databases import fresh_database, make_template
from tests.support.directories import running, service_directory

STORY = sample_story()
NEWS = STORY.updates[-1]
READERS, DEVICES = 18_204, 640
MARA, JONAS = "mara@courier.example", "jonas@courier.example"
ADD_READERS = """WITH made AS (
  INSERT INTO subscribers (email, address_hash, paused_until)
  SELECT 'reader' || n || '@mail.example', int8send(n), CASE WHEN n %% 59 = 0 THEN now() + interval '3 days' END
  FROM generate_series(1, %s) AS n RETURNING id)
INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at, channels)
SELECT s.id, made.id, now(), '{email}' FROM made, stories s WHERE s.slug = %s"""

LET_SOME_FOLLOW = """INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at)
SELECT s.id, r.id, now() FROM subscribers r, stories s WHERE s.slug = %s AND r.id %% 7 = 0"""
ADD_DEVICE = """WITH made AS (
  INSERT INTO devices (subscriber_id, endpoint, endpoint_hash, public_key, auth_secret, name)
  SELECT id, %s, %s, %s, %s, 'Firefox on Android' FROM subscribers WHERE email = %s RETURNING subscriber_id)
UPDATE subscriptions f SET channels = '{email, webpush}' FROM made WHERE f.subscriber_id = made.subscriber_id"""


def main(directory: Path) -> None:
    with (
        service_directory() as home,
        running(Postgres(home / "postgres", fsync=False)) as postgres,
        fresh_database(postgres, make_template(postgres)) as database_url,
        a_desk_night(database_url) as (night, relay),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        take_desk(Studio(night, browser, directory), relay)
        browser.close()


def take_desk(studio: Studio, relay: Relay) -> None:
    expect.set_options(timeout=30_000)
    night = studio.night
    people_a_newsroom(night)
    tell_what_came_before(night)
    page = window(studio, 1280, 1020, MARA)
    write_the_news(studio, page)
    approve_on_a_phone(studio, page)
    watch_it(studio, page, relay)
    correct_it(studio, page, relay)


def people_a_newsroom(night: Night) -> None:
    employ(night.site, MARA, Role.LEAD)
    employ(night.site, JONAS, Role.LEAD)


def tell_what_came_before(night: Night) -> None:
    """All updates but the last, in a story that nobody follows yet; then its readers come."""
    site = night.site
    for slug, headline in OTHERS:
        site.create_story(slug, headline=headline)
    site.create_story(STORY.slug, headline=STORY.headline, summary=STORY.summary)
    for draft in STORY.updates[:-1]:
        night.tell(STORY.slug, draft.headline, str(draft.importance), summary=draft.summary, body=draft.body)
    night.tell(OTHERS[0][0], "Port and union meet again on Monday", "routine")
    site.look(ADD_READERS, READERS, STORY.slug)
    site.look(LET_SOME_FOLLOW, OTHERS[0][0])
    for number in range(1, DEVICES + 1):
        device = night.service.device()
        site.look(
            *(ADD_DEVICE, device.endpoint, hashlib.sha256(device.endpoint.encode()).digest()),
            *(device.public_key, device.auth_secret, f"reader{number}@mail.example"),
        )


def window(studio: Studio, width: int, height: int, email: str, *, dark: bool = False) -> Page:
    """A window of somebody who is signed in."""
    page = studio.browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        locale="en-GB",
        timezone_id="UTC",
        has_touch=width < 500,
        is_mobile=width < 500,
    ).new_page()
    sign_in(page, studio.night.site, email)
    page.wait_for_url(f"{studio.night.url}/desk")
    return page


def write_the_news(studio: Studio, page: Page) -> None:
    """As a lead who has everything that is breaking looked at by a second person."""
    page.get_by_role("link", name="Settings").click()
    page.get_by_label("Breaking news").check()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("status").wait_for()
    page.goto(f"{studio.night.url}/desk/stories/{STORY.slug}")
    page.get_by_role("button", name="Write an update").click()
    page.get_by_text("Breaking", exact=True).click()
    write(page, NEWS.headline, NEWS.summary, NEWS.body)
    in_card(page, "Ask for approval")
    page.frame_locator("#mail").get_by_role("heading", name="What we know").wait_for()
    studio.take(page, "desk-card")
    page.get_by_role("button", name="Ask for approval").click()
    page.get_by_text("for a second person.", exact=True).wait_for()


def approve_on_a_phone(studio: Studio, page: Page) -> None:
    shots = []
    for dark in (False, True):
        phone = window(studio, 390, 844, JONAS, dark=dark)
        phone.goto(page.url.partition("?")[0] + "/approve")
        if dark:
            phone.get_by_text("What you approve").scroll_into_view_if_needed()
            phone.get_by_label("I understand").check()
            phone.evaluate("scrollBy(0, 300)")
        shots.append(phone.screenshot())
        if dark:
            phone.get_by_role("button", name="Approve, and let").click()
            phone.get_by_role("status").wait_for()
        phone.context.close()
    studio.side_by_side("desk-approval", *shots, width=390, height=844)


def watch_it(studio: Studio, page: Page, relay: Relay) -> None:
    """In the middle; some mailboxes refuse it, and some readers pause."""
    relay.refused = {f"reader{number}@mail.example" for number in range(1, 400, 9)}
    relay.pace = 0.008
    page.reload()
    relay.hold_after(11_000)
    page.get_by_role("button", name=re.compile("Send to")).click()
    page.wait_for_url(re.compile(f"/desk/stories/{STORY.slug}/updates/4"))
    until(lambda: accepted(page) > 7_000, page, seconds=120)
    studio.take(page, "desk-live")
    shots = []
    for dark in (False, True):
        phone = window(studio, 390, 844, MARA, dark=dark)
        phone.goto(page.url)
        phone.locator("dl.sums").first.wait_for()
        if dark:
            phone.evaluate("scrollTo(0, document.querySelector('#live-relays').offsetTop - 500)")
        shots.append(phone.screenshot())
        phone.context.close()
    studio.side_by_side("desk-live-phone", *shots, width=390, height=844)
    page.goto(f"{studio.night.url}/desk")
    studio.take(page, "desk-stories", clip={"x": 0, "y": 0, "width": 1280, "height": 700})


def correct_it(studio: Studio, page: Page, relay: Relay) -> None:
    page.goto(f"{studio.night.url}/desk/stories/{STORY.slug}/updates/4?ask=correct#correct")
    page.get_by_role("button", name="Pause and write it").click()
    write(
        page,
        "No water over the wall: what ran down was rain from the crown road",
        "The dam holds, and nobody has to leave. Shelters stay open for those who want to.",
        "The sensors show no water over the wall. At 23:40 rain ran from the crown road down its east side, and was "
        "taken for overflow.\n\nWhat still stands: do not drive through the underpasses, both are under water.",
    )
    in_card(page, "Ask for approval")
    page.frame_locator("#mail").get_by_role("heading", name="What is right").wait_for()
    page.evaluate("scrollTo(0, 0)")
    studio.take(page, "desk-correction")
    relay.go_on()


def write(page: Page, headline: str, summary: str, body: str) -> None:
    page.get_by_label("Headline").fill(headline)
    page.get_by_label("Summary").fill(summary)
    page.locator("#body").fill(body)
    page.locator("#body").evaluate("field => { field.blur(); field.scrollTop = 0; }")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "docs" / "screenshots")
