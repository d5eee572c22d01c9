"""A story as an Atom feed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import datetime

import pytest

from tests.api.serving import Site

ATOM = "{http://www.w3.org/2005/Atom}"


def entries(site: Site, slug: str = "tarrow-flood") -> list[ET.Element]:
    return ET.fromstring(site.get(f"/s/{slug}/feed.xml").content).findall(f"{ATOM}entry")


def text(element: ET.Element, name: str) -> str:
    found = element.find(f"{ATOM}{name}")
    assert found is not None
    return found.text or ""


def test_a_feed_has_what_rfc_4287_asks_for(site: Site) -> None:
    site.publish(site.create_story(summary="The river is high."), body="It **gave** way.")
    answer = site.get("/s/tarrow-flood/feed.xml")
    feed = ET.fromstring(answer.content)

    assert answer.headers["content-type"].startswith("application/atom+xml")
    assert feed.tag == f"{ATOM}feed"
    assert text(feed, "id") == f"{site.url}/s/tarrow-flood"
    assert text(feed, "title") == "Tarrow flood"
    assert text(feed, "subtitle") == "The river is high."
    assert datetime.fromisoformat(text(feed, "updated")).tzinfo is not None
    assert text(feed[[child.tag for child in feed].index(f"{ATOM}author")], "name") == "The Ostermere Courier"
    links = {link.get("rel"): link.get("href") for link in feed.findall(f"{ATOM}link")}
    assert links["self"] == f"{site.url}/s/tarrow-flood/feed.xml"
    (entry,) = entries(site)
    assert text(entry, "content") == '<p dir="auto">It <strong>gave</strong> way.</p>\n'
    assert 'type="application/atom+xml"' in site.get("/s/tarrow-flood").text


def test_entries_keep_their_ids_and_a_correction_marks_what_it_corrects(site: Site) -> None:
    site.create_story()
    site.publish(headline="The hospital is evacuated")
    (before,) = entries(site)
    site.publish(headline="The care home is evacuated", kind="correction", corrects=1)
    correction, corrected = entries(site)

    assert text(corrected, "id") == text(before, "id") == f"{site.url}/s/tarrow-flood#u1"
    assert text(correction, "title") == "Correction: The care home is evacuated"
    assert text(corrected, "title") == "Corrected: The hospital is evacuated"
    assert text(corrected, "content").startswith("<p><strong>The care home is evacuated</strong></p>")
    assert text(corrected, "updated") >= text(before, "updated")
    assert text(corrected, "published") == text(before, "published")


@pytest.mark.parametrize("hostile", ["]]><script>alert(1)</script>", "& &amp; <b>\"'", "</title></entry></feed>"])
def test_hostile_words_stay_words(site: Site, hostile: str) -> None:
    site.publish(site.create_story(headline=hostile, summary=hostile), headline=hostile, summary=hostile, body=hostile)
    feed = ET.fromstring(site.get("/s/tarrow-flood/feed.xml").content)
    (entry,) = feed.findall(f"{ATOM}entry")

    assert text(feed, "title") == text(entry, "title") == text(entry, "summary") == hostile
    assert "<script" not in text(entry, "content")


def test_a_feed_that_a_reader_has_is_not_sent_again(site: Site) -> None:
    site.publish(site.create_story())
    first = site.get("/s/tarrow-flood/feed.xml")
    again = site.get("/s/tarrow-flood/feed.xml", **{"If-None-Match": first.headers["etag"]})
    site.publish(headline="More")
    fresh = site.get("/s/tarrow-flood/feed.xml", **{"If-None-Match": first.headers["etag"]})

    assert (again.status_code, again.content, fresh.status_code) == (304, b"", 200)


def test_a_story_that_is_not_there_has_no_feed(site: Site) -> None:
    assert site.get("/s/nothing/feed.xml").status_code == 404


def test_a_page_learns_how_many_updates_are_new_without_being_sent_them(site: Site) -> None:
    site.publish(site.create_story())
    none = site.get("/s/tarrow-flood/fresh?after=1")
    known = site.get("/s/tarrow-flood/fresh?after=1", **{"If-None-Match": none.headers["etag"]})
    site.publish()
    one = site.get("/s/tarrow-flood/fresh?after=1", **{"If-None-Match": none.headers["etag"]})
    site.publish()
    two = site.get("/s/tarrow-flood/fresh?after=1")
    ukrainian = site.get("/s/tarrow-flood/fresh?after=1", **{"Accept-Language": "uk"})

    assert (none.status_code, none.text, known.status_code) == (200, "", 304)
    assert (one.text, two.text) == ("1 new update", "2 new updates")
    assert ukrainian.headers["content-language"] == "uk"
    assert site.get("/s/tarrow-flood/fresh?after=x").text == "3 new updates"
    assert site.get("/s/nothing/fresh").status_code == 404
