"""What holds for every address: nothing changes by looking, headers are strict, logs tell no secrets."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx2
import pytest
from starlette.routing import BaseRoute, Route

from dispatcher.api.routes import router
from dispatcher.web.assets import Assets
from dispatcher.web.routes import routes
from tests.api.serving import SECRET, Site, running, settings_for
from tests.journeys.desks import first_link, invite
from tests.journeys.mails import caught
from tests.support.directories import service_directory

OFFICE = (
    *("/health", "/settings", "/tokens", "/subscribers", "/subscribers/{id}", "/suppressions"),
    *("/import", "/import/{id}", "/import/{id}/lines.csv", "/oidc", "/oidc/back"),
)
#: Of one update that goes out.
LIVE = ("", "/events", "/steer", "/replace", "/correct", "/withdraw", "/readers", "/readers.csv")
#: The desk, where strangers are led to its door; tests/journeys/test_desk_doors.py says what holds for everybody else.
DESK = (
    "",
    "/sign-in",
    "/code",
    "/code/leave",
    "/sign-out",
    "/me",
    "/me/codes",
    "/people",
    "/jump",
    "/slug",
    "/log",
    "/drafts",
    *(f"/drafts/{{id}}{rest}" for rest in ("", "/approve", "/save", "/present", "/preview")),
    "/stories/{slug}/write",
    *OFFICE,
    *(f"/stories/{{slug}}/updates/{{seq}}{rest}" for rest in LIVE),
)
DESK_STORIES = ("new", "{slug}", *(f"{{slug}}/{verb}" for verb in ("edit", "close", "merge", "follow-up")))
#: Where a browser gets a cookie, so that its forms are known again.
GIVES_COOKIE = ("/desk/sign-in", "/desk/setup/", "/desk/invitation/")
STEERING = ("pause", "resume", "cancel", "retry")
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' autofocus onfocus=alert(1) x='",
    "</title><script>alert(1)</script>",
    "</style></textarea><iframe src=javascript:alert(1)>",
    "{{ 7 * 7 }}{% raw %}${7*7}<%= 7 %>",
    "javascript:alert(1)",
    "<!--<script>-->&lt;script&gt;alert(1)",
    "\u202e<a href=//evil.example>gnol</a>",
)


@pytest.fixture
def full_site(database_url: str, broker_url: str) -> Iterator[Site]:
    """A site with a story, a reader and an inbox with one mail."""
    with service_directory() as directory:
        inbox = caught(directory, "<b>Hello</b>")
        with running(settings_for(database_url, broker_url, inbox_dir=inbox)) as site:
            site.create_story()
            site.publish()
            site.follow()
            yield site


def addresses(site: Site) -> dict[str, str]:
    """An address for every route that there is; its tokens are good."""
    reader = site.add_reader("tarrow-flood")
    (mail,) = set(re.findall(r'href="/inbox/([^"?]+)"', site.get("/inbox").text))
    blast = site.look("SELECT id FROM blasts")[0][0]
    return {
        "/": "/",
        "/s/{slug}": "/s/tarrow-flood",
        "/s/{slug}/fresh": "/s/tarrow-flood/fresh",
        "/s/{slug}/feed.xml": "/s/tarrow-flood/feed.xml",
        "/s/{slug}/follow": "/s/tarrow-flood/follow",
        "/s/{slug}/asked": "/s/tarrow-flood/asked",
        "/lost": "/lost",
        "/lost/asked": "/lost/asked",
        "/embed/{slug}": "/embed/tarrow-flood",
        "/embed.js": "/embed.js",
        "/sw.js": "/sw.js",
        "/manifest.webmanifest": "/manifest.webmanifest",
        **{f"/push/{verb}": f"/push/{verb}" for verb in ("key", "follow", "state", "stop", "renew")},
        "/confirm/{token}": site.confirm_path(),
        "/manage/{token}/erase": site.manage_path(reader) + "/erase",
        "/u/{token}": site.leave_path(reader, "tarrow-flood"),
        "/manage/{token}": site.manage_path(reader),
        "/static/{digest}/{name}": "/static/0/style.css",
        "/robots.txt": "/robots.txt",
        "/healthz": "/healthz",
        "/readyz": "/readyz",
        "/metrics": "/metrics",
        "/inbox": "/inbox",
        "/inbox/{name}": f"/inbox/{mail}",
        "/inbox/{name}/html": f"/inbox/{mail}/html",
        "/inbox/{name}/raw": f"/inbox/{mail}/raw",
        **{f"/desk{rest}": f"/desk{rest}" for rest in DESK},
        **{f"/desk/stories/{rest}": f"/desk/stories/{rest.format(slug='tarrow-flood')}" for rest in DESK_STORIES},
        "/desk/setup/{token}": first_link(site),
        "/desk/invitation/{token}": invite(site, "ben@courier.example"),
        "/api/v1/docs": "/api/v1/docs",
        "/api/v1/openapi.json": "/api/v1/openapi.json",
        "/api/v1/stories": "/api/v1/stories",
        "/api/v1/stories/{slug}": "/api/v1/stories/tarrow-flood",
        "/api/v1/stories/{slug}/updates": "/api/v1/stories/tarrow-flood/updates",
        "/api/v1/stories/{slug}/drafts": "/api/v1/stories/tarrow-flood/drafts",
        "/api/v1/stories/{slug}/updates/{seq}/withdraw": "/api/v1/stories/tarrow-flood/updates/1/withdraw",
        "/api/v1/blasts": "/api/v1/blasts",
        "/api/v1/blasts/{blast_id}": f"/api/v1/blasts/{blast}",
        **{f"/api/v1/blasts/{{blast_id}}/{verb}": f"/api/v1/blasts/{blast}/{verb}" for verb in STEERING},
    }


def every_path() -> set[str]:
    found: list[BaseRoute] = [*routes(Assets(), has_inbox=True), *router.routes]
    return {route.path for route in found if isinstance(route, Route)} | {"/api/v1/openapi.json"}


def test_looking_at_any_address_changes_nothing(full_site: Site) -> None:
    known = addresses(full_site)
    assert known.keys() == every_path()
    before = full_site.everything() | {"token": [(full_site.token,)]}
    with full_site.cms() as scanner:
        for path in known.values():
            for query in ("", "?List-Unsubscribe=One-Click&do=stop-all&confirm=1"):
                get, head = scanner.get(path + query), scanner.head(path + query)
                expected: tuple[int, ...] = (200, 303, 405) if path.startswith("/desk") else (200, 405)
                if path.startswith("/desk/oidc"):
                    expected = (404,)  # this site has no sign-in service
                assert get.status_code == head.status_code in expected, path
                assert head.content == b""

    assert full_site.everything() | {"token": [(full_site.token,)]} == before


#: Whoever posts there is somebody's mail program, and comes from anywhere (RFC 8058 §3.2).
ONE_CLICK = "/u/{token}"


def test_no_other_site_posts_anything_to_any_address(full_site: Site) -> None:
    known = addresses(full_site)
    found: list[BaseRoute] = [*routes(Assets(), has_inbox=True), *router.routes]
    posts = {route.path for route in found if isinstance(route, Route) and "POST" in (route.methods or ())}
    before = full_site.everything()
    foreign = ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site", "Origin": "null"})
    with full_site.browser() as evil:
        for path in sorted(posts - {ONE_CLICK}):
            # The API wants a token, which no browser sends by itself, and JSON.
            refused = {401, 415} if path.startswith("/api/") else {403}
            for headers in foreign:
                form = evil.post(known[path], data={"do": "stop-all", "email": "a@mail.example"}, headers=headers)
                json = evil.post(known[path], json={"do": "erase"}, headers=headers)
                assert {form.status_code, json.status_code} <= refused, path
            text = evil.post(
                known[path], content=b'{"email": "a"}', headers={"Content-Type": "text/plain", **foreign[0]}
            )
            assert text.status_code in refused, path

    assert {"/s/{slug}/follow", "/lost", "/confirm/{token}", "/manage/{token}", "/push/follow", ONE_CLICK} <= posts
    assert full_site.everything() == before


def test_no_script_of_another_site_is_allowed_to_ask_anything(full_site: Site) -> None:
    for path in addresses(full_site).values():
        with full_site.browser(Origin="https://evil.example") as evil:
            asked = evil.options(path, headers={"Access-Control-Request-Method": "POST"})
            assert asked.status_code in (405, 404), path
            assert not [name for name in (*asked.headers, *evil.get(path).headers) if name.startswith("access-control")]


def test_every_answer_carries_strict_headers_and_no_cookie_but_at_the_doors_of_the_desk(full_site: Site) -> None:
    paths = [*addresses(full_site).values(), "/nothing", "/api/v1/nothing"]
    for path in paths:
        headers = full_site.get(path).headers
        policy = headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "permissions-policy" in headers
        assert ("set-cookie" in headers) == path.startswith(GIVES_COOKIE)
        assert "server" not in headers
        assert "default-src 'none'" in policy
        if path.startswith("/embed/"):
            assert "unsafe" not in policy
            assert "frame-ancestors 'self'" in policy
        elif path.startswith("/inbox/") and path.endswith("/html"):
            assert "sandbox" in policy
            assert "frame-ancestors 'self'" in policy
            assert "allow-scripts" not in policy
        else:
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy


def test_only_a_site_behind_https_asks_browsers_to_insist_on_it(database_url: str, broker_url: str, site: Site) -> None:
    settings = settings_for(database_url, broker_url, public_url="https://alerts.example.org")
    with running(settings) as behind_https:
        assert "max-age" in behind_https.get("/healthz").headers["strict-transport-security"]
    assert "strict-transport-security" not in site.get("/healthz").headers


class Dangers(HTMLParser):
    """Finds what could run in a page: scripts of others, event handlers, frames, addresses of code."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in ("iframe", "object", "embed", "svg", "base", "style"):
            self.found.append(tag)
        if tag == "script" and not values.get("src", "").startswith("/static/"):
            self.found.append("script")
        for name, value in values.items():
            leads = name in ("href", "src", "action", "formaction")
            code = leads and not re.match(r"(https?:/)?/|[#?]|mailto:", value)
            if code or name.startswith("on") or name == "style":
                self.found.append(f"{name}={value}")


