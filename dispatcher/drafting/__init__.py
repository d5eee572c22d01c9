"""Updates on their way to being published: written, approved by a second person, scheduled, sent."""

from dispatcher.drafting.going_out import publish_due, send, why_not
from dispatcher.drafting.keeping import begin, discard, find, listing, prefilled, present, save
from dispatcher.drafting.writing import NotYours, Presence, SavedMeanwhile, Text, Writing

__all__ = [
    "NotYours",
    "Presence",
    "SavedMeanwhile",
    "Text",
    "Writing",
    "begin",
    "discard",
    "find",
    "listing",
    "prefilled",
    "present",
    "publish_due",
    "save",
    "send",
    "why_not",
]
