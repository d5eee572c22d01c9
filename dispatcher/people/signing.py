"""Signing in: a password, then a code where there is one. Same words and same time, whoever's account is tried."""

from __future__ import annotations

import hashlib

from dispatcher import audit, db
from dispatcher.errors import DispatcherError, Invalid, TooMany
from dispatcher.people import passwords
from dispatcher.people.codes import Codes, step_of
from dispatcher.people.sessions import Person, Session, SignedIn, begin, nobody, person_from
from dispatcher.tokens import derive

#: Tries for one account within so many seconds, passwords and codes together.
MOST_TRIES = 10
WITHIN = 900.0


class SignInRefused(DispatcherError):
    """Address and password do not fit together."""

    status = 401
    remedy = "Try again, or ask a lead for a new link."


class CodeRefused(DispatcherError):
    """This code does not fit."""

    status = 401
    remedy = "Wait for the next code of your app, or use a recovery code."


class TooManyTries(TooMany):
    """There were too many tries for this account."""

    remedy = "Wait a quarter of an hour, or ask a lead for a new link."


async def sign_in(database: db.Database, secret_key: str, *, email: str, password: str, browser: str = "") -> SignedIn:
    """Sign in with a password. Where codes are on, this opens half a session, which only takes a code.

    Raises `SignInRefused`, `TooManyTries`, `Busy`.
    """
    email = as_key(email)
    await count_try(database, secret_key, email)
    async with database.connection() as connection:
        row = await connection.one("find_person_by_email", email=email)
    is_here = row is not None and row["ended_at"] is None
    fits = await passwords.fits(password, row["password_hash"] if row is not None and is_here else None)
    if row is None or not is_here or not fits:
        raise SignInRefused
    async with database.transaction() as tx:
        # A password, a role or the codes may have changed while this one was worked on.
        now = await tx.one("lock_person", person_id=row["id"])
        if now is None or now["password_hash"] != row["password_hash"]:
            raise SignInRefused
        person = person_from(now)
        if not person.has_totp:
            await tx.execute("clear_sign_in_attempts", account_hash=account_hash(secret_key, email))
        return await begin(tx, person, browser, half=person.has_totp)


async def pass_code(
    database: db.Database, secret_key: str, half: Session, *, typed: str, browser: str = ""
) -> SignedIn:
    """Turn half a session into a whole one, by a code of the app or a recovery code. Each is accepted once.

    Raises `CodeRefused`, and `TooManyTries` for the account: codes and passwords are counted together.
    """
    await count_try(database, secret_key, half.person.email)
    async with database.transaction() as tx:
        await tx.one("lock_person", person_id=half.person.id)  # always before sessions, so that nobody waits in a ring
        if not await tx.execute("end_session", token_hash=half.token_hash, person_id=half.person.id):
            raise CodeRefused
        await spend_code(tx, secret_key, half.person.id, typed)
        await tx.execute("clear_sign_in_attempts", account_hash=account_hash(secret_key, half.person.email))
        return await begin(tx, half.person, browser, half=False)


async def check_password(
    database: db.Database, secret_key: str, person: Person, password: str, *, is_all: bool = True
) -> None:
    """Let somebody who is signed in prove that it is still they. Raises `Invalid`, `TooManyTries`, `Busy`.

    `is_all`: nothing more is asked of them, so their tries are forgotten.
    """
    await count_try(database, secret_key, person.email)
    async with database.connection() as connection:
        row = await connection.one("find_person", person_id=person.id)
    if not await passwords.fits(password, None if row is None else row["password_hash"]):
        raise Invalid("That is not your password.", remedy="Try again.", field="current")
    if is_all:
        async with database.connection() as connection:
            await connection.execute("clear_sign_in_attempts", account_hash=account_hash(secret_key, person.email))


async def spend_code(tx: db.Connection, secret_key: str, person_id: int, typed: str) -> None:
    """Accept a code or a recovery code within the caller's transaction, never a second time. Raises `CodeRefused`."""
    codes = Codes(secret_key)
    row = await tx.one("lock_person", person_id=person_id)
    if row is None or row["ended_at"] is not None:
        raise nobody()
    if row["totp_sealed"] is None:
        return  # turned off in another window meanwhile
    step = step_of(codes.open(person_id, row["totp_sealed"]), typed)
    if step is not None and await tx.execute("take_totp_step", person_id=person_id, step=step):
        return
    if await tx.execute("take_recovery_code", person_id=person_id, hash=codes.recovery_hash(typed)):
        await audit.note(
            tx, actor=row["email"], action="used a recovery code", detail={"left": row["recovery_left"] - 1}
        )
        return
    raise CodeRefused


async def count_try(database: db.Database, secret_key: str, email: str) -> None:
    """Count a try before it is looked at: a thousand at once are ten. Raises `TooManyTries`."""
    hashed = account_hash(secret_key, email)
    async with database.transaction() as tx:
        await tx.one("take_account_turn", account_hash=hashed)
        if await tx.value("count_sign_in_attempts", account_hash=hashed, seconds=WITHIN) >= MOST_TRIES:
            raise TooManyTries
        await tx.execute("add_sign_in_attempt", account_hash=hashed)


def account_hash(secret_key: str, email: str) -> bytes:
    """What tries are counted under: whoever reads the database does not learn which addresses were tried."""
    key = derive(secret_key, "sign-in")
    return hashlib.blake2b(as_key(email).encode(errors="replace"), key=key, digest_size=32).digest()


def as_key(email: str) -> str:
    """An address as accounts are found by: whatever was typed, and no error for what is none."""
    return email.strip()[:254].replace("\0", "").encode(errors="replace").decode().casefold()
