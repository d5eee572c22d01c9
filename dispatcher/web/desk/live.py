"""An update on its way: watch it, pause and resume it, cancel the rest, replace, correct and withdraw it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import Response

from dispatcher import drafting, steering, stories, watching, withdrawing
from dispatcher.errors import Conflict, DispatcherError, Invalid, NotFound
from dispatcher.model import BlastState, DeliveryState, Story, Update
from dispatcher.roles import What
from dispatcher.watching import Watched, WatchedBlast
from dispatcher.web.desk import live_drawing
from dispatcher.web.desk.visiting import Visit, done_word

DONE = {
    "sent": "It is going out.",
    "drilled": "The drill has begun. It reaches nobody.",
    "paused": "Paused. Nothing more goes out until you resume it.",
    "resumed": "It goes on where it stopped.",
    "cancelled": "Cancelled. Nothing more goes out.",
    "retried": "They are tried again.",
    "nobody": "Nobody was tried again: nobody is left who could be. Perhaps somebody has pressed already.",
    "withdrawn": "Withdrawn. Nothing more goes out, and the pushes that were shown are replaced.",
}
STATES = {
    BlastState.CUTTING: "readers are being counted",
    BlastState.SENDING: "going out",
    BlastState.PAUSED: "paused",
    BlastState.CANCELLED: "cancelled",
    BlastState.DONE: "done",
    BlastState.SUPERSEDED: "stopped for a later update",
}
_SEQ = re.compile(r"-?[1-9][0-9]{0,8}")


async def live(visit: Visit) -> Response:
    """`/desk/stories/{slug}/updates/{seq}`: an update, or below zero a drill, and what has become of it."""
    slug, seq = place(visit)
    watched = await visit.request.app.state.streams.watchers.look(slug, seq)
    return visit.page("live.html", at="stories", done=done_word(visit, DONE), **values(visit, watched))


async def steer(visit: Visit) -> Response:
    """`POST …/steer`: `do` is pause, resume, cancel or retry; `blast` names one, or all that are open are meant.

    With retry, `state` and `reason` (the key of one) choose among its readers.
    """
    slug, seq = place(visit)
    watched = await watching.look(visit.here.database, slug, seq)
    do = visit.form.get("do")
    if do == "retry":
        return visit.lead_to(path_of(slug, seq), done=await _retry(visit, watched))
    if do not in _STEER:
        raise Invalid(
            "There is no such button.", remedy="Open the page again, and press one of its buttons.", field="do"
        )
    act, done = _STEER[do]
    await _each(_chosen(visit, watched), lambda blast: act(visit, blast.id))
    return visit.lead_to(path_of(slug, seq), done=done)


async def replace(visit: Visit) -> Response:
    """`POST …/replace`: begin the update that goes to whoever this one has not reached, and go there."""
    slug, seq = place(visit)
    story, update = await _update(visit, slug, seq)
    text = drafting.prefilled(story, update, replaces=True)
    draft = await drafting.begin(visit.here.database, slug, by=visit.person, text=text)
    return visit.lead_to(f"/desk/drafts/{draft.id}")


async def correct(visit: Visit) -> Response:
    """`POST …/correct`: begin a correction with the words of the update, and go there; `pause` stops it first."""
    slug, seq = place(visit)
    story, update = await _update(visit, slug, seq)
    if visit.form.get("pause"):
        watched = await watching.look(visit.here.database, slug, seq)
        await _each([blast for blast in watched.blasts if blast.is_open], lambda blast: _pause(visit, blast.id))
    text = drafting.prefilled(story, update, corrects=True)
    draft = await drafting.begin(visit.here.database, slug, by=visit.person, text=text)
    return visit.lead_to(f"/desk/drafts/{draft.id}")


async def withdraw(visit: Visit) -> Response:
    """`POST …/withdraw`: take the update back, with a reason for readers."""
    slug, seq = place(visit)
    reason = visit.form.line("reason")
    try:
        await withdrawing.withdraw(
            visit.here.database, visit.request.app.state.bell, slug, seq, by=visit.person.email, reason=reason
        )
    except (Invalid, Conflict) as error:
        watched = await visit.request.app.state.streams.watchers.look(slug, seq)
        return visit.page(
            "live.html",
            status=error.status,
            at="stories",
            done="",
            **{**values(visit, watched), "asks": True, "problem": error, "reason": reason},
        )
    return visit.lead_to(path_of(slug, seq), done="withdrawn")


def place(visit: Visit) -> tuple[str, int]:
    """The story and the number that the address names. Raises `NotFound` for what is none."""
    slug, seq = visit.request.path_params["slug"], visit.request.path_params["seq"]
    if not _SEQ.fullmatch(seq):
        raise NotFound("There is no such update.", remedy="Open the story: it lists its updates.", field="seq")
    return slug, int(seq)


def path_of(slug: str, seq: int) -> str:
    """Where an update is watched."""
    return f"/desk/stories/{slug}/updates/{seq}"


def values(visit: Visit, watched: Watched) -> dict[str, Any]:
    """What the template of the page needs."""
    return {
        **figures(watched),
        "may_steer": visit.person.may(What.STEER),
        "asks": bool(visit.request.query_params.get("ask")),
        "is_refusal": visit.request.query_params.get("done") == "nobody",
        "problem": None,
        "reason": "",
    }


def figures(watched: Watched) -> dict[str, Any]:
    """What the live part of the page shows, whoever looks at it."""
    return {
        "watched": watched,
        "path": path_of(watched.story, watched.seq),
        "bars": {blast.id: live_drawing.bar(blast) for blast in watched.blasts},
        "lines": {blast.id: live_drawing.line(blast) for blast in watched.blasts},
        "key": live_drawing.KEY,
        "channels": watching.CHANNELS,
        "states": STATES,
        "spoken": watching.seconds,
        "now": watched.now,
    }


async def _pause(visit: Visit, blast_id: int) -> None:
    await steering.pause(visit.here.database, blast_id, by=visit.person.email)


async def _resume(visit: Visit, blast_id: int) -> None:
    await steering.resume(visit.here.database, visit.request.app.state.bell, blast_id, by=visit.person.email)


async def _cancel(visit: Visit, blast_id: int) -> None:
    await steering.cancel(visit.here.database, blast_id, by=visit.person.email)


_STEER: Mapping[str, tuple[Callable[[Visit, int], Awaitable[None]], str]] = {
    "pause": (_pause, "paused"),
    "resume": (_resume, "resumed"),
    "cancel": (_cancel, "cancelled"),
}


async def _retry(visit: Visit, watched: Watched) -> str:
    """Try those of one blast again who failed, or who ended in one state for one reason; says what came of it."""
    chosen = _chosen(visit, watched)
    if not visit.form.get("blast") or not chosen:
        raise Invalid("It is not said whose readers are meant.", remedy="Press the button once more.", field="blast")
    database, blast = visit.here.database, chosen[0]
    state = _state_of(visit.form.get("state"))
    answers, meaning = None, ""
    if key := visit.form.get("reason"):
        answers, meaning = await watching.answers(database, watched.story, watched.seq, blast.id, state, key)
    found = await steering.retry(
        database,
        visit.request.app.state.bell,
        blast.id,
        by=visit.person.email,
        states=[state],
        answers=answers,
        meaning=meaning,
    )
    return "retried" if found.count else "nobody"


def _state_of(word: str) -> DeliveryState:
    """The state that a form names; those who failed, if it names none. Raises `Invalid`."""
    try:
        return DeliveryState(word) if word else DeliveryState.FAILED
    except ValueError as error:
        raise Invalid("There is no such state.", remedy="Press the button once more.", field="state") from error


def _chosen(visit: Visit, watched: Watched) -> list[WatchedBlast]:
    """The blast that the form names, of this update; or all of them that may still reach somebody."""
    named = visit.form.get("blast")
    if named:
        return [blast for blast in watched.blasts if str(blast.id) == named]
    return [blast for blast in watched.blasts if blast.is_open]


async def _each(blasts: list[WatchedBlast], act: Callable[[WatchedBlast], Awaitable[None]]) -> None:
    """Do it to each. One that has ended meanwhile stops none of the others; raises if there is nothing left to do."""
    problem: DispatcherError = Conflict(
        "Nothing of this update goes out any more.", remedy="If it was wrong, correct it.", field="blast"
    )
    done = 0
    for blast in blasts:
        try:
            await act(blast)
        except Conflict as error:
            problem = error
        else:
            done += 1
    if not done:
        raise problem


async def _update(visit: Visit, slug: str, seq: int) -> tuple[Story, Update]:
    story = await stories.find(visit.here.database, slug)
    found = await stories.timeline(visit.here.database, story, before=seq + 1, limit=1) if seq > 0 else []
    if not found or found[0].seq != seq:
        raise NotFound(f"There is no update {seq} of {slug!r}.", remedy="Open the story.", field="seq")
    return story, found[0]
