"""The shapes of the API: what goes in, what comes out. Limits are described here and held by the actions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from dispatcher.model import (
    BlastState,
    DeliveryState,
    Draft,
    Importance,
    InDoubt,
    Kind,
    Published,
    Story,
    StoryState,
    Update,
)
from dispatcher.publishing import MAX_BODY
from dispatcher.stories import MAX_HEADLINE, MAX_SLUG, MAX_SUMMARY


def _written_time(value: object) -> object:
    """Only text is a time: a number would be taken for seconds since 1970, or milliseconds, by its size."""
    if value is not None and not isinstance(value, str):
        raise ValueError("a time is text")
    return value


def _near_time(value: datetime) -> datetime:
    if value.year >= 9999:  # in another timezone this may be a year that no calendar here has
        raise ValueError("that is not a year anybody waits for")
    return value


WrittenTime = Annotated[datetime, BeforeValidator(_written_time), AfterValidator(_near_time)]


def described(longest: int, *, shortest: int = 0) -> dict[str, Any]:
    return {"maxLength": longest, **({"minLength": shortest} if shortest else {})}


IN_DOUBT = (
    "What becomes of a message whose last byte went out without an answer: `resend` sends it again, `hold` leaves it "
    "to a person; null: as the installation does."
)


class Body(BaseModel):
    """A request's body. What it does not know it refuses, so that a mistyped field is not lost silently."""

    model_config = ConfigDict(extra="forbid")


class NewStory(Body):
    """A story to create."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "slug": "tarrow-flood",
                    "headline": "Tarrow flood: Ostermere leaves the lower city",
                    "summary": "The Tarrow has broken through the levee at Millgate.",
                }
            ]
        }
    )

    slug: StrictStr = Field(
        description="Names the story in addresses, for ever: small letters, digits, single hyphens.",
        json_schema_extra={"maxLength": MAX_SLUG, "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"},
    )
    headline: StrictStr = Field(description="One line.", json_schema_extra=described(MAX_HEADLINE, shortest=1))
    summary: StrictStr = Field("", description="One line below it.", json_schema_extra=described(MAX_SUMMARY))
    in_doubt: InDoubt | None = Field(None, description=IN_DOUBT)


class StoryChange(Body):
    """What to change of a story."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"in_doubt": "hold"}]})

    in_doubt: InDoubt | None = Field(description=IN_DOUBT)


class RetryOrder(Body):
    """Which readers of a blast to try again: all who failed, unless the fields say otherwise."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"states": ["failed"], "code": "55x", "dry_run": True}]})

    states: list[Literal["failed", "in_doubt"]] = Field(
        ["failed"],
        description="Who is in doubt may have the message already: they may get it twice, with the same Message-ID.",
    )
    reason: StrictStr | None = Field(None, description="Only readers with exactly this reason, as the blast names it.")
    code: StrictStr | None = Field(
        None, description="Only readers whom the relay refused with this reply code: `550`, `55x` or `5xx`."
    )
    dry_run: StrictBool = Field(False, description="Count them, and change nothing.")

    def chosen(self) -> list[DeliveryState]:
        """The states as the action takes them."""
        return [DeliveryState(each) for each in self.states]


EXAMPLE: dict[str, Any] = {
    "headline": "Millgate levee gives way: leave the lower city on foot, now",
    "summary": "Everyone south of Chandler's Row is told to walk uphill.",
    "body": "The levee gave way at **02:44** along about 60 metres, the city crisis room says.\n\n"
    "- Do not drive: three underpasses are flooded.\n"
    "- Buses leave Corn Square every five minutes.\n",
    "kind": "update",
    "importance": "breaking",
}


class Written(Body):
    """What an update says, however it comes in."""

    headline: StrictStr = Field(
        description="One line; the subject of the mail.", json_schema_extra=described(MAX_HEADLINE, shortest=1)
    )
    body: StrictStr = Field(
        description=f"What is new, in Markdown (CommonMark with tables), at most {MAX_BODY:,} bytes.",
        json_schema_extra={"minLength": 1},
    )
    summary: StrictStr = Field(
        "",
        description="One line; what mail programs show beside the subject.",
        json_schema_extra=described(MAX_SUMMARY),
    )
    kind: Kind = Field(
        Kind.UPDATE, description="`correction` says that an earlier update was wrong; `final` closes the story."
    )
    importance: Importance = Field(
        Importance.ROUTINE, description="`breaking` overtakes everything else that is going out."
    )
    corrects: StrictInt | None = Field(
        None, ge=1, description="The number of the update that this one corrects; with `kind: correction` only."
    )
    replaces: StrictBool = Field(
        False,
        description="Stop what is still going out in this story: whoever was not reached gets only this update, with "
        "what they missed.",
    )
    successor: StrictStr | None = Field(
        None,
        description="The slug of the story that goes on where this one ends; with `kind: final` only. Readers are "
        "offered to follow it.",
    )


class NewUpdate(Written):
    """An update to publish to everyone who follows the story."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    expires_at: WrittenTime | None = Field(
        None,
        description="After this time nobody is alerted any more; with its timezone.",
        examples=["2030-01-01T06:00:00Z"],
    )

    def draft(self) -> Draft:
        """As the action takes it."""
        return Draft(
            headline=self.headline,
            body=self.body,
            summary=self.summary,
            kind=self.kind,
            importance=self.importance,
            corrects_seq=self.corrects,
            expires_at=self.expires_at,
            replaces=self.replaces,
            successor=self.successor,
        )


