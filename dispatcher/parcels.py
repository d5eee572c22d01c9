"""A batch on its way through a worker: its readers, what is decided about each, and what each is owed."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from dispatcher import db, policy
from dispatcher.addresses import needs_utf8
from dispatcher.channels import Fate, Outcome
from dispatcher.channels.email.letter import Letter, Values
from dispatcher.channels.webpush.encryption import encrypt
from dispatcher.channels.webpush.letter import PushLetter
from dispatcher.ledger import Entry
from dispatcher.model import ChannelName, DeliveryState, Importance, InDoubt, Kind, Update
from dispatcher.rendering.wording import zone

#: A batch on which so many workers have died is claimed only by a worker that holds nothing else.
SUSPECT = 2
#: Seconds after a lane has given up waiting for an answer before its reader is written to again.
OVERDUE_MARGIN = 60.0
LEFT = "left after the audience was frozen"
PAUSED = "the reader has paused everything"
QUIET = "it is the reader's quiet time"
#: Kinds of updates that say that another was wrong.
TAKING_BACK = (Kind.CORRECTION, Kind.WITHDRAWAL)


class Batch:
    """A claimed batch on its way through this process."""

    def __init__(self, row: db.Row, deadline: float) -> None:
        self.id: int = row["id"]
        self.blast_id: int = row["blast_id"]
        self.urgency: int = row["urgency"]
        self.channel = ChannelName(row["channel"])
        self.story_id = 0  #: known once it is loaded
        self.seq = 0
        self.subscriber_ids: list[int] = row["subscriber_ids"]
        self.retry: bool = row["retry"]
        self.plain: bool = row["plain"]  #: its readers never saw what the update corrects
        self.is_drill: bool = row["is_drill"]  #: everything is done for it, and nothing handed to a relay
        self.starts_at: datetime | None = row["starts_at"]  #: the time of their own day at which its readers have it
        self.created_at: datetime = row["created_at"]
        self.claimed_when: datetime = row["claimed_when"]  #: on the database's clock
        self.claimed_at = time.monotonic()  #: the same moment on ours, or a little later
        self.story_in_doubt = None if row["in_doubt"] is None else InDoubt(row["in_doubt"])
        self.is_suspect: bool = row["attempts"] > SUSPECT  #: workers have died on it before
        #: One has, and may have reached whoever has no answer in the ledger.
        self.is_orphaned: bool = row["attempts"] > 1
        self.token: int = row["lease_token"]
        self.deadline = deadline  #: on the monotonic clock: after it, start no message of this batch
        self.lost = False
        self.called_back = False  #: the desk has paused or cancelled its blast
        self.left: set[int] = set()  #: readers who may have left since they were loaded: look again
        self.expires_at = float("inf")  #: on the monotonic clock: when its update expires
        self.in_doubt: InDoubt | None = InDoubt.RESEND  #: what becomes of a mail without an answer; None for a push
        self.received: list[int] = []  #: readers who have received the update
        self.unsent = 0
        self.reason = ""
        self.pause = 0.0  #: seconds before it is claimed again, if it has to be
        self.loaded = asyncio.Event()
        self.finished = asyncio.Event()
        self._open = 0

    @property
    def is_stopped(self) -> bool:
        """True if no message of this batch may be started any more."""
        now = time.monotonic()
        return self.lost or self.called_back or now >= self.deadline or now >= self.expires_at

    @property
    def now(self) -> datetime:
        """This moment on the database's clock."""
        return self.claimed_when + timedelta(seconds=time.monotonic() - self.claimed_at)

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
        "is_paused", "last_seq", "locale", "name", "quiet_breaking", "quiet_from", "quiet_to", "state",
        "suppressed_because", "timezone",
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
        is_paused: bool = False,
        quiet_from: dt.time | None = None,
        quiet_to: dt.time | None = None,
        quiet_breaking: bool | None = True,
        last_seq: int = 0,
    ) -> None:
        self.id = id
        self.email = email  #: or where a device is pushed to
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
        self.is_paused = is_paused
        self.quiet_from = quiet_from
        self.quiet_to = quiet_to
        self.quiet_breaking = quiet_breaking
        self.last_seq = last_seq  #: the newest update that the reader has received

    def is_done(self, *, retry: bool) -> bool:
        """True if this batch owes the reader nothing: the ledger holds an outcome, or another batch has them.

        A batch of retries owes one try; what the ledger has learnt since the batch was made is the answer to it.
        """
        if self.state is None:
            return False
        if self.state not in (DeliveryState.DEFERRED, DeliveryState.IN_DOUBT):
            return True
        return not (retry and self.is_older)

    def skipped(self, in_doubt: InDoubt | None) -> tuple[DeliveryState, str] | None:
        """Why this reader is not written to, if so. Who may have been reached already stays in doubt.

        A person who has them tried again sets `attempts` to 0, and that counts for more than the rules.
        """
        if self.email is None or self.has_left:
            return DeliveryState.WITHDRAWN, LEFT
        if self.suppressed_because is not None:
            return DeliveryState.SUPPRESSED, self.suppressed_because
        if self.is_expired:
            if self.in_doubt_count:
                return DeliveryState.IN_DOUBT, "expired before the relay could be asked again"
            return DeliveryState.EXPIRED, "the update expired before a relay took it"
        if self.attempts and not policy.may_resend(self.in_doubt_count, in_doubt):
            return DeliveryState.IN_DOUBT, "nobody knows whether it arrived; held until a person decides"
        return None

    def unwilling(self, update: Update, now: datetime) -> tuple[DeliveryState, str] | None:
        """Why this reader does not want the update just now, if so: paused, or in their quiet hours.

        A correction of what somebody has received comes through a pause, and so does its withdrawal: they would go on
        believing what is wrong.
        Breaking news comes through quiet hours, if the reader lets it.
        """
        if self.is_paused:
            if update.kind in TAKING_BACK and self.last_seq >= (update.corrects_seq or 0):
                return None
            return self._held(PAUSED)
        if self.quiet_from is None or self.quiet_to is None:
            return None
        if self.quiet_breaking and update.importance is Importance.BREAKING:
            return None
        local = now.astimezone(zone(self.timezone)).time()
        return self._held(QUIET) if policy.is_quiet(local, self.quiet_from, self.quiet_to) else None

    def _held(self, why: str) -> tuple[DeliveryState, str]:
        return (DeliveryState.IN_DOUBT if self.in_doubt_count else DeliveryState.CAPPED), why


