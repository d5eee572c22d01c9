"""What a lane keeps of the parcels on it, and of the answers that it waits for."""

from __future__ import annotations

from enum import IntEnum

from dispatcher.channels import Outcome, Parcel


class Step(IntEnum):
    """What a reply answers."""

    RSET = 0
    MAIL = 1
    RCPT = 2
    DATA = 3
    BODY = 4
    EMPTY = 5  #: the lone dot that ends a DATA nobody wants
    QUIT = 6


ENVELOPE = frozenset((Step.RSET, Step.MAIL, Step.RCPT))


class Flight:
    """One parcel on this lane, from its envelope to its answer."""

    __slots__ = ("abandoned", "body", "parcel", "ready", "refusal")

    def __init__(self, parcel: Parcel, body: bytes) -> None:
        self.parcel = parcel
        self.body = body
        self.abandoned = False  #: its envelope went unanswered for so long that its parcel was given back
        self.ready = False  #: the relay said 354
        self.refusal: Outcome | None = None
