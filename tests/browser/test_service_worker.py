"""The service worker: what becomes of a push while no page asks for anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.serving import Site
from tests.browser.screens import Screen
from tests.browser.windows import Window

pytestmark = pytest.mark.browser

UPDATE = {
    "title": "Breaking: the levee gives way",
    "body": "Leave now.",
    "tag": "story-tarrow-flood",
    "lang": "en",
    "dir": "auto",
    "at": 1_790_000_000_000,
    "story": "tarrow-flood",
    "seq": 2,
    "kind": "update",
    "importance": "breaking",
    "open": "Open",
    "stop": "Stop following",
}


@pytest.fixture
def pushed(site: Site, window: Callable[..., Window]) -> Screen:
    site.publish(site.create_story(), headline="The first")
    opened = window(360, permissions=("notifications",))
    opened.page.goto(f"{site.url}/s/tarrow-flood")
    screen = Screen(opened.page)
    opened.page.evaluate("navigator.serviceWorker.register('/sw.js').then(() => navigator.serviceWorker.ready)")
    return screen


def update(site: Site, leave: str = "", **more: Any) -> str:
    url = f"{site.url}/s/tarrow-flood#u{more.get('seq', 2)}"
    return json.dumps({**UPDATE, "url": url, "leave": leave, **more})


def test_a_push_is_shown_in_its_story_s_one_slot(site: Site, pushed: Screen) -> None:
    pushed.push(update(site, site.url + site.leave_path(1, "tarrow-flood")))
    (first,) = pushed.shown()
    pushed.push(update(site, seq=3, title="It holds", importance="routine"))
    (second,) = pushed.shown()

    assert first == {
        "title": "Breaking: the levee gives way",
        "body": "Leave now.",
        "tag": "story-tarrow-flood",
        "lang": "en",
        "renotify": True,
        "url": f"{site.url}/s/tarrow-flood#u2",
        "at": 1_790_000_000_000,
        "actions": [["open", "Open"], ["stop", "Stop following"]],
    }
    assert (second["title"], second["renotify"]) == ("It holds", False)
    assert second["actions"] == [["open", "Open"]]


def test_an_older_push_that_comes_late_does_not_hide_a_newer_one(site: Site, pushed: Screen) -> None:
    pushed.push(update(site, seq=5, title="The newest"))
    pushed.push(update(site, seq=4, title="Late"))

    assert [each["title"] for each in pushed.shown()] == ["The newest"]


def test_of_pushes_that_come_at_once_the_newest_stays(site: Site, pushed: Screen) -> None:
    seqs = (2, 5, 3, 4)
    pushed.push(*(update(site, seq=seq, title=f"Number {seq}") for seq in seqs))

    assert [each["title"] for each in pushed.shown()] == ["Number 5"]


def test_a_withdrawal_takes_the_place_of_what_it_takes_back_and_of_nothing_later(site: Site, pushed: Screen) -> None:
    gone: dict[str, Any] = {"kind": "withdrawal", "withdraws": 2}
    pushed.push(update(site, seq=2, title="Wrong"), update(site, seq=4, title="Withdrawn", **gone))
    assert [each["title"] for each in pushed.shown()] == ["Withdrawn"]

    pushed.push(update(site, seq=3, title="Right, and late"), update(site, seq=5, title="Withdrawn again", **gone))
    assert [each["title"] for each in pushed.shown()] == ["Right, and late"]

    pushed.push(update(site, seq=6, title="That too", kind="withdrawal", withdraws=3))
    pushed.push(update(site, seq=7, title="And that", **gone))
    assert [each["title"] for each in pushed.shown()] == ["And that"]


@pytest.mark.parametrize("data", ["", "not json", "[]", "null", '{"title": 1}', '"x"'])
def test_a_push_that_cannot_be_read_still_shows_something(pushed: Screen, data: str) -> None:
    pushed.push(data)

    assert [each["title"] for each in pushed.shown()] == ["There is news"]


def test_a_push_leads_to_no_other_site(site: Site, pushed: Screen) -> None:
    pushed.push(update(site, url="https://evil.example/", leave="https://evil.example/u/x"))
    (shown,) = pushed.shown()

    assert shown["url"] == "/"
    assert shown["actions"] == [["open", "Open"]]


def test_one_press_on_a_notification_stops_following(site: Site, pushed: Screen) -> None:
    reader = site.add_reader("tarrow-flood")
    pushed.push(update(site, site.url + site.leave_path(reader, "tarrow-flood")))
    pushed.shown()
    pushed.click("stop")

    assert site.follows(reader) == set()
    assert [each["title"] for each in pushed.shown()] == ["You no longer follow this story."]


def test_a_stop_that_does_not_come_through_leads_to_the_page_with_the_button(site: Site, pushed: Screen) -> None:
    reader = site.add_reader("tarrow-flood")
    leave = site.url + site.leave_path(reader, "tarrow-flood")
    pushed.push(update(site, leave))
    pushed.shown()
    pushed.worker.evaluate("() => { self.fetch = () => Promise.reject(new TypeError('offline')); }")
    pushed.click("stop")
    (shown,) = pushed.shown()

    assert site.follows(reader) == {"tarrow-flood"}
    assert shown["title"].startswith("It could not be stopped just now.")
    assert shown["url"] == leave


def test_opening_a_notification_shows_the_news_on_the_page_that_is_there(site: Site, pushed: Screen) -> None:
    site.publish(headline="The second")
    pushed.push(update(site))
    pushed.shown()
    pushed.click()

    pushed.page.get_by_role("heading", name="The second").wait_for()
    assert pushed.shown(0) == []
