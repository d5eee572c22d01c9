"""Whatever is sent to the API, within its description or against it: an answer that it describes, never a failure."""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.serving import Site

#: Requests to each operation, of those that its description allows and of the others.
REQUESTS = 200 if os.environ.get("DISPATCHER_CHAOS") == "long" else 15
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def test_no_request_makes_the_api_fail(site: Site) -> None:
    """Half of the requests name a story and a blast that exist, so that they come further than "not found"."""
    site.create_story("tarrow-flood")
    known = {"slug": "tarrow-flood", "blast_id": site.publish()["blasts"][0]["id"], "seq": 1}
    document: dict[str, Any] = site.get("/api/v1/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)

    asked = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            asked += ask(site, found.ok(), mode, known)

    assert asked > 10 * REQUESTS


def ask(site: Site, operation: Any, mode: GenerationMode, known: dict[str, Any]) -> int:
    """Send requests of one kind to one operation, and look at the answers; how many there were."""
    asked = 0

    @settings(
        max_examples=REQUESTS, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        nonlocal asked
        asked += 1
        if asked % 2:
            case.path_parameters.update({name: known[name] for name in case.path_parameters if name in known})
        headers = {"Authorization": f"Bearer {site.token}"}
        case.call_and_validate(base_url=site.url, checks=CHECKS, headers=headers, timeout=20)

    send()
    return asked
