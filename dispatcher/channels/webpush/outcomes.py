"""What push services answer, sorted into fates, all in one place (RFC 8030 §5, §7.3; RFC 9110 §15).

A push may be offered twice: the second has the same topic and the same notification slot, so it replaces the first.
So whatever may have arrived is offered again, as often as it takes. Until then it is in doubt: should the update be
wrong, that screen may show it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from dispatcher.channels import Fate, Outcome
from dispatcher.errors import DispatcherError
from dispatcher.outbound import Answer, Unreachable

LONGEST_REPLY = 300
#: Seconds that a push service may make us wait with one word.
MOST_WAIT = 3600.0
#: Seconds to wait where it says "too many" and not for how long.
TOO_MANY_WAIT = 60.0
GONE = (404, 410)
TOO_MANY = 429
TOO_LARGE = 413
#: 4xx that speak of this one moment (RFC 9110 §15.5.9, RFC 8470 §5.2). Some servers end an idle connection with a 408.
_FOR_NOW = (408, 425)
#: Parts of an endpoint's path that are as long may be a device's own, and do not belong into tables and logs.
_SECRET = 8
_URL = re.compile(r"https?:\\?/\\?/\S+", re.IGNORECASE)
_TOKEN = re.compile(r"[\w=+:%-]{32,}", re.ASCII)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def from_answer(answer: Answer, endpoint: str, relay: str, now: datetime) -> Outcome:
    """The outcome of a push that the service answered. `now` is the time that dates in the answer are compared with."""
    status = answer.status
    if 200 <= status < 300:
        return Outcome(Fate.ACCEPTED, status, "", relay)
    said = words(answer.body, endpoint) or f"HTTP {status}"
    if status in GONE:
        return Outcome(Fate.FAILED, status, f"the device follows no longer: {said}", relay, bad_address=True)
    if status == TOO_MANY:
        wait = retry_after(answer, now) or TOO_MANY_WAIT
        return Outcome(Fate.DEFERRED, status, said, relay, wait=wait)
    if status >= 500 or status in _FOR_NOW:
        return Outcome(Fate.DEFERRED, status, said, relay, wait=retry_after(answer, now))
    return Outcome(Fate.FAILED, status, said, relay)


def no_answer(error: Unreachable, relay: str) -> Outcome:
    """There was no connection, or no answer on it: then nobody knows whether the push arrived."""
    return Outcome(Fate.IN_DOUBT if error.offered else Fate.DEFERRED, None, error.message, relay)


def not_allowed(error: DispatcherError, relay: str) -> Outcome:
    """We may not send to this endpoint, or not so much."""
    return Outcome(Fate.FAILED, None, error.message, relay)


def cannot_be_made(error: Exception, relay: str) -> Outcome:
    """The push could not be made for this device. The reason names the error, never the reader's data."""
    return Outcome(Fate.FAILED, None, f"the push could not be made for this device ({type(error).__name__})", relay)


def retry_after(answer: Answer, now: datetime) -> float:
    """Seconds that the service wants to be left alone, at most `MOST_WAIT`: a number or a date (RFC 9110 §10.2.3).

    0 if it does not say, or nobody can read what it says.
    """
    value = answer.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        return min(float(value[:9]), MOST_WAIT)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return min(max(0.0, (date - now).total_seconds()), MOST_WAIT)


def words(body: bytes, endpoint: str) -> str:
    """A service's words as they may stand in a table, a log or a page: one line, bounded, nothing of the endpoint."""
    text = body[: 8 * LONGEST_REPLY].decode("utf-8", "replace").replace(endpoint, "…")
    path = endpoint.partition("://")[2].partition("/")[2]
    for part in sorted(re.split(r"[/?&=]", path), key=len, reverse=True):
        if len(part) >= _SECRET:
            text = text.replace(part, "…")
    text = _TOKEN.sub("…", _URL.sub("…", text))
    return _UNPRINTABLE.sub(" ", text).strip()[: LONGEST_REPLY - 40]
