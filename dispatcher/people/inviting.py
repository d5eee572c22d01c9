"""Links that let somebody in: to join the desk, to set a new password, and the one that makes the first lead.

A link counts once and for 48 hours, and only a hash of it is kept.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import datetime

from dispatcher import audit, db
from dispatcher.addresses import address_hash, parse_address
from dispatcher.errors import Conflict, Invalid, NotFound
from dispatcher.people import passwords
from dispatcher.people.sessions import SignedIn, begin, nobody, person_from, token_hash
from dispatcher.people.signing import account_hash, as_key
from dispatcher.roles import Role
from dispatcher.texts import DEFAULT_TIMEZONE, one_line
from dispatcher.tokens import invitation_seal

VALID = 48 * 3600.0
MAX_NAME = 100
#: Whom the log names where the machine itself lets somebody in.
SETUP = "set-up"


class BadInvitation(NotFound):
    """This link lets nobody in any more."""

    remedy = "It works once, and for two days. Ask a lead for a new one."


@dataclass(frozen=True, kw_only=True, slots=True)
class Invitation:
    """A link that still counts."""

    email: str  #: empty for the one that makes the first lead: whoever has it says who they are
    role: Role
    invited_by: str
    is_reset: bool
    expires_at: datetime
    name: str = ""
    has_totp: bool = False  #: a new password alone opens nothing: the code is asked for as always


@dataclass(frozen=True, kw_only=True, slots=True)
class Post:
    """How a link is mailed: sealed until then under the installation's secret, in the newsroom's language."""

    secret_key: str
    language: str
    timezone: str = DEFAULT_TIMEZONE


async def first_link(database: db.Database) -> str | None:
    """The token of `/desk/setup/{token}`, which makes the first lead; None once there is one. Earlier ones are void."""
    async with database.transaction() as tx:
        await tx.one("lock_first_lead")
        if await tx.value("has_lead"):
            return None
        return await _new_link(tx, "", Role.LEAD, SETUP)


async def invite(database: db.Database, email: str, role: Role, *, by: str, post: Post | None = None) -> str:
    """The token of `/desk/invitation/{token}` for somebody new, which `post` mails too. Earlier ones are void.

    Raises `Invalid` for an address that is none, `Conflict` if they are at the desk already.
    """
    email = as_key(parse_address(email).email)
    async with database.transaction() as tx:
        row = await tx.one("find_person_by_email", email=email)
        if row is not None and row["ended_at"] is None:
            raise Conflict(f"{email} is at the desk already.", remedy="Change the role instead.", field="email")
        token = await _new_link(tx, email, role, by)
        if post is not None:
            await _mail(tx, post, email, token, by=by, role=role, is_reset=False)
        await audit.note(tx, actor=by, action="invited", subject=email, detail={"role": str(role)})
    return token


async def reset(database: db.Database, person_id: int, *, by: str, post: Post | None = None) -> str:
    """The token of a link for a new password, which `post` mails too; the old password counts until it is used.

    Raises `NotFound`.
    """
    async with database.transaction() as tx:
        row = await tx.one("lock_person", person_id=person_id)
        if row is None or row["ended_at"] is not None:
            raise nobody()
        token = await _new_link(tx, row["email"], Role(row["role"]), by, is_reset=True)
        if post is not None:
            await _mail(tx, post, row["email"], token, by=by, role=Role(row["role"]), is_reset=True)
        await audit.note(tx, actor=by, action="made a link for a new password", subject=row["email"])
    return token


async def invitation(database: db.Database, token: str) -> Invitation:
    """What a link stands for. Looking uses up nothing. Raises `BadInvitation`."""
    async with database.connection() as connection:
        row = await connection.one("find_invitation", token_hash=token_hash(token))
        if row is None or (row["email"] == "" and await connection.value("has_lead")):
            raise BadInvitation
    values = {**row, "role": Role(row["role"]), "name": row["name"] or "", "has_totp": bool(row["has_totp"])}
    return Invitation(**values)


async def invitations(database: db.Database) -> list[db.Row]:
    """The links that still count, the newest first, as `email`, `role`, `invited_by`, `is_reset`, `expires_at`."""
    async with database.connection() as connection:
        return await connection.all("list_invitations")


async def withdraw(database: db.Database, email: str, *, by: str) -> None:
    """Void the links for an address. Raises `NotFound` if there is none."""
    email = as_key(email)
    async with database.transaction() as tx:
        if not email or not await tx.execute("void_invitations", email=email):
            raise NotFound("There is no open link for this address.", field="email")
        await audit.note(tx, actor=by, action="withdrew an invitation", subject=email)


async def join(
    database: db.Database, secret_key: str, token: str, *, email: str = "", name: str = "", password: str, browser: str
) -> SignedIn:
    """Use a link: become somebody at the desk, or set a new password. Signs in, but for the code where codes are on.

    `email` counts for the first lead alone. Raises `BadInvitation`, `Invalid`, `Conflict`, `Busy`.
    """
    found = await invitation(database, token)
    email = found.email or as_key(parse_address(email).email)
    name = found.name if found.is_reset else one_line("name", name, longest=MAX_NAME)
    passwords.check(password, email=email, name=name)
    kept = await passwords.hashed(password)
    async with database.transaction() as tx:
        await tx.one("lock_first_lead")
        used = await tx.one("use_invitation", token_hash=token_hash(token))
        if used is None or (used["email"] == "" and await tx.value("has_lead")):
            raise BadInvitation
        if used["is_reset"]:
            person_id = await _reset_password(tx, email, kept)
        else:
            person_id = await add_person(tx, email, name, Role(used["role"]), kept, used["invited_by"])
        await tx.execute("clear_sign_in_attempts", account_hash=account_hash(secret_key, email))
        row = await tx.one("find_person", person_id=person_id)
        if row is None:
            raise nobody()
        person = person_from(row)
        return await begin(tx, person, browser, half=person.has_totp)


async def _reset_password(tx: db.Connection, email: str, kept: str) -> int:
    row = await tx.one("find_person_by_email", email=email)
    if row is None or not await tx.execute("set_password", person_id=row["id"], password_hash=kept):
        raise BadInvitation
    await tx.execute("end_sessions", person_id=row["id"], but=b"")
    await audit.note(tx, actor=email, action="set a new password by link", subject=email)
    return int(row["id"])


async def add_person(tx: db.Connection, email: str, name: str, role: Role, kept: str | None, invited_by: str) -> int:
    """Somebody new at the desk, in the caller's transaction; without a password for None. Raises `Conflict`."""
    person_id = await tx.value("add_person", email=email, name=name, role=str(role), password_hash=kept)
    if person_id is None:
        raise Conflict(f"{email} is at the desk already.", remedy="Sign in with your password.", field="email")
    await tx.execute("end_sessions", person_id=person_id, but=b"")
    await audit.note(tx, actor=email, action="joined", subject=email, detail={"role": str(role), "by": invited_by})
    return int(person_id)


