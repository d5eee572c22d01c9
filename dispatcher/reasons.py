"""Why somebody was not reached, in plain words: what relays and push services answered, and what we say ourselves.

A reply is for those who look after mail servers. An editor wants to know what it means, and what we do about it.
"""

from __future__ import annotations

from typing import NamedTuple

from dispatcher.model import ChannelName, DeliveryState


class Reason(NamedTuple):
    """One kind of reason. The same words have the same key, whatever was answered."""

    key: str  #: letters and hyphens: for addresses of pages and for tables
    words: str
    remedy: str = ""  #: what we do about readers who failed so, if anything


class Answer(NamedTuple):
    """What the ledger keeps of an answer."""

    channel: ChannelName
    state: DeliveryState
    code: int | None  #: SMTP's, or HTTP's; None: nobody answered
    status: str  #: an enhanced status code (RFC 3463), such as 5.1.1; empty if there was none
    reply: str  #: the answer itself, or our own words


SUPPRESSED = "suppressed from now on"
REMOVED = "removed"

NO_MAILBOX = Reason("no-mailbox", "No such mailbox", SUPPRESSED)
REFUSED = Reason("refused", "Refused by the receiver")
LATER = Reason("later", "The receiver asks to try later")
NO_WORDS = Reason("unknown", "No reason is known")

#: By subject and detail of the enhanced status (RFC 3463 §3), the longest that fits; `x` is any class.
_STATUSES = {
    "1.1": NO_MAILBOX,
    "1.2": Reason("no-domain", "The domain takes no mail", SUPPRESSED),
    "1.3": Reason("bad-address", "The address is not valid", SUPPRESSED),
    "1.6": Reason("moved", "The mailbox has moved away", SUPPRESSED),
    "1.7": Reason("sender", "The receiver does not like our address"),
    "1.8": Reason("sender", "The receiver does not like our address"),
    "1.10": Reason("no-domain", "The domain takes no mail", SUPPRESSED),
    "1": Reason("bad-address", "The address is not valid", SUPPRESSED),
    "2.1": Reason("switched-off", "Mailbox is switched off"),
    "2.2": Reason("full", "Mailbox is full"),
    "2.3": Reason("too-large", "The message is too large"),
    "2": Reason("mailbox", "The mailbox takes nothing just now"),
    "3.4": Reason("too-large", "The message is too large"),
    "3": Reason("system", "The receiver’s system takes no mail"),
    "4": Reason("network", "The receiver’s server cannot be reached"),
    "6": Reason("content", "The receiver cannot read the message"),
}
_POLICY = Reason("policy", "Refused by the receiver’s rules")
_SLOWER = Reason("slower", "The relay asked us to slow down")
#: By SMTP code, where there is no enhanced status that says more (RFC 5321 §4.2.3).
_CODES = {
    421: _SLOWER,
    422: Reason("full", "Mailbox is full"),
    452: Reason("full", "Mailbox is full"),
    550: Reason("refused", "Refused by the receiver"),
    552: Reason("full", "Mailbox is full"),
    553: Reason("bad-address", "The address is not valid"),
}
#: By HTTP status of a push service (RFC 8030 §5, §7.3).
_PUSHES = {
    404: Reason("gone", "Browser no longer subscribed", REMOVED),
    410: Reason("gone", "Browser no longer subscribed", REMOVED),
    401: Reason("push-key", "The push service does not know our key"),
    403: Reason("push-key", "The push service does not know our key"),
    413: Reason("too-large", "The message is too large"),
    429: Reason("push-slower", "The push service asked us to wait"),
}
_PUSH_TROUBLE = Reason("push-trouble", "The push service has trouble")
_PUSH_REFUSED = Reason("push-refused", "The push service refused the message")
_PUSH_SILENT = Reason("push-silent", "The push service did not answer")
#: What we say ourselves, by how it begins.
_OURS = (
    ("the connection was lost before the last byte", Reason("line-broke", "The line broke on the way")),
    ("the relay gave no answer", Reason("no-answer", "Line broke after the last byte")),
    ("the relay closed the connection without", Reason("no-answer", "Line broke after the last byte")),
    ("the message went out and the relay", Reason("not-yet", "Handed over, and not answered yet")),
    ("its worker died", Reason("worker-died", "Our program was stopped in the middle of it")),
    ("nobody knows whether", Reason("held", "Nobody knows whether it arrived")),
    ("the relay does not offer SMTPUTF8", Reason("smtputf8", "The relay cannot write to this kind of address")),
    ("the letter could not be made", Reason("letter", "The mail could not be made for this reader")),
    ("the push could not be made", Reason("letter", "The push could not be made for this device")),
    ("the message has ", Reason("too-large", "The message is too large")),
    ("cancelled before the next try", Reason("cancelled", "Cancelled before the next try")),
    ("expired", Reason("expired", "Expired before it could be sent")),
    ("the update expired", Reason("expired", "Expired before it could be sent")),
    ("a later update", Reason("superseded", "Gets a later update instead")),
    ("left", Reason("left", "Left the story before it was sent")),
    ("the reader has paused", Reason("paused", "Has paused everything")),
    ("it is the reader's quiet time", Reason("quiet", "Quiet hours")),
    ("no such address", NO_MAILBOX),
    ("Sending to this reader crashed", Reason("crashed", "Our program failed on this reader three times")),
    ("erased by the reader", Reason("erased", "Has erased everything")),
    ("complaint", Reason("complaint", "Has complained about our mail")),
)
#: What a state says by itself, where no reply says more.
_STATES = {
    DeliveryState.WITHDRAWN: Reason("left", "Left the story before it was sent"),
    DeliveryState.SUPERSEDED: Reason("superseded", "Gets a later update instead"),
    DeliveryState.SUPPRESSED: Reason("suppressed", "On the list of those who are never written to"),
    DeliveryState.EXPIRED: Reason("expired", "Expired before it could be sent"),
    DeliveryState.CAPPED: Reason("capped", "Did not want it just then"),
    DeliveryState.ACCEPTED: Reason("accepted", "Accepted"),
}


def in_words(answer: Answer) -> Reason:
    """What an answer means, for whoever is no administrator of mail servers."""
    if answer.state is DeliveryState.ACCEPTED:
        return _STATES[answer.state]
    if answer.code is not None:
        return _by_push(answer.code) if answer.channel is ChannelName.WEBPUSH else _by_smtp(answer)
    ours = next((reason for beginning, reason in _OURS if answer.reply.startswith(beginning)), None)
    if ours is not None:
        return ours
    if answer.state in _STATES:
        return _STATES[answer.state]
    if answer.channel is ChannelName.WEBPUSH and answer.state is DeliveryState.DEFERRED:
        return _PUSH_SILENT
    return Reason("other", answer.reply[:120]) if answer.reply else NO_WORDS


def _by_push(code: int) -> Reason:
    if code in _PUSHES:
        return _PUSHES[code]
    return _PUSH_TROUBLE if code >= 500 or code in (408, 425) else _PUSH_REFUSED


def _by_smtp(answer: Answer) -> Reason:
    _, _, status = answer.status.partition(".")
    subject = status.partition(".")[0]
    is_for_now = answer.code is not None and answer.code < 500
    if subject == "7" or answer.code == 421:
        return _SLOWER if is_for_now else _POLICY
    found = _STATUSES.get(status) or _STATUSES.get(subject) or _CODES.get(answer.code or 0)
    if found is None:
        return LATER if is_for_now else REFUSED
    # For now nobody is suppressed, and without a status nobody knows that it is the address.
    return found._replace(remedy="") if is_for_now or not answer.status else found
