"""The update card: write, look, and send, on one page. Everything works by plain forms; the script only adds ease."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import HTMLResponse, JSONResponse, Response

from dispatcher import audit, drafting, drilling, previewing
from dispatcher.approval import ApprovalRequired
from dispatcher.config import LANGUAGES
from dispatcher.drafting import SavedMeanwhile, StillScheduled, Text, Writing
from dispatcher.errors import Conflict, DispatcherError, Invalid
from dispatcher.model import DraftState
from dispatcher.previewing import LetterImpossible
from dispatcher.roles import What
from dispatcher.web.desk import writing_frame, writing_parts
from dispatcher.web.desk.drafts import missed, undoing
from dispatcher.web.desk.visiting import Visit, done_word
from dispatcher.web.desk.writing_counts import check_promise
from dispatcher.web.desk.writing_form import LIVES, draft_number, text_of, version_of
from dispatcher.web.desk.writing_parts import VIEWS, Look, Parts
from dispatcher.web.readers import PRIVATE
from dispatcher.web.times import lasted, on_clock

DONE = {
    "saved": "Saved.",
    "test": "A test mail to you is on its way.",
    "submitted": "Asked for approval. It waits in the list of drafts, for a second person.",
    "scheduled": "Scheduled.",
    "unscheduled": "The schedule is cancelled. It is a draft again.",
}
#: What may go wrong with a form of the card, and is told on the card with everything that was typed.
TOLD = (Invalid, Conflict, ApprovalRequired, drafting.NotYours)


async def card(visit: Visit) -> Response:
    """`/desk/drafts/{id}`: the card. A draft that is out leads to where it is watched."""
    writing = await _found(visit)
    if not visit.is_post:
        return _to_live(visit, writing) if writing.state is DraftState.PUBLISHED else await _page(visit, writing)
    try:
        typed = text_of(visit.form, writing.text)
    except Invalid as error:
        return await _page(visit, writing, problem=error)
    try:
        return await _act(visit, writing, typed)
    except TOLD as error:
        return await _told(visit, typed, error)


async def save(visit: Visit) -> Response:
    """`POST /desk/drafts/{id}/save`, by the script while somebody writes: JSON with what the card shows beside."""
    writing = await _found(visit)
    try:
        typed = text_of(visit.form, writing.text)
        saved = await _save(visit, writing, typed, version_of(visit.form))
    except StillScheduled as error:
        return _trouble(visit, error, state=_state(visit, await _found(visit)))
    except TOLD as error:
        return _trouble(visit, error)
    answer = _state(visit, saved)
    if visit.form.get("parts") == "no":
        return JSONResponse(answer, headers=PRIVATE)
    look = _look(visit)
    found = await writing_parts.parts(visit.here, saved, look, visit.person.email)
    values = {**_values(visit, saved, saved.text, found, look), "person": visit.person}
    shown = {name: visit.here.html(f"desk/write_{name}.html", "en", **values) for name in PARTS}
    return JSONResponse(
        {**answer, "parts": shown, "again": found.is_checking or found.audience is None}, headers=PRIVATE
    )


#: The parts of the card that follow what is written.
PARTS = ("choices", "checks", "audience", "later", "inbox", "push", "foot")


async def present(visit: Visit) -> Response:
    """`POST /desk/drafts/{id}/present`, by the script now and then: who is here, and which version there is."""
    number = draft_number(visit.request.path_params["id"])
    await drafting.present(visit.here.database, number, by=visit.person)
    return JSONResponse(_state(visit, await _found(visit)), headers=PRIVATE)


async def preview(visit: Visit) -> Response:
    """`/desk/drafts/{id}/preview`: the mail as a document of its own, for the frame. `?view=`, `?lang=`, `?as=`."""
    look = _look(visit)
    try:
        mail = await writing_parts.letter(visit.here, await _found(visit), look, visit.person.email)
    except LetterImpossible as error:
        return HTMLResponse(writing_frame.reason(error.reason), headers=writing_frame.HEADERS)
    shown = writing_frame.text(mail.text) if look.view == "text" else writing_frame.mail(mail.html, look.view == "dark")
    return HTMLResponse(shown, headers=writing_frame.HEADERS)


async def _act(visit: Visit, writing: Writing, typed: Text) -> Response:
    """Save what was typed, and then do what the button says. Raises what `TOLD` has."""
    action, _, view = visit.form.get("do").partition(":")
    if writing.state is DraftState.PUBLISHED:
        return await _after(visit, writing, typed)
    if action == "discard":
        await drafting.discard(visit.here.database, visit.here.settings, writing.id, by=visit.person)
        return visit.lead_to("/desk/drafts", done="discarded")
    if action not in DEEDS:
        raise Invalid("This form does not say what to do.", remedy="Reload the page, and try again.", field="do")
    if action in NEEDS and not visit.person.may(NEEDS[action]):
        raise drafting.NotYours(f"Your role, {visit.person.role}, does not include this.")
    try:
        saved = await _save(visit, writing, typed, version_of(visit.form, view if action == "mine" else ""))
    except Conflict:
        now = await _found(visit)
        if now.state is DraftState.PUBLISHED:  # somebody pressed in the very same moment
            return await _after(visit, now, typed)
        raise
    if action in PROMISES:
        found = await visit.here.counts.count(saved.story, saved.text)
        check_promise(view, found, is_same=_goes_to(saved.text) == _goes_to(writing.text))
    return await DEEDS[action](visit, saved, view)


def _goes_to(text: Text) -> tuple[object, ...]:
    """What decides who gets it."""
    return text.kind, text.importance, text.corrects_seq


#: Buttons of somebody who means to take a draft off the schedule.
UNSCHEDULES = ("off", "unschedule")
#: Buttons with a number of readers.
PROMISES = ("send", "override")
#: What a button needs beyond writing.
NEEDS = {
    "send": What.SEND,
    "schedule": What.SEND,
    "unschedule": What.SEND,
    "drill": What.SEND,
    "override": What.APPROVE,
}


async def _save(visit: Visit, writing: Writing, typed: Text, version: int) -> Writing:
    """Save what was typed over the version that was looked at; over one that says the same, nothing is in the way."""
    database, settings, by = visit.here.database, visit.here.settings, visit.person
    is_sure = visit.form.get("sure") == "yes" or visit.form.get("do") in UNSCHEDULES
    try:
        return await drafting.save(database, settings, writing.id, typed, version=version, by=by, unschedules=is_sure)
    except SavedMeanwhile:
        now = await _found(visit)
        if now.state is DraftState.PUBLISHED or not _same(typed, now.text):
            raise
        return await drafting.save(database, settings, writing.id, typed, version=now.version, by=by)


def _same(typed: Text, kept: Text) -> bool:
    """Whether two texts say the same, but for what is tidied up when one is saved."""
    return _tidy(typed) == _tidy(kept)


def _tidy(text: Text) -> Text:
    body = text.body.replace("\r\n", "\n")
    return replace(
        text, headline=text.headline.strip(), summary=text.summary.strip(), body=body if body.strip() else ""
    )


async def _saved(visit: Visit, saved: Writing, view: str) -> Response:
    look = _look(visit)
    query = {"view": view if view in VIEWS else look.view, "lang": look.language, "as": look.aspect}
    return visit.lead_to(f"/desk/drafts/{saved.id}", done="saved", **query)


async def _test(visit: Visit, saved: Writing, _: str) -> Response:
    """Owe the writer the very letter, by mail."""
    look, settings = _look(visit), visit.here.settings
    async with visit.here.database.transaction() as tx:
        view = await previewing.view_of(tx, settings, saved.story.id, saved.text.draft())
        await previewing.owe_test(
            tx,
            settings,
            view,
            email=visit.person.email,
            locale=look.language,
            timezone=settings.newsroom.timezone,
        )
        await audit.note(
            tx,
            actor=visit.person.email,
            action="mailed a test to themselves",
            subject=saved.subject,
            content_hash=saved.content_hash,
            detail={"story": saved.story.slug},
        )
    return visit.lead_to(f"/desk/drafts/{saved.id}", done="test")


async def _drill(visit: Visit, saved: Writing, _: str) -> Response:
    made = await drilling.drill(
        visit.here.database, _bell(visit), saved.story.slug, saved.text.draft(), by=visit.person.email
    )
    return _watch(visit, made.story.slug, made.update.seq)


async def _send(visit: Visit, saved: Writing, _: str) -> Response:
    done = await drafting.send(visit.here.database, _bell(visit), saved.id, version=saved.version, by=visit.person)
    return _watch(visit, done.story.slug, done.update.seq)


async def _submit(visit: Visit, saved: Writing, _: str) -> Response:
    await drafting.submit(visit.here.database, saved.id, version=saved.version, by=visit.person)
    return visit.lead_to(f"/desk/drafts/{saved.id}", done="submitted")


async def _override(visit: Visit, saved: Writing, _: str) -> Response:
    done = await drafting.override(
        visit.here.database,
        _bell(visit),
        visit.here.settings,
        saved.id,
        version=saved.version,
        by=visit.person,
        reason=visit.form.get("reason"),
    )
    return _watch(visit, done.story.slug, done.update.seq)


async def _schedule(visit: Visit, saved: Writing, _: str) -> Response:
    await drafting.schedule(
        visit.here.database,
        saved.id,
        version=saved.version,
        by=visit.person,
        at=visit.form.get("at"),
        clock=visit.form.get("clock"),
        zone=visit.here.settings.newsroom.timezone,
    )
    return visit.lead_to(f"/desk/drafts/{saved.id}", done="scheduled")


async def _unschedule(visit: Visit, saved: Writing, _: str) -> Response:
    if saved.state is DraftState.SCHEDULED:  # an edit that came along has cancelled it already
        await drafting.unschedule(
            visit.here.database, visit.here.settings, saved.id, version=saved.version, by=visit.person
        )
    return visit.lead_to(f"/desk/drafts/{saved.id}", done="unscheduled")


async def _after(visit: Visit, writing: Writing, typed: Text) -> Response:
    """Somebody pressed after it went out: to where it is watched, unless they typed something else."""
    if _same(typed, writing.text):
        return _to_live(visit, writing)
    problem = Conflict(
        f"{writing.last_editor.name}’s version went out as update {writing.update_seq}, and yours did not.",
        remedy="Watch it go out, and correct or replace it if that is wrong.",
    )
    return visit.page(
        "write_lost.html",
        status=problem.status,
        at="drafts",
        problem=problem,
        headline=typed.headline,
        summary=typed.summary,
        body=typed.body,
        back=f"/desk/drafts/{writing.id}",
        way="Watch it go out",
    )


async def _told(visit: Visit, typed: Text, error: DispatcherError) -> Response:
    """The card again, with everything that was typed, and what is wrong."""
    now = await _found(visit)
    if now.state is DraftState.PUBLISHED and not isinstance(error, SavedMeanwhile):
        return await _after(visit, now, typed)
    return await _page(visit, now, typed=typed, problem=error)


async def _page(
    visit: Visit, writing: Writing, *, typed: Text | None = None, problem: DispatcherError | None = None
) -> Response:
    look = _look(visit)
    found = await writing_parts.parts(visit.here, writing, look, visit.person.email)
    theirs = writing if isinstance(problem, SavedMeanwhile) else None
    # A form that was refused goes on from the version that it was about: only "keep mine" writes over another.
    version = visit.form.get("version") if theirs is not None else str(writing.version)
    return visit.page(
        "write.html",
        status=200 if problem is None else problem.status,
        at="drafts",
        **_values(visit, writing, typed or writing.text, found, look, problem),
        version=version,
        theirs=theirs,
        done=done_word(visit, DONE) if problem is None else "",
        is_typed=typed is not None,
        life=int(life.total_seconds()) if (life := (typed or writing.text).expires_in) is not None else 0,
        lives=LIVES,
        state_json=json.dumps({**_state(visit, writing), "again": found.is_checking or found.audience is None}),
    )


def _values(
    visit: Visit, writing: Writing, text: Text, found: Parts, look: Look, problem: DispatcherError | None = None
) -> dict[str, Any]:
    """What the templates of the card see, whole and in parts."""
    zone = visit.here.settings.newsroom.timezone
    return {
        "writing": writing,
        "text": text,
        "found": found,
        "look": look,
        "views": VIEWS,
        "languages": LANGUAGES,
        "zone": zone,
        "host": urlsplit(visit.here.settings.public_url).netloc,
        "when": on_clock(writing.send_at, zone) if writing.send_at is not None else "",
        "missed": missed(writing, zone),
        "undoes": undoing(writing, visit.person, zone) if isinstance(problem, StillScheduled) else "",
        "clock": datetime.now(UTC),
        "lasted": lasted,
        "may_approve": drafting.may_approve(writing, visit.person) is None,
        "later": _later(visit, problem),
        "problem": problem,
    }


def _later(visit: Visit, problem: DispatcherError | None) -> dict[str, Any]:
    """What was filled in to send it later, or without waiting: open, where that is what went wrong."""
    action = visit.form.get("do").partition(":")[0]
    typed = {name: visit.form.get(name)[:1000] for name in ("at", "clock", "reason")}
    return {**typed, "is_open": problem is not None and action in ("schedule", "override")}


def _state(visit: Visit, writing: Writing) -> dict[str, Any]:
    """What the script has to know of the draft."""
    return {
        "version": writing.version,
        "state": str(writing.state),
        "saved_at": writing.updated_at.isoformat(),
        "by": writing.last_editor.name,
        "is_mine": writing.last_editor.id == visit.person.id,
        "others": [each.name for each in writing.others],
        "undoes": undoing(writing, visit.person, visit.here.settings.newsroom.timezone),
        "live": "" if writing.update_seq is None else _live(writing.story.slug, writing.update_seq),
    }


def _trouble(visit: Visit, error: DispatcherError, **more: object) -> Response:
    """What is wrong with what was typed, for the script."""
    told = {"message": error.message, "remedy": error.remedy, "field": error.field, **more}
    if isinstance(error, SavedMeanwhile):
        told |= {"by": error.by, "at": on_clock(error.at, visit.here.settings.newsroom.timezone)}
    return JSONResponse({"problem": told}, error.status, headers=PRIVATE)


async def _found(visit: Visit) -> Writing:
    number = draft_number(visit.request.path_params["id"])
    return await drafting.find(visit.here.database, number, by=visit.person)


def _look(visit: Visit) -> Look:
    given = visit.form.fields if visit.is_post else visit.request.query_params
    default = visit.here.settings.newsroom.language
    return Look.of(given.get("view", ""), given.get("lang", ""), given.get("as", ""), default)


def _bell(visit: Visit) -> Any:
    return visit.request.app.state.bell


def _to_live(visit: Visit, writing: Writing) -> Response:
    assert writing.update_seq is not None  # noqa: S101  # it is published
    return _watch(visit, writing.story.slug, writing.update_seq)


def _watch(visit: Visit, slug: str, seq: int) -> Response:
    return visit.lead_to(_live(slug, seq))


def _live(slug: str, seq: int) -> str:
    return f"/desk/stories/{slug}/updates/{seq}"


#: What each button does with what was saved.
DEEDS: dict[str, Callable[[Visit, Writing, str], Awaitable[Response]]] = {
    "": _saved,
    "save": _saved,
    "preview": _saved,
    "mine": _saved,
    "off": _saved,
    "test": _test,
    "drill": _drill,
    "send": _send,
    "submit": _submit,
    "override": _override,
    "schedule": _schedule,
    "unschedule": _unschedule,
}
