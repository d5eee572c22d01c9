"""What every channel agrees to: parcels go in, each comes back with exactly one outcome.

A channel never touches the database. It takes parcels from a feed, sends them over lanes that stay open, and hands
each outcome back through the parcel, which says when the lane may go on (that is, when the ledger holds the outcome).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple, Protocol


class Fate(enum.Enum):
    """How the other side answered, before any policy is applied to it."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"  #: refused for now (4xx), or the connection was lost before the last byte went out
    FAILED = "failed"  #: refused for good (5xx), or can never be sent as it is
    REFUSED = "refused"  #: refused by policy (5.7.x): perhaps because of us and not because of the reader
    IN_DOUBT = "in_doubt"  #: the last byte went out and no answer came
    UNSENT = "unsent"  #: never offered to anybody: nothing happened, nothing is to be written down


class CircuitState(enum.StrEnum):
    """Whether mail is offered to a relay."""

    CLOSED = "closed"  #: it is
    OPEN = "open"  #: it is not, because the relay does not answer or refuses nearly everything
    HALF_OPEN = "half_open"  #: one message is, to see


class Outcome(NamedTuple):
    """What became of one parcel on the wire."""

    fate: Fate
    code: int | None = None  #: the SMTP or HTTP status, where there was one
    reply: str = ""  #: the answer in the other side's words, or our reason; one line, at most 300 characters
    relay: str = ""
    bad_address: bool = False  #: the address or endpoint is none (5.1.x, 404, 410): never send to it again
    wait: float = 0.0  #: seconds to leave the parcel alone, unsent or refused for now


class Parcel(Protocol):
    """One reader's message on its way, as a lane sees it."""

    urgency: int
    returns: int  #: how often it came back from a lane without being offered; starts at 0
    return_path: str  #: the envelope sender (RFC 5321 §3.3); ASCII
    address: str  #: the envelope recipient; checked before: no control characters, at most 254 characters
    needs_utf8: bool  #: True if the address can only travel with SMTPUTF8 (RFC 6531)

    def wanted(self) -> bool:
        """False once nobody wants this parcel sent any more (lease lost, shutdown). Asked before its first byte."""

    def message(self, *, eight_bit: bool) -> bytes:
        """The whole message, CRLF line ends, dots stuffed, without the final dot (RFC 5321 §4.5.2).

        With `eight_bit` false every byte is ASCII and lines are at most 78 octets.
        """

    def settle(self, outcome: Outcome, recorded: Callable[[], None]) -> None:
        """Report the outcome, once. `recorded` is called when it is safe for the lane to start its next message."""

    def overdue(self, patience: float) -> None:
        """The last byte went out long ago and the lane goes on waiting for the answer, `patience` seconds at most.

        Whoever waits for this parcel should wait no longer; `settle` follows when the answer comes, or does not.
        """


class Feed(Protocol):
    """Where lanes take their work from: the most urgent parcel first."""

    def take(self) -> Parcel | None:
        """The next parcel, which the taker now owes an outcome; None if there is none just now."""

    def judge(self, parcel: Parcel, outcome: Outcome) -> Outcome:
        """Learn from an outcome before it is reported, and say what to report."""

    def give_back(self, parcel: Parcel) -> None:
        """Return a parcel that was taken but never offered to the other side."""


class Fleet(Protocol):
    """What the processes of one installation share about the other side."""

    def share(self, limit: int) -> int:
        """This process's part of a limit on what goes on at once."""

    def part(self) -> float:
        """This process's part of a rate, 0 to 1."""

    async def may_probe(self, relay: str) -> bool:
        """True if this process may make the next probe of a relay; then no other may for a while."""

    def relay_is_back(self, relay: str) -> None:
        """Tell the others that a relay answers again. Returns at once."""

    async def draw(self, name: str, rate: float, most: int) -> int | None:
        """Up to `most` tokens of a shared bucket that fills with `rate` a second; None if it is out of reach."""