async def _new_link(tx: db.Connection, email: str, role: Role, by: str, *, is_reset: bool = False) -> str:
    token = secrets.token_urlsafe(32)
    await tx.execute("void_invitations", email=email)
    await tx.execute(
        "add_invitation",
        token_hash=token_hash(token),
        email=email,
        role=str(role),
        by=by,
        is_reset=is_reset,
        seconds=VALID,
    )
    return token


async def _mail(tx: db.Connection, post: Post, email: str, token: str, *, by: str, role: Role, is_reset: bool) -> None:
    """Owe somebody the mail with their link. Nobody who reads the database can read the link."""
    hashed = address_hash(post.secret_key, parse_address(email))
    detail = {
        "by": by,
        "role": str(role),
        "is_reset": "yes" if is_reset else "",
        "token_hash": token_hash(token).hex(),
        "sealed": invitation_seal(post.secret_key).close(token, hashed),
    }
    await tx.execute(
        "owe_desk_mail",
        kind="invitation",
        email=email,
        address_hash=hashed,
        locale=post.language,
        timezone=post.timezone,
        seconds=VALID,
        detail=json.dumps(detail),
    )


def role_of(text: str) -> Role:
    """A role by its name. Raises `Invalid`."""
    try:
        return Role(text)
    except ValueError as error:
        raise Invalid("There is no such role.", remedy="Choose reporter, editor or lead.", field="role") from error
