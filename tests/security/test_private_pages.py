"""What is meant for one reader is kept by nobody else, shown in no frame, and found by no search engine."""

from __future__ import annotations

import re

from dispatcher import db, vapid
from tests.api.serving import SECRET, Site
from tests.journeys.test_web_guards import addresses, full_site

__all__ = ["full_site"]

PRIVATE = ("/confirm/{token}", "/manage/{token}", "/manage/{token}/erase", "/u/{token}")
INBOX = ("/inbox", "/inbox/{name}", "/inbox/{name}/html", "/inbox/{name}/raw")


def test_no_cache_keeps_what_is_meant_for_one_reader(full_site: Site) -> None:
    known = addresses(full_site)
    everything = [
        *(full_site.get(known[path]) for path in (*PRIVATE, *INBOX)),
        full_site.post(known["/manage/{token}"], {"do": "export"}),
        full_site.post(known["/manage/{token}"], {"do": "stop-all"}),
        full_site.post(known["/confirm/{token}"]),
        full_site.post(known["/u/{token}"]),
        full_site.post(known["/manage/{token}/erase"]),
        full_site.follow(email="wrong"),
        full_site.post("/lost", {"email": "wrong"}, **{"X-Forwarded-For": full_site.somewhere()}),
        full_site.get("/confirm/nothing"),
    ]

    for answer in everything:
        assert answer.headers["cache-control"] == "no-store", answer.url
        assert not {"etag", "last-modified"} & set(answer.headers), answer.url
    assert {answer.status_code for answer in everything} == {200, 303, 404, 422}


def test_no_search_engine_no_frame_and_no_other_site_gets_at_them(full_site: Site) -> None:
    known = addresses(full_site)
    robots = full_site.get("/robots.txt").text
    for path in PRIVATE:
        for answer in (full_site.get(known[path]), full_site.post(known[path], {"do": "stop-all"})):
            headers = answer.headers
            assert headers["x-robots-tag"] == "noindex, nofollow"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-opener-policy"] == "same-origin"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            # What the page loads and leads to learns nothing of its address.
            assert not re.findall(r'(?:src|href)="https?://(?!127\.0\.0\.1)', answer.text)
        assert f"Disallow: {path.partition('{')[0]}" in robots


def test_only_the_form_for_other_sites_is_shown_in_their_frames(full_site: Site) -> None:
    framed = {
        path
        for path, address in addresses(full_site).items()
        if "frame-ancestors 'none'" not in full_site.get(address).headers["content-security-policy"]
    }

    assert framed == {"/embed/{slug}", "/inbox/{name}/html"}
    page = full_site.get("/embed/tarrow-flood").text
    assert not re.search(r"/(?:manage|confirm|u)/", page)
    assert set(re.findall(r'action="([^"]*)"', page)) == {"/s/tarrow-flood/follow"}


async def test_names_that_strangers_make_up_fill_no_memory(database: db.Database) -> None:
    """Any subdomain of a push service may stand in an endpoint."""
    keys = vapid.Vapid(database, SECRET, "mailto:desk@courier.example")
    for number in range(2 * vapid.MOST_ORIGINS + 10):
        await keys.authorise(f"https://x{number}.notify.windows.com")

    assert len(keys._tokens) <= vapid.MOST_ORIGINS
