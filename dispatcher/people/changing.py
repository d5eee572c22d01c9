"""What changes for a person of the desk: password, codes, role, and the end. Every change ends other sessions."""

from __future__ import annotations

from dispatcher import audit, db
from dispatcher.errors import Conflict, Invalid
from dispatcher.people import passwords
from dispatcher.people.codes import Codes, Offer, step_of
from dispatcher.people.sessions import Person, Session, nobody, person_from
from dispatcher.people.signing import account_hash, check_password, spend_code
from dispatcher.roles import Role


async def everybody(database: db.Database) -> list[Person]:
    """Everybody who is or was at the desk, those who are first, by name."""
    async with database.connection() as connection:
        return [person_from(row) for row in await connection.all("list_people")]


async def find(database: db.Database, email: str) -> Person:
    """A person by their address. Raises `NotFound`."""
    async with database.connection() as connection:
        row = await connection.one("find_person_by_email", email=email.strip().casefold())
    if row is None:
        raise nobody()
    return person_from(row)


async def change_password(
    database: db.Database, secret_key: str, session: Session, *, current: str, password: str
) -> None:
    """Another password for whoever is signed in; they stay so in this one session alone.

    Raises `Invalid`, `TooManyTries`, `Busy`.
    """
    person = session.person
    passwords.check(password, email=person.email, name=person.name)
    await check_password(database, secret_key, person, current)
    kept = await passwords.hashed(password)
    async with database.transaction() as tx:
        if not await tx.execute("set_password", person_id=person.id, password_hash=kept):
            raise nobody()
        await tx.execute("end_sessions", person_id=person.id, but=session.token_hash)
        await audit.note(tx, actor=person.email, action="changed the password", subject=person.email)


def offer_codes(secret_key: str, person: Person, issuer: str) -> Offer:
    """A secret that a person may take into their authenticator app. Nothing is kept yet."""
    return Codes(secret_key).offer(person.id, person.email, issuer)


async def turn_codes_on(
    database: db.Database, secret_key: str, session: Session, *, sealed: str, typed: str, current: str
) -> list[str]:
    """Ask this person for a code from now on, once they have sent the first. Returns their recovery codes, shown once.

    Raises `Invalid`, `Conflict` if codes are on already, `TooManyTries`, `Busy`.
    """
    person, codes = session.person, Codes(secret_key)
    secret = codes.accept(person.id, sealed)
    await check_password(database, secret_key, person, current)
    step = step_of(secret, typed)
    if step is None:
        raise Invalid("This code does not fit.", remedy="Wait for the next one, and type that.", field="code")
    shown, kept = codes.recovery_codes()
    async with database.transaction() as tx:
        row = await tx.one("lock_person", person_id=person.id)
        if row is None or row["totp_sealed"] is not None:
            raise Conflict("Codes are on already.", remedy="Turn them off first.", field="code")
        await tx.execute(
            "set_totp", person_id=person.id, sealed=codes.seal(person.id, secret), step=step, recovery=kept
        )
        await tx.execute("end_sessions", person_id=person.id, but=session.token_hash)
        await audit.note(tx, actor=person.email, action="turned codes on", subject=person.email)
    return shown


async def turn_codes_off(database: db.Database, secret_key: str, session: Session, *, typed: str, current: str) -> None:
    """Ask for no code any more. Needs password and code. Raises `Invalid`, `CodeRefused`, `TooManyTries`, `Busy`."""
    person = session.person
    await check_password(database, secret_key, person, current, is_all=False)
    async with database.transaction() as tx:
        await spend_code(tx, secret_key, person.id, typed)
        await tx.execute("clear_sign_in_attempts", account_hash=account_hash(secret_key, person.email))
        await tx.execute("set_totp", person_id=person.id, sealed=None, step=None, recovery=[])
        await tx.execute("end_sessions", person_id=person.id, but=session.token_hash)
        await audit.note(tx, actor=person.email, action="turned codes off", subject=person.email)


async def new_recovery_codes(database: db.Database, secret_key: str, session: Session, *, current: str) -> list[str]:
    """Ten new recovery codes, shown once; the old ones are void. Raises `Invalid`, `Conflict`, `TooManyTries`."""
    person = session.person
    await check_password(database, secret_key, person, current)
    shown, kept = Codes(secret_key).recovery_codes()
    async with database.transaction() as tx:
        if not await tx.execute("set_recovery_codes", person_id=person.id, recovery=kept):
            raise Conflict("Codes are off.", remedy="Turn them on first.", field="code")
        await tx.execute("end_sessions", person_id=person.id, but=session.token_hash)
        await audit.note(tx, actor=person.email, action="made new recovery codes", subject=person.email)
    return shown


async def drop_codes(database: db.Database, person_id: int, *, by: str) -> None:
    """Let somebody in without a code who has lost phone and recovery codes. Raises `NotFound`."""
    async with database.transaction() as tx:
        person = await _held(tx, person_id)
        await tx.execute("set_totp", person_id=person_id, sealed=None, step=None, recovery=[])
        await tx.execute("end_sessions", person_id=person_id, but=b"")
        await audit.note(tx, actor=by, action="turned codes off", subject=person.email)


async def set_role(database: db.Database, person_id: int, role: Role, *, by: str) -> None:
    """Another role for a person, who has to sign in again. Raises `NotFound`, `Conflict` for the last lead."""
    async with database.transaction() as tx:
        await _keep_a_lead(tx, person_id, role)
        person = await _held(tx, person_id)
        if person.role is role:
            return
        await tx.execute("set_role", person_id=person_id, role=str(role))
        await tx.execute("end_sessions", person_id=person_id, but=b"")
        detail = {"from": str(person.role), "to": str(role)}
        await audit.note(tx, actor=by, action="changed a role", subject=person.email, detail=detail)


async def end(database: db.Database, person_id: int, *, by: str) -> None:
    """Somebody works here no more, from this moment on. Raises `NotFound`, `Conflict` for the last lead."""
    async with database.transaction() as tx:
        await _keep_a_lead(tx, person_id, None)
        person = await _held(tx, person_id)
        await tx.execute("end_person", person_id=person_id)
        await tx.execute("end_sessions", person_id=person_id, but=b"")
        await tx.execute("void_invitations", email=person.email)
        await audit.note(tx, actor=by, action="ended somebody's access", subject=person.email)


async def _held(tx: db.Connection, person_id: int) -> Person:
    row = await tx.one("lock_person", person_id=person_id)
    if row is None or row["ended_at"] is not None:
        raise nobody()
    return person_from(row)


async def _keep_a_lead(tx: db.Connection, person_id: int, role: Role | None) -> None:
    leads = [row["id"] for row in await tx.all("lock_leads")]
    if role is not Role.LEAD and leads == [person_id]:
        raise Conflict(
            "This is the last lead: nobody could let others in any more.",
            remedy="Make somebody else a lead first.",
            field="role",
        )
