"""Sessions: a cookie of 256 random bits, of which only a hash is kept. Twelve idle hours end one, and seven days do."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

from dispatcher import audit, db
from dispatcher.errors import NotFound
from dispatcher.roles import Role, What, may

IDLE = 12 * 3600.0
LONGEST = 7 * 86400.0
#: Seconds that somebody has to type their code.
HALF = 600.0
MAX_BROWSER = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Somebody of the newsroom."""

    id: int
    email: str
    name: str
    role: Role
    has_totp: bool
    recovery_left: int  #: recovery codes that are not used up
    created_at: datetime
    signed_in_at: datetime | None
    ended_at: datetime | None  #: since when they work here no more
    seen_at: datetime | None = None

    def may(self, what: What) -> bool:
        return self.ended_at is None and may(self.role, what)


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """Somebody who is signed in, or who half is: their code is still missing."""

    token_hash: bytes
    person: Person
    is_half: bool
    browser: str
    began_at: datetime
    seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedSession:
    """One of a person's sessions, as they see them."""

    token_hash: bytes
    browser: str
    began_at: datetime
    seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session: what goes into the cookie. `needs_code`: it opens nothing but the page that asks for a code."""

    token: str
    needs_code: bool
    person_id: int


def token_hash(token: str) -> bytes:
    """What is kept of a token: it has 256 bits of its own, so a plain hash will do."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


def person_from(row: db.Row) -> Person:
    return Person(
        id=row["id"],
        email=row["email"],
        name=row["name"],
        role=Role(row["role"]),
        has_totp=row["totp_sealed"] is not None,
        recovery_left=row["recovery_left"],
        created_at=row["created_at"],
        signed_in_at=row["signed_in_at"],
        ended_at=row["ended_at"],
        seen_at=row.get("seen_at"),
    )


async def begin(tx: db.Connection, person: Person, browser: str, *, half: bool) -> SignedIn:
    """A session for a person, within the caller's transaction. Half a one opens nothing until the code is in."""
    token = secrets.token_urlsafe(32)
    await tx.execute(
        "add_session",
        token_hash=token_hash(token),
        person_id=person.id,
        seconds=HALF if half else LONGEST,
        browser=browser[:MAX_BROWSER],
        is_half=half,
    )
    if not half:
        await tx.execute("note_sign_in", person_id=person.id)
        detail = {"browser": browser[:MAX_BROWSER]} if browser else {}
        await audit.note(tx, actor=person.email, action="signed in", subject=person.email, detail=detail)
    return SignedIn(token, half, person.id)


async def session(database: db.Database, token: str, *, is_alive: bool = True) -> Session | None:
    """Whoever holds this token; None if it is over, or never was.

    Each look says that somebody is still there, unless `is_alive` says that a page asks by itself.
    """
    async with database.connection() as connection:
        row = await connection.one("find_session", token_hash=token_hash(token), idle=IDLE)
        if row is None:
            return None
        if row["is_stale"] and is_alive:
            await connection.execute("see_session", token_hash=row["token_hash"])
    return Session(
        token_hash=row["token_hash"],
        person=person_from({**row, "seen_at": None}),
        is_half=row["is_half"],
        browser=row["browser"],
        began_at=row["began_at"],
        seen_at=row["seen_at"],
        expires_at=row["expires_at"],
    )


async def sessions(database: db.Database, person_id: int) -> list[ListedSession]:
    """Where a person is signed in, the last seen first."""
    async with database.connection() as connection:
        rows = await connection.all("list_sessions", person_id=person_id, idle=IDLE)
    return [ListedSession(**row) for row in rows]


async def sign_out(database: db.Database, person: Person, hashed: bytes, *, by: str | None = None) -> None:
    """End one session of a person. Nothing happens if it is over already."""
    async with database.transaction() as tx:
        if await tx.execute("end_session", token_hash=hashed, person_id=person.id):
            await audit.note(tx, actor=by or person.email, action="signed out", subject=person.email)


async def sign_out_everywhere(database: db.Database, person_id: int, *, by: str, but: bytes = b"") -> int:
    """End all sessions of a person, but for one perhaps. Returns how many ended. Raises `NotFound`."""
    async with database.transaction() as tx:
        row = await tx.one("find_person", person_id=person_id)
        if row is None:
            raise nobody()
        ended = await tx.execute("end_sessions", person_id=person_id, but=but)
        await audit.note(tx, actor=by, action="signed out everywhere", subject=row["email"], detail={"sessions": ended})
    return ended


def nobody() -> NotFound:
    """The error for a person who is not at the desk."""
    return NotFound("There is nobody like that at the desk.", remedy="Look at the list of people.", field="person")
