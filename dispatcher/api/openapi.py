"""The OpenAPI document (3.1): examples and error answers for every route."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

import dispatcher
from dispatcher.access import ScopeMissing
from dispatcher.api import problems
from dispatcher.api.problems import MEDIA_TYPE, BadRequest, MethodNotAllowed, Problem, UnsupportedMediaType
from dispatcher.approval import ApprovalRequired
from dispatcher.errors import (
    Conflict,
    DatabaseUnavailable,
    DispatcherError,
    IdempotencyMismatch,
    Invalid,
    NotFound,
    StoryClosed,
    TooLarge,
    Unauthorized,
)

DESCRIPTION = """
Dispatcher turns a new update of a developing story into an email for everyone who follows it.

Every request carries a bearer token. Bodies are JSON in UTF-8, of at most 1 MB. Errors are problem documents
(RFC 9457): `type` names the kind and does not change, `detail` says what is wrong, `remedy` what to do about it, and
`field` which field is meant. Ignore members of an answer that you do not know: there may be more of them some day.
"""

_NULL = "\0null"
SITE = "https://alerts.example.org"
DOCS_PATH = "/api/v1/docs"
JSON_PATH = "/api/v1/openapi.json"

STORY: dict[str, Any] = {
    "slug": "tarrow-flood",
    "headline": "Tarrow flood: Ostermere leaves the lower city",
    "summary": "The Tarrow has broken through the levee at Millgate.",
    "state": "developing",
    "created_at": "2026-11-08T20:40:00Z",
    "closed_at": None,
    "successor": None,
    "in_doubt": None,
    "url": f"{SITE}/s/tarrow-flood",
}
UPDATE: dict[str, Any] = {
    "seq": 8,
    "kind": "update",
    "importance": "breaking",
    "headline": "Millgate levee gives way: leave the lower city on foot, now",
    "summary": "Everyone south of Chandler's Row is told to walk uphill.",
    "corrects": None,
    "published_at": "2026-11-09T01:53:07.418Z",
    "expires_at": None,
    "withdrawn_at": None,
    "withdrawn_because": None,
    "url": f"{SITE}/s/tarrow-flood#u8",
}
WITHDRAWN: dict[str, Any] = {
    "story": "tarrow-flood",
    "update": {
        **UPDATE,
        "seq": 9,
        "kind": "withdrawal",
        "headline": "The gauge was read wrongly. The dam holds.",
        "summary": "",
        "corrects": 8,
        "url": f"{SITE}/s/tarrow-flood#u9",
    },
    "blasts": [{"id": 50, "url": f"{SITE}/api/v1/blasts/50"}],
    "superseded": [48, 49],
}
PUBLISHED: dict[str, Any] = {
    "story": "tarrow-flood",
    "update": UPDATE,
    "blasts": [{"id": 48, "url": f"{SITE}/api/v1/blasts/48"}],
    "superseded": [],
}
DRAFT: dict[str, Any] = {
    "id": 12,
    "story": "tarrow-flood",
    "state": "submitted",
    "headline": UPDATE["headline"],
    "needs_approval": "It is breaking news.",
    "url": f"{SITE}/desk/drafts/12",
}
BLAST: dict[str, Any] = {
    "id": 48,
    "channel": "email",
    "state": "sending",
    "story": "tarrow-flood",
    "seq": 8,
    "headline": UPDATE["headline"],
    "candidates": 1204,
    "accepted": 1180,
    "deferred": 9,
    "failed": 2,
    "in_doubt": 0,
    "suppressed": 3,
    "capped": 0,
    "expired": 0,
    "superseded": 0,
    "withdrawn": 1,
    "waiting": 9,
    "first_ms": 62.1,
    "p50_ms": 214.8,
    "p90_ms": 371.0,
    "p99_ms": 402.3,
    "last_ms": 409.9,
    "seconds": 0.41,
    "per_second": 2878.8,
    "reasons": [{"reason": "451 4.7.1 Try again later", "count": 9}],
    "holding": "",
    "steered_by": None,
    "steered_at": None,
    "is_drill": False,
}
_STEERED = {"steered_by": "cms", "steered_at": "2026-11-09T01:53:08.102Z"}
PAUSED: dict[str, Any] = {**BLAST, "state": "paused", **_STEERED}
RESUMED: dict[str, Any] = {**BLAST, **_STEERED}
CANCELLED: dict[str, Any] = {**BLAST, "state": "cancelled", "deferred": 0, "failed": 11, **_STEERED}
LISTED_BLAST: dict[str, Any] = {
    **{name: BLAST[name] for name in ("id", "channel", "state", "story", "seq", "headline")},
    "published_at": UPDATE["published_at"],
    "candidates": BLAST["candidates"],
    **{name: BLAST[name] for name in ("steered_by", "steered_at", "is_drill")},
}
RETRIED: dict[str, Any] = {"retried": 2, "left_out": 1, "dry_run": True, "blast": BLAST}

#: What stands for each status in the document; the route's own errors are all of these kinds or more special ones.
_ERRORS: dict[int, DispatcherError] = {
    400: BadRequest(),
    401: Unauthorized(),
    403: ScopeMissing("This token is not good for that: it lacks the scope publish.", field="Authorization"),
    404: NotFound(
        "There is no story 'tarow-flood'.",
        remedy="`dispatcher story list` shows the stories there are.",
        field="story",
    ),
    409: IdempotencyMismatch(field="Idempotency-Key"),
    413: TooLarge("The request is larger than 1 MB.", remedy="Send less; link to the long version instead."),
    415: UnsupportedMediaType(field="Content-Type"),
    422: Invalid("headline is missing.", remedy="Add it.", field="headline"),
    503: DatabaseUnavailable(),
}
#: Every kind of problem that the API answers with.
_KINDS: tuple[type[DispatcherError], ...] = (
    BadRequest,
    Unauthorized,
    ScopeMissing,
    ApprovalRequired,
    NotFound,
    MethodNotAllowed,
    Conflict,
    StoryClosed,
    IdempotencyMismatch,
    TooLarge,
    UnsupportedMediaType,
    Invalid,
    DatabaseUnavailable,
)
_MEANING = {
    400: "It cannot be read: it is no JSON object, or no proper HTTP.",
    401: "There is no valid bearer token.",
    403: "The token lacks the scope that this needs, or a second person has to approve it first.",
    404: "There is no such thing.",
    409: "It contradicts what is already there.",
    413: "It is too large.",
    415: "It is not JSON.",
    422: "A value is wrong.",
    503: "The database does not answer; nothing was written.",
}


def answers(
    status: int, example: dict[str, Any], *errors: int, replayed: str | None = None
) -> dict[int | str, dict[str, Any]]:
    """What a route may answer: its success with an example, and its errors as problem documents.

    `replayed` is the schema of an answer that is given again where its key was used before.
    """
    found: dict[int | str, dict[str, Any]] = {
        status: {"description": "Here it is.", "content": {"application/json": {"example": _kept(example)}}}
    }
    if status == 201:
        found[201]["description"] = "It was created."
        found[201]["headers"] = {"Location": _header("Where it is.")}
    if replayed is not None:
        found[200] = {
            "description": "The key was used for this very content before; nothing was sent again.",
            "content": {"application/json": {"schema": _ref(replayed), "example": _kept(example)}},
            "headers": {"Location": _header("Where it is."), "Idempotent-Replay": _header("Always `true`.")},
        }
    # Wherever a token is needed, it can be one that is not good for it; and any request can be garbled.
    for each in sorted({*errors, 400, 403}) if 401 in errors else errors:
        found[each] = {
            "description": _MEANING[each],
            "content": {MEDIA_TYPE: {"schema": _ref("Problem"), "example": _kept(_problem(each))}},
        }
    return found


def document(app: FastAPI, public_url: str, *more: type[DispatcherError]) -> dict[str, Any]:
    """The whole document, made once for an application; `more` kinds of problems come from its other doors."""
    if app.openapi_schema is None:
        made = get_openapi(
            title="Dispatcher",
            version=dispatcher.__version__,
            summary="Alerts for everyone who follows a developing story.",
            description=DESCRIPTION.strip(),
            routes=app.routes,
            servers=[{"url": public_url}],
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        )
        made["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        made["x-problems"] = [_kind(error) for error in (*_KINDS, *more)]
        app.openapi_schema = _restored(made)
    return app.openapi_schema


def _kept(value: Any) -> Any:
    """The value with a mark for null, which the framework would drop from examples."""
    return _mapped(value, None, _NULL)


def _restored(value: Any) -> Any:
    return _mapped(value, _NULL, None)


def _mapped(value: Any, old: str | None, new: str | None) -> Any:
    if isinstance(value, dict):
        return {key: _mapped(each, old, new) for key, each in value.items()}
    if isinstance(value, list):
        return [_mapped(each, old, new) for each in value]
    return new if value == old else value


def _kind(error: type[DispatcherError]) -> dict[str, Any]:
    title = (error.__doc__ or "").strip().splitlines()[0]
    return {"kind": problems.kind_of(error), "status": error.status, "title": title, "remedy": error.remedy}


def _header(text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string"}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _problem(status: int) -> dict[str, Any]:
    return problems.problem(_ERRORS[status], f"{SITE}{DOCS_PATH}").model_dump()
