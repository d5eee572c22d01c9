"""What holds for every address of the desk: who may come, whose forms count, and what nobody is told."""

from __future__ import annotations

import psycopg
import pytest
from starlette.routing import Route

from dispatcher.roles import Role, What, may
from dispatcher.web.desk.routes import routes
from tests.api.serving import Site
from tests.journeys.desks import PASSWORD, employ, invite, tab

ADA = "ada@courier.example"
DOORS = {"/desk/sign-in", "/desk/setup/{token}", "/desk/invitation/{token}", "/desk/oidc", "/desk/oidc/back"}
UPDATE = "/desk/stories/{slug}/updates/{seq}"
#: Who may come where, apart from those doors. A route that is not here fails the test.
NEEDS = {
    **{f"{UPDATE}{rest}": What.SEE for rest in ("", "/events", "/readers", "/readers.csv")},
    **{f"{UPDATE}/{verb}": What.STEER for verb in ("steer", "replace", "correct", "withdraw")},
    "/desk": What.SEE,
    "/desk/jump": What.SEE,
    "/desk/slug": What.SEND,
    "/desk/stories/new": What.SEND,
    "/desk/stories/{slug}": What.SEE,
    **{f"/desk/stories/{{slug}}/{verb}": What.SEND for verb in ("edit", "close", "merge")},
    "/desk/stories/{slug}/follow-up": What.WRITE,
    "/desk/code": What.SEE,
    "/desk/code/leave": What.SEE,
    "/desk/sign-out": What.SEE,
    "/desk/me": What.SEE,
    "/desk/me/codes": What.SEE,
    "/desk/people": What.PEOPLE,
    "/desk/log": What.LOG,
    "/desk/drafts": What.WRITE,
    **{f"/desk/drafts/{{id}}{rest}": What.WRITE for rest in ("", "/save", "/present", "/preview")},
    "/desk/drafts/{id}/approve": What.APPROVE,
    "/desk/stories/{slug}/write": What.WRITE,
    "/desk/health": What.SEE,
    "/desk/settings": What.SETTINGS,
    "/desk/tokens": What.SETTINGS,
    "/desk/subscribers": What.READERS,
    "/desk/subscribers/{id}": What.READERS,
    "/desk/suppressions": What.READERS,
    **{f"/desk/import{rest}": What.READERS for rest in ("", "/{id}", "/{id}/lines.csv")},
}


def every_route() -> list[tuple[str, str]]:
    """Every method and path of the desk, with something in place of tokens."""
    return [
        (method, route.path)
        for route in routes()
        if isinstance(route, Route)
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]


def filled(path: str) -> str:
    return path.replace("{token}", "A" * 43)


def test_every_address_of_the_desk_is_in_the_table() -> None:
    assert {path for _, path in every_route()} == DOORS | NEEDS.keys()


def test_nobody_sees_or_changes_anything_without_a_session(site: Site) -> None:
    employ(site)
    site.create_story(headline="The secret story")
    before = site.everything()
    with tab(site) as stranger:
        for method, path in every_route():
            answer = stranger.client.request(method, filled(path))
            assert answer.status_code in ({303, 404} if method == "GET" else {403}) or path == "/desk/sign-in", path
            assert "secret story" not in answer.text
    assert site.everything() == before


@pytest.mark.parametrize("role", list(Role))
def test_each_role_comes_where_its_role_leads_and_nowhere_else(site: Site, role: Role) -> None:
    employ(site, "boss@courier.example")
    email = employ(site, "somebody@courier.example", role)
    with tab(site, email) as opened:
        for path, what in NEEDS.items():
            for method in [method for method, each in every_route() if each == path]:
                if path in {"/desk/sign-out", "/desk/code", "/desk/code/leave"}:
                    continue
                csrf = opened.csrf("/desk")
                answer = opened.client.request(
                    method,
                    path,
                    data={"csrf": csrf, "do": "nothing"} if method == "POST" else None,
                    files={"file": ("a.csv", b"")} if (method, path) == ("POST", "/desk/import") else None,
                )
                assert (answer.status_code == 403) == (not may(role, what)), (method, path)
                assert answer.status_code in {200, 303, 403, 404, 422}


ATTACKS = {
    "no token": {},
    "an empty token": {"csrf": ""},
    "a token of somebody else": {"csrf": "THEIRS"},
    "a made-up token": {"csrf": "a" * 48},
    "letters that no token has": {"csrf": "é\ud7ff"},
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_form_counts_without_the_token_of_this_very_session(site: Site, attack: str) -> None:
    employ(site)
    employ(site, "eve@courier.example")
    with tab(site, ADA) as ada, tab(site, "eve@courier.example") as eve:
        theirs = eve.csrf("/desk")
        assert theirs != ada.csrf("/desk")
        fields = {key: theirs if value == "THEIRS" else value for key, value in ATTACKS[attack].items()}
        before = site.everything()
        for method, path in every_route():
            if method == "POST":
                answer = ada.client.post(filled(path), data={**fields, "do": "others", "email": ADA})
                assert answer.status_code == 403, path
        assert site.everything() == before
        assert ada.is_in()


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json"},
        {"Content-Type": "multipart/form-data; boundary=x"},
    ],
)
def test_no_form_of_another_site_counts_even_with_the_right_token(site: Site, headers: dict[str, str]) -> None:
    employ(site)
    with tab(site, ADA) as ada:
        content = f"csrf={ada.csrf('/desk')}&do=others&email=x%40y.example&role=lead"
        visitors = f"csrf={ada.csrf('/desk/invitation/' + invite(site, 'new@courier.example').rpartition('/')[2])}"
        before = site.everything()
        for method, path in every_route():
            if method == "POST":
                body = visitors if path in DOORS else content
                sent = {"Content-Type": "application/x-www-form-urlencoded", **headers}
                answer = ada.client.post(filled(path), content=body, headers=sent)
                assert answer.status_code == 403, path
        assert site.everything() == before


