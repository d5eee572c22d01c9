"""Other systems publish over the API: once, safely, and with errors that say what to do."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from tests.api.problems import problem
from tests.api.serving import Site

UPDATES = "/api/v1/stories/tarrow-flood/updates"
GOOD = {"headline": "Millgate levee gives way", "body": "It gave way at **02:44**."}


@pytest.fixture
def story(site: Site) -> Site:
    site.create_story()
    return site


def test_an_update_is_published_and_its_blasts_are_named(story: Site) -> None:
    story.add_reader("tarrow-flood")
    with story.cms() as cms:
        answer = cms.post(UPDATES, json={**GOOD, "summary": "Walk uphill.", "importance": "breaking"})
        published = answer.json()
        blast = cms.get(published["blasts"][0]["url"])

    assert answer.status_code == 201
    assert answer.headers["location"] == f"{story.url}/s/tarrow-flood#u1"
    assert "idempotent-replay" not in answer.headers
    assert published["story"] == "tarrow-flood"
    assert published["update"]["seq"] == 1
    assert published["update"]["kind"] == "update"
    assert published["update"]["importance"] == "breaking"
    assert published["update"]["url"] == answer.headers["location"]
    assert len(published["blasts"]) == 1
    assert blast.json()["state"] == "cutting"
    assert blast.json()["seq"] == 1


def test_an_update_carries_the_name_of_the_token(story: Site) -> None:
    story.publish()

    assert story.look("SELECT published_by FROM updates") == [("cms",)]


def test_the_same_key_and_content_is_answered_again_and_published_once(story: Site) -> None:
    with story.cms() as cms:
        first = cms.post(UPDATES, json=GOOD, headers={"Idempotency-Key": "k1"})
        again = cms.post(UPDATES, json=GOOD, headers={"Idempotency-Key": "k1"})

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["idempotent-replay"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.json() == first.json()
    assert story.look("SELECT count(*) FROM blasts") == [(1,)]


def test_the_same_key_with_other_content_is_refused(story: Site) -> None:
    with story.cms() as cms:
        cms.post(UPDATES, json=GOOD, headers={"Idempotency-Key": "k1"})
        answer = cms.post(UPDATES, json={**GOOD, "body": "It held."}, headers={"Idempotency-Key": "k1"})

    assert problem(answer, 409, "idempotency-mismatch")["field"] == "Idempotency-Key"
    assert story.look("SELECT count(*) FROM updates") == [(1,)]


async def test_two_hundred_parallel_publishes_with_one_key_make_one_update(story: Site) -> None:
    headers = {"Authorization": f"Bearer {await asyncio.to_thread(lambda: story.token)}", "Idempotency-Key": "one"}
    async with httpx2.AsyncClient(
        base_url=story.url, headers=headers, timeout=60, limits=httpx2.Limits(max_connections=200)
    ) as client:
        answers = await asyncio.gather(*(client.post(UPDATES, json=GOOD) for _ in range(200)))

    statuses = [answer.status_code for answer in answers]
    assert statuses.count(201) == 1
    assert statuses.count(200) == 199
    assert len({answer.text for answer in answers}) == 1
    assert story.look("SELECT count(*) FROM updates") == [(1,)]
    assert story.look("SELECT count(*) FROM blasts") == [(1,)]


def test_a_correction_names_what_it_corrects(story: Site) -> None:
    story.publish()
    published = story.publish(headline="It held", kind="correction", corrects=1)

    assert published["update"]["corrects"] == 1
    assert published["update"]["seq"] == 2


def test_a_withdrawn_update_is_marked_everywhere_and_its_text_is_shown_nowhere(story: Site) -> None:
    """On the page, in both languages, in the feed and over the API; the second time there is nothing to withdraw."""
    story.publish()
    with story.cms() as cms:
        cms.post(UPDATES, json={**GOOD, "summary": "Walk uphill."})
        answer = cms.post(f"{UPDATES}/2/withdraw", json={"reason": "The levee <b>holds</b>."})
        again = cms.post(f"{UPDATES}/2/withdraw", json={"reason": "The levee holds."})
        none = cms.post(f"{UPDATES}/9/withdraw", json={"reason": "The levee holds."})
        blank = cms.post(f"{UPDATES}/1/withdraw", json={"reason": " "})
        outside = cms.post(UPDATES, json={**GOOD, "kind": "withdrawal", "corrects": 1})
        listed = cms.get("/api/v1/stories/tarrow-flood").json()["updates"]
    page = story.get("/s/tarrow-flood").text
    page_uk = story.get("/s/tarrow-flood", **{"Accept-Language": "uk"}).text
    feed = story.get("/s/tarrow-flood/feed.xml").text

    assert answer.status_code == 200, answer.text
    assert (answer.json()["update"]["seq"], answer.json()["update"]["corrects"]) == (3, 2)
    assert len(answer.json()["superseded"]) == 1
    problem(again, 409, "conflict")
    problem(none, 404, "not-found")
    assert problem(blank, 422, "invalid")["field"] == "reason"
    assert problem(outside, 422, "invalid")["field"] == "kind"
    assert [each["withdrawn_because"] for each in listed] == [None, "The levee <b>holds</b>.", None]
    for shown in (page, page_uk, feed):
        assert GOOD["headline"] not in shown
        assert "02:44" not in shown
        assert "Walk uphill" not in shown
        assert "The levee &lt;b&gt;holds&lt;/b&gt;." in shown
    assert "This update was withdrawn" in page
    assert "This takes back" in page
    assert "Це оновлення відкликано" in page_uk
    assert feed.count("<title>Withdrawn: The levee") == 2
