"""SMTP answers sorted into fates, all in one place.

The rule is RFC 5321 §4.2.1: the first digit decides. What matters more is *when* the connection is lost: before the
last byte of a message nothing has happened; after it, and before the answer, nobody can know (RFC 1047).
"""

from __future__ import annotations

import re

from dispatcher.channels import Fate, Outcome

LONGEST_REPLY = 300
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def from_reply(code: int, text: bytes, relay: str) -> Outcome:
    """The outcome of a message that the relay answered with `code`, after the envelope or after the final dot."""
    if 200 <= code < 300:
        fate = Fate.ACCEPTED
    elif 500 <= code < 600:
        fate = Fate.FAILED
    else:
        fate = Fate.DEFERRED
    return Outcome(fate, code, words(text), relay)


def lost_before_last_byte(relay: str) -> Outcome:
    """The connection was lost while the message was on its way: it was not handed over, and may be sent again."""
    return Outcome(Fate.DEFERRED, None, "the connection was lost before the last byte", relay)


def lost_after_last_byte(relay: str, *, silent: bool) -> Outcome:
    """The last byte went out and the answer never came: the relay may have the message, or may not."""
    why = "gave no answer in time" if silent else "closed the connection without an answer"
    return Outcome(Fate.IN_DOUBT, None, f"the relay {why} after the last byte", relay)


def cannot_travel(relay: str) -> Outcome:
    """The address needs SMTPUTF8 (RFC 6531 §3.2) and the relay does not offer it."""
    return Outcome(Fate.FAILED, None, "the relay does not offer SMTPUTF8, which this address needs", relay)


def cannot_be_made(error: Exception) -> Outcome:
    """The letter could not be spliced for this reader. The reason names the error, never the reader's data."""
    return Outcome(Fate.FAILED, None, f"the letter could not be made for this reader ({type(error).__name__})")


def too_large(relay: str, size: int, limit: int) -> Outcome:
    """The message is larger than the relay's SIZE (RFC 1870)."""
    return Outcome(Fate.FAILED, None, f"the message has {size} bytes and the relay takes {limit} at most", relay)


def words(reply: bytes) -> str:
    """A relay's words as they may stand in a table, a log or a page."""
    return one_line(reply.decode("utf-8", "replace"))


def one_line(text: str) -> str:
    """One line, bounded, nothing unprintable."""
    text = text.strip()
    return text[:LONGEST_REPLY] if text.isprintable() else _UNPRINTABLE.sub(" ", text).strip()[:LONGEST_REPLY]
