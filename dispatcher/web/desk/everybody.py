"""The people of the desk, for leads: invite, give a role, send a link for a new password, sign out, end."""

from __future__ import annotations

import re

from starlette.responses import Response

from dispatcher import people
from dispatcher.errors import Conflict, DispatcherError, Invalid, NotFound
from dispatcher.people import Person
from dispatcher.roles import Role
from dispatcher.web.desk.visiting import Visit, done_word

DONE = {
    "role": "The role is changed. They were signed out and sign in again.",
    "out": "They are signed out everywhere.",
    "ended": "Their access has ended.",
    "codes-off": "Their codes are off. They were signed out everywhere.",
    "withdrawn": "The link is void.",
}
_NUMBER = re.compile(r"[0-9]{1,18}")


async def everybody(visit: Visit) -> Response:
    """`/desk/people`: everybody, and the open links. A link is mailed, and shown once."""
    problem: DispatcherError | None = None
    if visit.is_post:
        try:
            return await _change(visit)
        except (Invalid, Conflict, NotFound) as error:
            problem = error
    return await _page(visit, problem=problem)


async def _change(visit: Visit) -> Response:
    action, _, number = visit.form.get("do").partition(":")
    if action == "invite":
        return await _invite(visit)
    if action == "withdraw":
        await people.withdraw(visit.here.database, visit.form.get("email"), by=visit.person.email)
        return visit.lead_to("/desk/people", done="withdrawn")
    actions = {"role": _role, "link": _link, "out": _out, "end": _end, "codes-off": _codes_off}
    if action not in actions or not _NUMBER.fullmatch(number):
        raise Invalid("This form does not say what to do.", remedy="Reload the page, and try again.", field="do")
    return await actions[action](visit, int(number))


async def _invite(visit: Visit) -> Response:
    role = people.role_of(visit.form.get("role"))
    email = visit.form.get("email").strip()
    token = await people.invite(visit.here.database, email, role, by=visit.person.email, post=_post(visit))
    return await _page(visit, link=_address(visit, token), link_for=email)


async def _link(visit: Visit, person_id: int) -> Response:
    token = await people.reset(visit.here.database, person_id, by=visit.person.email, post=_post(visit))
    person = next(each for each in await people.everybody(visit.here.database) if each.id == person_id)
    return await _page(visit, link=_address(visit, token), link_for=person.email)


async def _role(visit: Visit, person_id: int) -> Response:
    await people.set_role(visit.here.database, person_id, people.role_of(visit.form.get("role")), by=visit.person.email)
    return _changed(visit, person_id, "role")


async def _out(visit: Visit, person_id: int) -> Response:
    await people.sign_out_everywhere(visit.here.database, person_id, by=visit.person.email)
    return _changed(visit, person_id, "out")


async def _end(visit: Visit, person_id: int) -> Response:
    await people.end(visit.here.database, person_id, by=visit.person.email)
    return _changed(visit, person_id, "ended")


async def _codes_off(visit: Visit, person_id: int) -> Response:
    await people.drop_codes(visit.here.database, person_id, by=visit.person.email)
    return _changed(visit, person_id, "codes-off")


def _changed(visit: Visit, person_id: int, done: str) -> Response:
    """Back to the list; whoever changed themselves has no session any more."""
    if person_id == visit.person.id:
        return visit.lead_to("/desk/sign-in", done="changed")
    return visit.lead_to("/desk/people", done=done)


def _post(visit: Visit) -> people.Post:
    newsroom = visit.here.settings.newsroom
    return people.Post(secret_key=visit.secret, language=newsroom.language, timezone=newsroom.timezone)


def _address(visit: Visit, token: str) -> str:
    return f"{visit.here.settings.public_url}/desk/invitation/{token}"


async def _page(
    visit: Visit, *, problem: DispatcherError | None = None, link: str = "", link_for: str = ""
) -> Response:
    found: list[Person] = await people.everybody(visit.here.database)
    return visit.page(
        "people.html",
        status=200 if problem is None else problem.status,
        at="people",
        present=[each for each in found if each.ended_at is None],
        gone=[each for each in found if each.ended_at is not None],
        invitations=await people.invitations(visit.here.database),
        roles=list(Role),
        problem=problem,
        email=visit.form.get("email")[:254] if problem is not None else "",
        link=link,
        link_for=link_for,
        done=done_word(visit, DONE),
    )
