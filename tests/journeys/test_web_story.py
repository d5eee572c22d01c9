"""Readers open a story: what is new stands first, and what was wrong is marked."""

from __future__ import annotations

import re
import time

import pytest

from tests.api.serving import Site


def words(html: str) -> str:
    """A page's text on one line, without its tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_without_stories_the_first_page_says_what_to_do(site: Site) -> None:
    page = site.get("/")

    assert page.status_code == 200
    assert "There are no stories yet." in page.text
    assert "dispatcher story create" in page.text


def test_developing_stories_are_listed_before_closed_ones(site: Site) -> None:
    for slug in ("open", "over"):
        site.create_story(slug, headline=f"The {slug} story")
    site.close_story("over", successor="open")
    page = site.get("/").text

    assert page.index("The open story") < page.index("The over story")
    assert 'It goes on in <a href="/s/open">' in page


def test_a_story_shows_its_updates_newest_first_each_with_an_anchor(site: Site) -> None:
    site.create_story(summary="The river is high.")
    for number in (1, 2, 3):
        site.publish(headline=f"Headline {number}", body=f"Text *{number}*.")
    page = site.get("/s/tarrow-flood").text

    assert re.findall(r'<li id="(u\d+)"', page) == ["u3", "u2", "u1"]
    assert "Text <em>3</em>." in page
    assert "The river is high." in words(page)
    assert "Developing Last update just now" in words(page)
    assert re.search(r'<time datetime="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"', page)


def test_importance_and_kind_are_told_in_words(site: Site) -> None:
    site.create_story()
    site.publish(importance="breaking")
    site.publish(importance="major")
    site.publish(kind="final")
    page = site.get("/s/tarrow-flood").text

    assert [page.count(f">{word}</span>") for word in ("Breaking", "Major", "Final update")] == [1, 1, 1]


def test_a_correction_is_marked_on_what_it_corrects(site: Site) -> None:
    site.create_story()
    site.publish(headline="The hospital is evacuated")
    site.publish(headline="The care home is evacuated", kind="correction", corrects=1)
    first = site.get("/s/tarrow-flood").text.split('id="u1"')[1]

    assert re.search(r"Corrected at .*?UTC.*?The care home is evacuated", words(first))
    assert 'href="#u2"' in first


def test_a_correction_is_marked_even_where_it_stands_on_another_page(site: Site) -> None:
    site.create_story()
    site.publish(headline="The hospital is evacuated")
    for number in range(50):
        site.publish(headline=f"Headline {number}")
    site.publish(headline="The care home is evacuated", kind="correction", corrects=1)
    newest = site.get("/s/tarrow-flood").text
    earlier = re.search(r'href="(/s/tarrow-flood\?before=\d+)"[^>]*>Earlier updates', newest)
    assert earlier
    older = site.get(earlier.group(1)).text

    assert newest.count("<li id=") == 40
    assert re.findall(r'<li id="(u\d+)"', older) == [f"u{number}" for number in range(12, 0, -1)]
    assert 'href="/s/tarrow-flood#u52"' in older.split('id="u1"')[1]
    assert re.search(r'href="/s/tarrow-flood\?before=2#u1"', newest)


def test_a_closed_story_offers_the_one_that_goes_on(site: Site) -> None:
    site.create_story("strike")
    site.create_story("talks", headline="School pay talks")
    site.close_story("strike", successor="talks")
    page = site.get("/s/strike").text

    assert "Closed" in words(page)
    assert 'It goes on as <a href="/s/talks">School pay talks</a>' in page


@pytest.mark.parametrize(
    "path", ["/s/nothing", "/s/..%2f..%2fetc", "/s/%00", "/s/A", "/nowhere", "/s/", "/static/0/x.py"]
)
def test_what_is_not_there_is_a_friendly_page(site: Site, path: str) -> None:
    page = site.get(path)

    assert page.status_code == 404
    assert "<h1>Not found</h1>" in page.text


@pytest.mark.parametrize("before", ["0", "-1", "x", "9" * 30, "1e3", "٣", ""])
def test_a_nonsense_page_number_shows_the_newest(site: Site, before: str) -> None:
    site.create_story()
    site.publish()
    page = site.get(f"/s/tarrow-flood?before={before}")

    assert page.status_code == 200
    assert 'id="u1"' in page.text


def test_a_page_that_a_reader_has_is_not_sent_again(site: Site) -> None:
    site.create_story()
    site.publish()
    time.sleep(2.1)
    first = site.get("/s/tarrow-flood")
    by_tag = site.get("/s/tarrow-flood", **{"If-None-Match": first.headers["etag"]})
    by_time = site.get("/s/tarrow-flood", **{"If-Modified-Since": first.headers["last-modified"]})
    site.publish(headline="More")
    fresh = site.get("/s/tarrow-flood", **{"If-None-Match": first.headers["etag"]})
    no_longer = site.get("/s/tarrow-flood", **{"If-Modified-Since": first.headers["last-modified"]})

    assert (by_tag.status_code, by_time.status_code) == (304, 304)
    assert by_tag.content == b""
    assert (fresh.status_code, no_longer.status_code) == (200, 200)
    assert "max-age=5" in first.headers["cache-control"]


def test_a_story_with_fifty_updates_is_small_and_quick(site: Site) -> None:
    site.create_story()
    text = "The levee gave way at **02:44** along about 60 metres, the city crisis room says. " * 3
    for number in range(50):
        site.publish(headline=f"Millgate levee gives way: leave the lower city on foot, now ({number})", body=text)
    with site.browser() as reader:
        reader.get("/s/tarrow-flood")
        times = []
        for _ in range(5):
            started = time.perf_counter()
            page = reader.get("/s/tarrow-flood")
            times.append(time.perf_counter() - started)

    assert len(page.content) <= 40_000
    assert int(page.headers["content-length"]) <= 10_000
    assert min(times) <= 0.1


def test_long_texts_are_spread_over_pages(site: Site) -> None:
    site.create_story()
    for _ in range(3):
        site.publish(body="word " * 25_000)
    page = site.get("/s/tarrow-flood").text

    assert len(page) < 400_000
    assert "Earlier updates" in page


def test_a_stylesheet_is_kept_for_a_year_under_an_address_of_its_content(site: Site) -> None:
    found = re.search(r'href="(/static/[0-9a-f]+/style\.css)"', site.get("/").text)
    assert found
    kept = site.get(found.group(1))
    old = site.get("/static/0123456789abcdef/style.css")

    assert kept.headers["content-type"].startswith("text/css")
    assert "immutable" in kept.headers["cache-control"]
    assert old.text == kept.text
    assert old.headers["cache-control"] == "no-cache"
