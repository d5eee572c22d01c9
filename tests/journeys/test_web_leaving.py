"""Readers leave with one click (RFC 8058), and mail scanners do not leave for them."""

from __future__ import annotations

import re
import time

import pytest

from tests.api.serving import Site

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@pytest.fixture
def reader(site: Site) -> int:
    site.create_story()
    site.create_story("strike", headline="School strike")
    return site.add_reader("tarrow-flood", "strike")


def test_opening_the_link_asks_and_changes_nothing(site: Site, reader: int) -> None:
    path = site.leave_path(reader, "tarrow-flood")
    before = site.everything()
    page = site.get(path)
    with site.browser() as scanner:
        head = scanner.head(path)

    assert page.status_code == head.status_code == 200
    assert re.findall(r"<button[^>]*>([^<]+)</button>", page.text) == [
        "Stop following Tarrow flood",
        "Only major and breaking",
        "Once a day",
    ]
    assert "@" not in page.text
    assert site.everything() == before


def test_one_click_ends_one_subscription_without_cookies_or_redirect(site: Site, reader: int) -> None:
    answer = site.post(site.leave_path(reader, "tarrow-flood"), ONE_CLICK)

    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert "You no longer follow" in answer.text
    assert "@" not in answer.text
    assert site.follows(reader) == {"strike"}
    assert site.look("SELECT ended_reason FROM subscriptions WHERE ended_at IS NOT NULL") == [("reader",)]


def test_a_mail_provider_may_send_one_click_as_a_multipart_form_from_anywhere(site: Site, reader: int) -> None:
    with site.browser(**{"Origin": "https://mail.example", "Sec-Fetch-Site": "cross-site"}) as provider:
        answer = provider.post(site.leave_path(reader, "tarrow-flood"), files={"List-Unsubscribe": (None, "One-Click")})

    assert answer.status_code == 200
    assert site.follows(reader) == {"strike"}


def test_leaving_again_is_answered_the_same_and_keeps_the_first_time(site: Site, reader: int) -> None:
    path = site.leave_path(reader, "tarrow-flood")
    first = site.post(path, ONE_CLICK)
    once = site.everything()
    again = site.post(path, ONE_CLICK)

    assert (again.status_code, again.text) == (first.status_code, first.text)
    assert site.everything() == once


def test_a_link_for_all_stories_ends_them_all(site: Site, reader: int) -> None:
    path = site.leave_path(reader)
    assert "all stories" in site.get(path).text
    site.post(path, ONE_CLICK)

    assert site.follows(reader) == set()


def test_a_reader_who_is_not_known_gets_the_very_same_answer(site: Site, reader: int) -> None:
    known, unknown = site.leave_path(reader, "tarrow-flood"), site.leave_path(reader + 1000, "tarrow-flood")

    assert site.get(known).text == site.get(unknown).text
    assert site.post(known, ONE_CLICK).text == site.post(unknown, ONE_CLICK).text


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"List-Unsubscribe=One-Click"),
        ("application/x-www-form-urlencoded", b"do=nonsense"),
        ("application/x-www-form-urlencoded", b"\xff\xfe%%%"),
        ("application/x-www-form-urlencoded", b"do=major&" + b"x" * 10_000),
        ("application/json", b'{"do": "major"}'),
        ("multipart/form-data; boundary=b", b"--b\r\nnot a form"),
        ("text/plain", b"do=major"),
        ("", b""),
    ],
)
def test_whatever_a_mail_program_sends_means_to_leave(site: Site, reader: int, content_type: str, body: bytes) -> None:
    headers = {"Content-Type": content_type, "Origin": "https://mail.example"}
    with site.browser() as provider:
        answer = provider.post(site.leave_path(reader, "tarrow-flood"), content=body, headers=headers)

    assert answer.status_code == 200
    assert site.follows(reader) == {"strike"}


@pytest.mark.parametrize("cadence", ["major", "daily"])
def test_whoever_wanted_less_hears_less_and_stays(site: Site, reader: int, cadence: str) -> None:
    answer = site.post(site.leave_path(reader, "tarrow-flood"), {"do": cadence})

    assert answer.status_code == 200
    assert "Saved: less often" in answer.text
    assert site.follows(reader) == {"tarrow-flood", "strike"}
    assert sorted(site.look("SELECT cadence::text FROM subscriptions")) == sorted([(cadence,), ("every",)])


def test_another_site_cannot_choose_for_a_reader_how_often(site: Site, reader: int) -> None:
    answer = site.post(site.leave_path(reader, "tarrow-flood"), {"do": "daily"}, Origin="https://evil.example")

    assert answer.status_code == 403
    assert site.look("SELECT DISTINCT cadence::text FROM subscriptions") == [("every",)]


def test_whoever_slipped_follows_again_from_the_same_page(site: Site, reader: int) -> None:
    path = site.leave_path(reader, "tarrow-flood")
    assert 'value="again"' in site.post(path, ONE_CLICK).text
    answer = site.post(path, {"do": "again"})

    assert "Welcome back" in answer.text
    assert site.follows(reader) == {"tarrow-flood", "strike"}


def test_less_often_of_what_was_stopped_already_is_a_friendly_page(site: Site, reader: int) -> None:
    path = site.leave_path(reader, "tarrow-flood")
    site.post(path, ONE_CLICK)
    answer = site.post(path, {"do": "major"})

    assert answer.status_code == 200
    assert "You have stopped already" in answer.text
    assert site.follows(reader) == {"strike"}


def test_leaving_is_quick(site: Site, reader: int) -> None:
    times = []
    with site.browser() as provider:
        for _ in range(5):
            started = time.perf_counter()
            assert provider.post(site.leave_path(reader, "tarrow-flood"), data=ONE_CLICK).status_code == 200
            times.append(time.perf_counter() - started)

    assert sorted(times)[2] <= 0.2


def test_the_page_speaks_the_language_that_the_reader_has_chosen(site: Site, reader: int) -> None:
    site.look("UPDATE subscribers SET locale = 'uk'")
    page = site.get(site.leave_path(reader, "tarrow-flood"), **{"Accept-Language": "en"})

    assert page.headers["content-language"] == "uk"
    assert '<html lang="uk">' in page.text


def test_a_bad_link_is_a_friendly_page_and_ends_nothing(site: Site, reader: int) -> None:
    good = site.leave_path(reader, "tarrow-flood")
    managing = "/u/" + site.manage_path(reader).removeprefix("/manage/")
    for path in (good[:-1], good + "A", "/u/x", "/u/" + "A" * 32, "/u/%ff%fe", managing, good.replace("/u/A", "/u/B")):
        for answer in (site.get(path), site.post(path, ONE_CLICK)):
            assert answer.status_code == 404
            assert "This link is not valid." in answer.text
            assert "copy it whole" in answer.text

    assert site.follows(reader) == {"tarrow-flood", "strike"}
