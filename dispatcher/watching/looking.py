"""Look at an update on its way: a handful of small statements, none of which reads the ledger as a whole."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dispatcher import db, policy, progress
from dispatcher.errors import NotFound
from dispatcher.model import BlastState, ChannelName, DeliveryState, Importance, Kind, StoryState
from dispatcher.progress import Progress
from dispatcher.pulse import ALIVE
from dispatcher.reasons import Answer, Reason, in_words
from dispatcher.watching.events import events_of
from dispatcher.watching.figures import ReasonLine, RelayLine, Watched, WatchedBlast

#: Readers of a blast whose reasons are looked at, and who are asked whether they may be tried again.
MOST_READERS = 10_000
#: States of readers whom nobody tries again unless a person asks.
RETRIABLE = (DeliveryState.FAILED, DeliveryState.IN_DOUBT)
#: Lines of the log of the desk that are shown.
MOST_LINES = 30
#: Reasons are looked at again after so many times as long as the last look took: a hundredth of a processor. But where
#: a look takes long because others are at work, not after more than so many seconds.
REST = 100
AT_MOST = 3.0
#: Seconds between the two looks that "now" is told from, at least and at most.
BACK = 4.0
TOO_OLD = 30.0


@dataclass
class Memory:
    """What is kept from one look to the next at the same update."""

    samples: deque[tuple[datetime, dict[int, int]]] = field(default_factory=lambda: deque(maxlen=60))
    signature: object = None  #: how many were not reached when their reasons were looked at
    rests_until: float = 0.0  #: on the monotonic clock
    reasons: list[db.Row] = field(default_factory=list)
    #: of each blast, when so many were in these states, how many of them may be tried again, by answer
    retriable: dict[int, tuple[dict[DeliveryState, int], list[db.Row]]] = field(default_factory=dict)

    def may_be_tried(
        self, blast_id: int, channel: ChannelName, state: DeliveryState, states: dict[DeliveryState, int]
    ) -> Counter[str] | None:
        """Of those in a state, how many may be tried again, by reason; None where others are in it since that count."""
        counted, rows = self.retriable.get(blast_id, ({}, []))
        if blast_id not in self.retriable or counted.get(state, 0) != states.get(state, 0):
            return None
        found: Counter[str] = Counter()
        for row in rows:
            if row["state"] == state:
                found[reason_of(row, channel).key] += row["retriable"]
        return found

    def before(self, blast_id: int, now: datetime) -> tuple[datetime, int] | None:
        """How many of a blast were accepted a few seconds ago."""
        for at, accepted in reversed(self.samples):
            if BACK <= (now - at).total_seconds() <= TOO_OLD and blast_id in accepted:
                return at, accepted[blast_id]
        return None


async def look(database: db.Database, slug: str, seq: int, memory: Memory | None = None) -> Watched:
    """The update `seq` of a story, or the drill below zero, and what became of it. Raises `NotFound`.

    Without a memory nobody asks for reasons, and for who may be tried again.
    """
    asks_why, memory = memory is not None, memory or Memory()
    async with database.transaction() as tx:
        await tx.execute("one_snapshot")
        row = await tx.one("watched_update", slug=slug, seq=seq)
        if row is None:
            raise unknown(slug, seq)
        heads = await tx.all("watched_blasts", update_id=row["id"])
        ids = [head["id"] for head in heads]
        found = await progress.read(tx, ids)
        relays = await tx.all("relay_states", **{"class": ALIVE})
        log = await tx.all("watched_log", slug=slug, seq=seq, subjects=_subjects(row, ids), most=MOST_LINES)
        until = max((head["done_at"] or row["now"] for head in heads), default=row["now"])
        since = row["published_at"]
        incidents = await tx.all("watched_incidents", blasts=[str(each) for each in ids], since=since, until=until)
    states = {blast_id: each.states for blast_id, each in found.items()}
    if asks_why:
        await _learn_reasons(database, memory, row, heads, states)
    blasts = tuple(_blast(row, head, found[head["id"]], relays, memory) for head in heads)
    memory.samples.append((row["now"], {blast.id: blast.accepted for blast in blasts}))
    return Watched(
        story=row["slug"],
        story_headline=row["story_headline"],
        seq=row["seq"],
        kind=Kind(row["kind"]),
        importance=Importance(row["importance"]),
        headline=row["headline"],
        published_at=row["published_at"],
        now=row["now"],
        sent_by=row["sent_by"],
        approved_by=row["approved_by"],
        is_override=row["is_override"],
        blasts=blasts,
        relays=tuple(_relay_lines(blasts, relays, is_drill=seq < 0)),
        reasons=tuple(_reason_lines(memory, blasts)),
        reasons_are_all=all(_unreached(each) <= MOST_READERS for each in states.values()),
        events=events_of(row, blasts, log, incidents),
        corrected_by=row["corrected_by"],
        corrected_how=None if row["corrected_how"] is None else Kind(row["corrected_how"]),
        corrected_at=row["corrected_at"],
        corrects_seq=row["corrects_seq"],
        told_besides=row["told_besides"],
        is_expired=_expires_at(row) <= row["now"],
        takes_updates=StoryState(row["story_state"]) is StoryState.DEVELOPING,
    )


async def exists(database: db.Database, slug: str, seq: int) -> None:
    """Raises `NotFound` if there is no such update."""
    async with database.connection() as connection:
        if await connection.one("watched_update", slug=slug, seq=seq) is None:
            raise unknown(slug, seq)


def unknown(slug: str, seq: int) -> NotFound:
    what = f"drill {-seq}" if seq < 0 else f"update {seq}"
    return NotFound(f"There is no {what} of {slug!r}.", remedy="Open the story: it lists its updates.", field="seq")


def _subjects(row: db.Row, ids: Sequence[int]) -> list[str]:
    """How the log of the desk names what concerns this update."""
    draft = [] if row["draft_id"] is None else [f"draft:{row['draft_id']}"]
    return [f"update:{row['slug']}/{row['seq']}", *(f"blast:{each}" for each in ids), *draft]


async def _learn_reasons(
    database: db.Database, memory: Memory, row: db.Row, heads: list[db.Row], states: dict[int, dict[DeliveryState, int]]
) -> None:
    """Look at the reasons again if somebody more was not reached, or less, and the last look is long enough ago."""
    ids = [head["id"] for head in heads if _unreached(states[head["id"]])]
    signature = [(blast_id, _unreached(states[blast_id]), states[blast_id]) for blast_id in ids]
    began = time.monotonic()
    if signature == memory.signature or began < memory.rests_until:
        return
    async with database.connection() as connection:
        memory.reasons = await connection.all("watched_reasons", blast_ids=ids, most=MOST_READERS) if ids else []
        memory.retriable = {}
        for blast_id in ids:
            counts = {each: states[blast_id].get(each, 0) for each in RETRIABLE}
            if 0 < sum(counts.values()) <= MOST_READERS:
                memory.retriable[blast_id] = counts, await retriable(connection, blast_id, row["story_id"])
    memory.signature = signature
    memory.rests_until = time.monotonic() + min(REST * (time.monotonic() - began), AT_MOST)


async def retriable(connection: db.Connection, blast_id: int, story_id: int) -> list[db.Row]:
    """Of those who failed or are in doubt, how many may be tried again, by answer: exactly whom a button would try."""
    states = [str(each) for each in RETRIABLE]
    return await connection.all("retriable_by_answer", blast_id=blast_id, story_id=story_id, states=states)


def _unreached(states: dict[DeliveryState, int]) -> int:
    return sum(states.get(each, 0) for each in (DeliveryState.DEFERRED, DeliveryState.FAILED, DeliveryState.IN_DOUBT))


def _blast(row: db.Row, head: db.Row, found: Progress, relays: list[db.Row], memory: Memory) -> WatchedBlast:
    state = BlastState(head["state"])
    expires = _expires_at(row)
    may_end = state in (BlastState.SENDING, BlastState.PAUSED, BlastState.DONE)
    channel = ChannelName(head["channel"])
    failed = memory.may_be_tried(head["id"], channel, DeliveryState.FAILED, found.states)
    return WatchedBlast(
        id=head["id"],
        channel=channel,
        state=state,
        candidates=head["candidates"],
        progress=found,
        states=found.states,
        published_at=row["published_at"],
        now=row["now"],
        done_at=head["done_at"],
        steered_by=head["steered_by"],
        steered_at=head["steered_at"],
        superseded_by=head["superseded_by"],
        starts_at=head["starts_at"],
        holding=_holding(head, state, relays),
        before=memory.before(head["id"], row["now"]),
        retriable=None if failed is None else failed.total(),
        may_retry=may_end and row["corrected_by"] is None and expires > row["now"],
    )


def _expires_at(row: db.Row) -> datetime:
    return policy.expires_at(row["published_at"], row["expires_at"], local_time=row["local_time"])


def _holding(head: db.Row, state: BlastState, relays: list[db.Row]) -> str:
    """Why a blast stands still: a batch was given back for a reason, or no relay takes mail."""
    if state is not BlastState.SENDING:
        return ""
    if head["given_back"]:
        return str(head["given_back"])
    shut = [each["reason"] for each in relays if each["shut"]]
    return shut[0] if head["channel"] == ChannelName.EMAIL and relays and len(shut) == len(relays) else ""


def _relay_lines(blasts: Sequence[WatchedBlast], relays: list[db.Row], *, is_drill: bool) -> list[RelayLine]:
    """The relays that had to do with these blasts, and those that mail may still go to."""
    lines: dict[tuple[str, ChannelName], RelayLine] = {}
    known = {row["relay"]: row for row in relays}
    for blast in blasts:
        counts = blast.progress.relays()
        may_come = known if blast.channel is ChannelName.EMAIL and blast.is_open and not is_drill else {}
        for name in sorted({*counts, *may_come}):
            row = known.get(name) if blast.channel is ChannelName.EMAIL else None
            lines[name, blast.channel] = RelayLine(
                name=name,
                channel=blast.channel,
                accepted=counts.get(name, 0),
                per_second=blast.rate_at(name),
                state="" if row is None else _relay_state(row),
                lanes=None if row is None else row["lanes"],
                reason="" if row is None else row["reason"],
            )
    return list(lines.values())


def _relay_state(row: db.Row) -> str:
    if row["shut"]:
        return "shut"
    return "trial" if row["closed"] < row["workers"] else "open"


def _reason_lines(memory: Memory, blasts: Sequence[WatchedBlast]) -> list[ReasonLine]:
    """One line for each blast, state and kind of reason, the most frequent first."""
    known = {blast.id: blast for blast in blasts}
    counts = {
        (blast.id, state): memory.may_be_tried(blast.id, blast.channel, state, blast.states)
        for blast in blasts
        for state in RETRIABLE
    }
    merged: dict[tuple[int, DeliveryState, str], ReasonLine] = {}
    for row in memory.reasons:
        blast, state = known[row["blast_id"]], DeliveryState(row["state"])
        reason = reason_of(row, blast.channel)
        tried = counts.get((blast.id, state))
        old = merged.get((row["blast_id"], state, reason.key))
        times = [each for each in (old.next_at if old else None, row["next_at"]) if each is not None]
        merged[row["blast_id"], state, reason.key] = ReasonLine(
            blast_id=row["blast_id"],
            channel=blast.channel,
            state=state,
            reason=old.reason if old else reason,
            readers=row["readers"] + (old.readers if old else 0),
            next_at=min(times, default=None),
            retriable=None if tried is None else tried[reason.key],
            may_retry=blast.may_retry,
        )
    return sorted(merged.values(), key=lambda line: -line.readers)


def reason_of(row: db.Row, channel: ChannelName) -> Reason:
    """The reason that a group of the ledger's rows has, in words."""
    return in_words(Answer(channel, DeliveryState(row["state"]), row["code"], row["status"], row["reply"]))


def is_stale(watched: Watched, seconds: float) -> bool:
    """Whether nothing has moved for so long that it is looked at less often."""
    return not watched.is_open and watched.now - watched.published_at > timedelta(seconds=seconds)
