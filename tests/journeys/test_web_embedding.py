"""The form inside a publisher's page: without cookies, on sites that are named, and without a script where need be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.api.serving import Site, running

PARTNER = "https://www.courier.example"


@pytest.fixture
def partner(site: Site) -> Iterator[Site]:
    """A site whose form one publisher may hold."""
    with running(replace(site.settings, embed_origins=(PARTNER,), public_url="http://127.0.0.1")) as found:
        found.publish(found.create_story())
        yield found


def test_a_frame_may_stand_on_sites_that_are_named_and_sets_no_cookie(site: Site, partner: Site) -> None:
    frame = partner.get("/embed/tarrow-flood")

    assert f"frame-ancestors 'self' {PARTNER}" in frame.headers["content-security-policy"]
    assert frame.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "set-cookie" not in frame.headers
    assert "Tarrow flood" in frame.text
    assert 'name="embedded" value="1"' in frame.text
    assert "frame-ancestors 'none'" in partner.get("/s/tarrow-flood").headers["content-security-policy"]
    assert PARTNER not in site.get("/embed/tarrow-flood").headers["content-security-policy"]


def test_a_form_in_a_frame_is_answered_in_the_frame(partner: Site) -> None:
    sent = partner.follow(embedded="1")
    wrong = partner.follow(email="ada", embedded="1")
    thanks = partner.get(sent.headers["location"])

    assert (sent.status_code, sent.headers["location"]) == (303, "/embed/tarrow-flood?asked=1")
    assert "Check your email." in thanks.text
    assert wrong.status_code == 422
    assert "We cannot write to this address." in wrong.text
    for answer in (thanks, wrong):
        assert PARTNER in answer.headers["content-security-policy"]
        assert 'class="embedded"' in answer.text


def test_too_many_forms_are_told_so_in_the_frame(partner: Site) -> None:
    client = partner.somewhere()
    answers = [partner.follow(client=client, embedded="1") for _ in range(21)]

    assert [answer.status_code for answer in answers[-2:]] == [303, 429]
    assert 'class="embedded"' in answers[-1].text
    assert "too often" in answers[-1].text


def test_a_closed_story_offers_the_one_that_goes_on_in_the_frame(partner: Site) -> None:
    partner.create_story("talks", headline="School pay talks")
    partner.close_story("tarrow-flood", successor="talks")

    assert 'action="/s/talks/follow"' in partner.get("/embed/tarrow-flood").text
    assert partner.follow(embedded="1").status_code == 409
    assert partner.get("/embed/nothing").status_code == 404


def test_the_script_may_be_loaded_by_other_sites_and_nothing_else_may(partner: Site) -> None:
    script = partner.get("/embed.js")

    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "document.cookie" not in script.text
    for path in ("/", "/s/tarrow-flood", "/sw.js", "/push/key", "/lost"):
        assert partner.get(path).headers["cross-origin-resource-policy"] == "same-origin", path


def test_the_plain_form_of_the_guide_is_heard(partner: Site) -> None:
    from pathlib import Path

    guide = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text()
    form = guide.split("```html")[3].split("```")[0]
    action = re.search(r'action="https://alerts\.example\.org(/s/[a-z-]+/follow)"', form)
    names = re.findall(r'name="([a-z_]+)"', form)
    assert action
    assert {"email", "cadence"} <= set(names)
    with partner.browser(Origin=PARTNER, **{"X-Forwarded-For": partner.somewhere()}) as browser:
        answer = browser.post(action[1], data={"email": "ada@mail.example", "cadence": "every", "catch_up": "1"})

    assert answer.status_code == 303
    assert partner.look("SELECT email FROM asks") == [("ada@mail.example",)]
