"""The API describes itself: completely, with examples that are true."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel

from dispatcher.api import draft_schemas, schemas
from dispatcher.api.problems import Problem
from tests.api.serving import Site


@pytest.fixture(scope="module")
def document(server: Site) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/api/v1/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for methods in document["paths"].values() for operation in methods.values()]


def test_it_is_openapi_3_1_and_every_reference_in_it_leads_somewhere(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    references = set(re.findall(r"'\$ref': '#/components/schemas/(\w+)'", str(document)))
    assert references
    assert references <= document["components"]["schemas"].keys()


def test_every_operation_is_described_and_documents_its_errors(document: dict[str, Any]) -> None:
    assert len(operations(document)) == 13
    for operation in operations(document):
        assert operation["summary"]
        assert operation["description"]
        assert operation["security"] == [{"token": []}]
        assert {"401", "503"} <= operation["responses"].keys()
        for status, answer in operation["responses"].items():
            assert answer["description"]
            (media_type,) = answer["content"]
            assert media_type == ("application/json" if status.startswith("2") else "application/problem+json")


def test_every_example_of_an_answer_fits_its_schema(document: dict[str, Any]) -> None:
    shapes = {"Problem": Problem, **vars(schemas), **vars(draft_schemas)}
    checked = 0
    for operation in operations(document):
        for answer in operation["responses"].values():
            for content in answer["content"].values():
                name = content["schema"]["$ref"].rsplit("/", 1)[-1]
                model: type[BaseModel] = shapes[name]
                assert model.model_validate(content["example"]).model_dump().keys() == content["example"].keys()
                checked += 1
    assert checked > 20


def test_every_example_of_a_request_is_accepted(site: Site, document: dict[str, Any]) -> None:
    examples = {
        name: schema["examples"][0]
        for name, schema in document["components"]["schemas"].items()
        if "examples" in schema
    }
    assert examples.keys() == {"NewStory", "StoryChange", "NewUpdate", "NewDraft", "RetryOrder", "Withdrawal"}
    with site.cms() as cms:
        story = cms.post("/api/v1/stories", json=examples["NewStory"])
        change = cms.patch("/api/v1/stories/tarrow-flood", json=examples["StoryChange"])
        update = cms.post("/api/v1/stories/tarrow-flood/updates", json=examples["NewUpdate"])
        draft = cms.post("/api/v1/stories/tarrow-flood/drafts", json=examples["NewDraft"])
        retry = cms.post("/api/v1/blasts/1/retry", json=examples["RetryOrder"])
        withdrawal = cms.post("/api/v1/stories/tarrow-flood/updates/1/withdraw", json=examples["Withdrawal"])

    assert story.status_code == 201, story.text
    assert change.status_code == 200, change.text
    assert update.status_code == 201, update.text
    assert draft.status_code == 201, draft.text
    assert retry.status_code == 200, retry.text
    assert withdrawal.status_code == 200, withdrawal.text


def test_the_example_of_a_blast_has_the_members_of_a_real_one(site: Site, document: dict[str, Any]) -> None:
    site.create_story()
    link = site.publish()["blasts"][0]["url"]
    with site.cms() as cms:
        real = cms.get(link).json()
    operation = document["paths"]["/api/v1/blasts/{blast_id}"]["get"]

    assert operation["responses"]["200"]["content"]["application/json"]["example"].keys() == real.keys()


def test_the_reference_page_shows_every_operation_schema_and_kind_of_problem(
    site: Site, document: dict[str, Any]
) -> None:
    page = site.get("/api/v1/docs").text
    anchors = set(re.findall(r'id="([^"]+)"', page))

    assert {operation["operationId"] for operation in operations(document)} <= anchors
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= anchors
    assert {f"problem-{each['kind']}" for each in document["x-problems"]} <= anchors
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links <= anchors
