"""Readers follow a story by a form, and nothing about its answer tells whether their address is known."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlencode

import httpx2
import pytest

from dispatcher.embedded.valkey import Valkey
from tests.api.serving import Site, running, settings_for
from tests.journeys.test_web_push import subscription
from tests.support.directories import running as run_part
from tests.support.directories import service_directory

PARTNER = "https://www.courier.example"


@pytest.fixture
def story(site: Site) -> str:
    site.publish(site.create_story(summary="The river is high."))
    return "tarrow-flood"


@pytest.fixture
def braked(database_url: str) -> Iterator[Site]:
    """A site where more than three asks a minute want a proof of work, with a broker of its own."""
    with service_directory() as directory, run_part(Valkey(directory / "valkey")) as valkey:
        settings = settings_for(database_url, valkey.url, brake=3)
        with running(settings) as found:
            found.create_story()
            yield found


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_a_story_offers_to_be_followed_by_mail_with_a_form_that_needs_no_script(site: Site, story: str) -> None:
    page = site.get(f"/s/{story}").text
    form = page.split('<form class="card stack follow"')[1].split("</form>")[0]

    assert f'action="/s/{story}/follow"' in form
    assert re.findall(r'name="cadence" value="(\w+)"', form) == ["every", "major", "daily", "weekly"]
    assert 'name="catch_up" value="1" checked' in form
    assert form.count("<button") == 1
    assert re.search(r'<label class="pick" data-push hidden>', form)


def test_an_ask_leads_to_a_page_that_says_what_to_do_now(site: Site, story: str) -> None:
    answer = site.follow(story, "ada@mail.example", cadence="major", catch_up="1")
    page = site.get(answer.headers["location"])

    assert answer.status_code == 303
    assert answer.headers["location"] == f"/s/{story}/asked"
    assert "Check your email" in page.text
    assert "Nothing has come?" in page.text
    assert "alerts@courier.example" in page.text
    assert "ada@" not in page.text
    assert "set-cookie" not in answer.headers
    site.confirm_path("ada@mail.example")
    assert site.mails_owed() == [("confirm", "ada@mail.example")]


def test_a_form_that_is_sent_twice_brings_one_mail(site: Site, story: str) -> None:
    first, second = site.follow(story), site.follow(story)
    site.confirm_path()

    assert (first.status_code, first.headers["location"]) == (second.status_code, second.headers["location"])
    assert site.mails_owed() == [("confirm", "ada@mail.example")]


@pytest.mark.parametrize(
    "email",
    [
        *("", "ada", "ada@", "@mail.example", "ada@mail", "a b@mail.example", "a" * 310 + "@mail.example"),
        *("ada@mail.example\r\nBcc: eve@evil.example", 'ada"<script>@mail.example', "ada\0@mail.example"),
        "ada@mail.example (a comment)",
    ],
)
def test_a_wrong_address_brings_the_form_back_and_says_what_is_wrong(site: Site, story: str, email: str) -> None:
    before = site.everything()
    answer = site.follow(story, email, cadence="weekly")
    field = re.search(r'<input id="email"[^>]*>', answer.text)

    assert answer.status_code == 422
    assert field
    assert 'aria-invalid="true" autofocus' in field[0]
    assert 'aria-describedby="email-wrong email-help"' in field[0]
    assert "We cannot write to this address." in answer.text.split('id="email-wrong"')[1]
    assert 'value="weekly" checked' in answer.text
    assert 'name="catch_up" value="1" checked' not in answer.text
    assert "<script>@" not in answer.text
    assert site.everything() == before


def test_what_was_typed_stays_in_the_form(site: Site, story: str) -> None:
    answer = site.follow(story, "ada@mail", catch_up="1")

    assert 'value="ada@mail"' in answer.text
    assert 'name="catch_up" value="1" checked' in answer.text


def test_an_address_of_another_alphabet_is_taken(site: Site, story: str) -> None:
    assert site.follow(story, "ada@bücher.example").status_code == 303


def test_a_story_that_does_not_exist_cannot_be_followed(site: Site, story: str) -> None:
    before = site.everything()
    for slug in ("nothing", "..%2ftarrow-flood", "1", "%00", "tarrow-flood'--"):
        assert site.follow(slug).status_code == 404, slug

    assert site.everything() == before


def test_a_closed_story_offers_the_one_that_goes_on_and_keeps_the_address(site: Site, story: str) -> None:
    site.create_story("talks", headline="School pay talks")
    site.close_story(story, successor="talks")
    for page in (site.get(f"/s/{story}").text, site.follow(story, "ada@mail.example").text):
        assert 'action="/s/talks/follow"' in page
        assert "Follow “School pay talks”" in page
    answer = site.follow(story, "ada@mail.example")

    assert answer.status_code == 409
    assert 'value="ada@mail.example"' in answer.text
    assert site.look("SELECT count(*) FROM asks") == [(0,)]


def test_a_closed_story_without_a_successor_offers_nothing(site: Site, story: str) -> None:
    site.close_story(story)
    page = site.get(f"/s/{story}").text

    assert "<form" not in page
    assert "There will be no more updates." in page
    assert site.follow(story).status_code == 409


@pytest.mark.parametrize("cadence", ["hourly", "EVERY", "every\0"])
def test_a_choice_that_was_not_offered_is_refused(site: Site, story: str, cadence: str) -> None:
    assert site.follow(story, cadence=cadence).status_code == 422
    assert site.look("SELECT count(*) FROM asks") == [(0,)]


def test_a_machine_that_fills_in_everything_is_thanked_and_not_heard(site: Site, story: str) -> None:
    person, machine = site.follow(story), site.follow(story, website="https://spam.example")

    assert (machine.status_code, machine.headers["location"]) == (person.status_code, person.headers["location"])
    assert site.look("SELECT count(*) FROM asks") == [(1,)]


def test_one_client_asks_twenty_times_an_hour_whatever_it_says_where_it_is(database_url: str, broker_url: str) -> None:
    settings = settings_for(database_url, broker_url, trusted_proxies=())
    with running(settings) as site:
        site.create_story()
        answers = [site.follow(email=f"ada{number}@mail.example") for number in range(21)]

        assert [answer.status_code for answer in answers] == [303] * 20 + [429]
        assert "That was asked too often from your network." in answers[-1].text
        assert 'value="ada20@mail.example"' in answers[-1].text
        assert answers[-1].headers["retry-after"] == "3600"
        assert site.look("SELECT count(*) FROM asks") == [(20,)]


def test_a_trusted_proxy_says_who_asks_and_a_client_behind_it_cannot(site: Site, story: str) -> None:
    client = site.somewhere()
    answers = [site.follow(story, client=f"203.0.113.{number}, {client}").status_code for number in range(22)]

    assert answers == [303] * 20 + [429] * 2
    assert site.follow(story, client=site.somewhere()).status_code == 303


def solve(puzzle: str) -> str:
    from hashlib import sha256

    return next(str(nonce) for nonce in range(10**7) if sha256(f"{puzzle}:{nonce}".encode()).digest()[:2] == b"\0\0")


def test_in_a_flood_a_form_comes_back_with_a_puzzle_and_is_heard_when_it_is_solved(braked: Site) -> None:
    answers = [braked.follow(email=f"ada{number}@mail.example") for number in range(5)]
    asked = answers[-1]
    found = re.search(r'name="puzzle" value="([\w=-]+)"', asked.text)

    assert [answer.status_code for answer in answers] == [303, 303, 303, 429, 429]
    assert found
    assert 'value="ada4@mail.example"' in asked.text
    assert "Very many people are asking just now." in asked.text
    assert "<noscript>" in asked.text
    solved = {"puzzle": found[1], "answer": solve(found[1])}
    assert braked.follow(email="ada4@mail.example", **solved).status_code == 303
    assert braked.follow(email="eve@mail.example", **solved).status_code == 429
    assert braked.follow(email="eve@mail.example", puzzle=found[1], answer="0").status_code == 429
    assert braked.look("SELECT count(*) FROM asks") == [(4,)]


def test_in_a_flood_a_browser_has_to_work_before_it_follows(braked: Site) -> None:
    """The same brake as that of the forms: whoever floods the one has made the other's senders work too."""
    browsers = [{"story": "tarrow-flood", "subscription": subscription()} for _ in range(5)]
    answers = [braked.push("/push/follow", each) for each in browsers]
    puzzle = answers[-1].json()["puzzle"]
    solved = {"puzzle": puzzle, "answer": solve(puzzle)}

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert braked.push("/push/follow", {**browsers[3], "puzzle": puzzle, "answer": "0"}).status_code == 429
    assert braked.push("/push/follow", {**browsers[3], **solved}).status_code == 200
    assert braked.push("/push/follow", {**browsers[4], **solved}).status_code == 429
    assert braked.look("SELECT count(*) FROM devices") == [(4,)]
    assert braked.follow(email="ada@mail.example").status_code == 429
    assert braked.push("/push/state", browsers[0]).json()["on"]