def test_hostile_words_of_a_story_are_only_words_on_every_page(site: Site) -> None:
    for number, text in enumerate(HOSTILE):
        site.create_story(f"story-{number}", headline=text, summary=text)
        site.publish(
            f"story-{number}", headline=text, summary=text, body=f"{text}\n\n[x]({text})\n\n|a|\n|:-:|\n|{text}|"
        )
    reader = site.add_reader(*(f"story-{number}" for number in range(len(HOSTILE))))
    pages = ["/", site.manage_path(reader), *(f"/s/story-{number}" for number in range(len(HOSTILE)))]
    pages += [site.leave_path(reader, f"story-{number}") for number in range(len(HOSTILE))]
    pages += [f"/s/story-{number}/asked" for number in range(len(HOSTILE))]
    pages += [f"/embed/story-{number}" for number in range(len(HOSTILE))]
    for text in HOSTILE:
        site.add_device(reader, name=text[:80])
    for path in pages:
        answer = site.get(path)
        dangers = Dangers()
        dangers.feed(answer.text)

        assert answer.status_code == 200
        assert dangers.found == [], path
    assert "{{ 7 * 7 }}" in site.get("/s/story-6").text


def test_what_nobody_foresaw_is_shown_by_a_number_and_nothing_else(
    own_site: Site,
) -> None:
    site = own_site
    token = site.token
    site.look("ALTER TABLE stories RENAME TO gone")
    page = site.get("/")
    with site.browser(Authorization=f"Bearer {token}") as cms:
        answer = cms.get("/api/v1/stories")

    assert page.status_code == answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    for text in (page.text, answer.text):
        assert re.search(r"written down under [0-9a-f]{12}", text)
        assert "relation" not in text
        assert "Traceback" not in text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_form_of_more_than_a_megabyte_is_refused(site: Site) -> None:
    answer = site.post(site.manage_path(site.add_reader()), {"do": "x" * 1_000_001})

    assert answer.status_code == 413
    assert "Too large" in answer.text


