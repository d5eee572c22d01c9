"""What scripts add to the pages of a story: live news, a form in a flood, notifications, a frame in another site."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from dispatcher.embedded.valkey import Valkey
from tests.api.serving import Site, running, settings_for
from tests.browser.push_service import ENDPOINT, stand_in
from tests.browser.windows import Window
from tests.support.directories import running as run_part
from tests.support.directories import service_directory

pytestmark = pytest.mark.browser

Windows = Callable[..., Window]


@pytest.fixture
def site(database_url: str, broker_url: str) -> Iterator[Site]:
    with running(settings_for(database_url, broker_url)) as found:
        found.publish(found.create_story(), headline="The first")
        yield found


def story_page(site: Site, window: Windows, script: str = "", **more: Any) -> Window:
    opened = window(360, **more)
    if script:
        opened.page.add_init_script(script)
    opened.page.goto(f"{site.url}/s/tarrow-flood")
    return opened


def screen(page: Page) -> str:
    return page.locator("#screen-said").inner_text()


def test_news_is_offered_and_shown_only_when_the_reader_wants_it(site: Site, window: Windows) -> None:
    opened = window(360)
    opened.page.clock.install()
    opened.page.goto(f"{site.url}/s/tarrow-flood")
    opened.page.get_by_label("Email").fill("ada@mail.example")
    site.publish(headline="The second")
    site.publish(headline="The third")
    opened.page.clock.run_for(21_000)
    button = opened.page.get_by_role("button", name="2 new updates")
    button.wait_for()
    assert opened.page.locator(".timeline > li").count() == 1
    button.click()

    opened.page.get_by_role("heading", name="The third").wait_for()
    assert opened.page.locator(".timeline > li").count() == 3
    assert opened.page.evaluate("document.activeElement.innerText") == "The third"
    assert opened.page.get_by_label("Email").input_value() == "ada@mail.example"
    assert opened.page.locator("#fresh button").count() == 0
    assert opened.page.locator(".arrived").count() == 2
    assert opened.trouble == []


def test_a_story_is_followed_by_mail_with_and_without_a_script(site: Site, window: Windows) -> None:
    for number, javascript in enumerate((True, False)):
        opened = story_page(site, window, javascript=javascript)
        opened.page.get_by_label("Email").fill(f"ada{number}@mail.example")
        opened.page.get_by_label("Only major").check()
        opened.page.get_by_role("button", name="Follow by email").click()
        assert opened.page.locator("h1").inner_text() == "Check your email"
        assert opened.trouble == []

    zones = site.look("SELECT email, cadence::text, timezone FROM asks ORDER BY id")
    assert zones == [("ada0@mail.example", "major", "America/New_York"), ("ada1@mail.example", "major", "UTC")]


def test_without_a_script_nothing_is_offered_that_needs_one(site: Site, window: Windows) -> None:
    opened = story_page(site, window, javascript=False)

    assert opened.page.get_by_role("button", name="Follow by email").is_visible()
    assert opened.page.locator("[data-push]:visible, [data-script]:visible").count() == 0


def test_in_a_flood_the_browser_works_out_a_sum(database_url: str, window: Windows) -> None:
    with service_directory() as directory, run_part(Valkey(directory / "valkey")) as valkey:
        settings = settings_for(database_url, valkey.url, brake=1)
        with running(settings) as site:
            site.create_story()
            site.follow()
            site.follow()
            opened = story_page(site, window, stand_in(permission="granted"))
            opened.page.get_by_role("button", name="Follow in this browser").click()
            opened.page.get_by_text("This browser alerts you").wait_for()
            assert site.look("SELECT endpoint FROM devices") == [(ENDPOINT,)]
            opened.page.get_by_label("Email").fill("ada@mail.example")
            opened.page.get_by_role("button", name="Follow by email").click()
            opened.page.get_by_text("Very many people are asking just now.").wait_for()
            assert opened.page.get_by_label("Email").input_value() == "ada@mail.example"
            opened.page.get_by_role("button", name="Follow by email").click()
            opened.page.get_by_role("heading", name="Check your email").wait_for()

            assert ("ada@mail.example",) in site.look("SELECT email FROM asks")
            assert [line for line in opened.trouble if "429" not in line] == []


def test_nothing_is_asked_before_the_button_is_pressed_and_then_it_follows(site: Site, window: Windows) -> None:
    opened = story_page(site, window, stand_in(permission="granted"))
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("window.asked") == 0
    assert site.look("SELECT count(*) FROM devices") == [(0,)]
    opened.page.get_by_role("button", name="Follow in this browser").click()
    opened.page.get_by_text("This browser alerts you").wait_for()

    assert "Done." in screen(opened.page)
    assert site.look("SELECT endpoint FROM devices") == [(ENDPOINT,)]
    opened.page.get_by_role("link", name="Manage alerts on this screen").click()
    assert "This page belongs to this browser" in opened.page.locator("main").inner_text()
    opened.page.goto(f"{site.url}/lost")
    assert opened.page.get_by_role("link", name="Manage alerts on this screen").is_visible()
    assert opened.trouble == []


def test_a_browser_knows_what_it_follows_and_stops_it(site: Site, window: Windows) -> None:
    opened = story_page(site, window, stand_in(), permissions=("notifications",))
    opened.page.get_by_role("button", name="Follow in this browser").click()
    opened.page.get_by_role("button", name="Stop", exact=True).wait_for()
    opened.page.reload()
    opened.page.get_by_role("button", name="Stop", exact=True).wait_for()
    assert not opened.page.get_by_role("button", name="Follow in this browser").is_visible()
    opened.page.get_by_role("button", name="Stop", exact=True).click()
    opened.page.get_by_text("Stopped.").wait_for()

    assert opened.page.get_by_role("button", name="Follow in this browser").is_visible()
    assert site.look("SELECT ended_at IS NOT NULL FROM subscriptions") == [(True,)]
    assert opened.trouble == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (stand_in(permission="denied"), "does not let us show notifications"),
        (stand_in(permission="default"), "You have not decided yet"),
        (stand_in(answer="AbortError", permission="granted"), "could not reach its push service"),
        (stand_in(answer="NotAllowedError", permission="granted"), "does not let us show notifications"),
        ("delete window.PushManager;", "cannot show notifications"),
        (
            "delete window.PushManager; Object.defineProperty(navigator, 'userAgent', { value: 'iPhone' });",
            "Add to Home Screen",
        ),
        ("Object.defineProperty(window, 'isSecureContext', { value: false });", "need a secure connection"),
    ],
)
def test_every_refusal_has_its_words(site: Site, window: Windows, script: str, said: str) -> None:
    opened = story_page(site, window, script)
    opened.page.get_by_role("button", name="Follow in this browser").click()
    opened.page.get_by_text(said).wait_for(timeout=5000)

    assert opened.page.get_by_role("button", name="Follow in this browser").is_enabled()
    assert site.look("SELECT count(*) FROM devices") == [(0,)]
    assert opened.trouble == []


def test_a_push_service_that_never_answers_is_given_up_after_fifteen_seconds(site: Site, window: Windows) -> None:
    opened = window(360)
    opened.page.add_init_script(stand_in(answer="never", permission="granted"))
    opened.page.clock.install()
    opened.page.goto(f"{site.url}/s/tarrow-flood")
    opened.page.get_by_role("button", name="Follow in this browser").click()
    opened.page.get_by_text("One moment").wait_for()
    opened.page.wait_for_function("() => navigator.serviceWorker.controller !== null")
    opened.page.clock.run_for(16_000)

    opened.page.get_by_text("did not answer within 15 seconds").wait_for()


def test_a_refusal_of_the_newsroom_has_its_words(site: Site, window: Windows) -> None:
    opened = story_page(site, window, stand_in(permission="granted"))
    site.close_story("tarrow-flood")
    opened.page.get_by_role("button", name="Follow in this browser").click()
    opened.page.get_by_text("This story is closed.").first.wait_for()

    assert [line for line in opened.trouble if "409" not in line] == []


def test_mail_and_browser_are_followed_with_one_button(site: Site, window: Windows) -> None:
    opened = story_page(site, window, stand_in(permission="granted"))
    opened.page.get_by_label("Email").fill("ada@mail.example")
    opened.page.get_by_label("Also in this browser").check()
    opened.page.get_by_role("button", name="Follow by email").click()
    opened.page.get_by_role("heading", name="Check your email").wait_for()
    opened.page.goto(site.url + site.confirm_path())
    expect(opened.page.get_by_label("Also alert the browser that asked")).to_be_checked()
    expect(opened.page.get_by_text("It is this browser.")).to_be_visible()
    opened.page.get_by_role("button", name="Yes, follow this story").click()

    assert opened.page.get_by_label("Email").is_checked()
    assert opened.page.get_by_label("Push").is_checked()
    assert opened.trouble == []


def test_a_browser_that_refuses_leaves_the_mail_to_the_reader(site: Site, window: Windows) -> None:
    opened = story_page(site, window, stand_in(permission="denied"))
    opened.page.get_by_label("Email").fill("ada@mail.example")
    opened.page.get_by_label("Also in this browser").check()
    opened.page.get_by_role("button", name="Follow by email").click()
    opened.page.get_by_text("does not let us show notifications").wait_for()
    assert not opened.page.get_by_label("Also in this browser").is_checked()
    assert site.look("SELECT count(*) FROM asks") == [(0,)]
    opened.page.get_by_role("button", name="Follow by email").click()

    opened.page.get_by_role("heading", name="Check your email").wait_for()


def test_a_browser_is_added_on_the_readers_own_page(site: Site, window: Windows) -> None:
    reader = site.add_reader("tarrow-flood")
    opened = window(360)
    opened.page.add_init_script(stand_in(permission="granted"))
    opened.page.goto(site.url + site.manage_path(reader))
    opened.page.get_by_role("button", name="Add this browser").click()
    opened.page.get_by_text("This browser alerts you").wait_for()

    assert site.look("SELECT subscriber_id FROM devices") == [(reader,)]
    assert opened.trouble == []


class Publisher:
    """Somebody's own site, with one page."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.page = ""


