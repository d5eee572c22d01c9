"""The second pair of eyes, on a phone at night: what goes out, to how many, and one of four answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from starlette.responses import Response

from dispatcher import approval, audience, audit, drafting, people, policy, previewing
from dispatcher.audience import Audience
from dispatcher.drafting import Change, SavedMeanwhile, Writing
from dispatcher.errors import Conflict, DispatcherError, Invalid
from dispatcher.model import DraftState, Published
from dispatcher.previewing import PushPreview
from dispatcher.rendering.press import LetterImpossible, PressUnavailable
from dispatcher.web.desk import drafts
from dispatcher.web.desk.visiting import Visit
from dispatcher.web.desk.writing_counts import check_promise
from dispatcher.web.reading import body_html
from dispatcher.web.times import lasted, on_clock

log = structlog.get_logger()

_NUMBER = re.compile(r"[0-9]{1,9}")
_HASH = re.compile(r"[0-9a-f]{64}")
#: Lines of the log that are shown.
MOST_LINES = 50
#: What the log of a draft is called on this page, where that differs.
DEEDS = {"returned": "returned it", "rejected": "rejected it", "approved": "approved it", "sent": "sent it"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """Something that was done to the draft."""

    at: str
    who: str
    deed: str
    reason: str


async def approve(visit: Visit) -> Response:
    """`/desk/drafts/{id}/approve`: look at a draft that waits, and approve, return or reject it."""
    number = drafts.draft_id(visit)
    problem: DispatcherError | None = None
    changes: list[Change] | None = None
    if visit.is_post:
        try:
            return await _answer(visit, number)
        except SavedMeanwhile as error:
            problem = error
            writing = await drafting.find(visit.here.database, number)
            changes = await drafting.since(visit.here.database, writing, _version(visit))
        except (Invalid, Conflict, drafting.NotYours, approval.ApprovalRequired) as error:
            problem = error
    return await _page(visit, number, problem, changes)


async def _answer(visit: Visit, number: int) -> Response:
    answers = {
        "approve-and-send": _approve_and_send,
        "approve": _approve,
        "override": _override,
        "return": _return,
        "reject": _reject,
    }
    action = visit.form.get("do")
    if action not in answers:
        raise Invalid("This form does not say what to do.", remedy="Reload the page, and try again.", field="do")
    return await answers[action](visit, number, _version(visit))


async def _approve_and_send(visit: Visit, number: int, version: int) -> Response:
    _need_sure(visit)
    await _keep_promise(visit, number)
    published = await drafting.approve_and_send(
        visit.here.database,
        visit.request.app.state.bell,
        number,
        version=version,
        by=visit.person,
        content_hash=_hash(visit),
    )
    return _to_live(visit, published)


async def _approve(visit: Visit, number: int, version: int) -> Response:
    made = await drafting.approve(
        visit.here.database, number, version=version, by=visit.person, content_hash=_hash(visit)
    )
    is_scheduled = made.state is DraftState.SCHEDULED
    return visit.lead_to("/desk/drafts", done="scheduled-approved" if is_scheduled else "approved")


async def _override(visit: Visit, number: int, version: int) -> Response:
    _need_sure(visit)
    await _keep_promise(visit, number)
    published = await drafting.override(
        visit.here.database,
        visit.request.app.state.bell,
        visit.here.settings,
        number,
        version=version,
        by=visit.person,
        reason=visit.form.get("reason"),
    )
    return _to_live(visit, published)


async def _return(visit: Visit, number: int, version: int) -> Response:
    reason = visit.form.get("reason")
    await drafting.return_(
        visit.here.database, visit.here.settings, number, version=version, by=visit.person, reason=reason
    )
    return visit.lead_to("/desk/drafts", done="returned")


async def _reject(visit: Visit, number: int, version: int) -> Response:
    reason = visit.form.get("reason")
    await drafting.reject(
        visit.here.database, visit.here.settings, number, version=version, by=visit.person, reason=reason
    )
    return visit.lead_to("/desk/drafts", done="rejected")


def _to_live(visit: Visit, published: Published) -> Response:
    return visit.lead_to(f"/desk/stories/{published.story.slug}/updates/{published.update.seq}")


def _need_sure(visit: Visit) -> None:
    if visit.form.get("sure") != "yes":
        raise Invalid("Nothing was sent.", remedy="Tick that you understand whom this reaches.", field="sure")


async def _keep_promise(visit: Visit, number: int) -> None:
    """Raises `Conflict` if this text would reach others by now than the page said. What is out needs no promise."""
    writing = await drafting.find(visit.here.database, number)
    if writing.state is not DraftState.PUBLISHED and writing.version == _version(visit):
        check_promise(visit.form.get("reaches"), await _audience(visit, writing), is_same=True)


def _version(visit: Visit) -> int:
    found = visit.form.get("version")
    if not _NUMBER.fullmatch(found):
        raise Invalid("This form does not say what you looked at.", remedy="Reload the page.", field="version")
    return int(found)


def _hash(visit: Visit) -> bytes:
    found = visit.form.get("hash")
    if not _HASH.fullmatch(found):
        raise Invalid("This form does not say what you looked at.", remedy="Reload the page.", field="hash")
    return bytes.fromhex(found)


async def _page(visit: Visit, number: int, problem: DispatcherError | None, changes: list[Change] | None) -> Response:
    database = visit.here.database
    writing = await drafting.find(database, number, by=visit.person)
    zone = visit.here.settings.newsroom.timezone
    done = await audit.read(database, subject=writing.subject, limit=MOST_LINES)
    names = {each.email: each.name for each in await people.everybody(database)}
    return visit.page(
        "approve.html",
        status=200 if problem is None else problem.status,
        at="drafts",
        writing=writing,
        text=writing.text,
        body=body_html(writing.text.body),
        audience=await _audience(visit, writing),
        why=await drafting.why_not(database, writing),
        may_not=drafting.may_approve(writing, visit.person),
        is_open=writing.state not in {DraftState.PUBLISHED, DraftState.RETURNED, DraftState.REJECTED},
        push=await _push(visit, writing),
        clock=on_clock(datetime.now(UTC), zone).split(", ")[-1].split()[0],
        waited="" if writing.submitted_at is None else lasted(datetime.now(UTC) - writing.submitted_at),
        when=drafts.when(writing, zone),
        expires=lasted(writing.text.expires_in or policy.DEFAULT_EXPIRY),
        began=on_clock(writing.created_at, zone),
        edited=on_clock(writing.updated_at, zone),
        history=[_line(each, names, zone) for each in reversed(done.entries)],
        problem=problem,
        changes=changes,
    )


async def _audience(visit: Visit, writing: Writing) -> Audience:
    text = writing.text
    async with visit.here.database.connection() as connection:
        return await audience.count(
            connection,
            writing.story.id,
            kind=text.kind,
            importance=text.importance,
            corrects_seq=text.corrects_seq,
        )


async def _push(visit: Visit, writing: Writing) -> PushPreview | None:
    """The push as it will be sent; None if it cannot be made."""
    here = visit.here
    async with here.database.connection() as connection:
        view = await previewing.view_of(connection, here.settings, writing.story.id, writing.text.draft())
    try:
        return await here.previews.push(view, locale=here.settings.newsroom.language)
    except (LetterImpossible, PressUnavailable) as error:
        log.error("a push cannot be previewed", draft=writing.id, reason=str(error))
        return None


def _line(entry: audit.Entry, names: dict[str, str], zone: str) -> Line:
    return Line(
        at=on_clock(entry.at, zone),
        who=names.get(entry.actor, entry.actor),
        deed=DEEDS.get(entry.action, entry.action),
        reason=str(entry.detail.get("reason", "")),
    )
