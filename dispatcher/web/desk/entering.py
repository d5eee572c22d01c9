"""The doors of the desk: sign in, the code, sign out, and the links that let somebody in for the first time."""

from __future__ import annotations

from starlette.responses import Response

from dispatcher import people
from dispatcher.errors import Conflict, DispatcherError, Invalid, TooMany
from dispatcher.people import CodeRefused, SignInRefused
from dispatcher.web.desk.visiting import Visit, done_word, next_path

DONE = {"out": "You are signed out.", "changed": "You were signed out everywhere. Sign in again."}


async def sign_in(visit: Visit) -> Response:
    """`/desk/sign-in`: address and password. What is wrong is not told, and costs the same time."""
    then = next_path(visit.form.get("next") or visit.request.query_params.get("next", ""))
    if visit.session is not None and not visit.session.is_half and not visit.is_post:
        return visit.lead_to(then)
    problem: DispatcherError | None = None
    if visit.is_post:
        try:
            done = await people.sign_in(
                visit.here.database,
                visit.secret,
                email=visit.form.get("email"),
                password=visit.form.get("password"),
                browser=visit.browser,
            )
        except (SignInRefused, TooMany) as error:
            problem = error
        else:
            return visit.let_in(done, then)
    email = visit.form.get("email")[:254]
    status = 200 if problem is None else problem.status
    return visit.page(
        "sign_in.html",
        status=status,
        problem=problem,
        email=email,
        then=then,
        vouching=visit.here.settings.oidc,
        done=done_word(visit, DONE),
    )


async def code(visit: Visit) -> Response:
    """`/desk/code`: the code of the app, or a recovery code."""
    then = next_path(visit.form.get("next") or visit.request.query_params.get("next", ""))
    problem: DispatcherError | None = None
    if visit.is_post:
        try:
            done = await people.pass_code(
                visit.here.database, visit.secret, visit.own, typed=visit.form.get("code"), browser=visit.browser
            )
        except (CodeRefused, TooMany) as error:
            problem = error
        else:
            return visit.let_in(done, then)
    return visit.page("code.html", status=200 if problem is None else problem.status, problem=problem, then=then)


async def sign_out(visit: Visit) -> Response:
    """`POST /desk/sign-out`."""
    await people.sign_out(visit.here.database, visit.person, visit.own.token_hash)
    return visit.let_out()


async def sign_out_half(visit: Visit) -> Response:
    """`POST /desk/code/leave`: somebody who has no code goes back to where they came from."""
    await people.sign_out(visit.here.database, visit.person, visit.own.token_hash)
    return visit.let_out()


async def setup(visit: Visit) -> Response:
    """`/desk/setup/{token}`: the first lead of a new installation. Raises `BadInvitation` once there is one."""
    return await _join(visit, "setup.html", is_first=True)


async def invitation(visit: Visit) -> Response:
    """`/desk/invitation/{token}`: join the desk, or set a new password. Raises `BadInvitation`."""
    return await _join(visit, "invitation.html", is_first=False)


async def _join(visit: Visit, template: str, *, is_first: bool) -> Response:
    token = visit.request.path_params["token"]
    found = await people.invitation(visit.here.database, token)
    if is_first != (found.email == ""):
        raise people.BadInvitation
    problem: DispatcherError | None = None
    if visit.is_post:
        try:
            return await _use(visit, token)
        except (Invalid, Conflict) as error:
            problem = error
    return visit.page(
        template,
        status=200 if problem is None else problem.status,
        invitation=found,
        problem=problem,
        name=visit.form.get("name")[:100],
        email=visit.form.get("email")[:254],
        token=token,
    )


async def _use(visit: Visit, token: str) -> Response:
    password = visit.form.get("password")
    if password != visit.form.get("again"):
        raise Invalid("The two passwords differ.", remedy="Type the same one twice.", field="again")
    done = await people.join(
        visit.here.database,
        visit.secret,
        token,
        email=visit.form.get("email"),
        name=visit.form.get("name"),
        password=password,
        browser=visit.browser,
    )
    return visit.let_in(done, "/desk")