def test_a_form_of_the_door_belongs_to_the_browser_that_got_it(site: Site) -> None:
    employ(site)
    with tab(site) as mine, tab(site) as theirs:
        foreign = theirs.csrf("/desk/sign-in")
        mine.get("/desk/sign-in")
        sent = {"csrf": foreign, "email": ADA, "password": PASSWORD}
        assert mine.client.post("/desk/sign-in", data=sent).status_code == 403
        with tab(site) as without_cookie:
            assert without_cookie.client.post("/desk/sign-in", data=sent).status_code == 403


def test_looking_at_the_desk_changes_nothing(site: Site) -> None:
    employ(site)
    path = invite(site, "ben@courier.example")
    with tab(site, ADA) as ada:
        before = site.everything()
        for each in [*NEEDS, "/desk/sign-in", path]:
            ada.client.head(each)
            ada.get(each)
        assert site.everything() == before


def test_pages_of_the_desk_are_kept_by_nobody_and_run_nothing_of_others(site: Site) -> None:
    employ(site)
    with tab(site, ADA) as ada:
        for path in NEEDS:
            answer = ada.get(path)
            if answer.status_code == 200:
                assert answer.headers["cache-control"] == "no-store"
                assert "unsafe-inline" not in answer.headers["content-security-policy"]
                assert "noindex" in answer.headers["x-robots-tag"]
                assert " style=" not in answer.text
                assert "<script>" not in answer.text
                assert " onclick" not in answer.text


HOSTILE = "<script>alert(1)</script>{{ 7 * 7 }}\"'"


def test_names_of_people_and_stories_are_text_and_nothing_else(site: Site) -> None:
    employ(site)
    site.create_story(headline=HOSTILE)
    path = invite(site, "eve@courier.example", Role.REPORTER)
    with tab(site) as eve, tab(site, ADA) as ada:
        assert eve.submit(path, name=HOSTILE, password=PASSWORD, again=PASSWORD).status_code == 303
        for page in (
            ada.get("/desk").text,
            ada.get("/desk/people").text,
            ada.get("/desk/log").text,
            eve.get("/desk/me").text,
        ):
            assert "<script>alert" not in page
            assert "49" not in page.partition("7 * 7")[0][-3:]


def test_a_dump_of_the_database_opens_nothing(site: Site) -> None:
    employ(site)
    with tab(site, ADA) as ada:
        cookie = ada.client.cookies["desk"]
        link = invite(site, "ben@courier.example").rpartition("/")[2]
        token = site.token
        dump = repr(site.everything())

    for secret in (cookie, link, token, PASSWORD):
        assert secret not in dump
        assert secret.encode().hex() not in dump


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit", "TRUNCATE audit"])
def test_the_log_is_only_added_to(own_site: Site, statement: str) -> None:
    employ(own_site)
    with pytest.raises(psycopg.Error, match="only added to"):
        own_site.look(statement)


def test_the_log_shows_who_did_what_and_can_be_filtered_and_turned(site: Site) -> None:
    employ(site)
    employ(site, "ben@courier.example", Role.EDITOR)
    with tab(site, "ben@courier.example") as ben:
        page = ben.get("/desk/log").text
        assert "joined" in page
        assert "ben@courier.example" in page
        only = ben.get("/desk/log?actor=ada%40courier.example").text
        assert "ada@courier.example" in only
        assert "ben@courier.example" not in only.partition("<table")[2]
        site.look("INSERT INTO audit (actor, action) SELECT 'many', 'did ' || n FROM generate_series(1, 120) n")
        first = ben.get("/desk/log?actor=many").text
        assert "did 120<" in first.partition("<table")[2]
        assert "did 70<" not in first.partition("<table")[2]
        older = first.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
        assert "did 70<" in ben.get(older).text.partition("<table")[2]


def test_the_list_of_stories_shows_followers_by_channel_and_can_be_searched(site: Site) -> None:
    employ(site, role=Role.REPORTER)
    site.create_story("dam", "The dam")
    site.create_story("tunnel", "The 100% tunnel")
    for _ in range(3):
        site.add_reader("dam")
    site.publish("dam", "Water is over the wall", importance="breaking")
    with tab(site, ADA) as ada:
        page = ada.get("/desk").text
        assert "3 readers, 1 update<" in page
        assert "Breaking" in page
        assert "Sending now" in page
        assert "The dam" not in ada.get("/desk?q=100%25").text.partition("<table")[2]
        assert "100% tunnel" in ada.get("/desk?q=100%25").text
        assert "No story matches" in ada.get("/desk?q=_nothing%00").text