class StoryOut(BaseModel):
    """A story."""

    slug: str
    headline: str
    summary: str
    state: StoryState
    created_at: datetime
    closed_at: datetime | None
    successor: str | None = Field(description="The slug of the story that goes on where this one ended.")
    in_doubt: InDoubt | None = Field(description=IN_DOUBT)
    url: str = Field(description="The page that readers see.")

    @staticmethod
    def values(story: Story, public_url: str) -> dict[str, Any]:
        return {
            "slug": story.slug,
            "headline": story.headline,
            "summary": story.summary,
            "state": story.state,
            "created_at": story.created_at,
            "closed_at": story.closed_at,
            "successor": story.successor,
            "in_doubt": story.in_doubt,
            "url": f"{public_url}/s/{story.slug}",
        }


class ListedStory(StoryOut):
    """A story in the list."""

    followers: int = Field(description="Confirmed subscriptions that have not ended.")


class UpdateOut(BaseModel):
    """An update, without its body."""

    seq: int = Field(description="1, 2, 3 … within the story.")
    kind: Kind
    importance: Importance
    headline: str
    summary: str
    corrects: int | None = Field(description="The number of the update that this one corrects or withdraws.")
    published_at: datetime
    expires_at: datetime | None
    withdrawn_at: datetime | None = Field(description="When it was taken back: readers are not shown it any more.")
    withdrawn_because: str | None = Field(description="Why, as readers are told.")
    url: str = Field(description="Where readers see it.")

    @classmethod
    def of(cls, update: Update, slug: str, public_url: str) -> UpdateOut:
        return cls(
            seq=update.seq,
            kind=update.kind,
            importance=update.importance,
            headline=update.headline,
            summary=update.summary,
            corrects=update.corrects_seq,
            published_at=update.published_at,
            expires_at=update.expires_at,
            withdrawn_at=update.withdrawn_at,
            withdrawn_because=update.withdrawn_because or None,
            url=f"{public_url}/s/{slug}#u{update.seq}",
        )


class StoryWithUpdates(StoryOut):
    """A story with its newest updates."""

    updates: list[UpdateOut] = Field(description="Newest first, at most 100.")


class StoryList(BaseModel):
    """Every story, the developing ones first, the newest first."""

    stories: list[ListedStory]


class BlastLink(BaseModel):
    """Where to see what became of a blast."""

    id: int
    url: str


class PublishedOut(BaseModel):
    """What was published, and the blasts that carry it."""

    story: str = Field(description="The slug of the story.")
    update: UpdateOut
    blasts: list[BlastLink]
    superseded: list[int] = Field(
        description="Blasts that this update stopped: whoever they had not reached gets it instead."
    )

    @classmethod
    def of(cls, published: Published, public_url: str) -> PublishedOut:
        slug = published.story.slug
        return cls(
            story=slug,
            update=UpdateOut.of(published.update, slug, public_url),
            blasts=[BlastLink(id=each, url=f"{public_url}/api/v1/blasts/{each}") for each in published.blast_ids],
            superseded=list(published.superseded),
        )


class Withdrawal(Body):
    """Why an update is taken back."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"reason": "The gauge was read wrongly. The dam holds."}]},
    )

    reason: StrictStr = Field(
        description="What readers are told, in one line.",
        examples=["The gauge was read wrongly. The dam holds."],
        json_schema_extra=described(MAX_HEADLINE, shortest=1),
    )


class Reason(BaseModel):
    """Why readers were not reached, in the relay's words or ours."""

    reason: str
    count: int


class ListedBlastOut(BaseModel):
    """A blast in the list."""

    id: int
    channel: str
    state: BlastState
    story: str
    seq: int
    headline: str
    published_at: datetime
    candidates: int = Field(description="Readers whom the update goes to; 0 until the audience is frozen.")
    steered_by: str | None = Field(description="Who paused, resumed, cancelled or retried it last.")
    steered_at: datetime | None
    is_drill: bool = Field(description="A rehearsal: everything is done for it, and nobody is reached.")


class BlastList(BaseModel):
    """The open blasts, then the others, the newest first."""

    blasts: list[ListedBlastOut]


class BlastOut(BaseModel):
    """A blast in numbers. `candidates` is always `waiting` plus the nine states; times are milliseconds from the
    publish commit, null before the first acceptance."""

    model_config = ConfigDict(extra="allow")

    id: int
    channel: str
    state: BlastState
    story: str
    seq: int
    headline: str
    candidates: int = Field(description="Readers whom the update goes to, frozen when it was published.")
    accepted: int = Field(description="The relay said yes. That is not proof that anybody saw it.")
    deferred: int = Field(description="Will be tried again.")
    failed: int
    in_doubt: int = Field(description="The last byte went out and no answer came.")
    suppressed: int
    capped: int
    expired: int
    superseded: int
    withdrawn: int = Field(description="Left after the audience was frozen.")
    waiting: int
    first_ms: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    last_ms: float | None
    seconds: float | None
    per_second: float | None
    reasons: list[Reason] = Field(description="Why readers were not reached, the most frequent first.")
    holding: str = Field(description="Why the blast stands still, if it does.")
    steered_by: str | None = Field(description="Who paused, resumed, cancelled or retried it last.")
    steered_at: datetime | None = Field(description="When that was.")
    is_drill: bool = Field(description="A rehearsal: `accepted` was made, and handed to nobody.")


class RetriedOut(BaseModel):
    """How many readers are tried again, and the blast after that."""

    retried: int = Field(description="Readers who are tried again, or would be in a dry run.")
    left_out: int = Field(description="Readers of the selection who left or are suppressed: never written to.")
    dry_run: bool
    blast: BlastOut