def test_a_lost_link_is_asked_for_and_the_answer_is_the_same_for_everybody(site: Site, story: str) -> None:
    site.add_reader(story)
    assert "Send me the link" in site.get("/lost").text

    def ask(email: str) -> httpx2.Response:
        return site.post("/lost", {"email": email, "timezone": ""}, **{"X-Forwarded-For": site.somewhere()})

    known, unknown, wrong = ask("reader1@mail.example"), ask("nobody@mail.example"), ask("nobody")
    assert known.status_code == unknown.status_code == 303
    assert _without_date(known) == _without_date(unknown)
    assert known.headers["location"] == "/lost/asked"
    assert "If we know the address" in site.get("/lost/asked").text
    assert wrong.status_code == 422
    assert site.look("SELECT kind::text, email FROM asks ORDER BY id") == [
        ("link", "reader1@mail.example"),
        ("link", "nobody@mail.example"),
    ]


def _without_date(answer: httpx2.Response) -> tuple[int, dict[str, str], bytes]:
    return answer.status_code, {k: v for k, v in answer.headers.items() if k != "date"}, answer.content


@pytest.mark.parametrize("path", ["/s/tarrow-flood/follow", "/lost"])
def test_no_answer_tells_whether_an_address_is_known(site: Site, story: str, path: str) -> None:
    reader = site.add_reader(story)
    assert reader
    site.look("INSERT INTO suppressions (address_hash, reason) SELECT address_hash, 'complaint' FROM subscribers")
    times: dict[str, list[float]] = {"known": [], "unknown": []}
    answers = set()
    with site.browser() as browser:
        for number in range(200):
            for kind, email in (("known", "reader1@mail.example"), ("unknown", f"nobody{number}@mail.example")):
                headers = {"X-Forwarded-For": site.somewhere()}
                data = {"email": email, "cadence": "every", "timezone": "UTC"}
                started = time.perf_counter()
                answer = browser.post(path, data=data, headers=headers)
                times[kind].append(time.perf_counter() - started)
                status, sent, content = _without_date(answer)
                answers.add((status, tuple(sorted(sent.items())), content))

    assert len(answers) == 1, answers
    assert abs(statistics.median(times["known"]) - statistics.median(times["unknown"])) < 0.005


