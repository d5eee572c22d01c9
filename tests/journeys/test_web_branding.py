"""A newsroom's own name, logo and colours."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from dispatcher.config import MAX_LOGO, Newsroom
from dispatcher.errors import Misconfigured
from dispatcher.web.assets import Assets
from tests.api.serving import Site, running

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def test_logo_and_colours_stand_on_every_page_under_addresses_of_their_content(site: Site, tmp_path: Path) -> None:
    logo = tmp_path / "ours.svg"
    logo.write_bytes(SVG)
    newsroom = replace(site.settings.newsroom, logo=logo, colours=("#0a3d62", "#8ec5ff"))
    with running(replace(site.settings, newsroom=newsroom, public_url="http://127.0.0.1")) as branded:
        branded.create_story()
        for path in ("/", "/s/tarrow-flood", "/lost", "/nothing", "/manage/x"):
            assert 'alt="The Ostermere Courier"' in branded.get(path).text, path
        page = branded.get("/s/tarrow-flood").text
        picture = re.search(r'<img src="(/static/[0-9a-f]+/logo\.svg)"', page)
        sheet = re.search(r'href="(/static/[0-9a-f]+/brand\.css)"', page)
        assert picture
        assert sheet
        assert branded.get(picture[1]).content == SVG
        assert branded.get(picture[1]).headers["content-type"] == "image/svg+xml"
        assert "script-src 'self'" in branded.get(picture[1]).headers["content-security-policy"]
        assert "--main: #0a3d62" in branded.get(sheet[1]).text
        assert "immutable" in branded.get(sheet[1]).headers["cache-control"]
        assert "brand.css" in branded.get("/embed/tarrow-flood").text


def test_without_a_logo_the_name_stands_there_and_nothing_is_asked_for_in_vain(site: Site) -> None:
    page = site.get("/").text

    assert re.search(r'<a class="brand" href="/">The Ostermere Courier</a>', page)
    assert "brand.css" not in page
    assert site.get("/static/0/brand.css").status_code == 404


def test_a_logo_that_is_gone_or_has_grown_is_found_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="logo cannot be read"):
        Assets(Newsroom(logo=tmp_path / "gone.png"))
    (tmp_path / "large.png").write_bytes(b"x" * (MAX_LOGO + 1))
    with pytest.raises(Misconfigured, match="more than"):
        Assets(Newsroom(logo=tmp_path / "large.png"))


def test_phones_can_put_the_pages_on_their_home_screen(site: Site) -> None:
    answer = site.get("/manifest.webmanifest")
    found = answer.json()

    assert answer.headers["content-type"] == "application/manifest+json"
    assert found["name"] == "The Ostermere Courier"
    assert found["display"] == "standalone"
    assert {site.get(icon["src"]).headers["content-type"] for icon in found["icons"]} == {"image/png", "image/svg+xml"}
    assert "manifest-src 'self'" in site.get("/").headers["content-security-policy"]
