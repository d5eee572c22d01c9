"""Into the desk and out of it, over HTTP."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace

import pyotp
import pytest

from dispatcher.people import signing
from dispatcher.roles import Role
from tests.api.serving import Site, running, settings_for
from tests.journeys.desks import PASSWORD, employ, field_of, first_link, invite, tab, turn_codes_on

ADA = "ada@courier.example"


def test_the_first_lead_comes_in_by_the_link_that_is_printed_once_and_lets_others_in(site: Site) -> None:
    path = first_link(site)
    with tab(site) as ada, tab(site) as ben:
        answer = ada.submit(path, name="Ada", email=ADA, password=PASSWORD, again=PASSWORD)
        assert (answer.status_code, answer.headers["location"]) == (303, "/desk")
        assert ada.get("/desk/people").status_code == 200
        assert ben.get(path).status_code == 404
        assert ben.get(path.replace("setup", "invitation")).status_code == 404

        page = ada.submit("/desk/people", do="invite", email="ben@courier.example", role="editor").text
        link = re.search(r'value="(http[^"]+/desk/invitation/[^"]+)"', page)
        assert link is not None
        joining = link[1].removeprefix(site.url)
        assert ben.submit(joining, name="Ben", password=PASSWORD, again=PASSWORD).status_code == 303
        assert ben.is_in()
        assert ben.get("/desk/people").status_code == 403
        assert ben.get(joining).status_code == 404


def test_whoever_is_not_signed_in_is_led_to_the_door_and_back_to_where_they_wanted_to_go(site: Site) -> None:
    employ(site)
    with tab(site) as ada:
        door = ada.get("/desk/log?actor=x").headers["location"]
        assert door == "/desk/sign-in?next=%2Fdesk%2Flog%3Factor%3Dx"
        page = ada.get(door).text
        assert field_of(page, "next") == "/desk/log?actor=x"
        sent = {"csrf": field_of(page, "csrf"), "next": "/desk/log?actor=x", "email": ADA, "password": PASSWORD}
        assert ada.client.post("/desk/sign-in", data=sent).headers["location"] == "/desk/log?actor=x"


@pytest.mark.parametrize(
    "wish",
    ["https://evil.example", "//evil.example", "/desk//evil.example", "/desk\\@evil", "/desk/../x", "/s/dam", "desk"],
)
def test_the_door_leads_nowhere_but_to_the_desk(site: Site, wish: str) -> None:
    employ(site)
    with tab(site) as ada:
        answer = ada.submit("/desk/sign-in", email=ADA, password=PASSWORD, next=wish)
        assert answer.headers["location"] == "/desk"


def test_what_was_wrong_is_never_told(site: Site) -> None:
    employ(site)
    answers = []
    with tab(site) as eve:
        for email in (ADA, "nobody@courier.example"):
            answer = eve.submit("/desk/sign-in", email=email, password="not the password")
            answers.append((answer.status_code, answer.text.replace(email, "EMAIL")))
        assert not eve.is_in()

    assert answers[0] == answers[1]
    assert answers[0][0] == 401


def test_the_eleventh_try_is_refused_whoever_it_is_and_with_whatever_password(site: Site) -> None:
    employ(site)
    for email in (ADA, "nobody@courier.example"):
        with tab(site) as eve:
            csrf = eve.csrf("/desk/sign-in")
            tries = [
                eve.client.post("/desk/sign-in", data={"csrf": csrf, "email": email, "password": f"guess {number}"})
                for number in range(signing.MOST_TRIES)
            ]
            right = eve.client.post("/desk/sign-in", data={"csrf": csrf, "email": email, "password": PASSWORD})

        assert {each.status_code for each in tries} == {401}
        assert right.status_code == 429
        assert "desk" not in right.cookies


def test_codes_are_asked_for_after_the_password_and_open_nothing_before(site: Site) -> None:
    employ(site)
    with tab(site, ADA) as ada:
        totp, shown = turn_codes_on(ada)
    assert len(shown) == 10

    with tab(site) as again:
        answer = again.sign_in(ADA)
        assert answer.headers["location"] == "/desk/code"
        for path in ("/desk", "/desk/me", "/desk/people", "/desk/log"):
            assert again.get(path).headers["location"] == "/desk/code"
        assert again.submit("/desk/code", code=totp.now()).status_code == 401, "this one was used to turn codes on"
        answer = again.submit("/desk/code", code=totp.at(time.time() + 30))
        assert (answer.status_code, answer.headers["location"]) == (303, "/desk")
        assert again.is_in()

    with tab(site) as third:
        third.sign_in(ADA)
        assert third.submit("/desk/code", code=shown[0]).status_code == 303
        assert third.is_in()
    with tab(site) as fourth:
        fourth.sign_in(ADA)
        assert fourth.submit("/desk/code", code=shown[0]).status_code == 401
        assert not fourth.is_in()


def test_the_picture_to_scan_holds_what_the_key_beside_it_says(site: Site) -> None:
    employ(site)
    with tab(site, ADA) as ada:
        page = ada.get("/desk/me/codes").text

    assert "<svg" in page
    assert "style=" not in page
    assert len(pyotp.TOTP(re.findall(r'class="key">([A-Z2-7 ]+)<', page)[0].replace(" ", "")).now()) == 6


def test_signing_out_ends_the_session_and_not_only_the_cookie(site: Site) -> None:
    employ(site)
    with tab(site, ADA) as ada, tab(site) as thief:
        stolen = dict(ada.client.cookies)
        assert ada.submit("/desk/sign-out", page="/desk").headers["location"] == "/desk/sign-in?done=out"
        assert not ada.is_in()
        thief.client.cookies.update(stolen)
        assert not thief.is_in()


@pytest.mark.parametrize("change", ["password", "codes", "role", "others", "end"])
def test_every_other_session_is_dead_within_a_second_of_a_change(site: Site, change: str) -> None:
    employ(site)
    boss = employ(site, "boss@courier.example")
    with tab(site, ADA) as mine, tab(site, ADA) as other, tab(site, boss) as lead:
        number = str(site.look("SELECT id FROM people WHERE email = %s", ADA)[0][0])
        if change == "password":
            new = "another four words"
            mine.submit("/desk/me", do="password", current=PASSWORD, password=new, again=new)
        elif change == "codes":
            turn_codes_on(mine)
        elif change == "role":
            lead.submit("/desk/people", do=f"role:{number}", role="editor")
        elif change == "others":
            mine.submit("/desk/me", do="others")
        else:
            lead.submit("/desk/people", do=f"end:{number}")

        assert not other.is_in()
        assert mine.is_in() == (change in {"password", "codes", "others"})


def test_a_new_password_by_link_does_not_skip_the_code(site: Site) -> None:
    employ(site)
    boss = employ(site, "boss@courier.example")
    with tab(site, ADA) as ada, tab(site, boss) as lead, tab(site) as fresh:
        totp, _ = turn_codes_on(ada)
        number = site.look("SELECT id FROM people WHERE email = %s", ADA)[0][0]
        page = lead.submit("/desk/people", do=f"link:{number}").text
        path = re.findall(r'value="http[^"]+(/desk/invitation/[^"]+)"', page)[0]
        new = "another four words"
        answer = fresh.submit(path, password=new, again=new)

        assert answer.headers["location"] == "/desk/code"
        assert not fresh.is_in()
        assert not ada.is_in()
        assert fresh.submit("/desk/code", code=totp.at(time.time() + 30)).status_code == 303
        assert fresh.is_in()


def test_a_link_for_somebody_else_shows_no_form_of_whoever_is_signed_in(site: Site) -> None:
    employ(site)
    path = invite(site, "ben@courier.example", Role.REPORTER)
    with tab(site, ADA) as opened:
        assert "Sign out" not in opened.get(path).text
        assert opened.submit(path, name="Ben", password=PASSWORD, again=PASSWORD).status_code == 303
        page = opened.get("/desk").text
        assert ">Ben<" in page
        assert opened.submit("/desk/sign-out", page="/desk").status_code == 303


def test_two_passwords_that_differ_use_up_no_link(site: Site) -> None:
    path = invite(site, ADA, Role.EDITOR)
    with tab(site) as ada:
        answer = ada.submit(path, name="Ada", password=PASSWORD, again="something else")
        assert answer.status_code == 422
        assert "differ" in answer.text
        assert PASSWORD not in answer.text
        assert ada.submit(path, name="Ada", password=PASSWORD, again=PASSWORD).status_code == 303


@pytest.fixture
def https_site(database_url: str, broker_url: str) -> Iterator[Site]:
    """A site behind a proxy with a certificate."""
    settings = replace(settings_for(database_url, broker_url), public_url="https://alerts.courier.example")
    with running(settings) as found:
        yield found


def test_cookies_are_for_this_host_for_https_and_for_no_script(https_site: Site) -> None:
    employ(https_site)
    with https_site.browser() as client:
        door = client.get("/desk/sign-in")
        first = door.headers["set-cookie"]
        name, _, value = first.partition(";")[0].partition("=")
        answer = client.post(
            "/desk/sign-in",
            data={"csrf": field_of(door.text, "csrf"), "email": ADA, "password": PASSWORD},
            headers={"Cookie": f"{name}={value}"},
        )
        assert answer.status_code == 303
        given = answer.headers["set-cookie"]
        for cookie, called in ((first, "__Host-desk-form="), (given, "__Host-desk=")):
            parts = {each.strip().lower() for each in cookie.split(";")[1:]}
            assert cookie.startswith(called)
            assert {"secure", "httponly", "samesite=lax", "path=/"} <= parts
            assert not any(each.startswith("domain") for each in parts)
        token = given.partition(";")[0]
        assert client.get("/desk", headers={"Cookie": token}).status_code == 200
        assert client.get("/desk", headers={"Cookie": token.replace("__Host-", "")}).status_code == 303
