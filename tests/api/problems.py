"""Checking problem documents (RFC 9457)."""

from __future__ import annotations

from typing import Any

import httpx2


def problem(answer: httpx2.Response, status: int, kind: str) -> dict[str, Any]:
    """The problem document of an answer, checked for what every one of them has."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found.keys() == {"type", "title", "status", "detail", "remedy", "field"}
    assert found["status"] == status
    assert found["type"].endswith(f"/api/v1/docs#problem-{kind}")
    assert found["title"]
    assert found["detail"]
    return found