def test_only_sites_that_are_named_may_hold_our_form(site: Site, story: str, database_url: str) -> None:
    def ask(at: Site, **headers: str) -> int:
        return at.follow(headers=headers).status_code

    cross = {"Sec-Fetch-Site": "cross-site"}
    with running(replace(site.settings, embed_origins=(PARTNER,))) as partner:
        assert ask(partner, Origin=PARTNER, **cross) == 303
        assert ask(partner, Origin="https://evil.example", **cross) == 403
        assert ask(partner, Origin=f"{PARTNER}.evil.example", **cross) == 403
        assert ask(partner, Origin="null", **cross) == 403
        assert partner.post("/lost", {"email": "a@mail.example"}, Origin=PARTNER, **cross).status_code == 403
    assert ask(site, Origin=PARTNER, **cross) == 403
    assert site.look("SELECT count(*) FROM asks") == [(1,)]


def test_nothing_but_a_small_form_is_read(site: Site, story: str) -> None:
    path = f"/s/{story}/follow"
    with site.browser() as browser:
        json = browser.post(path, json={"email": "ada@mail.example"})
        text = browser.post(path, content="email=ada@mail.example", headers={"Content-Type": "text/plain"})
        large = browser.post(path, data={"email": "a" * 20_000})
        many = browser.post(path, data={f"field{number}": "x" for number in range(100)})
        raw = browser.post(
            path, content=b"email=\xff\xfe", headers={"Content-Type": "application/x-www-form-urlencoded"}
        )

    assert [json.status_code, text.status_code, large.status_code] == [403, 403, 413]
    assert [many.status_code, raw.status_code] == [422, 422]
    assert site.look("SELECT count(*) FROM asks") == [(0,)]


