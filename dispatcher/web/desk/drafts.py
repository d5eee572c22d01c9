"""What is being written: what missed its time, what waits for a second person, one's own drafts, what is scheduled."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

from starlette.responses import Response

from dispatcher import drafting
from dispatcher.drafting import Writing
from dispatcher.errors import Conflict, DispatcherError, Invalid, NotFound
from dispatcher.model import DraftState, Importance, Kind
from dispatcher.people import Person
from dispatcher.roles import What
from dispatcher.web.desk.visiting import Visit, done_word
from dispatcher.web.times import lasted, on_clock, zone_of

DONE = {
    "approved": "Approved. Whoever may send can send it now.",
    "scheduled-approved": "Approved. It goes out at its time.",
    "returned": "It went back, with your wish.",
    "rejected": "It is rejected, with your reason.",
    "unscheduled": "The schedule is cancelled. It is a draft again.",
    "discarded": "The draft is gone.",
}
#: What each state is called, and the colour that it has.
STATES = {
    DraftState.DRAFT: ("Draft", ""),
    DraftState.SUBMITTED: ("Waits for approval", "wait"),
    DraftState.RETURNED: ("Returned", "wait"),
    DraftState.REJECTED: ("Rejected", "stop"),
    DraftState.APPROVED: ("Approved", "go"),
    DraftState.SCHEDULED: ("Scheduled", "go"),
}
#: The same for one that could not go out at its time, until somebody has seen to it.
NOT_SENT = ("Not sent", "stop")
_NUMBER = re.compile(r"[0-9]{1,18}")
_Word = TypeVar("_Word", bound=StrEnum)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A draft in the list, with what is said of it."""

    writing: Writing
    state: str
    tone: str  #: the colour of its state, if it has one
    others: str  #: who else has it open
    waited: str = ""  #: how long it has waited for a second person
    when: str = ""  #: when it is to go out, or was


async def drafts(visit: Visit) -> Response:
    """`/desk/drafts`: what waits comes first, for those who can do something about it."""
    problem: DispatcherError | None = None
    if visit.is_post:
        try:
            return await _change(visit)
        except (Invalid, Conflict, NotFound, drafting.NotYours) as error:
            problem = error
    found = await drafting.listing(visit.here.database)
    waiting = await drafting.waiting(visit.here.database, found)
    waiting_ids = {each.id for each in waiting}
    rest = [each for each in found if each.id not in waiting_ids]
    scheduled = sorted((each for each in rest if each.send_at), key=lambda each: each.send_at or each.updated_at)
    missed = [each for each in rest if each.missed_at]
    written = [each for each in rest if not each.send_at and not each.missed_at]
    mine = [each for each in written if visit.person.id in {each.author.id, each.last_editor.id}]
    return visit.page(
        "drafts.html",
        status=200 if problem is None else problem.status,
        at="drafts",
        missed=_rows(visit, missed),
        waiting=_rows(visit, waiting),
        mine=_rows(visit, mine),
        others=_rows(visit, [each for each in written if each not in mine]),
        scheduled=_rows(visit, scheduled),
        problem=problem,
        done=done_word(visit, DONE),
        now=datetime.now(UTC),
    )


async def write(visit: Visit) -> Response:
    """`POST /desk/stories/{slug}/write`: begin a draft, and go there. `kind` and `importance` may be given."""
    text = drafting.Text(
        kind=_one_of(Kind, visit, "kind", Kind.UPDATE),
        importance=_one_of(Importance, visit, "importance", Importance.ROUTINE),
    )
    slug = visit.request.path_params["slug"]
    draft = await drafting.begin(visit.here.database, slug, by=visit.person, text=text)
    return visit.lead_to(f"/desk/drafts/{draft.id}")


def draft_id(visit: Visit) -> int:
    """The number of the draft in the address. Raises `NotFound`."""
    return _number(visit.request.path_params["id"])


def when(writing: Writing, zone: str) -> str:
    """When a draft is to go out, in words; empty if that is not set."""
    if writing.send_at is None:
        return ""
    if writing.send_local is None:
        wall = writing.send_at.astimezone(zone_of(zone)).replace(tzinfo=None)
        twice = ", the first time: the clocks show it twice" if drafting.happens_twice(wall, zone) else ""
        return on_clock(writing.send_at, zone) + twice
    local = writing.send_local
    return f"{local:%a} {local.day} {local:%B %Y, %H:%M} by each reader’s clock, from {on_clock(writing.send_at, zone)}"


def missed(writing: Writing, zone: str) -> str:
    """When a draft was to go out and could not, in words; empty once somebody has seen to that."""
    return "" if writing.missed_at is None else f"It was to go out {on_clock(writing.missed_at, zone)}."


def undoing(writing: Writing, person: Person, zone: str) -> str:
    """What somebody undoes who changes a draft that is scheduled, and what it takes then; empty for any other."""
    if writing.state is not DraftState.SCHEDULED or writing.scheduled_by is None:
        return ""
    words = f"This goes out {when(writing, zone)}. Changing it takes it off the schedule; "
    words += "you have" if person.may(What.SEND) else "an editor has"
    words += " to schedule it again."
    scheduler = writing.scheduled_by
    return words if scheduler.id == person.id else f"{words} {scheduler.name}, who scheduled it, is told by mail."


def _rows(visit: Visit, writings: list[Writing]) -> list[Row]:
    return [_row(visit, each) for each in writings]


def _row(visit: Visit, writing: Writing) -> Row:
    state, tone = STATES[writing.state]
    if writing.state is DraftState.APPROVED and not writing.is_approved:
        state, tone = STATES[DraftState.DRAFT]
    if writing.missed_at is not None:
        state, tone = NOT_SENT
    zone = visit.here.settings.newsroom.timezone
    asked = writing.submitted_at
    return Row(
        writing=writing,
        state=state,
        tone=tone,
        others=", ".join(each.name for each in writing.others if each.person_id != visit.person.id),
        waited="" if asked is None else lasted(datetime.now(UTC) - asked),
        when=when(writing, zone) or missed(writing, zone),
    )


async def _change(visit: Visit) -> Response:
    action, _, number = visit.form.get("do").partition(":")
    if action not in {"unschedule", "discard"}:
        raise Invalid("This form does not say what to do.", remedy="Reload the page, and try again.", field="do")
    if action == "discard":
        await drafting.discard(visit.here.database, visit.here.settings, _number(number), by=visit.person)
        return visit.lead_to("/desk/drafts", done="discarded")
    if not visit.person.may(What.SEND):
        raise drafting.NotYours("Only those who may send cancel a schedule.")
    version = _number(visit.form.get("version") or "0")
    await drafting.unschedule(
        visit.here.database, visit.here.settings, _number(number), version=version, by=visit.person
    )
    return visit.lead_to("/desk/drafts", done="unscheduled")


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise NotFound("There is no such draft.", remedy="Reload the page: perhaps it is gone.")
    return int(text)


def _one_of(words: type[_Word], visit: Visit, field: str, default: _Word) -> _Word:
    given = visit.form.get(field)
    try:
        return words(given) if given else default
    except ValueError as error:
        raise Invalid("There is no such choice.", remedy="Reload the page, and choose again.", field=field) from error
