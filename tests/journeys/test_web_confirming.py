"""Double opt-in as readers see it: a link opens a page, a button confirms, and every other link confirms nothing."""

from __future__ import annotations

import hashlib
import re

import pytest

from tests.api.serving import SECRET, Site


@pytest.fixture
def path(site: Site) -> str:
    site.publish(site.create_story())
    site.follow("tarrow-flood", "ada@mail.example", cadence="major", catch_up="1")
    return site.confirm_path("ada@mail.example")


def test_the_link_shows_what_it_confirms_and_changes_nothing(site: Site, path: str) -> None:
    before = site.everything()
    page = site.get(path)
    with site.browser() as scanner:
        scanner.head(path)

    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert "Tarrow flood" in page.text
    assert "a…@mail.example" in page.text
    assert "ada@" not in page.text
    assert "Only major and breaking" in page.text
    assert "The latest update, at once" in page.text
    assert re.findall(r"<button[^>]*>([^<]+)</button>", page.text) == ["Yes, follow this story"]
    assert site.everything() == before


def test_the_button_confirms_and_leads_to_the_readers_own_page(site: Site, path: str) -> None:
    answer = site.post(path, {"do": "confirm"})
    page = site.get(answer.headers["location"])

    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/manage/")
    assert "set-cookie" not in answer.headers
    assert "You follow Tarrow flood now." in page.text
    assert '<option value="major" selected>' in page.text
    assert ("catch_up", "ada@mail.example") in site.mails_owed()


def test_the_browser_that_asked_comes_along_only_if_the_reader_says_so(site: Site) -> None:
    site.create_story()
    for email, ticked, channels in (("ada@mail.example", {}, "{email}"), ("bo@mail.example", {"browser": "1"}, None)):
        alone = site.look("INSERT INTO subscribers (locale) VALUES ('en') RETURNING id")[0][0]
        site.add_device(alone, "Firefox on <b>Linux</b>")
        token = site.manage_path(alone).removeprefix("/manage/")
        site.follow(email=email, device=token)
        path = site.confirm_path(email)
        page = site.get(path).text
        box = re.search(r'<input type="checkbox"[^>]*>', page)
        assert box is not None
        assert "checked" not in box[0]
        assert f'data-asked-by="{hashlib.sha256(token.encode()).hexdigest()}"' in box[0]
        assert "Firefox on &lt;b&gt;Linux" in page
        assert token not in page

        assert site.post(path, {"do": "confirm", **ticked}).status_code == 303
        [(found,)] = site.look(
            "SELECT f.channels::text FROM subscriptions f JOIN subscribers s ON s.id = f.subscriber_id"
            " WHERE s.email = %s",
            email,
        )
        assert found == (channels or "{email,webpush}")
        assert site.look("SELECT count(*) FROM subscribers WHERE id = %s", alone) == [(0 if ticked else 1,)]


def test_a_second_press_is_told_kindly_that_all_is_done(site: Site, path: str) -> None:
    site.post(path)
    once = site.everything()
    for answer in (site.post(path), site.get(path)):
        assert answer.status_code == 404
        assert "If you have pressed the button already, all is well." in answer.text

    assert site.everything() == once


def test_expired_used_forged_and_truncated_links_are_told_the_same(site: Site, path: str) -> None:
    token = path.removeprefix("/confirm/")
    swapped = ("A" if token[0] != "A" else "B") + token[1:]
    reader = site.add_reader()
    others = (site.manage_path(reader), site.leave_path(reader, "tarrow-flood"))
    bad = [
        token[:-1],
        token + "A",
        swapped,
        token[:-1] + "%00",
        "x",
        "%ff%fe",
        *(each.split("/")[2] for each in others),
    ]
    answers = [method(f"/confirm/{each}") for each in bad for method in (site.get, site.post)]
    site.look("UPDATE confirmations SET expires_at = now() - interval '1 second'")
    answers += [site.get(path), site.post(path)]

    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    assert site.follows(reader) == set()
    assert site.look("SELECT used_at FROM confirmations") == [(None,)]


def test_another_site_cannot_confirm_for_a_reader(site: Site, path: str) -> None:
    answer = site.post(path, Origin="https://evil.example")

    assert answer.status_code == 403
    assert site.look("SELECT count(*) FROM subscribers") == [(0,)]


def test_a_story_that_closed_meanwhile_offers_the_one_that_goes_on(site: Site, path: str) -> None:
    site.create_story("talks", headline="School pay talks")
    site.close_story("tarrow-flood", successor="talks")
    shown, pressed = site.get(path), site.post(path)

    assert (shown.status_code, pressed.status_code) == (200, 409)
    for page in (shown, pressed):
        assert "This story has closed" in page.text
        assert 'href="/s/talks#follow"' in page.text
        assert "<button" not in page.text
    assert site.look("SELECT count(*) FROM subscribers") == [(0,)]


def test_the_page_speaks_the_language_in_which_the_reader_asked(site: Site) -> None:
    site.create_story()
    site.follow(headers={"Accept-Language": "uk"})
    page = site.get(site.confirm_path(), **{"Accept-Language": "en"})

    assert page.headers["content-language"] == "uk"


def test_no_link_in_a_mail_or_on_a_page_of_a_readers_changes_anything_by_being_looked_at(site: Site, path: str) -> None:
    own = site.post(path).headers["location"].partition("?")[0]
    reader = site.look("SELECT id FROM subscribers")[0][0]
    site.add_device(reader)
    site.follow("tarrow-flood", "eve@mail.example")
    waiting = [own, own + "/erase", site.leave_path(reader), site.leave_path(reader, "tarrow-flood")]
    waiting += [site.confirm_path("eve@mail.example"), "/s/tarrow-flood", "/embed/tarrow-flood", "/lost", "/"]
    before = site.everything()
    seen: set[str] = set()
    with site.browser() as scanner:
        while waiting:
            address = waiting.pop()
            if address in seen or address.startswith("//"):
                continue
            seen.add(address)
            assert scanner.head(address).status_code < 500
            page = scanner.get(address)
            for query in ("do=stop-all", "do=erase", "List-Unsubscribe=One-Click", "confirm=1"):
                scanner.get(f"{address.partition('#')[0]}?{query}")
            waiting += re.findall(r'(?:href|src|action|formaction)="(/[^"]*)"', page.text)

    assert own + "/erase" in seen
    assert len(seen) > 15
    assert site.everything() == before
    assert SECRET not in "".join(seen)
