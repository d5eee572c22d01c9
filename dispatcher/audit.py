"""The log of the desk: who did what to which content, and when. It is only added to; the database refuses the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dispatcher import db

#: Entries on one page.
PAGE = 50
#: Characters of a filter that are looked at.
MAX_FILTER = 254
_ADDRESS = re.compile(r"\S+@\S+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of the log."""

    id: int
    at: datetime
    actor: str  #: an address of the desk, `cli:NAME`, or the name of an API token
    action: str
    subject: str  #: what it was done to: an address, `story:SLUG`, `blast:ID`, …
    content_hash: bytes | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, the newest first, and the number to go on before; None at the beginning of the log."""

    entries: list[Entry]
    before: int | None


def reader(subscriber_id: int) -> str:
    """How the log names a reader: by a number, which says nothing once they are erased."""
    return f"subscriber:{subscriber_id}"


def address(address_hash: bytes) -> str:
    """How the log names an address that is no reader's: by the beginning of its keyed hash."""
    return f"address:{address_hash.hex()[:16]}"


def without_addresses(text: str) -> str:
    """Words that somebody typed, without what looks like an address: the log forgets nothing."""
    return _ADDRESS.sub("[address]", text)


async def note(
    tx: db.Connection,
    *,
    actor: str,
    action: str,
    subject: str = "",
    content_hash: bytes | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add a line within the caller's transaction: it is there exactly if what it tells of has happened.

    `detail` is what JSON can hold. No secret belongs there: the log is read by many and forgets nothing.
    """
    await tx.execute(
        "add_to_audit",
        actor=actor,
        action=action,
        subject=subject,
        content_hash=content_hash,
        detail=json.dumps(dict(detail or {}), ensure_ascii=False),
    )


async def read(
    database: db.Database,
    *,
    actor: str = "",
    action: str = "",
    subject: str = "",
    before: int | None = None,
    limit: int = PAGE,
) -> Page:
    """A page of the log, the newest first; only lines of this actor, action and subject, where they are given."""
    async with database.connection() as connection:
        rows = await connection.all(
            "read_audit",
            actor=actor[:MAX_FILTER],
            action=action[:MAX_FILTER],
            subject=subject[:MAX_FILTER],
            before=before or 2**62,
            limit=limit + 1,
        )
    entries = [Entry(**row) for row in rows[:limit]]
    return Page(entries, entries[-1].id if len(rows) > limit else None)


async def actions(database: db.Database) -> list[str]:
    """Every kind of action that the newest ten thousand lines tell of, by name."""
    async with database.connection() as connection:
        return [row["action"] for row in await connection.all("audit_actions")]
