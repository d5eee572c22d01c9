"""Errors as problem documents (RFC 9457): what is wrong, with which field, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dispatcher.errors import DispatcherError, Invalid, NotFound, TooLarge, Unauthorized, Unavailable

MEDIA_TYPE = "application/problem+json"
#: Seconds after which a caller may ask again when something does not answer.
RETRY_AFTER = "5"


class BadRequest(DispatcherError):
    """This request cannot be read."""

    status = 400
    remedy = "Send a JSON object in UTF-8."


class MethodNotAllowed(DispatcherError):
    """This address does not take that method."""

    status = 405
    remedy = "The `Allow` header names those that it takes."


class UnsupportedMediaType(DispatcherError):
    """The body must be JSON."""

    status = 415
    remedy = "Send it with `Content-Type: application/json`."


class Problem(BaseModel):
    """What went wrong (RFC 9457), with two members of ours: `remedy` and `field`."""

    type: str = Field(description="The kind of problem, as a link to its explanation; stable, so compare this.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status again.")
    detail: str = Field(description="What is wrong this time.")
    remedy: str = Field(default="", description="What to do about it; empty if there is nothing to say.")
    field: str | None = Field(default=None, description="The field, header or parameter that is wrong, if it is one.")


def problem(error: DispatcherError, docs: str) -> Problem:
    """An error as a problem document; `docs` is the URL of the page that explains the kinds."""
    kind = type(error)
    return Problem(
        type=f"{docs}#problem-{kind_of(kind)}",
        title=(kind.__doc__ or "").strip().splitlines()[0],
        status=error.status,
        detail=error.message,
        remedy=error.remedy,
        field=error.field,
    )


def kind_of(error: type[DispatcherError]) -> str:
    """The last part of a problem's type: `StoryClosed` is `story-closed`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", error.__name__).lower()


def response(error: DispatcherError, docs: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as the answer to a request."""
    return JSONResponse(
        problem(error, docs).model_dump(),
        error.status,
        headers={**more_headers(error), **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def more_headers(error: DispatcherError) -> dict[str, str]:
    """The headers that go with some errors."""
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, Unavailable):
        return {"Retry-After": RETRY_AFTER}
    return {}


def explain(error: HTTPException) -> DispatcherError:
    """What the web framework found wrong with a request, in our words."""
    match error.status_code:
        case 404:
            return NotFound("There is nothing at this address.")
        case 405:
            return MethodNotAllowed()
        case 413:
            return TooLarge("The request is larger than 1 MB.", remedy="Send less; link to the long version instead.")
        case _:
            return BadRequest()


def invalid(request: Request, error: RequestValidationError) -> DispatcherError:
    """The first thing that is wrong with a request's values, with the field's name and the remedy."""
    first: dict[str, Any] = error.errors()[0]
    kind, where = first["type"], [str(part) for part in first["loc"][1:]]
    if kind == "json_invalid":
        return Invalid(
            f"The body is not JSON: {first['ctx']['error']}, at character {where[0]}.",
            remedy="Send a JSON object.",
            field="body",
        )
    if not where:
        missing = kind == "missing"
        return Invalid(
            "The body is missing." if missing else "The body is not a JSON object.",
            remedy="Send a JSON object, such as {…}.",
            field="body",
        )
    field = where[0][:80]
    message, remedy = _words(kind, first, _known_fields(request))
    return Invalid(f"{field} {message}", remedy=remedy, field=field)


def _words(kind: str, error: Mapping[str, Any], known: Sequence[str]) -> tuple[str, str]:
    match kind:
        case "extra_forbidden":
            return "is not a known field.", f"Known are {', '.join(known)}." if known else "Leave it out."
        case "missing":
            return "is missing.", "Add it."
        case "string_type":
            return "is not text.", "Write it in quotation marks."
        case "string_unicode":
            return "is not valid Unicode text.", "Send it as UTF-8."
        case "enum":
            return "is none of the known words.", f"Choose {error['ctx']['expected']}."
        case "greater_than_equal" | "less_than_equal":
            sign = "at least" if kind.startswith("g") else "at most"
            return "is out of range.", f"Send {sign} {next(iter(error['ctx'].values()))}."
        case _ if kind.startswith("int"):
            return "is not a whole number.", "Send a number such as 3, without quotation marks."
        case _ if kind.startswith(("datetime", "date_from", "value_error")):
            return "is not a time.", "Write it with its timezone: 2026-03-01T06:00:00Z."
        case _:
            return "is not valid.", "See the API reference."


def _known_fields(request: Request) -> list[str]:
    """The fields that the body of this very request may have."""
    body = getattr(request.scope.get("route"), "body_field", None)
    model = getattr(getattr(body, "field_info", None), "annotation", None)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