class Device(Reader):
    """One row of `load_devices`: a reader's device that an update is pushed to. `id` is the device's own."""

    __slots__ = ("auth_secret", "public_key", "subscriber_id")

    def __init__(self, *row: object) -> None:
        super().__init__(*row[:-3])  # type: ignore[arg-type]  # the columns are those of `load_recipients`
        self.subscriber_id: int
        self.public_key: bytes
        self.auth_secret: bytes
        self.subscriber_id, self.public_key, self.auth_secret = row[-3:]  # type: ignore[assignment]


class Owed:
    """A `Parcel`, as far as all channels agree: what one reader is owed, and how the answer is written down."""

    __slots__ = ("_batch", "_desk", "_is_overdue", "_reader", "address", "returns", "urgency")

    def __init__(self, desk: Desk, batch: Batch, reader: Reader) -> None:
        self._desk = desk
        self._batch = batch
        self._reader = reader
        self._is_overdue = False
        self.urgency = batch.urgency
        self.returns = 0
        self.address = reader.email or ""

    def wanted(self) -> bool:
        batch = self._batch
        return not batch.is_stopped and (not batch.left or self._reader.id not in batch.left)

    def settle(self, outcome: Outcome, recorded: Callable[[], None]) -> None:
        batch, reader = self._batch, self._reader
        if outcome.fate is Fate.UNSENT:
            batch.unsent += 1
            batch.reason = batch.reason or outcome.reply
            batch.pause = max(batch.pause, outcome.wait)
            batch.one_done()
            recorded()
            return
        if not self._is_overdue:
            if outcome.fate is Fate.ACCEPTED:
                batch.received.append(reader.id)

            def written() -> None:
                batch.one_done()
                recorded()

        elif outcome.fate is Fate.ACCEPTED:

            def written() -> None:
                self._desk.received_late(batch, reader)
                recorded()

        elif outcome.fate in (Fate.DEFERRED, Fate.REFUSED):

            def written() -> None:
                self._desk.refused_late(batch, reader)
                recorded()

        else:
            written = recorded
        self._desk.record(self._entry(outcome, None, written))

    def overdue(self, patience: float) -> None:
        """Until the answer comes the ledger says "in doubt", and tries again long after nobody waits for it."""
        self._is_overdue = True
        outcome = Outcome(Fate.IN_DOUBT, None, "the message went out and the relay has not answered yet")
        self._desk.record(self._entry(outcome, patience + OVERDUE_MARGIN, self._batch.one_done))

    def _entry(self, outcome: Outcome, retry_in: float | None, written: Callable[[], None]) -> Entry:
        batch, reader = self._batch, self._reader
        if outcome.fate is Fate.ACCEPTED:
            settled = policy.accepted(reader.attempts, reader.in_doubt_count)
        else:
            settled = self._settled(outcome)
        return Entry(
            batch.blast_id,
            reader.id,
            settled.state,
            settled.attempts,
            settled.in_doubt_count,
            settled.retry_in if retry_in is None else retry_in,
            outcome.code,
            outcome.relay,
            outcome.reply,
            written,
            outcome.bad_address,
            batch.channel,
            self.address if outcome.bad_address else "",
        )

    def _settled(self, outcome: Outcome) -> policy.Settlement:
        batch, reader = self._batch, self._reader
        return policy.settle(
            outcome,
            attempts=reader.attempts,
            # What is refused now may have been taken from the worker that died.
            in_doubt_count=max(reader.in_doubt_count, int(batch.is_orphaned)),
            expires_in=batch.expires_at - time.monotonic(),
            in_doubt=batch.in_doubt,
        )


