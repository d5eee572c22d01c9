"""A person's own page: password, codes, and where they are signed in."""

from __future__ import annotations

import io

import segno
from markupsafe import Markup
from starlette.responses import Response

from dispatcher import people
from dispatcher.errors import DispatcherError, Invalid
from dispatcher.web.desk.visiting import Visit, done_word

DONE = {
    "password": "Your password is changed. You were signed out everywhere else.",
    "codes-off": "Codes are off. You were signed out everywhere else.",
    "session": "That session is over.",
    "others": "You are signed out everywhere else.",
}
#: What a person gets wrong themselves, and can put right on the page.
MISTAKES = (Invalid, people.CodeRefused, people.TooManyTries)


async def me(visit: Visit) -> Response:
    """`/desk/me`: what somebody sees and changes of their own."""
    problem: DispatcherError | None = None
    if visit.is_post:
        try:
            return await _change(visit)
        except MISTAKES as error:
            problem = error
    return await _page(visit, problem)


async def turn_codes_on(visit: Visit) -> Response:
    """`/desk/me/codes`: scan a picture, send the first code, and see the recovery codes, this once."""
    if visit.person.has_totp:
        return visit.lead_to("/desk/me")
    problem: DispatcherError | None = None
    if visit.is_post:
        try:
            shown = await people.turn_codes_on(
                visit.here.database,
                visit.secret,
                visit.own,
                sealed=visit.form.get("sealed"),
                typed=visit.form.get("code"),
                current=visit.form.get("current"),
            )
        except MISTAKES as error:
            problem = error
        else:
            return visit.page("recovery.html", at="me", codes=shown, is_first=True)
    offer = people.offer_codes(visit.secret, visit.person, visit.here.settings.newsroom.name)
    status = 200 if problem is None else problem.status
    return visit.page("codes.html", status=status, at="me", offer=offer, picture=_picture(offer.uri), problem=problem)


async def _change(visit: Visit) -> Response:
    action, _, what = visit.form.get("do").partition(":")
    actions = {
        "password": _password,
        "codes-off": _codes_off,
        "recovery": _recovery,
        "session": _session,
        "others": _others,
    }
    if action not in actions:
        raise Invalid("This form does not say what to do.", remedy="Reload the page, and try again.", field="do")
    return await actions[action](visit, what)


async def _password(visit: Visit, _: str) -> Response:
    password = visit.form.get("password")
    if password != visit.form.get("again"):
        raise Invalid("The two new passwords differ.", remedy="Type the same one twice.", field="again")
    await people.change_password(
        visit.here.database, visit.secret, visit.own, current=visit.form.get("current"), password=password
    )
    return visit.lead_to("/desk/me", done="password")


async def _codes_off(visit: Visit, _: str) -> Response:
    typed, current = visit.form.get("code"), visit.form.get("current")
    await people.turn_codes_off(visit.here.database, visit.secret, visit.own, typed=typed, current=current)
    return visit.lead_to("/desk/me", done="codes-off")


async def _recovery(visit: Visit, _: str) -> Response:
    shown = await people.new_recovery_codes(
        visit.here.database, visit.secret, visit.own, current=visit.form.get("current")
    )
    return visit.page("recovery.html", at="me", codes=shown, is_first=False)


async def _session(visit: Visit, hashed: str) -> Response:
    try:
        wanted = bytes.fromhex(hashed)
    except ValueError as error:
        raise Invalid("There is no such session.", remedy="Reload the page.", field="do") from error
    await people.sign_out(visit.here.database, visit.person, wanted)
    return visit.lead_to("/desk/me", done="session")


async def _others(visit: Visit, _: str) -> Response:
    person = visit.person
    await people.sign_out_everywhere(visit.here.database, person.id, by=person.email, but=visit.own.token_hash)
    return visit.lead_to("/desk/me", done="others")


async def _page(visit: Visit, problem: DispatcherError | None) -> Response:
    return visit.page(
        "me.html",
        status=200 if problem is None else problem.status,
        at="me",
        problem=problem,
        wrong=visit.form.get("do") if problem is not None else "",
        sessions=await people.sessions(visit.here.database, visit.person.id),
        own=visit.own.token_hash,
        done=done_word(visit, DONE),
    )


def _picture(uri: str) -> Markup:
    """A QR code as SVG, dark on light whatever the page is, since cameras read no other."""
    out = io.BytesIO()
    segno.make(uri, error="m").save(
        out, kind="svg", xmldecl=False, svgns=True, scale=4, border=4, dark="#000", light="#fff", omitsize=False
    )
    return Markup(out.getvalue().decode())  # noqa: S704  # made of numbers alone
