"""What browsers that follow say to us and are told, as our own script and service worker send it."""

from __future__ import annotations

import base64
import secrets
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.api.serving import Site

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def subscription(endpoint: str | None = None) -> dict[str, Any]:
    """What `PushSubscription.toJSON()` gives."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return {
        "endpoint": endpoint or f"https://updates.push.services.mozilla.com/wpush/v2/{secrets.token_urlsafe(24)}",
        "expirationTime": None,
        "keys": {
            "p256dh": text(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)),
            "auth": text(secrets.token_bytes(16)),
        },
    }


@pytest.fixture
def story(site: Site) -> str:
    return site.create_story()


def follow(site: Site, given: object, slug: str = "tarrow-flood", **more: Any) -> Any:
    return site.push("/push/follow", {"story": slug, "subscription": given, **more}, **{"User-Agent": FIREFOX})


def state(site: Site, given: object, slug: str = "tarrow-flood") -> Any:
    return site.push("/push/state", {"story": slug, "subscription": given}).json()


def test_a_browser_follows_without_an_address_and_is_given_a_page_of_its_own(site: Site, story: str) -> None:
    answer = follow(site, subscription(), cadence="major", timezone="Europe/Kyiv")
    page = site.get(answer.json()["manage"])

    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert "This page belongs to this browser" in page.text
    assert "Tarrow flood" in page.text
    assert "Firefox on Linux" in page.text
    assert '<option value="major" selected>' in page.text
    assert site.look("SELECT email, timezone FROM subscribers") == [(None, "Europe/Kyiv")]


def test_following_twice_is_following_once(site: Site, story: str) -> None:
    given = subscription()
    first = follow(site, given).json()
    once = site.everything()

    assert follow(site, given).json() == first
    assert site.everything() == once


def test_a_browser_is_told_what_it_follows_and_stops_it(site: Site, story: str) -> None:
    given = subscription()
    assert state(site, given) == {"on": False, "manage": ""}
    manage = follow(site, given).json()["manage"]
    before = site.everything()
    assert state(site, given) == {"on": True, "manage": manage}
    stolen = {**given, "keys": {**given["keys"], "auth": text(bytes(16))}}
    assert state(site, stolen) == {"on": False, "manage": ""}
    assert site.push("/push/stop", {"story": story, "subscription": stolen}).json() == {"on": False}
    assert site.everything() == before
    assert site.push("/push/stop", {"story": story, "subscription": given}).json() == {"on": False}

    assert state(site, given) == {"on": False, "manage": manage}
    assert "You follow no story." in site.get(manage).text


def test_a_browser_joins_a_reader_who_has_the_link(site: Site, story: str) -> None:
    site.create_story("strike", headline="School strike")
    reader = site.add_reader("tarrow-flood", "strike")
    given = subscription()
    token = site.manage_path(reader).removeprefix("/manage/")
    answer = follow(site, given, slug="", manage=token)

    assert answer.json() == {"manage": site.manage_path(reader)}
    assert site.look("SELECT subscriber_id FROM devices") == [(reader,)]
    assert site.look("SELECT DISTINCT channels::text[] FROM subscriptions") == [(["email", "webpush"],)]


def test_a_browser_alone_does_not_open_the_page_of_a_reader_with_an_address(site: Site, story: str) -> None:
    reader = site.add_reader("tarrow-flood")
    given = subscription()
    follow(site, given, manage=site.manage_path(reader).removeprefix("/manage/"))

    assert follow(site, given).json() == {"manage": ""}
    assert state(site, given) == {"on": True, "manage": ""}
    assert site.push("/push/stop", {"story": story, "subscription": given}).status_code == 200
    assert site.look("SELECT channels::text[], ended_at FROM subscriptions") == [(["email"], None)]


def test_a_browser_and_an_address_become_one_reader_by_the_mail(site: Site, story: str) -> None:
    manage = follow(site, subscription()).json()["manage"]
    site.follow(story, device=manage.removeprefix("/manage/"))
    path = site.confirm_path()
    assert "Firefox on Linux" in site.get(path).text
    own = site.post(path, {"browser": "1"}).headers["location"]

    assert "Firefox on Linux" in site.get(own).text
    assert site.look("SELECT count(*) FROM subscribers") == [(1,)]
    assert "Nothing is kept here any more" in site.get(manage).text


def test_a_made_up_browser_is_not_brought_along(site: Site, story: str) -> None:
    for device in ("1", "A" * 32, site.leave_path(1, story).removeprefix("/u/")):
        assert site.follow(story, device=device).status_code == 404
    assert site.look("SELECT count(*) FROM asks") == [(0,)]


def test_a_new_address_of_a_browser_takes_the_place_of_the_old_one(site: Site, story: str) -> None:
    old, new = subscription(), subscription()
    manage = follow(site, old).json()["manage"]
    for _ in range(2):
        assert site.push("/push/renew", {"old": old, "subscription": new}).status_code == 200

    assert state(site, new) == {"on": True, "manage": manage}
    assert state(site, old) == {"on": False, "manage": ""}
    stolen = {**new, "keys": {**new["keys"], "auth": text(bytes(16))}}
    assert site.push("/push/renew", {"old": stolen, "subscription": subscription()}).status_code == 404


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://127.0.0.1/x",
        "http://updates.push.services.mozilla.com/x",
        "https://updates.push.services.mozilla.com@evil.example/x",
        "https://updates.push.services.mozilla.com.evil.example/x",
        "https://169.254.169.254/latest",
        "file:///etc/passwd",
        "https://updates.push.services.mozilla.com:8443/x",
        "",
        "x" * 3000,
    ],
)
def test_an_endpoint_that_is_no_push_service_is_refused(site: Site, story: str, endpoint: str) -> None:
    before = site.everything()
    answer = follow(site, {**subscription(), "endpoint": endpoint})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["field"] == "endpoint"
    assert site.everything() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("p256dh", text(b"\4" + bytes(64))), ("p256dh", "x"), ("auth", text(b"short")), ("auth", ""), ("auth", "\0")],
)
def test_keys_that_are_none_are_refused(site: Site, story: str, name: str, value: str) -> None:
    given = subscription()
    answer = follow(site, {**given, "keys": {**given["keys"], name: value}})

    assert answer.status_code == 422
    assert answer.json()["field"] == name


@pytest.mark.parametrize(
    "body",
    [
        *([], "x", 1, {}, {"subscription": 1}, {"subscription": {"endpoint": 1}}, {"subscription": {"keys": []}}),
        {"story": {}, "subscription": {}},
    ],
)
def test_what_no_browser_sends_is_refused(site: Site, story: str, body: object) -> None:
    for verb in ("follow", "state", "stop", "renew"):
        assert site.push(f"/push/{verb}", body).status_code == 422, verb


def test_only_json_of_our_own_pages_is_read(site: Site, story: str) -> None:
    body = {"story": story, "subscription": subscription()}
    assert site.push("/push/follow", body, Origin="https://evil.example").status_code == 403
    with site.browser() as browser:
        for headers in ({"Content-Type": "text/plain"}, {}):
            assert browser.post("/push/follow", content=b"{}", headers=headers).status_code == 403
        broken = browser.post("/push/follow", content=b"{", headers={"Content-Type": "application/json"})
        large = browser.post("/push/follow", json={"x": "x" * 20_000})

    assert (broken.status_code, large.status_code) == (422, 413)


def test_a_story_that_is_not_there_or_has_closed_cannot_be_followed(site: Site, story: str) -> None:
    assert follow(site, subscription(), slug="nothing").status_code == 404
    site.close_story(story)
    assert follow(site, subscription()).status_code == 409
    assert site.look("SELECT count(*) FROM devices") == [(0,)]


def test_one_client_adds_twenty_browsers_an_hour(site: Site, story: str) -> None:
    client = site.somewhere()
    answers = [
        site.push("/push/follow", {"story": story, "subscription": subscription()}, client=client).status_code
        for _ in range(21)
    ]

    assert answers == [200] * 20 + [429]


def test_the_key_is_a_point_on_the_curve_and_stays_the_same(site: Site) -> None:
    first, second = site.get("/push/key").json(), site.get("/push/key").json()
    raw = base64.urlsafe_b64decode(first["key"] + "==")

    assert first == second
    assert ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)


def test_the_service_worker_is_for_the_whole_site_and_never_kept(site: Site) -> None:
    answer = site.get("/sw.js")

    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["service-worker-allowed"] == "/"
    assert "connect-src 'self'" in answer.headers["content-security-policy"]
    assert site.get("/static/current/icon-192.png").headers["content-type"] == "image/png"
