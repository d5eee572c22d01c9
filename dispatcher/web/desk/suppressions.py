"""The addresses that are never written to, with the reasons; added and lifted here."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.responses import Response

from dispatcher import suppressing
from dispatcher.errors import Conflict, DispatcherError, Invalid, NotFound
from dispatcher.suppressing import Suppression
from dispatcher.web.desk.visiting import Visit, done_word

DONE = {
    "lifted": "Lifted. What is sent from now on goes to this address again.",
    "added": "Nothing is sent to this address any more.",
}


async def suppressions(visit: Visit) -> Response:
    """`/desk/suppressions`: the newest first, `?before=` turns the page. An address is searched by a form."""
    problem: DispatcherError | None = None
    found: Suppression | None = None
    action = visit.form.get("do")
    if visit.is_post:
        try:
            if action != "find":
                return await _change(visit, action)
            found = await suppressing.find(visit.here.database, visit.secret, visit.form.get("email"))
        except (Invalid, Conflict, NotFound) as error:
            problem = error
    page = await suppressing.listing(visit.here.database, before=visit.request.query_params.get("before", ""))
    return visit.page(
        "suppressions.html",
        status=200 if problem is None else problem.status,
        at="subscribers",
        page=page,
        is_first="before" not in visit.request.query_params,
        older=f"/desk/suppressions?{urlencode({'before': page.before})}" if page.before else "",
        found=found,
        is_asked=action == "find" and problem is None,
        problem=problem,
        wrong=action if problem is not None else "",
        email=visit.form.get("email")[:320],
        reason=visit.form.get("reason")[:200],
        done=done_word(visit, DONE),
    )


async def _change(visit: Visit, action: str) -> Response:
    form, by = visit.form, visit.person.email
    if action == "add":
        await suppressing.add(visit.here.database, visit.secret, form.get("email"), reason=form.get("reason"), by=by)
        return visit.lead_to("/desk/suppressions", done="added")
    if action == "lift":
        await suppressing.lift(visit.here.database, form.get("hash"), reason=form.get("reason"), by=by)
        return visit.lead_to("/desk/suppressions", done="lifted")
    raise Invalid("This form does not say what to do.", remedy="Reload the page, and try again.", field="do")