@contextmanager
def publisher() -> Iterator[Publisher]:
    """A publisher on an origin of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(found.page.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Publisher(f"http://localhost:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def article(site: Site) -> str:
    return (
        "<!doctype html><title>Article</title><link rel=icon href='data:,'><h1>Article</h1>"
        f"<script src='{site.url}/embed.js' data-story=tarrow-flood></script><p>More text.</p>"
    )


def test_the_form_stands_in_an_article_as_high_as_it_is(site: Site, window: Windows) -> None:
    with publisher() as found, running(replace(site.settings, embed_origins=(found.url,))) as partner:
        found.page = article(partner)
        opened = window(1280)
        opened.page.goto(found.url)
        frame = opened.page.frame_locator("h1 + script + iframe")
        frame.get_by_label("Email").wait_for()
        opened.page.wait_for_function("() => document.querySelector('iframe').height !== '720'")
        inside, outside = frame.locator("html").evaluate("document => [document.scrollHeight, innerHeight]")
        assert inside <= outside
        tall = int(opened.page.locator("iframe").get_attribute("height") or 0)
        frame.get_by_label("Email").fill("ada@mail.example")
        frame.get_by_role("button", name="Follow by email").click()
        frame.get_by_text("Check your email.").wait_for()
        opened.page.wait_for_function(f"() => Number(document.querySelector('iframe').height) < {tall}")

        assert opened.page.context.cookies() == []
        assert partner.look("SELECT email FROM asks") == [("ada@mail.example",)]
        assert opened.trouble == []


def test_a_site_that_is_not_named_shows_no_form(site: Site, window: Windows) -> None:
    with publisher() as found:
        found.page = article(site)
        opened = window(1280)
        opened.page.goto(found.url)
        opened.page.locator("iframe").wait_for()
        opened.page.wait_for_timeout(500)

    assert any("frame-ancestors" in line for line in opened.trouble)
    assert opened.page.frame_locator("iframe").get_by_label("Email").count() == 0


def test_a_browser_that_is_erased_forgets_the_page_that_it_had(site: Site, window: Windows) -> None:
    opened = story_page(site, window, stand_in(permission="granted"))
    opened.page.get_by_role("button", name="Follow in this browser").click()
    opened.page.get_by_role("link", name="Manage alerts on this screen").click()
    opened.page.get_by_role("link", name="Erase me").click()
    opened.page.get_by_role("button", name="Erase me for good").click()
    opened.page.get_by_role("heading", name="You are erased").wait_for()
    opened.page.get_by_role("link", name="Manage my alerts").click()

    opened.page.get_by_role("button", name="Send me the link").wait_for()
    assert site.look("SELECT count(*) FROM subscribers") == [(0,)]
    assert opened.trouble == []


RENEW = """async ([old, fresh]) => {
  const event = new Event("pushsubscriptionchange");
  let work = Promise.resolve();
  event.waitUntil = (promise) => { work = promise; };
  if (old) event.oldSubscription = { toJSON: () => old };
  event.newSubscription = { toJSON: () => fresh };
  self.dispatchEvent(event);
  await work;
}"""


@pytest.mark.parametrize("is_told_the_old_one", [True, False])
def test_a_new_address_of_the_push_service_is_told_to_the_newsroom(
    site: Site, window: Windows, is_told_the_old_one: bool
) -> None:
    opened = story_page(site, window, stand_in(permission="granted"))
    opened.page.get_by_role("button", name="Follow in this browser").click()
    opened.page.get_by_text("This browser alerts you").wait_for()
    kept = "async () => (await (await caches.open('dispatcher')).match('/push/subscription')).json()"
    old = opened.page.evaluate(kept)
    fresh = {**old, "endpoint": f"{ENDPOINT}/again"}
    worker = opened.page.context.service_workers[0]
    worker.evaluate(RENEW, [old if is_told_the_old_one else None, fresh])

    assert site.look("SELECT endpoint FROM devices") == [(f"{ENDPOINT}/again",)]
    assert opened.page.evaluate(kept) == fresh
