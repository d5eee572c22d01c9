"""An update that is being written: what it says, who has had a hand in it, and where it is on its way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dispatcher import db, publishing, stories
from dispatcher.errors import Conflict, DispatcherError, Invalid, NotFound
from dispatcher.model import Draft, DraftState, Importance, Kind, Story
from dispatcher.people.sessions import Person, person_from
from dispatcher.policy import DEFAULT_EXPIRY, LAST_ZONE
from dispatcher.roles import Role, What
from dispatcher.texts import many_lines, one_line

#: Seconds after which somebody who has shown no sign of life has gone from a draft.
PRESENT = 30.0
SHORTEST_LIFE = timedelta(minutes=1)
LONGEST_LIFE = timedelta(days=365)
#: What a draft may be: `Kind.WITHDRAWAL` is made by withdrawing alone.
KINDS = (Kind.UPDATE, Kind.CORRECTION, Kind.FINAL)


class NotYours(DispatcherError):
    """Your role does not include this."""

    status = 403
    remedy = "Ask an editor or a lead of the desk."


class SavedMeanwhile(Conflict):
    """Somebody else has saved this draft meanwhile."""

    remedy = "Look at what has changed, and try again."

    def __init__(self, by: str, at: datetime, version: int) -> None:
        self.by = by  #: the name of whoever saved it last
        self.at = at
        self.version = version  #: the version that there is now
        super().__init__(f"{by} has changed this draft meanwhile. Nothing of yours was saved or sent.", field="version")


class StillScheduled(Conflict):
    """This draft is scheduled, and changing it takes it off the schedule."""

    remedy = "Say that it may, or leave the draft as it is."


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """What a draft says, and to whom: whatever changes here voids an approval."""

    kind: Kind = Kind.UPDATE
    importance: Importance = Importance.ROUTINE
    headline: str = ""
    summary: str = ""
    body: str = ""  #: Markdown
    corrects_seq: int | None = None
    replaces: bool = False
    expires_in: timedelta | None = None  #: from when it is published
    successor: str | None = None  #: slug of the story that readers are offered when this update ends theirs

    def draft(self, *, expires_at: datetime | None = None, local_time: datetime | None = None) -> Draft:
        """The same as publishing takes it."""
        return Draft(
            headline=self.headline,
            summary=self.summary,
            body=self.body,
            kind=self.kind,
            importance=self.importance,
            corrects_seq=self.corrects_seq,
            replaces=self.replaces,
            successor=self.successor,
            expires_at=expires_at,
            local_time=local_time,
        )

    def as_json(self) -> dict[str, Any]:
        """The form in which versions are kept and hashed."""
        return {
            "kind": str(self.kind),
            "importance": str(self.importance),
            "headline": self.headline,
            "summary": self.summary,
            "body": self.body,
            "corrects": self.corrects_seq,
            "replaces": self.replaces,
            "expires_in": None if self.expires_in is None else self.expires_in.total_seconds(),
            "successor": self.successor,
        }


@dataclass(frozen=True, slots=True)
class Presence:
    """Somebody who has a draft open."""

    person_id: int
    name: str
    email: str
    seen_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Writing:
    """A draft with everything around it."""

    id: int
    story: Story
    text: Text
    state: DraftState
    version: int  #: counts saves
    key: str
    author: Person
    last_editor: Person
    submitted_by: Person | None
    submitted_at: datetime | None
    approved_by: Person | None
    approved_at: datetime | None
    approved_hash: bytes | None
    is_override: bool  #: a lead did not wait for a second person
    reason: str | None  #: why it came back, or why a lead did not wait
    send_at: datetime | None  #: when it is scheduled for; by readers' clocks, when it begins
    send_local: datetime | None  #: by each reader's own clock
    scheduled_by: Person | None
    missed_at: datetime | None  #: when it was to go out and could not, until somebody sees to it
    update_seq: int | None  #: what it is published as
    handed_in_by: str | None  #: the API token that brought it
    created_at: datetime
    updated_at: datetime
    others: tuple[Presence, ...] = ()  #: who else has it open now

    @property
    def content_hash(self) -> bytes:
        """SHA-256 over the exact text, whom it is for, and when it is to go out: what an approval is bound to."""
        when: list[str] = []
        if self.send_local is not None:
            when = ["reader", self.send_local.isoformat()]
        elif self.send_at is not None:
            when = ["newsroom", self.send_at.astimezone(UTC).isoformat()]
        content = [self.story.slug, self.text.as_json(), when]
        return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode()).digest()

    @property
    def is_approved(self) -> bool:
        """Whether a second person stands by exactly this."""
        return self.approved_hash is not None and self.approved_hash == self.content_hash

    @property
    def subject(self) -> str:
        """How the log of the desk names it."""
        return f"draft:{self.id}"

    def own_hands(self) -> set[int]:
        """Who may not approve it: author, last editor and whoever asked for approval."""
        return {each.id for each in (self.author, self.last_editor, self.submitted_by) if each is not None and each.id}

    def expires_at(self, now: datetime) -> datetime | None:
        """When it expires if it is published now, counted from when it was to go out.

        By readers' clocks it is counted from now: what that is to each of them is for `policy` to say.
        """
        if self.text.expires_in is None:
            return None
        return (now if self.send_local is not None else self.send_at or now) + self.text.expires_in

    def is_stale(self, now: datetime) -> bool:
        """Whether it was to go out so long ago that by now it would have expired for everybody."""
        if self.send_at is None:
            return False
        began = self.send_at if self.send_local is None else self.send_local.replace(tzinfo=LAST_ZONE)
        return began + (self.text.expires_in or DEFAULT_EXPIRY) <= now


def check_text(text: Text) -> Text:
    """The text in order; it may be incomplete. Raises `Invalid` or `TooLarge`, naming the field and the remedy."""
    if text.kind not in KINDS:
        raise Invalid(f"A draft is no {text.kind}.", remedy=f"Choose one of {', '.join(KINDS)}.", field="kind")
    if text.expires_in is not None and not SHORTEST_LIFE <= text.expires_in <= LONGEST_LIFE:
        raise Invalid(
            "An update expires after a minute at the soonest, and a year at the latest.",
            remedy="Choose a time between them, or none.",
            field="expires_in",
        )
    body = many_lines("body", text.body, most_bytes=publishing.MAX_BODY) if text.body.strip() else ""
    is_correction = text.kind is Kind.CORRECTION
    return replace(
        text,
        headline=one_line("headline", text.headline, longest=stories.MAX_HEADLINE, required=False),
        summary=one_line("summary", text.summary, longest=stories.MAX_SUMMARY, required=False),
        body=body,
        corrects_seq=text.corrects_seq if is_correction else None,
        replaces=text.replaces and not is_correction,
        successor=text.successor or None if text.kind is Kind.FINAL else None,
    )


def need(person: Person, what: What) -> None:
    """Raises `NotYours` for somebody who may not do that."""
    if not person.may(what):
        raise NotYours(f"Your role, {person.role}, does not include this.")


def need_version(writing: Writing, version: int) -> None:
    """Raises `SavedMeanwhile` for a version that is not the last."""
    if writing.version != version:
        raise SavedMeanwhile(writing.last_editor.name, writing.updated_at, writing.version)


async def locked(tx: db.Connection, draft_id: int) -> Writing:
    """One draft, held until the transaction ends. Raises `NotFound`."""
    row = await tx.one("lock_draft", draft_id=draft_id)
    if row is None:
        raise unknown(draft_id)
    return (await writings_of(tx, [row]))[0]


def unknown(draft_id: int) -> NotFound:
    """The error for a draft that does not exist."""
    return NotFound(
        f"There is no draft {draft_id}.",
        remedy="Perhaps somebody has discarded it; /desk/drafts shows those there are.",
    )


async def writings_of(connection: db.Connection, rows: Sequence[db.Row]) -> list[Writing]:
    """Drafts with their stories and people, from their rows."""
    if not rows:
        return []
    names = ("author", "last_editor", "submitted_by", "approved_by", "scheduled_by")
    ids = {row[name] for row in rows for name in names} - {None}
    people = {row["id"]: person_from(row) for row in await connection.all("people_of_drafts", ids=sorted(ids))}
    found = await connection.all("stories_of_drafts", ids=sorted({row["story_id"] for row in rows}))
    known = {row["id"]: stories.story_from(row) for row in found}
    open_by: dict[int, list[Presence]] = {}
    drafts = [row["id"] for row in rows]
    for each in await connection.all("presences_of_drafts", ids=drafts, seconds=PRESENT):
        open_by.setdefault(each["draft_id"], []).append(
            Presence(each["id"], each["name"], each["email"], each["seen_at"])
        )
    return [_writing_from(row, people, known[row["story_id"]], tuple(open_by.get(row["id"], ()))) for row in rows]


def _writing_from(row: db.Row, people: dict[int, Person], story: Story, others: tuple[Presence, ...]) -> Writing:
    return Writing(
        id=row["id"],
        story=story,
        text=Text(
            kind=Kind(row["kind"]),
            importance=Importance(row["importance"]),
            headline=row["headline"],
            summary=row["summary"],
            body=row["body"],
            corrects_seq=row["corrects_seq"],
            replaces=row["replaces"],
            expires_in=row["expires_in"],
            successor=row["successor"],
        ),
        state=DraftState(row["state"]),
        version=row["version"],
        key=f"draft:{row['key']}",
        author=people.get(row["author"]) or _program(row),
        last_editor=people.get(row["last_editor"]) or _program(row),
        submitted_by=people.get(row["submitted_by"]),
        submitted_at=row["submitted_at"],
        approved_by=people.get(row["approved_by"]),
        approved_at=row["approved_at"],
        approved_hash=row["approved_hash"],
        is_override=row["is_override"],
        reason=row["reason"],
        send_at=row["send_at"],
        send_local=row["send_local"],
        scheduled_by=people.get(row["scheduled_by"]),
        missed_at=row["missed_at"],
        update_seq=row["update_seq"],
        handed_in_by=row["handed_in_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        others=others,
    )


def _program(row: db.Row) -> Person:
    """What handed a draft in, in the place of a person; it has no number, and may do nothing."""
    name = row["handed_in_by"] or ""
    return Person(
        id=0,
        email=name,
        name=name,
        role=Role.REPORTER,
        has_totp=False,
        recovery_left=0,
        created_at=row["created_at"],
        signed_in_at=None,
        ended_at=row["created_at"],
    )
