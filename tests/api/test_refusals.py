"""What the API refuses: with the right status, the field, and a remedy, and without writing anything."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import pytest

from tests.api.problems import problem
from tests.api.serving import Site

UPDATES = "/api/v1/stories/tarrow-flood/updates"
GOOD = {"headline": "Millgate levee gives way", "body": "It gave way at **02:44**."}


@pytest.fixture(scope="module")
def one_site(server: Site) -> Site:
    """One site for all refusals: none of them leaves a trace."""
    site = Site(server.url, server.settings)
    site.create_story()
    site.create_story("closed")
    site.close_story("closed")
    return site


@pytest.fixture
def story(one_site: Site) -> Iterator[Site]:
    """The site, which must be unchanged afterwards."""
    before = one_site.everything()
    yield one_site
    assert one_site.everything() == before


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer dsp_wrong", "Basic Y21zOmNtcw==", "Bearer caf\xe9"])
def test_nobody_publishes_without_a_valid_token(story: Site, authorization: str | None) -> None:
    headers = [] if authorization is None else [(b"Authorization", authorization.encode("latin-1"))]
    with httpx2.Client(base_url=story.url, verify=False) as client:
        answer = client.post(UPDATES, json=GOOD, headers=headers)

    problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"healdine": "x"}, "healdine", "Known are headline, body"),
        ({"headline": None}, "headline", "not text"),
        ({"headline": 7}, "headline", "not text"),
        ({"headline": ["x"]}, "headline", "not text"),
        ({"headline": " "}, "headline", "empty"),
        ({"headline": "a\nb"}, "headline", "one line"),
        ({"headline": "a" * 201}, "headline", "200"),
        ({"headline": "\ud800"}, "headline", "control character"),
        ({"headline": "a\u0000b"}, "headline", "control character"),
        ({"body": ""}, "body", "empty"),
        ({"summary": "a" * 501}, "summary", "500"),
        ({"kind": "rumour"}, "kind", "'correction'"),
        ({"importance": 3}, "importance", "'breaking'"),
        ({"corrects": "1"}, "corrects", "whole number"),
        ({"corrects": True}, "corrects", "whole number"),
        ({"corrects": 0}, "corrects", "at least 1"),
        ({"corrects": 1}, "corrects", "correction"),
        ({"kind": "correction"}, "corrects", "number"),
        ({"kind": "correction", "corrects": 9}, "corrects", "no update 9"),
        ({"kind": "correction", "corrects": 10**30}, "corrects", "no update"),
        ({"expires_at": "tomorrow"}, "expires_at", "2026-03-01T06:00:00Z"),
        ({"expires_at": 1893456000}, "expires_at", "2026-03-01T06:00:00Z"),
        ({"expires_at": "2030-01-01T06:00:00"}, "expires_at", "timezone"),
        ({"expires_at": "2020-01-01T06:00:00Z"}, "expires_at", "past"),
        ({"expires_at": "9999-12-31T23:59:59-12:00"}, "expires_at", "2026-03-01T06:00:00Z"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field_and_a_remedy(
    story: Site, change: dict[str, object], field: str, says: str
) -> None:
    with story.cms() as cms:
        answer = cms.post(UPDATES, content=json.dumps({**GOOD, **change}), headers={"Content-Type": "application/json"})

    found = problem(answer, 422, "invalid")
    assert found["field"] == field
    assert says in f"{found['detail']} {found['remedy']}"


def test_a_missing_field_is_named(story: Site) -> None:
    with story.cms() as cms:
        answer = cms.post(UPDATES, json={"headline": "x"})

    assert problem(answer, 422, "invalid")["detail"] == "body is missing."


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        (b"", 422, "invalid"),
        (b"{", 422, "invalid"),
        (b"[]", 422, "invalid"),
        (b'"x"', 422, "invalid"),
        (b"\xff\xfe\xfd", 400, "bad-request"),
        (b"[" * 100_000, 400, "bad-request"),
        (b'{"corrects": ' + b"9" * 5000 + b"}", 400, "bad-request"),
    ],
)
def test_what_is_not_a_json_object_is_refused(story: Site, content: bytes, status: int, kind: str) -> None:
    with story.cms() as cms:
        answer = cms.post(UPDATES, content=content, headers={"Content-Type": "application/json"})

    problem(answer, status, kind)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_only_json_is_taken(story: Site, media_type: str) -> None:
    with story.cms() as cms:
        answer = cms.post(UPDATES, content=json.dumps(GOOD), headers={"Content-Type": media_type})

    problem(answer, 415, "unsupported-media-type")


def test_a_request_of_more_than_a_megabyte_is_refused(story: Site) -> None:
    with story.cms() as cms:
        answer = cms.post(UPDATES, json={**GOOD, "body": "x" * 1_000_001})

    problem(answer, 413, "too-large")


def test_a_request_that_hides_its_length_is_cut_off_at_a_megabyte(story: Site) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 50_000_000:
            sent += 65_536
            yield b" " * 65_536

    with story.cms() as cms:
        answer = cms.post(UPDATES, content=endless(), headers={"Content-Type": "application/json"})

    problem(answer, 413, "too-large")
    assert sent < 20_000_000


def test_a_body_text_beyond_its_bound_is_refused_by_name(story: Site) -> None:
    with story.cms() as cms:
        answer = cms.post(UPDATES, json={**GOOD, "body": "x" * 300_000})

    assert problem(answer, 413, "too-large")["field"] == "body"


def test_an_unknown_story_takes_no_update(story: Site) -> None:
    with story.cms() as cms:
        answer = cms.post("/api/v1/stories/other/updates", json=GOOD)

    problem(answer, 404, "not-found")


def test_a_closed_story_takes_no_update(story: Site) -> None:
    with story.cms() as cms:
        answer = cms.post("/api/v1/stories/closed/updates", json=GOOD)

    assert "successor" in problem(answer, 409, "story-closed")["remedy"]
