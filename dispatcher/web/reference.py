"""The API reference: the OpenAPI document as one page, made on the server."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from dispatcher.web.front import front


async def reference(request: Request) -> Response:
    """`/api/v1/docs`: every route, field and problem of the API."""
    document: dict[str, Any] = request.app.openapi()
    return front(request).public_page(
        request,
        "reference.html",
        language="en",
        changed=None,
        info=document["info"],
        base=document["servers"][0]["url"],
        operations=[
            _operation(document, method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ],
        problems=document["x-problems"],
        schemas=[_schema(document, name) for name in sorted(document["components"]["schemas"])],
    )


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    schema = None if body is None else _resolve(document, body["schema"])
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": operation["summary"],
        "description": operation.get("description", ""),
        "parameters": [
            {**each, "kind": _kind(each["schema"]), "required": each.get("required", False)}
            for each in operation.get("parameters", [])
        ],
        "body": None if schema is None else {"name": schema["title"], "example": _pretty(schema["examples"][0])},
        "answers": [_answer(status, answer) for status, answer in sorted(operation["responses"].items())],
    }


def _answer(status: str, answer: dict[str, Any]) -> dict[str, Any]:
    _, content = next(iter(answer["content"].items()))
    return {
        "status": status,
        "description": answer["description"],
        "schema": content["schema"]["$ref"].rsplit("/", 1)[-1],
        "example": _pretty(content["example"]),
        "good": status.startswith("2"),
    }


def _schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    schema = document["components"]["schemas"][name]
    required = schema.get("required", [])
    return {
        "name": name,
        "description": schema.get("description", ""),
        "words": schema.get("enum", []),
        "fields": [
            {
                "name": field,
                "kind": _kind(value),
                "required": field in required,
                "description": value.get("description", ""),
                "limits": _limits(value),
            }
            for field, value in schema.get("properties", {}).items()
        ],
    }


def _kind(schema: dict[str, Any]) -> str:
    """A schema's type in a few words: `text`, `number or null`, `list of UpdateOut`."""
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[-1])
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    if schema.get("format") == "date-time":
        return "time"
    kind = str(schema.get("type", "anything"))
    return {"string": "text", "integer": "whole number"}.get(kind, kind)


def _limits(schema: dict[str, Any]) -> str:
    if "maxLength" in schema:
        return f"at most {schema['maxLength']} characters"
    return f"default {schema['default']}" if schema.get("default") else ""


def _resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    return found


def _pretty(example: object) -> str:
    return json.dumps(example, indent=2, ensure_ascii=False)
