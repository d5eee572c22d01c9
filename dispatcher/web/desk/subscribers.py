"""Readers, one at a time: found by their address, with all that was and was not sent to them, and why.

An address never stands in the address of a page, where proxies log it and browsers keep it: a search is a form that is
posted, and whoever it finds is shown under a number.
"""

from __future__ import annotations

import re

from starlette.responses import Response

from dispatcher import following, suppressing, tracing
from dispatcher.config import LANGUAGES
from dispatcher.errors import Conflict, DispatcherError, Invalid, NotFound, TooMany
from dispatcher.model import Cadence
from dispatcher.suppressing import ERASED, Suppression
from dispatcher.texts import DEFAULT_TIMEZONE
from dispatcher.tokens import BadLink
from dispatcher.web.desk.visiting import Visit, done_word

DONE = {
    "lifted": "The suppression is lifted. What is sent from now on goes to this reader again.",
    "suppressed": "Nothing is sent to this address any more.",
    "ended": "The subscription is ended.",
    "asked": "A mail that asks for confirmation is on its way, unless one went out not long ago.",
}
MAX_QUERY = 320
_NUMBER = re.compile(r"[0-9]{1,18}")
_MANAGE = re.compile(r"(?:https?://\S+)?/manage/([A-Za-z0-9_=-]{32})(?:[/?#]\S*)?")


async def subscribers(visit: Visit) -> Response:
    """`/desk/subscribers`: search for an address, whole or by how it begins, or the link to a reader's own page."""
    typed = visit.form.get("q").strip()[:MAX_QUERY]
    problem: DispatcherError | None = None
    found: list[tracing.Listed] = []
    suppression: Suppression | None = None
    if visit.is_post:
        exact = await _exactly(visit, typed)
        if exact is not None:
            return visit.lead_to(f"/desk/subscribers/{exact}")
        try:
            found = await tracing.search(visit.here.database, typed)
        except Invalid as error:
            problem = error
        suppression = await _suppression(visit, typed)
    return visit.page(
        "subscribers.html",
        status=200 if problem is None else problem.status,
        at="subscribers",
        typed=typed,
        is_asked=visit.is_post and problem is None,
        found=found,
        suppression=suppression,
        problem=problem,
    )


async def _exactly(visit: Visit, typed: str) -> int | None:
    """The one reader whose whole address, or whose link, was typed."""
    link = _MANAGE.fullmatch(typed)
    if link is None:
        return await tracing.find(visit.here.database, visit.secret, typed)
    try:
        return visit.here.managing.read(link[1])[1]
    except BadLink:
        return None


async def _suppression(visit: Visit, typed: str) -> Suppression | None:
    """That a whole address is suppressed is known also where no reader has it."""
    try:
        return await suppressing.find(visit.here.database, visit.secret, typed)
    except Invalid:
        return None


async def subscriber(visit: Visit) -> Response:
    """`/desk/subscribers/{id}`: a reader, what they follow, and their history; `?before=` turns its page."""
    raw = visit.request.path_params["id"]
    if not _NUMBER.fullmatch(raw):
        raise NotFound("There is no such reader.", remedy="Search for their address.")
    reader = await tracing.reader(visit.here.database, int(raw))
    problem: DispatcherError | None = None
    if visit.is_post:
        try:
            return await _change(visit, reader)
        except (Invalid, Conflict, NotFound, TooMany) as error:
            problem = error
    history = await tracing.history(visit.here.database, reader.id, before=visit.request.query_params.get("before", ""))
    return visit.page(
        "subscriber.html",
        status=200 if problem is None else problem.status,
        at="subscribers",
        reader=reader.row,
        subscriptions=reader.subscriptions,
        devices=reader.devices,
        ends=tracing.ENDS,
        erased=ERASED,
        history=history,
        is_first="before" not in visit.request.query_params,
        problem=problem,
        wrong=visit.form.get("do") if problem is not None else "",
        reason=visit.form.get("reason")[:500],
        done=done_word(visit, DONE),
    )


async def _change(visit: Visit, reader: tracing.Reader) -> Response:
    action, _, slug = visit.form.get("do").partition(":")
    actions = {"lift": _lift, "suppress": _suppress, "end": _end, "ask": _ask}
    if action not in actions:
        raise Invalid("This form does not say what to do.", remedy="Reload the page, and try again.", field="do")
    done = await actions[action](visit, reader, slug)
    return visit.lead_to(f"/desk/subscribers/{reader.id}", done=done)


async def _lift(visit: Visit, reader: tracing.Reader, _: str) -> str:
    hashed = (reader.row["address_hash"] or b"").hex()
    await suppressing.lift(visit.here.database, hashed, reason=visit.form.get("reason"), by=visit.person.email)
    return "lifted"


async def _suppress(visit: Visit, reader: tracing.Reader, _: str) -> str:
    await suppressing.add(
        visit.here.database, visit.secret, _address(reader), reason=visit.form.get("reason"), by=visit.person.email
    )
    return "suppressed"


async def _end(visit: Visit, reader: tracing.Reader, slug: str) -> str:
    await tracing.end(visit.here.database, reader.id, slug, by=visit.person.email, reason=visit.form.get("reason"))
    return "ended"


async def _ask(visit: Visit, reader: tracing.Reader, slug: str) -> str:
    """Ask once more whether they want to follow: as if they had used the form, with its limits."""
    if slug not in {each["slug"] for each in reader.subscriptions if each["confirmed_at"] is None}:
        raise Invalid("There is nothing to confirm.", remedy="Reload the page.", field="do")
    row, newsroom = reader.row, visit.here.settings.newsroom
    await following.ask_to_follow(
        visit.here.database,
        visit.secret,
        slug,
        email=_address(reader),
        cadence=Cadence.EVERY,
        locale=row["locale"] if row["locale"] in LANGUAGES else newsroom.language,
        timezone=row["timezone"] or DEFAULT_TIMEZONE,
    )
    return "asked"


def _address(reader: tracing.Reader) -> str:
    if reader.row["email"] is None:
        raise Invalid("This reader has no mail address.", remedy="End the subscription instead.", field="email")
    return str(reader.row["email"])