class Mail(Owed):
    """One reader's mail on its way."""

    __slots__ = ("_letter", "needs_utf8", "return_path")

    def __init__(self, desk: Desk, batch: Batch, reader: Reader, return_path: str, letter: Letter) -> None:
        super().__init__(desk, batch, reader)
        self._letter = letter
        self.return_path = return_path
        self.needs_utf8 = needs_utf8(self.address)

    def message(self, *, eight_bit: bool) -> bytes:
        return self._letter.splice(self._desk.values(self._batch, self._reader), eight_bit=eight_bit)

    def rehearse(self) -> int:
        """Make the message as it would be sent; its bytes."""
        return len(self.message(eight_bit=True))


#: How soon a push service should wake a sleeping device (RFC 8030 §5.3).
PUSH_URGENCY = {Importance.BREAKING: "high", Importance.MAJOR: "high", Importance.ROUTINE: "normal"}


class Push(Owed):
    """One device's push on its way: a `PushParcel`."""

    __slots__ = ("_device", "_letter", "auth_secret", "public_key", "push_urgency", "topic")

    def __init__(
        self, desk: Desk, batch: Batch, device: Device, letter: PushLetter, importance: Importance, topic: str
    ) -> None:
        super().__init__(desk, batch, device)
        self._device = device
        self._letter = letter
        self.public_key = device.public_key
        self.auth_secret = device.auth_secret
        self.push_urgency = PUSH_URGENCY[importance]
        self.topic = topic

    @property
    def ttl(self) -> int:
        """Seconds for which the push service should keep it for a device that is away (RFC 8030 §5.2)."""
        return max(0, int(self._batch.expires_at - time.monotonic()))

    def wanted(self) -> bool:
        return super().wanted() and self._device.subscriber_id not in self._batch.left

    def payload(self) -> bytes:
        """What the device is to read, before it is encrypted for it."""
        return self._letter.splice(self._desk.leave_url(self._batch, self._device.subscriber_id))

    def rehearse(self) -> int:
        """Make the push as it would be posted, encrypted; its bytes. Raises `TooLarge`, or `Invalid` for a bad key."""
        return len(encrypt(self.payload(), self.public_key, self.auth_secret))


class Desk(Protocol):
    """What a parcel needs of the worker that sends it."""

    def values(self, batch: Batch, reader: Reader) -> Values:
        """What fills the slots of the reader's letter."""

    def leave_url(self, batch: Batch, subscriber_id: int) -> str:
        """Where this reader ends following the story of the batch with one click."""

    def record(self, entry: Entry) -> None:
        """Write an entry down with the next commit."""

    def received_late(self, batch: Batch, reader: Reader) -> None:
        """The relay accepted the mail when nobody waited for it any more."""

    def refused_late(self, batch: Batch, reader: Reader) -> None:
        """The relay refused the mail for now when nobody waited for it any more: it was not in doubt after all."""


def entry_of(batch: Batch, reader: Reader, state: DeliveryState, why: str) -> Entry:
    """What is written of a reader who is not sent anything. A worker that died with the batch may have reached them."""
    doubts = max(reader.in_doubt_count, int(batch.is_orphaned))
    if doubts and state in (DeliveryState.CAPPED, DeliveryState.EXPIRED):
        state = DeliveryState.IN_DOUBT
    return Entry(batch.blast_id, reader.id, state, reader.attempts, doubts, None, None, "", why, batch.one_done)
