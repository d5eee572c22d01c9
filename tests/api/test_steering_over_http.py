"""Other systems pause, resume, cancel and retry blasts over the API, and say what becomes of doubts."""

from __future__ import annotations

import json

import pytest

from tests.api.problems import problem
from tests.api.serving import Site

BLAST = "/api/v1/blasts/1"


@pytest.fixture
def blast(site: Site) -> Site:
    """A site with one blast, whose readers are frozen: the second has failed, the others wait."""
    site.create_story()
    for _ in range(3):
        site.add_reader("tarrow-flood")
    site.publish()
    site.look("UPDATE blasts SET state = 'sending', candidates = 3, frozen_at = now()")
    site.look(
        "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, attempts, code, reply)"
        " VALUES (1, 2, now(), 'failed', 1, 554, '5.6.0 No')"
    )
    return site


def rows(site: Site) -> list[object]:
    """All that steering may change."""
    return [
        site.look("SELECT * FROM blasts"),
        site.look("SELECT * FROM deliveries"),
        site.look("SELECT * FROM batches"),
    ]


def test_a_blast_is_paused_and_goes_on(blast: Site) -> None:
    with blast.cms() as cms:
        first, second = (cms.post(f"{BLAST}/pause") for _ in range(2))
        resumed = cms.post(f"{BLAST}/resume")
        shown = cms.get(BLAST)

    assert (first.status_code, first.json()["state"], first.json()["steered_by"]) == (200, "paused", "cms")
    assert second.json() == first.json()
    assert (resumed.status_code, resumed.json()["state"]) == (200, "sending")
    assert shown.json() == resumed.json()


def test_a_cancelled_blast_says_who_was_not_written_to_and_stays_cancelled(blast: Site) -> None:
    with blast.cms() as cms:
        cancelled = cms.post(f"{BLAST}/cancel")
        again = cms.post(f"{BLAST}/cancel")
        refused = [
            cms.post(f"{BLAST}/resume"),
            cms.post(f"{BLAST}/pause"),
            cms.post(f"{BLAST}/retry", json={}),
        ]

    assert (cancelled.json()["state"], cancelled.json()["waiting"], cancelled.json()["failed"]) == ("cancelled", 2, 1)
    assert again.json() == cancelled.json()
    for answer in refused:
        assert problem(answer, 409, "conflict")["remedy"] == "Publish a new update to reach the readers."


def test_who_failed_is_tried_again(blast: Site) -> None:
    with blast.cms() as cms:
        dry = cms.post(f"{BLAST}/retry", json={"reason": "5.6.0 No", "code": "55x", "dry_run": True})
        nobody = cms.post(f"{BLAST}/retry", json={"states": ["in_doubt"]})
        done = cms.post(f"{BLAST}/retry", json={})

    assert (dry.status_code, dry.json()["retried"], dry.json()["blast"]["failed"]) == (200, 1, 1)
    assert (nobody.json()["retried"], nobody.json()["blast"]["steered_by"]) == (0, None)
    assert {key: done.json()[key] for key in ("retried", "left_out", "dry_run")} == {
        "retried": 1,
        "left_out": 0,
        "dry_run": False,
    }
    assert (done.json()["blast"]["deferred"], done.json()["blast"]["failed"]) == (1, 0)


def test_blasts_are_listed_the_open_ones_first(blast: Site) -> None:
    blast.publish()
    with blast.cms() as cms:
        cms.post("/api/v1/blasts/2/cancel")
        listed = cms.get("/api/v1/blasts").json()["blasts"]
        newest = cms.get("/api/v1/blasts?limit=1").json()["blasts"]

    assert [(each["id"], each["state"], each["seq"]) for each in listed] == [(1, "sending", 1), (2, "cancelled", 2)]
    assert (listed[0]["candidates"], listed[1]["steered_by"]) == (3, "cms")
    assert newest == listed[:1]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"states": ["expired"]}, "states"),
        ({"states": "failed"}, "states"),
        ({"states": []}, "states"),
        ({"reason": ""}, "reason"),
        ({"reason": "\ud800"}, "reason"),
        ({"code": 550}, "code"),
        ({"code": "600"}, "code"),
        ({"dry_run": "no"}, "dry_run"),
        ({"dryrun": True}, "dryrun"),
    ],
)
def test_a_wrong_order_is_refused_and_nobody_is_tried_again(blast: Site, body: dict[str, object], field: str) -> None:
    before = rows(blast)
    with blast.cms() as cms:
        answer = cms.post(f"{BLAST}/retry", content=json.dumps(body), headers={"Content-Type": "application/json"})

    assert str(problem(answer, 422, "invalid")["field"]).startswith(field)
    assert rows(blast) == before


def test_steering_asks_for_a_token_a_blast_and_the_right_verb(blast: Site) -> None:
    before = rows(blast)
    with blast.cms() as cms, blast.browser() as stranger:
        for verb in ("pause", "resume", "cancel", "retry"):
            problem(stranger.post(f"{BLAST}/{verb}", json={}), 401, "unauthorized")
            problem(cms.post(f"/api/v1/blasts/9/{verb}", json={}), 404, "not-found")
            problem(cms.post(f"/api/v1/blasts/0/{verb}", json={}), 422, "invalid")
            problem(cms.get(f"{BLAST}/{verb}"), 405, "method-not-allowed")
        problem(cms.post(f"{BLAST}/retry"), 415, "unsupported-media-type")
        problem(cms.get("/api/v1/blasts?limit=0"), 422, "invalid")

    assert rows(blast) == before


def test_a_story_says_what_becomes_of_its_doubts(site: Site) -> None:
    with site.cms() as cms:
        made = cms.post("/api/v1/stories", json={"slug": "dam", "headline": "The dam", "in_doubt": "hold"})
        plain = cms.post("/api/v1/stories", json={"slug": "flood", "headline": "The flood"})
        changed = cms.patch("/api/v1/stories/dam", json={"in_doubt": "resend"})
        listed = cms.get("/api/v1/stories").json()["stories"]
        reset = cms.patch("/api/v1/stories/dam", json={"in_doubt": None})
        shown = cms.get("/api/v1/stories/dam")

    assert [each.json()["in_doubt"] for each in (made, plain, changed, reset, shown)] == [
        *("hold", None, "resend"),
        *(None, None),
    ]
    assert {each["slug"]: each["in_doubt"] for each in listed} == {"dam": "resend", "flood": None}


@pytest.mark.parametrize("body", [{}, {"in_doubt": "perhaps"}, {"in_doubt": 1}, {"in_doubt": "hold", "slug": "x"}])
def test_a_wrong_change_of_a_story_changes_nothing(site: Site, body: dict[str, object]) -> None:
    site.create_story(in_doubt="hold")
    with site.cms() as cms:
        answer = cms.patch("/api/v1/stories/tarrow-flood", json=body)
        missing = cms.patch("/api/v1/stories/other", json={"in_doubt": "hold"})

    problem(answer, 422, "invalid")
    problem(missing, 404, "not-found")
    assert site.look("SELECT in_doubt FROM stories") == [("hold",)]
