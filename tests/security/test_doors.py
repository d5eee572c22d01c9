"""Doors that lead nowhere: stories by number, addresses that are made up, forms that other sites send."""

from __future__ import annotations

import pytest
from starlette.routing import Route

from dispatcher.api.routes import router
from dispatcher.app import create_app
from tests.api.serving import Site
from tests.journeys.test_web_guards import ONE_CLICK, addresses, full_site
from tests.security.house import House

__all__ = ["full_site"]


NAMES = ("{id}", "0", "-1", "1e0", "{id} ", "%00", "{slug}%00", "{slug}%20", "{slug}%2f..", "SLUG")


@pytest.mark.parametrize("name", NAMES)
def test_nobody_follows_a_story_by_anything_but_its_name(house: House, name: str) -> None:
    """S23: 404 and no row, whatever else the form says."""
    slug = house.story()
    story = house.site.story_id(slug)
    path = name.format(id=story, slug=slug)
    more = {"story": str(story), "story_id": str(story), "id": str(story)}
    posted = house.site.follow(path, house.address(), **more)
    subscription = house.service.device().subscription
    pushed = house.site.push("/push/follow", {**more, "story": path, "subscription": subscription})
    house.settled()

    assert (posted.status_code, pushed.status_code) == (404, 404)
    for table in ("asks", "confirmations", "subscriptions", "notices"):
        assert house.site.look(f"SELECT count(*) FROM {table} WHERE story_id = %s", story) == [(0,)], table


FOREIGN = (
    {"Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "https://evil.courier.example"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
    {"Sec-Fetch-Site": "none-such"},
    {"Origin": "http://127.0.0.1.evil.example"},
)


def test_every_address_that_takes_a_form_is_refused_to_every_other_site(full_site: Site) -> None:
    """S16: every route of the application that takes anything but GET, as the application itself lists them."""
    app = create_app(full_site.settings)
    routes = {
        (route.path, method)
        for route in (*app.routes, *router.routes)
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"GET", "HEAD", "OPTIONS"}
    }
    known = addresses(full_site)
    before = full_site.everything()
    refused: list[int] = []
    with full_site.browser() as evil:
        for path, method in sorted(routes):
            if path == ONE_CLICK:
                continue
            for headers in FOREIGN:
                for body in (
                    {"data": {"do": "stop-all", "email": "a@mail.example"}},
                    {"json": {"do": "erase"}},
                    {"content": b'{"email": "a@mail.example"}', "headers": {"Content-Type": "text/plain"}},
                    {"files": {"do": (None, "stop-all")}},
                ):
                    sent = {**body, "headers": {**body.get("headers", {}), **headers}}  # type: ignore[dict-item]
                    answer = evil.request(method, known[path], **sent)  # type: ignore[arg-type]
                    refused.append(answer.status_code)
                    # Nobody else's browser has a token for the API, which reads no forms besides.
                    assert answer.status_code in ((401, 415) if path.startswith("/api/") else (403,)), (path, headers)
    print(f"S16: {len(routes)} routes take forms, {len(refused)} forged forms, all refused")

    assert len(routes) >= 14
    assert full_site.everything() == before


def test_a_forged_one_click_can_only_do_what_its_link_is_for(full_site: Site) -> None:
    """S16: the one address that other sites may post to, as RFC 8058 wants it. Its token is the key."""
    reader = full_site.add_reader("tarrow-flood")
    path = full_site.leave_path(reader, "tarrow-flood")
    for wish in ("major", "daily", "again"):
        assert full_site.post(path, {"do": wish}, Origin="https://evil.example").status_code == 403
    assert full_site.follows(reader) == {"tarrow-flood"}
    assert full_site.post(path, {"do": "erase"}, Origin="https://evil.example").status_code == 200
    assert full_site.follows(reader) == set()
    assert full_site.look("SELECT id FROM subscribers WHERE id = %s", reader) == [(reader,)]


#: What a stranger might hang on to an address of ours, hoping to be led elsewhere.
TAILS = (
    "https://evil.example",
    "/evil.example",
    "/evil.example/",
    "%2f%2fevil.example",
    "%2f%2fevil.example/",
    "..%2f..%2fetc%2fpasswd",
    "%5c%5cevil.example/",
    "x/",
    "x?url=https://evil.example",
    "%0d%0aLocation:%20https://evil.example",
)
PATHS = ("/s/", "/u/", "/manage/", "/confirm/", "/embed/", "/static/x/", "/inbox/", "/lost/", "/api/v1/stories/", "/")


@pytest.mark.parametrize("host", ["", "evil.example", "evil.example:80@courier.example"])
def test_no_address_of_ours_leads_to_another_site(house: House, host: str) -> None:
    """S27: nothing is found, nothing redirects, and no header holds what a stranger wrote, nor their host."""
    known = house.story()
    with house.site.browser(**{"Host": host} if host else {}) as browser:
        for path in (*(path + tail for path in PATHS for tail in TAILS), f"/s/{known}/", f"/s/{known}//", "//lost/"):
            for answer in (browser.get(house.site.url + path), browser.post(house.site.url + path, data={"url": host})):
                assert answer.status_code in (401, 403, 404, 405), (path, answer.status_code)
                assert not any("evil" in value for value in answer.headers.values()), path
                assert "location" not in answer.headers
                assert 'href="https://evil' not in answer.text
