"""One reader as the desk sees them: who they are, what they follow, and why they got something or did not."""

from dispatcher.tracing.explaining import ENDS, Told, explain, explain_notice
from dispatcher.tracing.history import Entry, History, Outcome, history
from dispatcher.tracing.readers import Listed, Reader, end, find, reader, search

__all__ = [
    "ENDS",
    "Entry",
    "History",
    "Listed",
    "Outcome",
    "Reader",
    "Told",
    "end",
    "explain",
    "explain_notice",
    "find",
    "history",
    "reader",
    "search",
]
