"""Addresses that are never written to: looked at, added and lifted by the desk, always with a reason."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dispatcher import audit, db
from dispatcher.addresses import address_hash, parse_address
from dispatcher.errors import Conflict, NotFound
from dispatcher.texts import one_line

#: What the reader alone can take back, by following a story anew.
ERASED = "erased by the reader"
PAGE = 50
MAX_REASON = 200
_NEWEST = datetime(9999, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = re.compile(r"([0-9]{1,17})\.([0-9a-f]{2,128})")
_HASH = re.compile(r"(?:[0-9a-f]{2}){1,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Suppression:
    """An address that is never written to."""

    address_hash: bytes
    reason: str
    created_at: datetime
    subscriber_id: int | None  #: None where no reader has this address any more
    email: str | None  #: known for as long as a reader has it

    @property
    def can_be_lifted(self) -> bool:
        return self.reason != ERASED


@dataclass(frozen=True, slots=True)
class Page:
    """Suppressions, the newest first, and what the next page begins before; empty at the end."""

    entries: list[Suppression]
    before: str


async def listing(database: db.Database, *, before: str = "") -> Page:
    """A page of those who are never written to. A `before` that is none of ours means the newest page."""
    found = _CURSOR.fullmatch(before)
    at = _NEWEST if found is None else _EPOCH + timedelta(microseconds=int(found[1]))
    hashed = b"" if found is None or len(found[2]) % 2 else bytes.fromhex(found[2])
    async with database.connection() as connection:
        rows = await connection.all("list_suppressions", at=at, before=hashed, limit=PAGE + 1)
    entries = [Suppression(**row) for row in rows[:PAGE]]
    return Page(entries, _cursor(entries[-1]) if len(rows) > PAGE else "")


def _cursor(entry: Suppression) -> str:
    return f"{(entry.created_at - _EPOCH) // timedelta(microseconds=1)}.{entry.address_hash.hex()}"


async def find(database: db.Database, secret_key: str, address: str) -> Suppression | None:
    """Whether an address is never written to, and why. Raises `Invalid` for what is no address."""
    hashed = address_hash(secret_key, parse_address(address))
    async with database.connection() as connection:
        row = await connection.one("get_suppression", address_hash=hashed)
    return None if row is None else Suppression(**row)


async def add(database: db.Database, secret_key: str, address: str, *, reason: str, by: str) -> None:
    """Never write to an address again; a blast that is running stops for it within a second.

    Raises `Invalid` for what is no address and without a reason, `Conflict` if it is suppressed already.
    """
    hashed = address_hash(secret_key, parse_address(address))
    # What is kept for ever says nothing of whose address it was.
    reason = audit.without_addresses(one_line("reason", reason, longest=MAX_REASON))
    async with database.transaction() as tx:
        row = await tx.one("add_suppression", address_hash=hashed, reason=reason)
        if row is None:
            why = await tx.value("find_suppression", address_hash=hashed)
            raise Conflict("This address is suppressed already.", remedy=f"Reason: {why}.", field="email")
        await audit.note(
            tx,
            actor=by,
            action="suppressed an address",
            subject=_subject(hashed, row["subscriber_id"]),
            detail={"reason": reason},
        )


async def lift(database: db.Database, hashed: str, *, reason: str, by: str) -> None:
    """Write to an address again; `hashed` is its hash in hexadecimal digits.

    Raises `Invalid` without a reason, `NotFound`, and `Conflict` if the reader has erased themselves.
    """
    if not _HASH.fullmatch(hashed):
        raise NotFound("This address is not suppressed.", field="hash")
    why = audit.without_addresses(one_line("reason", reason, longest=MAX_REASON))
    address = bytes.fromhex(hashed)
    async with database.transaction() as tx:
        row = await tx.one("lift_suppression", address_hash=address, erased=ERASED)
        if row is None:
            if await tx.value("find_suppression", address_hash=address) is None:
                raise NotFound("This address is not suppressed.", remedy="Reload the page.", field="hash")
            raise Conflict(
                "This reader has erased everything, and the desk cannot bring them back.",
                remedy="They can follow a story again themselves, and confirm it by mail.",
                field="hash",
            )
        detail = {"reason": why, "was": audit.without_addresses(row["reason"])}
        subject = _subject(address, row["subscriber_id"])
        await audit.note(tx, actor=by, action="lifted a suppression", subject=subject, detail=detail)


def _subject(hashed: bytes, subscriber_id: int | None) -> str:
    return audit.address(hashed) if subscriber_id is None else audit.reader(subscriber_id)
