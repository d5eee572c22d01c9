"""Readers manage what they follow, on a page that their link opens."""

from __future__ import annotations

import pytest

from tests.api.serving import Site


@pytest.fixture
def reader(site: Site) -> int:
    site.create_story()
    site.create_story("strike", headline="School strike")
    return site.add_reader("tarrow-flood", "strike")


def press(site: Site, reader: int, **form: str) -> str:
    """Press a button on the manage page, and return the page that follows."""
    path = site.manage_path(reader)
    answer = site.post(path, {key.replace("__", ":").replace("_", "-"): value for key, value in form.items()})
    assert answer.status_code == 303, answer.text
    return site.get(path + answer.headers["location"]).text


def cadences(site: Site) -> list[tuple[str, str]]:
    rows = site.look(
        "SELECT s.slug, f.cadence FROM subscriptions f JOIN stories s ON s.id = f.story_id ORDER BY s.slug"
    )
    return [(slug, cadence) for slug, cadence in rows]


def test_it_lists_what_the_reader_follows_and_not_who_they_are(site: Site, reader: int) -> None:
    site.create_story("other", headline="Another story")
    page = site.get(site.manage_path(reader))

    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert "noindex" in page.headers["x-robots-tag"]
    assert "Tarrow flood" in page.text
    assert "School strike" in page.text
    assert "Another story" not in page.text
    assert "@" not in page.text


def test_a_story_is_stopped_and_followed_again(site: Site, reader: int) -> None:
    stopped = press(site, reader, do="stop:strike")
    assert site.follows(reader) == {"tarrow-flood"}
    back = press(site, reader, do="again:strike")

    assert "You no longer follow School strike." in stopped
    assert "Follow again" in stopped
    assert "You follow School strike again." in back
    assert site.follows(reader) == {"tarrow-flood", "strike"}


def test_all_stories_are_stopped_at_once(site: Site, reader: int) -> None:
    page = press(site, reader, do="stop-all")

    assert site.follows(reader) == set()
    assert "You follow no story." in page
    assert page.count("Follow again") >= 2


def test_how_often_is_kept(site: Site, reader: int) -> None:
    page = press(site, reader, do="save", cadence__strike="major", cadence__tarrow_flood="every")

    assert "Saved." in page
    assert '<option value="major" selected>' in page
    assert cadences(site) == [("strike", "major"), ("tarrow-flood", "every")]


@pytest.mark.parametrize("cadence", ["hourly", "", "MAJOR", "every,major"])
def test_only_what_is_offered_can_be_chosen(site: Site, reader: int, cadence: str) -> None:
    answer = site.post(site.manage_path(reader), {"do": "save", "cadence:strike": cadence})

    assert answer.status_code == 422
    assert cadences(site) == [("strike", "every"), ("tarrow-flood", "every")]


@pytest.mark.parametrize(
    "action", ["", "erase", "stop:", "stop:other", "again:other", "stop:../x", "again:tarrow-flood:x"]
)
def test_a_form_that_says_nothing_sensible_changes_nothing(site: Site, reader: int, action: str) -> None:
    site.create_story("other")
    before = site.everything()
    answer = site.post(site.manage_path(reader), {"do": action})

    assert answer.status_code == 422
    assert site.everything() == before


def test_what_something_else_ended_cannot_be_taken_up_again(site: Site, reader: int) -> None:
    site.look("UPDATE subscriptions SET ended_at = now(), ended_reason = 'complaint' WHERE subscriber_id = %s", reader)
    answer = site.post(site.manage_path(reader), {"do": "again:strike"})

    assert answer.status_code == 422
    assert site.follows(reader) == set()
    assert "Follow again" not in site.get(site.manage_path(reader)).text


def test_a_story_that_has_closed_cannot_be_taken_up_again(site: Site, reader: int) -> None:
    press(site, reader, do="stop:strike")
    site.close_story("strike", successor="tarrow-flood")
    answer = site.post(site.manage_path(reader), {"do": "again:strike"})

    assert answer.status_code == 422
    assert site.follows(reader) == {"tarrow-flood"}


def test_pressing_twice_is_pressing_once(site: Site, reader: int) -> None:
    press(site, reader, do="stop:strike")
    once = site.everything()
    press(site, reader, do="stop:strike")
    assert site.everything() == once
    press(site, reader, do="again:strike")
    press(site, reader, do="again:strike")

    assert site.follows(reader) == {"tarrow-flood", "strike"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
def test_a_form_from_another_site_is_refused(site: Site, reader: int, headers: dict[str, str]) -> None:
    answer = site.post(site.manage_path(reader), {"do": "stop-all"}, **headers)

    assert answer.status_code == 403
    assert site.follows(reader) == {"tarrow-flood", "strike"}


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-origin", "Origin": "null"}, {"Origin": "null"}, {}])
def test_our_own_form_is_taken_though_our_pages_tell_no_origin(
    site: Site, reader: int, headers: dict[str, str]
) -> None:
    assert site.post(site.manage_path(reader), {"do": "stop-all"}, **headers).status_code == 303


def test_a_reader_who_follows_nothing_is_told_so_kindly(site: Site) -> None:
    page = site.get(site.manage_path(site.add_reader()))

    assert page.status_code == 200
    assert "You follow no story." in page.text


def test_a_reader_who_is_not_there_any_more_is_told_so_kindly(site: Site, reader: int) -> None:
    before = site.everything()
    for path in (site.manage_path(4711), site.manage_path(4711) + "/erase"):
        page = site.get(path)
        assert page.status_code == 200
        assert "Nothing is kept here any more" in page.text
    assert site.post(site.manage_path(4711), {"do": "stop-all"}).status_code == 200

    assert site.everything() == before


def test_a_link_to_leave_does_not_open_the_page(site: Site, reader: int) -> None:
    path = "/manage/" + site.leave_path(reader, "strike").removeprefix("/u/")

    assert site.get(path).status_code == 404
    assert site.post(path, {"do": "stop-all"}).status_code == 404
    assert site.follows(reader) == {"tarrow-flood", "strike"}


def test_made_up_messages_in_the_address_are_not_shown(site: Site, reader: int) -> None:
    path = site.manage_path(reader)
    plain = site.get(path).text

    assert site.get(path + "?done=<script>&story=strike").text == plain
    assert site.get(path + "?done=stopped&story=You+won").text == plain
