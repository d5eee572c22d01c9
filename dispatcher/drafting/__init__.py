"""Updates on their way to being published: written, approved by a second person, scheduled, sent."""

from dispatcher.drafting.changes import Change, since
from dispatcher.drafting.clocks import Clock, happens_twice
from dispatcher.drafting.going_out import publish_due, send, why_not
from dispatcher.drafting.handing_in import hand_in
from dispatcher.drafting.keeping import begin, discard, find, listing, prefilled, present, save
from dispatcher.drafting.reviewing import (
    approve,
    approve_and_send,
    may_approve,
    override,
    reject,
    return_,
    submit,
    waiting,
)
from dispatcher.drafting.timing import schedule, unschedule
from dispatcher.drafting.writing import NotYours, Presence, SavedMeanwhile, StillScheduled, Text, Writing

__all__ = [
    "Change",
    "Clock",
    "NotYours",
    "Presence",
    "SavedMeanwhile",
    "StillScheduled",
    "Text",
    "Writing",
    "approve",
    "approve_and_send",
    "begin",
    "discard",
    "find",
    "hand_in",
    "happens_twice",
    "listing",
    "may_approve",
    "override",
    "prefilled",
    "present",
    "publish_due",
    "reject",
    "return_",
    "save",
    "schedule",
    "send",
    "since",
    "submit",
    "unschedule",
    "waiting",
    "why_not",
]
