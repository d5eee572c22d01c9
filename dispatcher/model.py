"""The words of the product as types: enums and frozen records, without any input or output."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime, timedelta


class StoryState(enum.StrEnum):
    DEVELOPING = "developing"
    CLOSED = "closed"


class Kind(enum.StrEnum):
    """What an update does to its story."""

    UPDATE = "update"
    CORRECTION = "correction"
    FINAL = "final"
    WITHDRAWAL = "withdrawal"  #: takes an update back: it stops, and pushes of it are replaced


class Importance(enum.StrEnum):
    ROUTINE = "routine"
    MAJOR = "major"
    BREAKING = "breaking"


class ChannelName(enum.StrEnum):
    EMAIL = "email"
    WEBPUSH = "webpush"  #: a browser's push service (RFC 8030)


class Cadence(enum.StrEnum):
    """How often a subscriber wants to hear of a story."""

    EVERY = "every"
    MAJOR = "major"
    DAILY = "daily"
    WEEKLY = "weekly"


class BlastState(enum.StrEnum):
    CUTTING = "cutting"  #: published, audience not yet frozen
    SENDING = "sending"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"
    SUPERSEDED = "superseded"  #: a later update has taken its place; whoever was not reached gets that one


class DeliveryState(enum.StrEnum):
    """What became of one blast for one subscriber. A subscriber without any of these is still waiting."""

    ACCEPTED = "accepted"  #: the relay or push service said yes; not proof that anybody saw it
    DEFERRED = "deferred"  #: will be tried again at `next_at`
    FAILED = "failed"
    IN_DOUBT = "in_doubt"  #: the last byte went out and no answer came (RFC 1047)
    SUPPRESSED = "suppressed"
    CAPPED = "capped"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"  #: the subscriber left after the audience was frozen


class NoticeKind(enum.StrEnum):
    """A mail to one reader that this person waits for, or has to know of."""

    CONFIRM = "confirm"  #: was it you who wants to follow this story?
    FOLLOWING = "following"  #: you follow one more story; undo it with one click
    ALREADY = "already"  #: somebody asked to follow what you follow already
    LINK = "link"  #: the link to your own page, which you asked for
    CATCH_UP = "catch_up"  #: the last update, at once
    INVITATION = "invitation"  #: join the desk, or choose a new password
    TEST = "test"  #: a draft, as readers would get it, to whoever writes it
    OVERRIDE = "override"  #: a lead has sent what waits for a second pair of eyes
    NOT_SENT = "not_sent"  #: a draft could not go out at the time that it was scheduled for
    UNSCHEDULED = "unscheduled"  #: somebody else has taken a draft off the schedule


class DraftState(enum.StrEnum):
    """Where an update is on its way to being published."""

    DRAFT = "draft"
    SUBMITTED = "submitted"  #: waits for somebody to approve it
    RETURNED = "returned"  #: came back with a wish
    REJECTED = "rejected"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    PUBLISHED = "published"


class InDoubt(enum.StrEnum):
    """What becomes of a message whose last byte went out without an answer."""

    RESEND = "resend"  #: it is sent again, with the same Message-ID: nobody is lost, somebody may get it twice
    HOLD = "hold"  #: it is left to a person: nobody gets it twice, somebody may be lost


class Urgency(enum.IntEnum):
    """The order in which batches are claimed: the smallest goes first."""

    TRANSACTIONAL = 0
    BREAKING = 10
    MAJOR = 20
    ROUTINE = 30
    DIGEST = 40
    DRILL = 50  #: a rehearsal waits for everything that is real


#: Work at least this urgent may be claimed by workers that are reserved for urgent work.
URGENT = Urgency.BREAKING


def urgency_of(kind: Kind, importance: Importance) -> Urgency:
    """How urgent the blast of an update is. A correction and a withdrawal are never less urgent than a major update."""
    if importance is Importance.BREAKING:
        return Urgency.BREAKING
    if importance is Importance.MAJOR or kind in (Kind.CORRECTION, Kind.WITHDRAWAL):
        return Urgency.MAJOR
    return Urgency.ROUTINE


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    id: int
    slug: str
    headline: str
    summary: str
    state: StoryState
    created_at: datetime
    closed_at: datetime | None = None
    successor: str | None = None  #: slug of the story that goes on where this one ended
    followers: int | None = None  #: confirmed subscriptions; None where it was not asked for
    in_doubt: InDoubt | None = None  #: for messages without an answer; None: as the installation does

    def takes(self, kind: Kind) -> bool:
        """Whether an update of this kind may be published in it: in a closed story what is wrong is still put right."""
        return self.state is StoryState.DEVELOPING or kind in {Kind.CORRECTION, Kind.WITHDRAWAL}


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    id: int
    story_id: int
    seq: int  #: 1, 2, 3 … within the story
    kind: Kind
    importance: Importance
    headline: str
    summary: str
    body: str  #: Markdown
    published_at: datetime
    expires_at: datetime | None = None
    corrects: int | None = None  #: id of the update that this one corrects, or withdraws
    corrects_seq: int | None = None
    withdrawn_at: datetime | None = None  #: it was taken back then
    withdrawn_because: str = ""
    withdrawn_by: int | None = None  #: number of the update that took it back


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """An update as an editor or another system hands it in, before it is published."""

    headline: str
    body: str
    summary: str = ""
    kind: Kind = Kind.UPDATE
    importance: Importance = Importance.ROUTINE
    corrects_seq: int | None = None
    expires_at: datetime | None = None
    expires_in: timedelta | None = None  #: instead of `expires_at`: from when it is published
    replaces: bool = False  #: it takes the place of what is still going out in its story
    local_time: datetime | None = None  #: without a zone: each reader gets it at this time by their own clock
    successor: str | None = None  #: slug of the story that goes on where this final update ends its own


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """The answer to a publish: the update, its blasts, and whether this very request made them."""

    story: Story
    update: Update
    blast_ids: tuple[int, ...]
    replayed: bool = False  #: True if the idempotency key had been used for the same content before
    superseded: tuple[int, ...] = ()  #: blasts that it stopped: whoever they had not reached gets this update instead


@dataclass(frozen=True, kw_only=True, slots=True)
class Steered:
    """The answer to pausing, resuming or cancelling a blast."""

    blast_id: int
    state: BlastState
    changed: bool  #: False if it was so already


@dataclass(frozen=True, kw_only=True, slots=True)
class Retried:
    """The answer to trying readers again who were not reached."""

    blast_id: int
    state: BlastState
    count: int  #: readers who are tried again, or would be in a dry run
    left_out: int  #: readers of the selection who left or are suppressed: they are never written to
    dry_run: bool = False

    def as_json(self) -> dict[str, object]:
        """The public form of `blast retry --json` and `POST /api/v1/blasts/{id}/retry`, but for the blast itself."""
        return {"retried": self.count, "left_out": self.left_out, "dry_run": self.dry_run}


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedBlast:
    """A blast in a list. Its readers are not counted there: that takes long for a large one."""

    id: int
    channel: ChannelName
    state: BlastState
    story: str
    seq: int
    headline: str
    published_at: datetime
    candidates: int | None  #: None until the audience is frozen
    steered_by: str | None = None  #: who paused, resumed, cancelled or retried it last
    steered_at: datetime | None = None
    is_drill: bool = False  #: everything was done for it, and nothing was handed to a relay

    def as_json(self) -> dict[str, object]:
        """The public form of `blast list --json` and `GET /api/v1/blasts`."""
        return {
            "id": self.id,
            "channel": str(self.channel),
            "state": str(self.state),
            "story": self.story,
            "seq": self.seq,
            "headline": self.headline,
            "published_at": self.published_at.isoformat(),
            "candidates": self.candidates or 0,
            "steered_by": self.steered_by,
            "steered_at": None if self.steered_at is None else self.steered_at.isoformat(),
            "is_drill": self.is_drill,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class BlastReport(ListedBlast):
    """A blast in numbers. `candidates` is always `waiting` plus the sum of `states`.

    Times are milliseconds from the publish commit, None before the first acceptance.
    """

    states: dict[DeliveryState, int] = field(default_factory=dict)
    first_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    last_ms: float | None = None
    reasons: tuple[tuple[str, int], ...] = ()  #: why readers were not reached, most frequent first
    holding: str = ""  #: why the blast stands still, if it does

    @property
    def waiting(self) -> int:
        return (self.candidates or 0) - sum(self.states.values())

    @property
    def settled(self) -> bool:
        """True when no reader of this blast is waiting or will be tried again."""
        if self.state is BlastState.SUPERSEDED:
            return not self.waiting  # what was on its way is answered first
        return self.state in (BlastState.DONE, BlastState.CANCELLED)

    @property
    def seconds(self) -> float | None:
        return None if self.last_ms is None else self.last_ms / 1000

    @property
    def per_second(self) -> float | None:
        accepted = self.states.get(DeliveryState.ACCEPTED, 0)
        return accepted / self.seconds if accepted and self.seconds else None

    def as_json(self) -> dict[str, object]:
        """The public form of `blast show --json`, `publish --wait --json` and `GET /api/v1/blasts/{id}`."""
        counts = {str(state): self.states.get(state, 0) for state in DeliveryState}
        times = {name: getattr(self, name) for name in ("first_ms", "p50_ms", "p90_ms", "p99_ms", "last_ms")}
        rounded = {name: None if value is None else round(value, 1) for name, value in times.items()}
        return {
            "id": self.id,
            "channel": str(self.channel),
            "state": str(self.state),
            "story": self.story,
            "seq": self.seq,
            "headline": self.headline,
            "candidates": self.candidates or 0,
            **counts,
            "waiting": self.waiting,
            **rounded,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "per_second": None if self.per_second is None else round(self.per_second, 1),
            "reasons": [{"reason": reason, "count": count} for reason, count in self.reasons],
            "holding": self.holding,
            "steered_by": self.steered_by,
            "steered_at": None if self.steered_at is None else self.steered_at.isoformat(),
            "is_drill": self.is_drill,
        }
