"""The test inbox shows what was caught, and lets no mail do anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.api.serving import Site, running, settings_for
from tests.journeys.mails import caught

EVIL = '<html><head><title>x</title></head><body onload="alert(1)"><script>alert(1)</script><img src="https://t.example/x.gif">'


@contextmanager
def site_with(database_url: str, broker_url: str, inbox: Path) -> Iterator[Site]:
    with running(settings_for(database_url, broker_url, inbox_dir=inbox)) as site:
        yield site


def names(page: str) -> list[str]:
    return re.findall(r'href="/inbox/([0-9][^"?/]+)"', page)


def test_without_a_catcher_there_is_no_inbox(site: Site) -> None:
    assert site.get("/inbox").status_code == 404
    assert "/inbox" not in site.get("/").text


def test_an_empty_inbox_says_what_to_do(database_url: str, broker_url: str, tmp_path: Path) -> None:
    with site_with(database_url, broker_url, caught(tmp_path)) as site:
        page = site.get("/inbox").text

    assert "nothing left this machine" in page
    assert "No mail has come yet." in page


def test_mails_are_listed_newest_first_in_pages_and_found_by_their_words(
    database_url: str, broker_url: str, tmp_path: Path
) -> None:
    inbox = caught(tmp_path, *(f"body {number}" for number in range(120)))
    with site_with(database_url, broker_url, inbox) as site:
        first, last = site.get("/inbox").text, site.get("/inbox?page=3").text
        found, none = site.get("/inbox?q=UPDATE+117").text, site.get("/inbox?q=%3Cb%3E").text
        beyond = site.get("/inbox?page=999999")

    assert (len(names(first)), len(names(last))) == (50, 20)
    assert first.index("Update 120<") < first.index("Update 119<")
    assert "Page 1 of 3" in first
    assert len(names(found)) == 1
    assert "No mail matches." in none
    assert "<b>" not in none
    assert beyond.status_code == 200


def test_a_mail_is_shown_in_each_of_its_forms(database_url: str, broker_url: str, tmp_path: Path) -> None:
    with site_with(database_url, broker_url, caught(tmp_path, "<p>Hello</p>", subject="<b>Levee</b>")) as site:
        (name,) = names(site.get("/inbox").text)
        view = site.get(f"/inbox/{name}").text
        text = site.get(f"/inbox/{name}?view=text").text
        headers = site.get(f"/inbox/{name}?view=headers").text
        raw = site.get(f"/inbox/{name}/raw")

    assert "&lt;b&gt;Levee&lt;/b&gt; 1" in view
    assert f'src="/inbox/{name}/html"' in view
    assert "with one-click unsubscribe" in view
    assert "plain &lt;p&gt;Hello&lt;/p&gt;" in text
    assert "List-Unsubscribe=One-Click" in headers
    assert raw.content.startswith(b"From: The Courier")
    assert raw.headers["content-disposition"].startswith("attachment")


def test_a_mail_stands_in_a_document_of_its_own_that_can_do_nothing(
    database_url: str, broker_url: str, tmp_path: Path
) -> None:
    with site_with(database_url, broker_url, caught(tmp_path, EVIL)) as site:
        (name,) = names(site.get("/inbox").text)
        plain, pictures = site.get(f"/inbox/{name}/html"), site.get(f"/inbox/{name}/html?images=1")

    policy = plain.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-popups")
    assert "allow-scripts" not in policy
    assert "allow-same-origin" not in policy
    assert "img-src data:;" in policy
    assert "img-src data: https: http:;" in pictures.headers["content-security-policy"]
    assert '<head><base target="_blank">' in plain.text


@pytest.mark.parametrize("name", ["x", "..%2f..%2findex.tsv", "%00", "0000000000.M000000P1Q00000001"])
def test_no_other_file_can_be_asked_for(database_url: str, broker_url: str, tmp_path: Path, name: str) -> None:
    with site_with(database_url, broker_url, caught(tmp_path, "x")) as site:
        for path in (f"/inbox/{name}", f"/inbox/{name}/html", f"/inbox/{name}/raw"):
            assert site.get(path).status_code == 404
