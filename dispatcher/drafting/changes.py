"""What has changed in a draft since somebody last looked at it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from dispatcher import db
from dispatcher.drafting.writing import Writing

#: Lines of a body that are compared at most: the time it takes grows with their square.
MOST_LINES = 500
NAMES = {
    "kind": "Kind",
    "importance": "Importance",
    "headline": "Headline",
    "summary": "Summary",
    "body": "Text",
    "corrects": "Corrects update",
    "replaces": "Replaces what is going out",
    "expires_in": "Expires after (seconds)",
    "successor": "Goes on in",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One field that says something else now: lines that are gone, and lines that have come."""

    name: str
    gone: tuple[str, ...]
    come: tuple[str, ...]


async def since(database: db.Database, writing: Writing, version: int) -> list[Change] | None:
    """What differs between a draft and its version `version`; None if that version is not kept any more."""
    async with database.connection() as connection:
        row = await connection.one("find_revision", draft_id=writing.id, version=version)
    if row is None:
        return None
    now = writing.text.as_json()
    return [
        _change(field, row["text"].get(field), now[field]) for field in NAMES if row["text"].get(field) != now[field]
    ]


def _change(field: str, before: object, after: object) -> Change:
    if field == "body":
        gone, come = _lines(str(before), str(after))
        return Change(NAMES[field], gone, come)
    return Change(NAMES[field], _said(before), _said(after))


def _said(value: object) -> tuple[str, ...]:
    if isinstance(value, bool):
        return ("yes" if value else "no",)
    return () if value in (None, "") else (str(value),)


def _lines(before: str, after: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    old, new = before.split("\n")[:MOST_LINES], after.split("\n")[:MOST_LINES]
    gone: list[str] = []
    come: list[str] = []
    for what, begin, end, new_begin, new_end in difflib.SequenceMatcher(None, old, new).get_opcodes():
        if what != "equal":
            gone += old[begin:end]
            come += new[new_begin:new_end]
    return tuple(gone), tuple(come)
