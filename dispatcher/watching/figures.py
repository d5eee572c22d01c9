"""An update on its way, as the desk sees it: records, and what follows from them. No input, no output."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from dispatcher.model import BlastState, ChannelName, DeliveryState, Importance, Kind
from dispatcher.progress import Progress, width
from dispatcher.reasons import REMOVED, SUPPRESSED, Reason

#: Seconds that "now" looks back for, where slots are as narrow.
RECENT = 5.0
#: Seconds of a run that are drawn while it goes on.
DRAWN = 600.0
#: States from which a blast may still reach somebody.
OPEN = (BlastState.CUTTING, BlastState.SENDING, BlastState.PAUSED)
#: States that a relay or a push service has had a part in.
REACHED = (DeliveryState.ACCEPTED, DeliveryState.IN_DOUBT)

#: Why nobody can be tried again, by what we did when they failed.
WHY_NO_RETRY = {
    SUPPRESSED: "Nobody to try again: they are never written to now.",
    REMOVED: "Nobody to try again: these browsers are gone.",
}


class Point(NamedTuple):
    """So many acceptances a second, from a moment on and for so long, in seconds from publishing."""

    begins: float
    lasts: float
    per_second: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RelayLine:
    """One relay, or one push service, as far as this update is concerned."""

    name: str
    channel: ChannelName
    accepted: int
    per_second: float
    state: str = ""  #: `open`, `trial` or `shut`; empty: nothing is known
    lanes: int | None = None
    reason: str = ""  #: why it is shut


@dataclass(frozen=True, kw_only=True, slots=True)
class ReasonLine:
    """So many readers of one blast in one state for the same reason."""

    blast_id: int
    channel: ChannelName
    state: DeliveryState
    reason: Reason
    readers: int
    next_at: datetime | None  #: when the first of them is tried again
    retriable: int | None = None  #: how many of them may be tried again when somebody asks; None: nobody has counted
    may_retry: bool = False  #: whether anybody of this blast may

    @property
    def key(self) -> str:
        """What tells this line from the others of the update."""
        return f"{self.blast_id}-{self.state}-{self.reason.key}"

    @property
    def offers_retry(self) -> bool:
        """Whether there may be somebody whom nobody tries again unless a person asks."""
        if not self.may_retry or self.state is DeliveryState.DEFERRED:
            return False
        return self.next_at is None if self.retriable is None else self.retriable > 0

    @property
    def why_no_retry(self) -> str:
        """Why nobody of these who failed can be tried again; empty where somebody can, or it is over anyway."""
        if not self.may_retry or self.state is not DeliveryState.FAILED or self.retriable != 0:
            return ""
        return WHY_NO_RETRY.get(self.reason.remedy, "Nobody to try again: they left, or are never written to.")

    @property
    def remedy(self) -> str:
        """What we do about it, without a time."""
        if self.state is DeliveryState.IN_DOUBT:
            return "sent once more" if self.next_at else "left to you"
        return "" if self.next_at else self.reason.remedy


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedBlast:
    """One blast at one moment. `candidates` is always `waiting` plus the sum of `states`."""

    id: int
    channel: ChannelName
    state: BlastState
    candidates: int | None  #: None until the audience is frozen
    progress: Progress
    states: dict[DeliveryState, int]
    published_at: datetime
    now: datetime
    done_at: datetime | None = None
    steered_by: str | None = None
    steered_at: datetime | None = None
    superseded_by: int | None = None
    starts_at: datetime | None = None  #: when the next of its readers have the time of day that it waits for
    holding: str = ""  #: why it stands still, if it does
    before: tuple[datetime, int] | None = None  #: how many were accepted at an earlier look
    retriable: int | None = None  #: of those who failed, whoever may be tried again; None: nobody has counted
    may_retry: bool = False

    @property
    def waiting(self) -> int:
        return (self.candidates or 0) - sum(self.states.values())

    @property
    def accepted(self) -> int:
        return self.states.get(DeliveryState.ACCEPTED, 0)

    @property
    def deferred(self) -> int:
        return self.states.get(DeliveryState.DEFERRED, 0)

    @property
    def in_doubt(self) -> int:
        return self.states.get(DeliveryState.IN_DOUBT, 0)

    @property
    def failed(self) -> int:
        return self.states.get(DeliveryState.FAILED, 0)

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def left(self) -> int:
        """Messages that may still go out."""
        return self.waiting + self.deferred if self.is_open else 0

    @property
    def age(self) -> float:
        """Seconds since publishing, up to the last acceptance once nothing more goes out."""
        end = self.now if self.is_open else (self.last_at or self.done_at or self.now)
        return max(0.0, (end - self.published_at).total_seconds())

    @property
    def first_ms(self) -> float | None:
        at = self.progress.first_at
        return None if at is None else (at - self.published_at).total_seconds() * 1000

    @property
    def last_at(self) -> datetime | None:
        """When the last message was accepted so far."""
        return self.progress.last_at.get(DeliveryState.ACCEPTED)

    @property
    def last_ms(self) -> float | None:
        at = self.last_at
        return None if at is None else (at - self.published_at).total_seconds() * 1000

    def percentile(self, part: float) -> float | None:
        """Milliseconds within which this part (0 to 1) was accepted; never before the first, nor after the last."""
        found = self.progress.percentile(part)
        if found is None:
            return None
        latest = found if self.last_ms is None else min(found, self.last_ms)
        return latest if self.first_ms is None else max(latest, self.first_ms)

    @property
    def rate(self) -> float:
        """Acceptances a second just now; 0 for one that is over."""
        if not self.is_open or self.state is BlastState.PAUSED:
            return 0.0
        if self.before is not None:
            passed = (self.now - self.before[0]).total_seconds()
            if passed > 0:
                return max(0.0, (self.accepted - self.before[1]) / passed)
        return self.rate_at(None)

    def rate_at(self, relay: str | None) -> float:
        """Acceptances a second by one relay or by all, as far as the slots of the last few seconds tell."""
        if not self.is_open or self.state is BlastState.PAUSED:
            return 0.0
        passed = (self.now - self.published_at).total_seconds()
        back = max(RECENT, width(int(passed * 1000)) / 1000)
        since = max(0.0, passed - back) * 1000
        since -= since % width(int(since))
        return self.progress.accepted_since(since, relay) / max(passed - since / 1000, 0.05)

    @property
    def seconds_left(self) -> float | None:
        """Until nobody waits, if it goes on like this; None if it stands, or nobody can say."""
        if self.state is not BlastState.SENDING or not self.waiting or self.starts_at is not None or self.rate < 0.5:
            return None
        return self.waiting / self.rate

    @property
    def line(self) -> list[Point]:
        """Acceptances a second: the last ten minutes while it goes on, afterwards all but a long tail."""
        begins = max(0.0, self.age - DRAWN) if self.is_open else 0.0
        ends = self.age if self.is_open else max(self._bulk_ends(), 1.0)
        counts: dict[float, int] = {}
        for slot in self.progress.slots:
            at, wide = slot.after_ms / 1000, width(slot.after_ms) / 1000
            at = float(int(at)) if wide < 1 else at
            counts[at] = counts.get(at, 0) + slot.messages
        points, at = [], float(int(begins))
        while at < ends:
            lasts = max(1.0, width(int(at * 1000)) / 1000)
            at -= at % lasts
            shown = min(lasts, max(ends - at, 0.5))
            points.append(Point(at, lasts, counts.get(at, 0) / shown))
            at += lasts
        return points

    def _bulk_ends(self) -> float:
        """Seconds within which nearly all came; retries hours later are not worth a long empty line."""
        nearly_all = self.progress.percentile(0.995)
        return min(self.age, 1.25 * (nearly_all or 0.0) / 1000 + 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened while the update went out."""

    at: datetime
    what: str
    is_trouble: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """An update and all that became of it, at one moment."""

    story: str  #: slug
    story_headline: str
    seq: int  #: below zero: a drill
    kind: Kind
    importance: Importance
    headline: str
    published_at: datetime
    now: datetime
    sent_by: str
    approved_by: str | None
    is_override: bool
    blasts: tuple[WatchedBlast, ...]
    relays: tuple[RelayLine, ...]
    reasons: tuple[ReasonLine, ...]
    reasons_are_all: bool  #: False where there were too many readers to look at each
    events: tuple[Event, ...]
    corrected_by: int | None = None  #: the update that corrects or withdraws this one
    corrected_how: Kind | None = None
    corrected_at: datetime | None = None
    corrects_seq: int | None = None
    told_besides: int = 0  #: who had it by a mail of their own when they began to follow
    is_expired: bool = False
    takes_updates: bool = True  #: its story is still developing

    @property
    def is_drill(self) -> bool:
        return self.seq < 0

    @property
    def may_correct(self) -> bool:
        """Whether a correction can be written: a withdrawn update may still get one, a corrected one has its own."""
        return self.kind is not Kind.WITHDRAWAL and self.corrected_how is not Kind.CORRECTION and not self.is_drill

    @property
    def may_withdraw(self) -> bool:
        return self.kind is not Kind.WITHDRAWAL and self.withdrawn_at is None and not self.is_drill

    @property
    def may_replace(self) -> bool:
        """Whether what has not gone out can become the next update."""
        is_plain = self.kind not in (Kind.CORRECTION, Kind.WITHDRAWAL) and not self.is_drill
        return is_plain and self.left > 0 and self.takes_updates

    @property
    def withdrawn_at(self) -> datetime | None:
        return self.corrected_at if self.corrected_how is Kind.WITHDRAWAL else None

    @property
    def is_open(self) -> bool:
        return any(blast.is_open for blast in self.blasts)

    @property
    def is_paused(self) -> bool:
        """Whether all that could go out is stopped for now."""
        open_ones = [blast for blast in self.blasts if blast.is_open]
        return bool(open_ones) and all(blast.state is BlastState.PAUSED for blast in open_ones)

    @property
    def waiting(self) -> int:
        return sum(blast.waiting for blast in self.blasts if blast.is_open)

    @property
    def left(self) -> int:
        """Messages that may still go out."""
        return sum(blast.left for blast in self.blasts)

    @property
    def reached(self) -> int:
        """Messages that were accepted."""
        return sum(blast.accepted for blast in self.blasts)

    @property
    def in_doubt(self) -> int:
        return sum(blast.in_doubt for blast in self.blasts)

    def next_try(self, blast: WatchedBlast) -> datetime | None:
        """When the first of a blast's deferred readers is tried again."""
        times = [line.next_at for line in self.reasons if line.blast_id == blast.id and line.next_at is not None]
        return min(times, default=None)

    @property
    def unreached(self) -> int:
        """Messages whose readers would get the right text instead: they wait, or a later update took the place."""
        return self.left + sum(blast.states.get(DeliveryState.SUPERSEDED, 0) for blast in self.blasts)

    @property
    def pushes_reached(self) -> int:
        """Pushes that may stand on somebody's screen."""
        pushes = [blast for blast in self.blasts if blast.channel is ChannelName.WEBPUSH]
        return sum(blast.accepted + blast.in_doubt for blast in pushes)
