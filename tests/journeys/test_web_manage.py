"""Readers manage what they follow, on a page that their link opens."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

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
    # Enough for the reader to know which of their addresses it is, and too little for whoever was sent the link.
    assert "For r…@mail.example." in page.text
    assert page.text.count("@") == 1


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


def test_channels_are_chosen_once_there_is_a_choice(site: Site, reader: int) -> None:
    assert "channels:strike" not in site.get(site.manage_path(reader)).text
    site.add_device(reader)
    assert site.get(site.manage_path(reader)).text.count('name="channels:strike"') == 2
    form = {"do": "save", "where:strike": "1", "channels:strike": "webpush"}
    assert site.post(site.manage_path(reader), form).status_code == 303

    assert site.look(CHANNELS) == [("strike", ["webpush"]), ("tarrow-flood", ["email"])]


CHANNELS = "SELECT s.slug, f.channels::text[] FROM subscriptions f JOIN stories s ON s.id = f.story_id ORDER BY s.slug"


@pytest.mark.parametrize("channel", ["", "fax", "webpush"])
def test_a_story_without_a_channel_that_reaches_the_reader_is_refused(site: Site, reader: int, channel: str) -> None:
    form = {"do": "save", "where:strike": "1", "cadence:strike": "major"}
    answer = site.post(site.manage_path(reader), {**form, "channels:strike": channel} if channel else form)

    assert answer.status_code == 422
    assert cadences(site) == [("strike", "every"), ("tarrow-flood", "every")]


def test_everything_is_paused_until_a_day_and_goes_on_when_the_reader_says_so(site: Site, reader: int) -> None:
    site.look("UPDATE subscribers SET timezone = 'Pacific/Auckland'")
    until = datetime.now(ZoneInfo("Pacific/Auckland")).date() + timedelta(days=3)
    page = press(site, reader, do="pause", until=until.isoformat())
    told = f"{until:%-d %B %Y}"
    (ends,) = site.look("SELECT paused_until FROM subscribers")[0]

    assert page.count(told) == 2
    assert ends == datetime.combine(until + timedelta(days=1), time(), ZoneInfo("Pacific/Auckland"))
    resumed = press(site, reader, do="resume")
    assert told not in resumed
    assert site.look("SELECT paused_until FROM subscribers") == [(None,)]


@pytest.mark.parametrize("until", ["", "soon", "2020-01-01", "2999-01-01", "2026-13-01", "0"])
def test_a_pause_needs_a_day_that_is_to_come(site: Site, reader: int, until: str) -> None:
    assert site.post(site.manage_path(reader), {"do": "pause", "until": until}).status_code == 422
    assert site.look("SELECT paused_until FROM subscribers") == [(None,)]


def test_quiet_hours_are_kept_and_given_up(site: Site, reader: int) -> None:
    hours = {"quiet_from": "23:00", "quiet_to": "06:30", "timezone": "Europe/Kyiv"}
    answer = site.post(site.manage_path(reader), {"do": "quiet", **hours})
    page = site.get(site.manage_path(reader) + answer.headers["location"]).text
    kept = site.look("SELECT quiet_from, quiet_to, quiet_breaking, timezone FROM subscribers")

    assert "Your quiet hours hold from now on." in page
    assert kept == [(time(23), time(6, 30), False, "Europe/Kyiv")]
    assert 'value="23:00"' in page
    assert '<option value="Europe/Kyiv" selected>' in page
    site.post(site.manage_path(reader), {"do": "loud", "timezone": "Europe/Kyiv"})
    assert site.look("SELECT quiet_from, quiet_to FROM subscribers") == [(None, None)]


@pytest.mark.parametrize(
    "wrong",
    [{"quiet_from": ""}, {"quiet_to": "25:00"}, {"quiet_to": "23:00"}, {"timezone": "Mars/Olympus"}, {"timezone": ""}],
)
def test_quiet_hours_that_make_no_sense_are_refused(site: Site, reader: int, wrong: dict[str, str]) -> None:
    hours = {"quiet_from": "23:00", "quiet_to": "06:30", "timezone": "Europe/Kyiv"}

    assert site.post(site.manage_path(reader), {"do": "quiet", **hours, **wrong}).status_code == 422
    assert site.look("SELECT quiet_from FROM subscribers") == [(None,)]


def test_the_page_speaks_the_language_that_the_reader_chooses(site: Site, reader: int) -> None:
    site.post(site.manage_path(reader), {"do": "language", "language": "uk"})
    page = site.get(site.manage_path(reader), **{"Accept-Language": "en"})

    assert page.headers["content-language"] == "uk"
    assert site.post(site.manage_path(reader), {"do": "language", "language": "xx"}).status_code == 422


def test_a_browser_is_removed_and_only_by_its_own_reader(site: Site, reader: int) -> None:
    mine, other = site.add_device(reader), site.add_device(site.add_reader(), name="Safari on a Mac")
    page = site.get(site.manage_path(reader)).text
    assert "Firefox on Android" in page
    assert "Safari on a Mac" not in page
    site.post(site.manage_path(reader), {"do": f"remove:{other}"})
    page = press(site, reader, do=f"remove:{mine}")

    assert "That browser gets no more alerts." in page
    assert site.look("SELECT id FROM devices") == [(other,)]
    assert site.post(site.manage_path(reader), {"do": "remove:x"}).status_code == 422


def test_a_reader_takes_their_data_along(site: Site, reader: int) -> None:
    other = site.add_reader("strike")
    answer = site.post(site.manage_path(reader), {"do": "export"})
    found = answer.json()

    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == 'attachment; filename="my-alerts.json"'
    assert answer.headers["cache-control"] == "no-store"
    assert found["reader"]["email"] == f"reader{reader}@mail.example"
    assert len(found["stories"]) == 2
    assert f"reader{other}@" not in answer.text


def test_a_reader_is_erased_with_a_second_button_and_nothing_of_them_is_left(site: Site, reader: int) -> None:
    site.add_device(reader)
    own = site.manage_path(reader)
    before = site.everything()
    asking = site.get(own + "/erase")
    assert asking.text.count("<button") == 1
    assert site.everything() == before
    erased = site.post(own + "/erase", {"do": "erase"})
    again = site.post(own + "/erase", {"do": "erase"})
    left = str(site.everything())

    assert (erased.status_code, again.status_code) == (200, 200)
    assert "You are erased" in erased.text
    assert "reader1@" not in left
    assert "Firefox on Android" not in left
    assert "Nothing is kept here any more" in site.get(own).text
    assert site.post(own + "/erase", Origin="https://evil.example").status_code == 403


def test_a_browser_without_an_address_sees_no_mail_on_its_page(site: Site, reader: int) -> None:
    rows = site.look("INSERT INTO subscribers (locale) VALUES ('en') RETURNING id")
    alone = int(rows[0][0])
    site.add_device(alone)
    site.look(
        "INSERT INTO subscriptions (story_id, subscriber_id, channels, confirmed_at)"
        " SELECT id, %s, '{webpush}', now() FROM stories WHERE slug = 'strike'",
        alone,
    )
    page = site.get(site.manage_path(alone)).text

    assert "This page belongs to this browser" in page
    assert "School strike" in page
    assert "channels:strike" not in page
    assert "link in your mails" not in page
    assert site.post(site.manage_path(alone), {"do": "save", "cadence:strike": "major"}).status_code == 303


def test_made_up_messages_in_the_address_are_not_shown(site: Site, reader: int) -> None:
    path = site.manage_path(reader)
    plain = site.get(path).text

    assert site.get(path + "?done=<script>&story=strike").text == plain
    assert site.get(path + "?done=stopped&story=You+won").text == plain
