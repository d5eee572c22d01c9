"""The people of the desk: signing in, codes, sessions, links, and what is kept of it all."""

from __future__ import annotations

import asyncio
import base64
import time

import psycopg
import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import audit, db, people
from dispatcher.errors import Conflict, Invalid, NotFound
from dispatcher.people import codes, signing
from dispatcher.people.sessions import Session
from dispatcher.roles import Role, What, may
from tests.support.cheap import cheap_passwords

SECRET = "a secret that only these tests know, long enough"
PASSWORD = "four words in a row"
ADA = "ada@courier.example"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords that are no work. What they cost, and that it is always the same, is for `test_passwords.py`."""
    cheap_passwords(monkeypatch)


async def join(database: db.Database, email: str = ADA, role: Role = Role.LEAD, password: str = PASSWORD) -> Session:
    """Somebody who has just used their link."""
    token = await people.invite(database, email, role, by="cli:test")
    done = await people.join(
        database, SECRET, token, name=email.partition("@")[0].title(), password=password, browser="Firefox on Linux"
    )
    return await alive(database, done.token)


async def alive(database: db.Database, token: str) -> Session:
    found = await people.session(database, token)
    assert found is not None
    return found


async def signed_in(database: db.Database, email: str = ADA, password: str = PASSWORD) -> people.SignedIn:
    return await people.sign_in(database, SECRET, email=email, password=password, browser="Chrome on Windows")


async def with_codes(database: db.Database, session: Session) -> tuple[pyotp.TOTP, list[str]]:
    """Turn codes on, with the code of the step before: the one of now is still good."""
    offer = people.offer_codes(SECRET, session.person, "The Courier")
    totp = pyotp.TOTP(offer.secret)
    shown = await people.turn_codes_on(
        database, SECRET, session, sealed=offer.sealed, typed=totp.at(time.time() - 30), current=PASSWORD
    )
    return totp, shown


async def look(database: db.Database, query: str, *values: object) -> list[db.Row]:
    async with database.connection() as connection:
        cursor = await connection.raw.execute(query, values)
        return await cursor.fetchall() if cursor.description else []


def test_each_role_may_all_that_the_one_before_it_may_and_only_leads_see_to_people() -> None:
    allowed = [{what for what in What if may(role, what)} for role in (Role.REPORTER, Role.EDITOR, Role.LEAD)]

    assert allowed[0] < allowed[1] < allowed[2] == set(What)
    assert What.SEND not in allowed[0]
    assert not allowed[1] & {What.PEOPLE, What.APPROVE, What.SETTINGS}


async def test_whoever_joins_is_signed_in_and_can_sign_in_again_however_the_address_is_typed(
    database: db.Database,
) -> None:
    session = await join(database)
    again = await signed_in(database, "  ADA@Courier.example ")

    assert session.person.role is Role.LEAD
    assert not again.needs_code
    assert (await alive(database, again.token)).person.email == ADA
    assert [each.browser for each in await people.sessions(database, session.person.id)] == [
        "Chrome on Windows",
        "Firefox on Linux",
    ]


@pytest.mark.parametrize("email", [ADA, "nobody@courier.example", "", "no address", "\0\ud800'--"])
async def test_what_is_wrong_is_never_told(database: db.Database, email: str) -> None:
    await join(database)

    with pytest.raises(people.SignInRefused) as refused:
        await signed_in(database, email, "not the password")
    assert str(refused.value) == str(people.SignInRefused())


@pytest.mark.parametrize("email", [ADA, "nobody@courier.example"])
async def test_a_hundred_tries_at_once_are_ten_and_then_not_even_the_right_password_helps(
    database: db.Database, email: str
) -> None:
    await join(database)
    answers = await asyncio.gather(
        *(signed_in(database, email, f"guess number {number}") for number in range(100)), return_exceptions=True
    )

    assert sum(isinstance(each, people.SignInRefused) for each in answers) == signing.MOST_TRIES
    assert sum(isinstance(each, people.TooManyTries) for each in answers) == 100 - signing.MOST_TRIES
    with pytest.raises(people.TooManyTries):
        await signed_in(database, email)


async def test_the_tries_for_one_account_do_not_count_for_another_and_are_over_after_a_quarter_of_an_hour(
    database: db.Database,
) -> None:
    await join(database)
    await join(database, "ben@courier.example", Role.EDITOR)
    for number in range(signing.MOST_TRIES):
        with pytest.raises(people.SignInRefused):
            await signed_in(database, password=f"guess number {number}")

    await signed_in(database, "ben@courier.example")
    with pytest.raises(people.TooManyTries):
        await signed_in(database)
    await look(database, "UPDATE sign_in_attempts SET at = at - interval '15 minutes'")
    await signed_in(database)


async def test_nine_wrong_tries_are_forgotten_once_the_right_one_came(database: db.Database) -> None:
    await join(database)
    for _ in range(2):
        for number in range(signing.MOST_TRIES - 1):
            with pytest.raises(people.SignInRefused):
                await signed_in(database, password=f"guess number {number}")
        await signed_in(database)


async def test_knowing_the_password_gives_nobody_more_tries_for_the_code(database: db.Database) -> None:
    totp, _ = await with_codes(database, await join(database))
    wrong = f"{(int(totp.now()) + 500_000) % 1_000_000:06d}"
    for _ in range(signing.MOST_TRIES // 2):
        half = await alive(database, (await signed_in(database)).token)
        with pytest.raises(people.CodeRefused):
            await people.pass_code(database, SECRET, half, typed=wrong)

    with pytest.raises(people.TooManyTries):
        await people.pass_code(database, SECRET, half, typed=totp.now())
    with pytest.raises(people.TooManyTries):
        await signed_in(database)


async def test_a_stolen_session_with_the_password_has_ten_tries_to_turn_codes_off(database: db.Database) -> None:
    session = await join(database)
    totp, _ = await with_codes(database, session)
    wrong = f"{(int(totp.now()) + 500_000) % 1_000_000:06d}"
    for _ in range(signing.MOST_TRIES):
        with pytest.raises(people.CodeRefused):
            await people.turn_codes_off(database, SECRET, session, typed=wrong, current=PASSWORD)

    with pytest.raises(people.TooManyTries):
        await people.turn_codes_off(database, SECRET, session, typed=totp.now(), current=PASSWORD)


async def test_with_codes_on_a_password_opens_half_a_session_and_the_code_the_other_half(database: db.Database) -> None:
    totp, _ = await with_codes(database, await join(database))
    done = await signed_in(database)
    half = await alive(database, done.token)
    whole = await people.pass_code(database, SECRET, half, typed=totp.now())

    assert done.needs_code
    assert half.is_half
    assert not (await alive(database, whole.token)).is_half
    assert await people.session(database, done.token) is None, "the half session must not live on"


async def test_a_code_is_accepted_once_also_by_two_at_the_same_moment(database: db.Database) -> None:
    totp, _ = await with_codes(database, await join(database))
    halves = [await alive(database, (await signed_in(database)).token) for _ in range(4)]
    code = totp.now()
    answers = await asyncio.gather(
        *(people.pass_code(database, SECRET, half, typed=code) for half in halves), return_exceptions=True
    )

    assert sum(isinstance(each, people.SignedIn) for each in answers) == 1
    assert sum(isinstance(each, people.CodeRefused) for each in answers) == 3


async def test_a_recovery_code_is_accepted_once_however_it_is_typed(database: db.Database) -> None:
    session = await join(database)
    _, shown = await with_codes(database, session)
    half = await alive(database, (await signed_in(database)).token)
    whole = await people.pass_code(database, SECRET, half, typed=f" {shown[3].upper().replace('-', ' ')} ")

    assert len(set(shown)) == codes.RECOVERY_CODES
    assert (await alive(database, whole.token)).person.recovery_left == 9
    half = await alive(database, (await signed_in(database)).token)
    with pytest.raises(people.CodeRefused):
        await people.pass_code(database, SECRET, half, typed=shown[3])


@given(st.integers(10_000, 2**33), st.integers(-3, 3))
def test_codes_are_those_of_pyotp_one_step_before_and_after_and_no_other(now: int, off: int) -> None:
    secret = base64.b32encode(b"twenty bytes long ok").decode()
    step = now // 30 + off
    near = {pyotp.TOTP(secret).at((now // 30 + each) * 30): now // 30 + each for each in (-1, 0, 1)}
    code = pyotp.TOTP(secret).at(max(step, 0) * 30)

    assert codes.step_of(secret, f"{code[:3]} {code[3:]}", now=now) == near.get(code)


@pytest.mark.parametrize("typed", ["", "12345", "1234567", "１２３４５６", "abcdef", "\0"])
def test_what_is_no_code_is_none(typed: str) -> None:
    assert codes.step_of(pyotp.random_base32(), typed) is None


async def test_a_sealed_secret_is_good_for_its_person_alone(database: db.Database) -> None:
    ada = await join(database)
    ben = await join(database, "ben@courier.example")
    offer = people.offer_codes(SECRET, ada.person, "The Courier")
    code = pyotp.TOTP(offer.secret).now()

    for sealed in (offer.sealed, "", "ü", "AAAA", offer.sealed[:-4] + "AAAA"):
        with pytest.raises(Invalid, match="not ours"):
            await people.turn_codes_on(database, SECRET, ben, sealed=sealed, typed=code, current=PASSWORD)


async def test_a_new_password_ends_every_other_session_at_once(database: db.Database) -> None:
    session = await join(database)
    others = [await signed_in(database) for _ in range(3)]
    await people.change_password(database, SECRET, session, current=PASSWORD, password="another four words")

    assert [await people.session(database, each.token) for each in others] == [None] * 3
    assert await people.sessions(database, session.person.id) != []
    with pytest.raises(people.SignInRefused):
        await signed_in(database)
    await signed_in(database, password="another four words")


async def test_turning_codes_on_and_off_and_a_new_role_end_other_sessions_at_once(database: db.Database) -> None:
    await join(database, "boss@courier.example")
    session = await join(database)
    other = await signed_in(database)
    totp, shown = await with_codes(database, session)
    assert await people.session(database, other.token) is None

    half = await alive(database, (await signed_in(database)).token)
    other = await people.pass_code(database, SECRET, half, typed=totp.now())
    await people.turn_codes_off(database, SECRET, session, typed=shown[0], current=PASSWORD)
    assert await people.session(database, other.token) is None

    mine = await signed_in(database)
    await people.set_role(database, session.person.id, Role.EDITOR, by="boss@courier.example")
    assert await people.session(database, mine.token) is None
    assert (await alive(database, (await signed_in(database)).token)).person.role is Role.EDITOR


@pytest.mark.parametrize("current", ["", "not the password"])
async def test_a_stolen_session_changes_no_password_and_no_codes(database: db.Database, current: str) -> None:
    session = await join(database)
    offer = people.offer_codes(SECRET, session.person, "The Courier")
    code = pyotp.TOTP(offer.secret).now()

    with pytest.raises(Invalid, match="not your password"):
        await people.change_password(database, SECRET, session, current=current, password="another four words")
    with pytest.raises(Invalid, match="not your password"):
        await people.turn_codes_on(database, SECRET, session, sealed=offer.sealed, typed=code, current=current)
    with pytest.raises(Invalid, match="not your password"):
        await people.new_recovery_codes(database, SECRET, session, current=current)
    await signed_in(database)


async def test_a_new_password_by_link_does_not_skip_the_code_and_ends_all_sessions(database: db.Database) -> None:
    session = await join(database)
    totp, _ = await with_codes(database, session)
    token = await people.reset(database, session.person.id, by="boss@courier.example")
    done = await people.join(database, SECRET, token, password="another four words", browser="")

    assert done.needs_code
    assert (await alive(database, done.token)).is_half
    assert await people.sessions(database, session.person.id) == []
    whole = await people.pass_code(database, SECRET, await alive(database, done.token), typed=totp.now())
    assert not (await alive(database, whole.token)).is_half


async def test_a_link_works_once_also_for_two_at_the_same_moment_and_not_after_two_days(database: db.Database) -> None:
    token = await people.invite(database, ADA, Role.EDITOR, by="cli:test")
    answers = await asyncio.gather(
        *(people.join(database, SECRET, token, name="Ada", password=PASSWORD, browser="") for _ in range(3)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, people.SignedIn) for each in answers) == 1
    assert sum(isinstance(each, people.BadInvitation) for each in answers) == 2

    late = await people.invite(database, "ben@courier.example", Role.EDITOR, by="cli:test")
    assert (await people.invitation(database, late)).role is Role.EDITOR
    await look(database, "UPDATE invitations SET expires_at = clock_timestamp() WHERE used_at IS NULL")
    with pytest.raises(people.BadInvitation):
        await people.invitation(database, late)
    with pytest.raises(people.BadInvitation):
        await people.join(database, SECRET, late, name="Ben", password=PASSWORD, browser="")


async def test_inviting_again_voids_the_first_link_and_so_does_withdrawing(database: db.Database) -> None:
    first = await people.invite(database, ADA, Role.EDITOR, by="cli:test")
    second = await people.invite(database, ADA, Role.REPORTER, by="cli:test")
    with pytest.raises(people.BadInvitation):
        await people.invitation(database, first)

    await people.withdraw(database, ADA, by="cli:test")
    with pytest.raises(people.BadInvitation):
        await people.invitation(database, second)
    with pytest.raises(NotFound):
        await people.withdraw(database, ADA, by="cli:test")


async def test_the_first_link_makes_one_lead_and_none_once_there_is_one(database: db.Database) -> None:
    first = await people.first_link(database)
    token = await people.first_link(database)
    assert first is not None
    assert token is not None
    with pytest.raises(people.BadInvitation):
        await people.invitation(database, first)
    done = await people.join(database, SECRET, token, email=ADA, name="Ada", password=PASSWORD, browser="")

    assert (await alive(database, done.token)).person.role is Role.LEAD
    assert await people.first_link(database) is None


async def test_a_first_link_that_was_left_lying_is_void_once_a_lead_came_another_way(database: db.Database) -> None:
    token = await people.first_link(database)
    assert token is not None
    await join(database)

    with pytest.raises(people.BadInvitation):
        await people.join(database, SECRET, token, email="eve@evil.example", name="Eve", password=PASSWORD, browser="")


async def test_whoever_is_ended_is_out_at_once_and_may_come_back_with_nothing_of_what_they_had(
    database: db.Database,
) -> None:
    await join(database, "boss@courier.example")
    session = await join(database, role=Role.EDITOR)
    await with_codes(database, session)
    link = await people.reset(database, session.person.id, by="boss@courier.example")
    await people.end(database, session.person.id, by="boss@courier.example")

    assert await people.sessions(database, session.person.id) == []
    with pytest.raises(people.SignInRefused):
        await signed_in(database)
    with pytest.raises(people.BadInvitation):
        await people.join(database, SECRET, link, password=PASSWORD, browser="")
    again = await join(database, role=Role.REPORTER)
    assert (again.person.id, again.person.role, again.person.has_totp) == (session.person.id, Role.REPORTER, False)


async def test_the_last_lead_stays_one_also_when_two_leads_end_each_other(database: db.Database) -> None:
    ada = await join(database)
    for change in (
        people.end(database, ada.person.id, by=ADA),
        people.set_role(database, ada.person.id, Role.EDITOR, by=ADA),
    ):
        with pytest.raises(Conflict, match="last lead"):
            await change
    ben = await join(database, "ben@courier.example")
    answers = await asyncio.gather(
        people.end(database, ada.person.id, by="ben"),
        people.end(database, ben.person.id, by="ada"),
        return_exceptions=True,
    )

    assert sum(isinstance(each, Conflict) for each in answers) == 1


async def test_a_session_is_over_after_twelve_idle_hours_and_after_seven_days(database: db.Database) -> None:
    await join(database)
    idle, old = await signed_in(database), await signed_in(database)
    hashed = people.token_hash
    await look(
        database,
        "UPDATE sessions SET seen_at = seen_at - interval '12 hours' WHERE token_hash = %s",
        hashed(idle.token),
    )
    assert await people.session(database, idle.token) is None
    await look(
        database,
        "UPDATE sessions SET expires_at = expires_at - interval '7 days' WHERE token_hash = %s",
        hashed(old.token),
    )
    assert await people.session(database, old.token) is None


async def test_signing_out_ends_one_session_and_signing_out_everywhere_all(database: db.Database) -> None:
    session = await join(database)
    one, two = await signed_in(database), await signed_in(database)
    await people.sign_out(database, session.person, people.token_hash(one.token))
    assert await people.session(database, one.token) is None
    assert await people.session(database, two.token) is not None

    assert await people.sign_out_everywhere(database, session.person.id, by=ADA) == 2
    assert await people.session(database, two.token) is None


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaaaa", "x" * 201, ADA])
async def test_a_password_that_is_none_is_refused(database: db.Database, password: str) -> None:
    token = await people.invite(database, ADA, Role.EDITOR, by="cli:test")
    with pytest.raises(Invalid) as refused:
        await people.join(database, SECRET, token, name="Ada", password=password, browser="")
    assert refused.value.field == "password"
    await people.invitation(database, token)


async def test_the_database_holds_nothing_that_opens_anything(database: db.Database) -> None:
    session = await join(database)
    totp, shown = await with_codes(database, session)
    link = await people.invite(database, "ben@courier.example", Role.EDITOR, by=ADA)
    half = await signed_in(database)
    kept = ""
    for table in ("people", "sessions", "invitations", "sign_in_attempts", "audit"):
        kept += "\n".join(repr(row) for row in await look(database, f"SELECT t::text FROM {table} t"))

    for secret in (PASSWORD, totp.secret, link, half.token, *shown, *(each.replace("-", "") for each in shown)):
        for form in (secret, secret.encode().hex()):
            assert form not in kept
    assert "$argon2id$" in kept
    assert totp.byte_secret().hex() not in kept


async def test_everything_that_changes_is_in_the_log_by_who_did_it(database: db.Database) -> None:
    await join(database, "boss@courier.example")
    session = await join(database, role=Role.REPORTER)
    await people.set_role(database, session.person.id, Role.EDITOR, by="boss@courier.example")
    page = await audit.read(database, limit=2)
    more = await audit.read(database, before=page.before, limit=100)

    newest = page.entries[0]
    assert (newest.actor, newest.action, newest.subject) == ("boss@courier.example", "changed a role", ADA)
    assert newest.detail == {"from": "reporter", "to": "editor"}
    assert [each.action for each in more.entries] == ["joined", "invited", "signed in", "joined", "invited"]
    assert more.before is None
    assert {each.actor for each in (await audit.read(database, actor=ADA)).entries} == {ADA}
    assert (await audit.read(database, action="changed a role", subject="nobody")).entries == []


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit", "TRUNCATE audit", "TRUNCATE audit CASCADE"]
)
async def test_the_log_is_only_added_to(database: db.Database, statement: str) -> None:
    await join(database)
    with pytest.raises(psycopg.Error, match="only added to"):
        await look(database, statement)
    assert len((await audit.read(database)).entries) == 3


async def test_a_line_of_the_log_is_there_exactly_if_what_it_tells_of_has_happened(database: db.Database) -> None:
    class Stop(Exception):
        pass

    async def fail_after_noting() -> None:
        async with database.transaction() as tx:
            await audit.note(tx, actor=ADA, action="sent", subject="story:dam", content_hash=b"\1" * 32)
            raise Stop

    with pytest.raises(Stop):
        await fail_after_noting()
    assert (await audit.read(database)).entries == []
