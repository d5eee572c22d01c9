"""A batch on its way through a worker: its readers, what is decided about each, and the mails they are owed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

from dispatcher import db, policy
from dispatcher.addresses import needs_utf8
from dispatcher.channels import Fate, Outcome
from dispatcher.channels.email.letter import Letter, Values
from dispatcher.ledger import Entry, Ledger
from dispatcher.model import DeliveryState

#: A batch on which so many workers have died is claimed only by a worker that holds nothing else.
SUSPECT = 2
LEFT = "left after the audience was frozen"


class Batch:
    """A claimed batch on its way through this process."""

    def __init__(self, row: db.Row, deadline: float) -> None:
        self.id: int = row["id"]
        self.blast_id: int = row["blast_id"]
        self.urgency: int = row["urgency"]
        self.subscriber_ids: list[int] = row["subscriber_ids"]
        self.retry: bool = row["retry"]
        self.created_at: datetime = row["created_at"]
        self.is_suspect: bool = row["attempts"] > SUSPECT  #: workers have died on it before
        self.token: int = row["lease_token"]
        self.deadline = deadline  #: on the monotonic clock: after it, start no message of this batch
        self.lost = False
        self.unsent = 0
        self.reason = ""
        self.pause: float | None = None  #: seconds before it is claimed again, if it has to be
        self.loaded = asyncio.Event()
        self.finished = asyncio.Event()
        self._open = 0

    def expect(self, outcomes: int) -> None:
        """So many outcomes are to come; the batch is finished when they are all in the ledger."""
        self._open = outcomes
        if not outcomes:
            self.finished.set()

    def one_done(self) -> None:
        self._open -= 1
        if not self._open:
            self.finished.set()


class Reader:
    """One row of `load_recipients`, and the pure decisions about it."""

    __slots__ = (
        "attempts", "cadence", "confirmed_at", "email", "has_left", "id", "in_doubt_count", "is_expired", "is_older",
        "locale", "name", "state", "suppressed_because", "timezone",
    )  # fmt: skip

    def __init__(
        self,
        id: int,  # noqa: A002
        email: str | None,
        name: str | None,
        locale: str | None,
        timezone: str | None,
        confirmed_at: datetime | None,
        has_left: bool,
        suppressed_because: str | None,
        state: str | None,
        attempts: int,
        in_doubt_count: int,
        is_older: bool,
        cadence: str | None,
        is_expired: bool,
    ) -> None:
        self.id = id
        self.email = email
        self.name = name or ""
        self.locale = locale or "en"
        self.timezone = timezone or "UTC"
        self.confirmed_at = confirmed_at
        self.has_left = has_left
        self.suppressed_because = suppressed_because
        self.state = state
        self.attempts = attempts
        self.in_doubt_count = in_doubt_count
        self.is_older = is_older
        self.is_expired = is_expired
        self.cadence = cadence or "every"

    def is_done(self, *, retry: bool) -> bool:
        """True if this batch owes the reader nothing: the ledger holds an outcome, or another batch has them.

        A batch of retries owes one try; what the ledger has learnt since the batch was made is the answer to it.
        """
        if self.state is None:
            return False
        if self.state not in (DeliveryState.DEFERRED, DeliveryState.IN_DOUBT):
            return True
        return not (retry and self.is_older)

    @property
    def variant(self) -> str:
        return f"{self.locale}/{self.timezone}"

    def skipped(self) -> tuple[DeliveryState, str] | None:
        """Why this reader is not written to, if so. Who may have been reached already stays in doubt."""
        if self.email is None or self.has_left:
            return DeliveryState.WITHDRAWN, LEFT
        if self.suppressed_because is not None:
            return DeliveryState.SUPPRESSED, self.suppressed_because
        if self.is_expired:
            if self.in_doubt_count:
                return DeliveryState.IN_DOUBT, "expired before the relay could be asked again"
            return DeliveryState.EXPIRED, "the update expired before a relay took it"
        return None


class Mail:
    """A `Parcel`: one reader's mail on its way."""

    __slots__ = ("_batch", "_ledger", "_letter", "_reader", "_values", "address", "needs_utf8", "return_path",
                 "returns", "urgency")  # fmt: skip

    def __init__(
        self, ledger: Ledger, batch: Batch, reader: Reader, return_path: str, letter: Letter, values: Values
    ) -> None:
        self._ledger = ledger
        self._batch = batch
        self._reader = reader
        self._letter = letter
        self._values = values
        self.urgency = batch.urgency
        self.returns = 0
        self.return_path = return_path
        self.address = values.address
        self.needs_utf8 = needs_utf8(values.address)

    def wanted(self) -> bool:
        return not self._batch.lost and time.monotonic() < self._batch.deadline

    def message(self, *, eight_bit: bool) -> bytes:
        return self._letter.splice(self._values, eight_bit=eight_bit)

    def settle(self, outcome: Outcome, recorded: Callable[[], None]) -> None:
        batch = self._batch
        if outcome.fate is Fate.UNSENT:
            batch.unsent += 1
            batch.reason = batch.reason or outcome.reply
            batch.one_done()
            recorded()
            return
        reader = self._reader
        settled = policy.settle(outcome, attempts=reader.attempts, in_doubt_count=reader.in_doubt_count)

        def written() -> None:
            batch.one_done()
            recorded()

        self._ledger.put(
            Entry(
                batch.blast_id,
                reader.id,
                settled.state,
                settled.attempts,
                settled.in_doubt_count,
                settled.retry_in,
                outcome.code,
                outcome.relay,
                outcome.reply,
                written,
            )
        )


def entry_of(batch: Batch, reader: Reader, state: DeliveryState, why: str) -> Entry:
    return Entry(
        batch.blast_id, reader.id, state, reader.attempts, reader.in_doubt_count, None, None, "", why, batch.one_done
    )