def test_the_pages_speak_the_language_that_the_browser_asks_for(site: Site, story: str) -> None:
    english = site.get(f"/s/{story}")
    ukrainian = site.get(f"/s/{story}", **{"Accept-Language": "uk-UA,uk;q=0.9,en;q=0.5"})

    assert (english.headers["content-language"], ukrainian.headers["content-language"]) == ("en", "uk")
    assert '<html lang="uk">' in ukrainian.text
    assert english.headers["etag"] != ukrainian.headers["etag"]
    assert "Accept-Language" in english.headers["vary"]
    site.follow(story, headers={"Accept-Language": "uk"})
    assert site.look("SELECT locale, timezone FROM asks") == [("uk", "Europe/London")]


def test_a_newsroom_speaks_its_own_language_to_whoever_asks_for_none(database_url: str, broker_url: str) -> None:
    settings = settings_for(database_url, broker_url)
    with running(replace(settings, newsroom=replace(settings.newsroom, language="uk"))) as site:
        assert site.get("/").headers["content-language"] == "uk"
        assert site.get("/", **{"Accept-Language": "en"}).headers["content-language"] == "en"


@pytest.mark.parametrize("url", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_no_form_or_address_of_ours_leads_to_another_site(site: Site, story: str, url: str) -> None:
    names = ("url", "next", "return", "return_to", "redirect", "story", "to", "successor", "origin")
    query = urlencode(dict.fromkeys(names, url))
    reader = site.add_reader(story)
    site.follow(story)
    forms = {
        f"/s/{story}/follow": {"email": "ada@mail.example"},
        "/lost": {"email": "ada@mail.example"},
        site.confirm_path(): {},
        site.manage_path(reader): {"do": "stop-all"},
    }
    for path, form in forms.items():
        more = {**dict.fromkeys(names, url), **form}
        answer = site.post(f"{path}?{query}", more, **{"X-Forwarded-For": site.somewhere()})
        assert answer.status_code == 303, path
        assert re.match(r"/(?![/\\])|\?done=[a-z-]+(&|#|$)", answer.headers["location"]), path
        assert "evil" not in answer.headers["location"]
    for path in ("/", f"/s/{story}", f"/s/{story}/asked", "/lost", site.manage_path(reader), f"/embed/{story}"):
        page = site.get(f"{path}?{query}")
        assert page.status_code == 200
        assert url not in page.text, path
        assert "evil.example" not in page.text, path
