"""Other systems create, list and show stories and blasts over the API."""

from __future__ import annotations

import pytest

from dispatcher.model import DeliveryState
from tests.api.problems import problem
from tests.api.serving import Site


def test_a_created_story_is_shown_where_its_location_says(site: Site) -> None:
    with site.cms() as cms:
        made = cms.post(
            "/api/v1/stories", json={"slug": "tarrow-flood", "headline": "Tarrow flood", "summary": "High."}
        )
        shown = cms.get(made.headers["location"])

    assert made.status_code == 201
    assert made.json()["url"] == f"{site.url}/s/tarrow-flood"
    assert shown.json() == {**made.json(), "updates": []}
    assert shown.json()["state"] == "developing"


def test_a_slug_is_taken_once(site: Site) -> None:
    site.create_story()
    with site.cms() as cms:
        answer = cms.post("/api/v1/stories", json={"slug": "tarrow-flood", "headline": "Again"})

    assert problem(answer, 409, "conflict")["field"] == "slug"


@pytest.mark.parametrize("slug", ["", "Tarrow", "a b", "a--b", "../x", "a" * 81, "é"])
def test_a_slug_that_does_not_fit_an_address_is_refused(site: Site, slug: str) -> None:
    with site.cms() as cms:
        answer = cms.post("/api/v1/stories", json={"slug": slug, "headline": "x"})

    assert problem(answer, 422, "invalid")["field"] == "slug"


def test_stories_are_listed_with_their_followers_developing_ones_first(site: Site) -> None:
    for slug in ("strike", "flood", "inquiry"):
        site.create_story(slug)
    site.close_story("inquiry", successor="flood")
    site.add_reader("flood", "strike")
    site.add_reader("flood")
    with site.cms() as cms:
        listed = cms.get("/api/v1/stories").json()["stories"]

    assert [(each["slug"], each["followers"]) for each in listed] == [("flood", 2), ("strike", 1), ("inquiry", 0)]
    assert listed[2]["state"] == "closed"
    assert listed[2]["successor"] == "flood"


def test_a_story_is_shown_with_its_updates_newest_first(site: Site) -> None:
    site.create_story()
    for headline in ("One", "Two"):
        site.publish(headline=headline)
    with site.cms() as cms:
        shown = cms.get("/api/v1/stories/tarrow-flood").json()

    assert [(each["seq"], each["headline"]) for each in shown["updates"]] == [(2, "Two"), (1, "One")]


def test_a_blast_is_reported_in_numbers_that_add_up(site: Site) -> None:
    site.create_story()
    blast = site.publish()["blasts"][0]["id"]
    with site.cms() as cms:
        report = cms.get(f"/api/v1/blasts/{blast}").json()

    assert report["id"] == blast
    assert report["candidates"] == report["waiting"] + sum(report[str(state)] for state in DeliveryState)


@pytest.mark.parametrize(
    ("blast", "status", "kind"), [("999999", 404, "not-found"), ("x", 422, "invalid"), ("9" * 400, 422, "invalid")]
)
def test_an_unknown_blast_is_no_blast(site: Site, blast: str, status: int, kind: str) -> None:
    with site.cms() as cms:
        problem(cms.get(f"/api/v1/blasts/{blast}"), status, kind)


def test_an_unknown_address_and_method_are_problems_too(site: Site) -> None:
    with site.cms() as cms:
        problem(cms.get("/api/v1/nothing"), 404, "not-found")
        answer = cms.delete("/api/v1/stories")

    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"]


def test_head_is_answered_like_get_without_a_body(site: Site) -> None:
    with site.cms() as cms:
        answer = cms.head("/api/v1/stories")

    assert answer.status_code == 200
    assert answer.content == b""
    assert int(answer.headers["content-length"]) > 0


def test_a_final_update_closes_its_story_and_names_the_one_that_goes_on(site: Site) -> None:
    site.create_story("flood")
    site.create_story("rebuilding")
    wrong = {"headline": "Over", "body": "x", "successor": "rebuilding"}
    with site.cms() as cms:
        answer = cms.post("/api/v1/stories/flood/updates", json=wrong)
        assert problem(answer, 422, "invalid")["field"] == "successor"
        answer = cms.post("/api/v1/stories/flood/updates", json={**wrong, "kind": "final", "successor": "no"})
        assert problem(answer, 404, "not-found")["field"] == "successor"
        for status in (201, 200):  # the same key is answered from the first time, though the story is closed by then
            answer = cms.post(
                "/api/v1/stories/flood/updates", json={**wrong, "kind": "final"}, headers={"Idempotency-Key": "once"}
            )
            assert answer.status_code == status, answer.text
        story = cms.get("/api/v1/stories/flood").json()
        assert (story["state"], story["successor"]) == ("closed", "rebuilding")
        problem(cms.post("/api/v1/stories/flood/updates", json={"headline": "More", "body": "x"}), 409, "story-closed")
        right = {"headline": "Not over", "body": "x", "kind": "correction", "corrects": 1}
        assert cms.post("/api/v1/stories/flood/updates", json=right).status_code == 201