SERVE = "from dispatcher import app, config, logs; logs.setup(); app.serve(config.load(), '127.0.0.1', 0)"


def test_the_server_logs_no_link_and_ends_soon_after_it_is_told(
    database_url: str, broker_url: str, tmp_path: Path
) -> None:
    env = {
        **os.environ,
        "DISPATCHER_DATA_DIR": str(tmp_path),
        "DISPATCHER_DATABASE_URL": database_url,
        "DISPATCHER_BROKER_URL": broker_url,
        "DISPATCHER_SMTP_URL": "smtp://127.0.0.1:1",
        "DISPATCHER_PUBLIC_URL": "http://127.0.0.1",
        "DISPATCHER_SECRET_KEY": SECRET,
        "DISPATCHER_LOG": "json",
        "DISPATCHER_LOG_LEVEL": "debug",
    }
    process = subprocess.Popen([sys.executable, "-c", SERVE], env=env, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines: list[str] = []
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", lines[-1] if lines else "")):
            lines.append(process.stderr.readline())
            assert lines[-1], "the server ended while it started"
        site = Site(f"http://127.0.0.1:{found.group(1)}", settings_for(database_url, broker_url))
        reader = site.add_reader()
        for path in (site.leave_path(reader), site.manage_path(reader), "/u/not-a-token"):
            site.get(path, **{"X-Forwarded-For": "203.0.113.9"})
            site.post(path, {"do": "nonsense"})
        site.look("ALTER TABLE subscriptions RENAME TO gone")
        assert site.get(site.manage_path(reader)).status_code == 500
        with httpx2.Client(base_url=site.url, verify=False) as kept_open:
            kept_open.get("/healthz")
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        took = time.monotonic() - started
        log = "".join(lines) + process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()

    assert took < 12
    assert "unexpected error" in log
    for secret in (site.leave_path(reader), site.manage_path(reader), "not-a-token", "203.0.113.9", SECRET):
        assert secret.rsplit("/", 1)[-1] not in log
