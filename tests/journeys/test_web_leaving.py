"""Readers leave with one click (RFC 8058), and mail scanners do not leave for them."""

from __future__ import annotations

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
    assert page.text.count("<button") == 1
    assert "Stop following Tarrow flood" in page.text
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


def test_a_bad_link_is_a_friendly_page_and_ends_nothing(site: Site, reader: int) -> None:
    good = site.leave_path(reader, "tarrow-flood")
    managing = "/u/" + site.manage_path(reader).removeprefix("/manage/")
    for path in (good[:-1], good + "A", "/u/x", "/u/" + "A" * 32, "/u/%ff%fe", managing, good.replace("/u/A", "/u/B")):
        for answer in (site.get(path), site.post(path, ONE_CLICK)):
            assert answer.status_code == 404
            assert "This link is not valid." in answer.text
            assert "copy it whole" in answer.text

    assert site.follows(reader) == {"tarrow-flood", "strike"}
