"""Why a reader got an update on one channel, or did not: one sentence, from what the ledger and their wishes say."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dispatcher.model import Cadence, ChannelName, DeliveryState, Importance, Kind
from dispatcher.reasons import Answer, in_words

_STATUS = re.compile(r"\b[245]\.\d{1,3}\.\d{1,3}\b")
#: How the end of a subscription is told.
ENDS = {
    "reader": "the reader had left the story",
    "desk": "the desk had ended the subscription",
    "story closed": "the story had ended",
    "story merged": "the story had become part of another",
    "no device": "the reader had taken their last browser away",
    "device gone": "the reader’s browser had been switched off",
}
NOTICES = {
    "confirm": "Asked whether it was them who wants to follow",
    "following": "Told that they follow one more story",
    "already": "Told that they follow this already",
    "link": "Sent the link to their own page",
    "catch_up": "Sent the last update, at once",
    "invitation": "Invited to the desk, or sent a link for a new password",
    "test": "Sent a test of a draft",
    "override": "Told of an update that went out without approval",
    "not_sent": "Told of a draft that did not go out at its time",
    "unscheduled": "Told of a draft that somebody took off the schedule",
}


class Told(NamedTuple):
    """What became of something for one reader, or one device."""

    state: str  #: a state of the ledger; `waiting`; or `not_in`: they were never in its audience
    words: str  #: a sentence
    detail: str = ""  #: what the other side said, for those who look after mail servers


def explain(row: dict[str, Any]) -> Told:
    """One row of `trace_updates`, in words."""
    if row["state"] is not None:
        return _outcome(ChannelName(row["channel"]), row)
    if row["batch"]:
        return _waiting(row)
    return _left_out(row)


def explain_notice(row: dict[str, Any]) -> Told:
    """One row of `trace_notices`, in words."""
    if row["state"] is None:
        return Told("waiting", "Not sent yet.")
    if row["state"] == DeliveryState.WITHDRAWN:
        return Told(row["state"], "Not sent: what it is about was over before.")
    return _outcome(ChannelName.EMAIL, row)


def _outcome(channel: ChannelName, row: dict[str, Any]) -> Told:
    state, reply = DeliveryState(row["state"]), row["reply"] or ""
    if state is DeliveryState.ACCEPTED:
        return Told(state, f"Accepted by {row['relay'] or 'the other side'}.", reply)
    found = _STATUS.search(reply)
    answer = Answer(channel, state, row["code"], found[0] if found else "", reply)
    words = f"{_BEGINNINGS[state]}{in_words(answer).words}."
    if state is DeliveryState.SUPERSEDED and row.get("superseded_by"):
        words = f"Update {row['superseded_by']} took its place before it reached the reader."
    if row["next_at"] is not None:
        words += f" Tried {_times(row['attempts'])}, and again at {_moment(row['next_at'])}."
    return Told(state, words, reply)


_BEGINNINGS = {
    DeliveryState.DEFERRED: "Not taken yet: ",
    DeliveryState.FAILED: "Refused for good: ",
    DeliveryState.IN_DOUBT: "It may have arrived or not: ",
    DeliveryState.SUPPRESSED: "Not sent. ",
    DeliveryState.CAPPED: "Not sent. ",
    DeliveryState.EXPIRED: "Not sent. ",
    DeliveryState.SUPERSEDED: "Not sent. ",
    DeliveryState.WITHDRAWN: "Not sent. ",
}


def _waiting(row: dict[str, Any]) -> Told:
    """They are in the audience, and there is no outcome."""
    if row["blast_state"] == "cancelled":
        return Told("not_in", "Cancelled by the desk before it was the reader’s turn.")
    if row["blast_state"] == "paused":
        return Told("waiting", "The desk has paused it before it was the reader’s turn.")
    if row["starts_at"] is not None and row["starts_at"] > datetime.now(UTC):
        return Told("waiting", f"It goes out at {_moment(row['starts_at'])}, by the reader’s own clock.")
    return Told("waiting", "It waits for its turn.")


def _left_out(row: dict[str, Any]) -> Told:
    """They are in none of its batches: why not, by what is known of their wishes today."""
    if row["blast_state"] == "cutting" or (row["blast_state"] == "paused" and row["frozen_at"] is None):
        return Told("waiting", "Its audience is not counted yet.")
    return Told("not_in", _first_reason(row))


def _first_reason(row: dict[str, Any]) -> str:
    published, ended = row["published_at"], row["ended_at"]
    if row["confirmed_at"] is None:
        return "The reader has not confirmed that they want to follow this story."
    if row["confirmed_at"] > published:
        return f"The reader confirmed later, at {_moment(row['confirmed_at'])}."
    if ended is not None and ended <= (row["frozen_at"] or published):
        return f"At {_moment(ended)} {ENDS.get(row['ended_reason'], 'the subscription had ended')}."
    return _wish(row) or _no_device(row) or _none_for_them(row)


def _wish(row: dict[str, Any]) -> str:
    """What the reader has chosen that keeps it away; empty if nothing does."""
    is_minor = row["importance"] == Importance.ROUTINE and row["kind"] == Kind.UPDATE
    if row["channel"] not in row["channels"]:
        others = " and ".join(_CHANNELS[each] for each in row["channels"]) or "nowhere"
        return f"The reader wants this story {others} alone."
    if row["cadence"] == Cadence.MAJOR and is_minor:
        return "The reader wants major and breaking updates alone."
    if row["cadence"] in (Cadence.DAILY, Cadence.WEEKLY):
        often = "day" if row["cadence"] == Cadence.DAILY else "week"
        return f"The reader wants a digest once a {often}. There are none yet, so that means: not now."
    return ""


def _no_device(row: dict[str, Any]) -> str:
    if row["channel"] == ChannelName.WEBPUSH and row["target"] is None:
        return "The reader has no browser that takes pushes."
    if row["device_since"] is not None and row["device_since"] > row["published_at"]:
        return "This browser was added later."
    return ""


def _none_for_them(row: dict[str, Any]) -> str:
    if row["is_correcting"]:
        return "It takes back or corrects what this reader had not received."
    if row["blast_state"] in ("cancelled", "superseded"):
        return "It was stopped before anybody was counted."
    return "The reader’s wishes were others at that time, and have changed since."


_CHANNELS = {ChannelName.EMAIL: "by mail", ChannelName.WEBPUSH: "by push"}


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%H:%M on %-d %B %Y} UTC"
