"""SMTP answers sorted into fates, all in one place.

The rule is RFC 5321 §4.2.1: the first digit decides. What matters more is *when* the connection is lost: before the
last byte of a message nothing has happened; after it, and before the answer, nobody can know (RFC 1047).
"""

from __future__ import annotations

import re

from dispatcher.channels import Fate, Outcome

LONGEST_REPLY = 300
#: An enhanced status code (RFC 3463 §2) at the start of a reply.
_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})\b")
#: The addressing statuses (RFC 3463 §3.2) that speak of the sender and not of the recipient.
_SENDER = ("7", "8")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
HIDDEN = "[address]"
#: Relays like to repeat the address, also as part of a link. A match begins only where a word does, so that a long line
#: takes no quadratic time.
_ADDRESS = re.compile(r"(?<![^\s<>()\[\],;:])[^\s<>()\[\],;:]+(?:@|%40)[^\s<>()\[\],;:]*", re.IGNORECASE)


def from_reply(code: int, text: bytes, relay: str) -> Outcome:
    """The outcome of a message that the relay answered with `code`, after the envelope or after the final dot."""
    said = words(text)
    if 200 <= code < 300:
        return Outcome(Fate.ACCEPTED, code, said, relay)
    if not 500 <= code < 600:
        return Outcome(Fate.DEFERRED, code, said, relay)
    subject, detail = _status(said)
    if subject == "7" or (subject == "1" and detail in _SENDER):
        return Outcome(Fate.REFUSED, code, said, relay)
    return Outcome(Fate.FAILED, code, said, relay, subject == "1")


def is_too_much(outcome: Outcome) -> bool:
    """True if the other side asks for less (421, or 4.7.x as in RFC 3463 §3.8)."""
    return (
        outcome.code is not None
        and 400 <= outcome.code < 500
        and (outcome.code == 421 or _status(outcome.reply)[0] == "7")
    )


def is_about_recipient(text: bytes) -> bool:
    """False if the answer speaks of the relay or the connection to it (X.3 and X.4 in RFC 3463 §3)."""
    return _status(words(text))[0] not in ("3", "4")


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


def _status(reply: str) -> tuple[str, str]:
    """Subject and detail of the enhanced status that a reply begins with (RFC 2034 §4); empty if it has none."""
    found = _ENHANCED.match(reply)
    return (found[2], found[3]) if found else ("", "")


def words(reply: bytes) -> str:
    """A relay's words as they may stand in a table, a log or a page: with nobody's address in them."""
    return one_line(reply.decode("utf-8", "replace"))


def one_line(text: str) -> str:
    """One line, bounded, nothing unprintable, no address."""
    text = text.strip()
    if "@" in text or "%40" in text:
        text = _ADDRESS.sub(HIDDEN, text)
    return text[:LONGEST_REPLY] if text.isprintable() else _UNPRINTABLE.sub(" ", text).strip()[:LONGEST_REPLY]
