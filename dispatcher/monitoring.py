"""The monitor: what is published and does not arrive, and what became of it all in figures.

Any process may look round, at any time and as often as it likes: one does it at a time, and what is not well is told
once, until it is well again.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC
from typing import NamedTuple

import structlog

from dispatcher import db
from dispatcher.policy import DEFAULT_EXPIRY
from dispatcher.pulse import ALIVE

log = structlog.get_logger()

WATCH_LOCK = 7_214_003
#: Milliseconds after which the server ends a round of which it hears nothing more: its host may be cut off.
SILENCE = 10_000
#: Seconds between two rounds, over all processes together.
EVERY = 10.0
#: Seconds that a blast with readers to write to may reach nobody, and that work may wait while no worker lives.
PATIENCE = 60.0
WORKER_PATIENCE = 30.0
#: So many blasts are looked at in a round, and so many are counted.
MOST_BLASTS = 500
MOST_COUNTED = 3
#: Of a blast that owes nobody anything just now, so many readers are looked at for an acceptance, the last first.
GLANCE = 2_000
#: Retries that are due are counted up to here.
MOST_DUE = 50_000
#: Upper bounds, in seconds from the publish commit, of the slots that acceptances are sorted into; one more has none.
BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0)


class IncidentKind(enum.StrEnum):
    """What can be not well."""

    NOT_SENDING = "not_sending"  #: readers of a blast are owed mail, and nobody was reached for a minute
    RELAY = "relay"  #: no worker gets mail through to a relay, or it refuses our mail by policy
    NO_WORKERS = "no_workers"  #: work waits, and no worker is alive
    DEAD_LETTERS = "dead_letters"  #: batches were given up
    UNANSWERED = "unanswered"  #: readers asked for something, and wait for the mail


class Trouble(NamedTuple):
    """Something that is not well just now. Kind and subject say which, the text says it to a person."""

    kind: IncidentKind
    subject: str
    text: str


async def watch_for_ever(database: db.Database, every: float = EVERY) -> None:
    """Look round every so many seconds, in turn with every other process that does. Never returns.

    A database that is away, takes no writes or has another schema is logged once, and once more when that is over.
    """
    trouble = ""
    while True:
        # First: who has just been started may find what was left over, and is about to see to it.
        await asyncio.sleep(every)
        try:
            await watch(database, every=0.8 * every)
        except Exception as error:  # noqa: BLE001  # an alarm that has ended itself is worse than none
            if trouble != type(error).__name__:
                log.error("monitor cannot look round", error=type(error).__name__, reason=str(error).split("\n")[0])
            trouble = type(error).__name__
        else:
            if trouble:
                log.info("monitor looks round again")
            trouble = ""


async def watch(database: db.Database, *, every: float = 0) -> None:
    """One round: open incidents for what is not well, close those that are over, count a few blasts that are done.

    Does nothing if another process is doing it, or did within `every` seconds. Raises `DatabaseUnavailable`.
    """
    closed: list[db.Row] = []
    async with database.transaction() as tx:
        await tx.execute("be_brief", milliseconds=SILENCE)
        if not await tx.value("try_watch", lock=WATCH_LOCK) or not await tx.execute("take_turn", every=every):
            return
        found = {(trouble.kind, trouble.subject): trouble for trouble in await _look_round(tx)}
        for row in await tx.all("open_incidents"):
            trouble = found.pop((row["kind"], row["subject"]), None)
            if trouble is None:
                await tx.execute("close_incident", id=row["id"])
                closed.append(row)
            elif trouble.text != row["text"]:
                await tx.execute("word_incident", id=row["id"], text=trouble.text)
        opened = [each for each in found.values() if await tx.execute("open_incident", **each._asdict())]
    for trouble in opened:
        log.error("incident", kind=str(trouble.kind), subject=trouble.subject, text=trouble.text)
    for row in closed:
        log.info("incident over", kind=row["kind"], subject=row["subject"], seconds=round(row["seconds"]))
    await _count(database)


async def _look_round(tx: db.Connection) -> list[Trouble]:
    """Everything that is not well at this moment."""
    await tx.execute("forget_gone_workers", **{"class": ALIVE})
    alive = int(await tx.value("workers_alive", **{"class": ALIVE}))
    relays = await tx.all("relay_states", **{"class": ALIVE})
    blasts = await tx.all("blasts_in_order", expiry=DEFAULT_EXPIRY, lately=PATIENCE, most=MOST_BLASTS)
    return [
        *await _no_workers(tx, alive, blasts),
        *_relays(relays, alive),
        *await _not_sending(tx, alive, blasts, relays),
        *await _unanswered(tx, alive, relays),
        *await _dead_letters(tx),
    ]


async def _no_workers(tx: db.Connection, alive: int, blasts: list[db.Row]) -> list[Trouble]:
    if alive:
        await tx.execute("note_alive")
        return []
    without = await tx.value("seconds_without_workers")
    overdue = await tx.value("seconds_overdue")
    waited = max((row["owed"] or 0.0 for row in blasts), default=0.0)
    waited = max(waited, overdue or 0.0, await tx.value("seconds_unanswered"))
    if waited < WORKER_PATIENCE or (without is not None and without < WORKER_PATIENCE):
        return []
    return [Trouble(IncidentKind.NO_WORKERS, "", f"Work has waited for {spoken(waited)}, and no worker is alive.")]


def _relays(relays: list[db.Row], alive: int) -> list[Trouble]:
    """Relays that no worker gets mail through to, and those that do not want it."""
    troubles = []
    for row in relays:
        if row["unwanted"]:
            text = f"Relay {row['relay']} refuses our mail by policy {_since(row)}."
        elif row["shut"]:
            who = "the only worker" if alive == 1 else f"{row['workers'] - row['closed']} of {alive} workers"
            text = f"Relay {row['relay']} has been left alone by {who} {_since(row)}."
        else:
            continue
        troubles.append(Trouble(IncidentKind.RELAY, row["relay"], text))
    return troubles


async def _not_sending(tx: db.Connection, alive: int, blasts: list[db.Row], relays: list[db.Row]) -> list[Trouble]:
    """Blasts that owe readers their mail and have reached nobody for a minute, although nothing goes before them."""
    troubles = []
    for row in blasts:
        is_owed = row["owed"] is not None and row["owed"] >= PATIENCE
        newest = None if is_owed else GLANCE
        if await tx.value("accepted_lately", blast_id=row["id"], lately=PATIENCE, newest=newest):
            break  # it moves, and all that follow wait their turn
        if is_owed:
            why = await tx.one("why_standing", blast_id=row["id"], urgency=row["urgency"]) or {}
            text = f"{_standing(row, why)}: {_cause(alive, why, relays)}."
            troubles.append(Trouble(IncidentKind.NOT_SENDING, str(row["id"]), text))
    return troubles


def _standing(row: db.Row, why: db.Row) -> str:
    update = f"Update {row['seq']} of {row['slug']}"
    if why["reached"]:
        return f"{update} stands still: nobody was reached in the last minute, and {why['waiting']:,} readers wait"
    audience = "" if row["candidates"] is None else f" of {row['candidates']:,}"
    return f"{update} was published {spoken(row['age'])} ago and nobody{audience} has been reached"


def _cause(alive: int, why: db.Row, relays: list[db.Row]) -> str:
    """The likeliest cause, as the end of a sentence."""
    if not alive:
        return "no worker is alive"
    ill = [_illness(row) for row in relays]
    if ill and all(ill):
        return ill[0]
    for reason in (why["letter"], why["given_back"], *ill):
        if reason:
            return str(reason).rstrip(".")
    return "no cause is known here, but the workers' logs may tell"


async def _unanswered(tx: db.Connection, alive: int, relays: list[db.Row]) -> list[Trouble]:
    """Readers who have asked for something at a form, and wait for more than a minute for the mail."""
    waited = await tx.value("seconds_unanswered")
    if waited < PATIENCE:
        return []
    cause = _cause(alive, {"letter": None, "given_back": None}, relays)
    text = f"Readers have waited for {spoken(waited)} for a mail that they asked for: {cause}."
    return [Trouble(IncidentKind.UNANSWERED, "", text)]


def _illness(row: db.Row) -> str:
    """What keeps mail from a relay; empty if nothing does."""
    if row["shut"] or row["unwanted"]:
        return f"relay {row['relay']} has taken no mail {_since(row)}"
    return f"relay {row['relay']} takes messages and does not answer" if row["silent"] else ""


async def _dead_letters(tx: db.Connection) -> list[Trouble]:
    troubles = []
    for row in await tx.all("dead_batches"):
        who = "1 reader" if row["readers"] == 1 else f"{row['readers']:,} readers"
        text = f"Given up: {who} of update {row['seq']} of {row['slug']}. {row['reason']}"
        troubles.append(Trouble(IncidentKind.DEAD_LETTERS, str(row["id"]), text))
    return troubles


def _since(row: db.Row) -> str:
    reason = f" ({row['reason'].rstrip('.')})" if row["reason"] else ""
    return f"since {row['since'].astimezone(UTC):%H:%M} UTC{reason}"


def spoken(seconds: float) -> str:
    """A length of time as a person would say it, rounded down: 90 seconds, 2 minutes, 3 hours."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds // 1:.0f} seconds"


async def _count(database: db.Database) -> None:
    """Count a few blasts that are over, each in a transaction of its own."""
    async with database.connection() as connection:
        blasts = await connection.all("blasts_to_count", most=MOST_COUNTED)
    for blast in blasts:
        async with database.transaction() as tx:
            await tx.execute("be_brief", milliseconds=SILENCE)
            if await tx.value("hold_ended", blast_id=blast["id"]) is None:
                continue
            await tx.execute("drop_tally", blast_id=blast["id"])
            counts = await _ledger_of(tx, blast["id"])
            # A blast that nobody followed is counted too, or it would be looked at for ever.
            for count in counts or [Count("", "accepted", 0, [0] * (len(BOUNDS) + 1), 0.0)]:
                await tx.execute("keep_tally", blast_id=blast["id"], **count._asdict())


class Count(NamedTuple):
    """How many readers are in one state at one relay; of those accepted, how many in each slot of `BOUNDS`."""

    relay: str
    state: str
    readers: int
    buckets: list[int] | None
    seconds: float | None  #: from the publish commit, of all acceptances together


async def _ledger_of(tx: db.Connection, blast_id: int) -> list[Count]:
    rows = await tx.all("count_ledger", blast_id=blast_id, bounds=list(BOUNDS))
    counts: dict[tuple[str, str], Count] = {}
    for row in rows:
        old = counts.get((row["relay"], row["state"]))
        buckets, seconds = None, None
        if row["slot"] is not None:
            buckets = list(old.buckets) if old and old.buckets else [0] * (len(BOUNDS) + 1)
            buckets[row["slot"]] += row["readers"]
            seconds = row["seconds"] + (old.seconds if old and old.seconds else 0.0)
        readers = row["readers"] + (old.readers if old else 0)
        counts[row["relay"], row["state"]] = Count(row["relay"], row["state"], readers, buckets, seconds)
    return list(counts.values())


async def deliveries(database: db.Database, within: float) -> dict[str, list[Count]]:
    """What became of every reader of every blast, by channel, relay and state.

    Blasts that are over come from their tallies, the others from what the ledger counts as it is written. Raises
    `DatabaseUnavailable`, also if a statement takes longer than `within` seconds.
    """
    found: dict[str, list[Count]] = {}
    async with _reading(database, within) as tx:
        for row in await tx.all("sum_tallies"):
            found.setdefault(row.pop("channel"), []).append(Count(**row))
        for blast in await tx.all("uncounted_blasts"):
            found.setdefault(blast["channel"], []).extend(await _ledger_of(tx, blast["id"]))
    return {channel: _merged(counts) for channel, counts in found.items()}


def _merged(counts: Iterable[Count]) -> list[Count]:
    """One count for each relay and state."""
    merged: dict[tuple[str, str], Count] = {}
    for count in counts:
        old = merged.get((count.relay, count.state), Count(count.relay, count.state, 0, None, None))
        buckets = count.buckets
        if old.buckets and count.buckets:
            buckets = [mine + theirs for mine, theirs in zip(old.buckets, count.buckets, strict=True)]
        merged[count.relay, count.state] = Count(
            count.relay,
            count.state,
            old.readers + count.readers,
            buckets or old.buckets,
            (old.seconds or 0.0) + (count.seconds or 0.0),
        )
    return list(merged.values())


async def parts(database: db.Database, within: float) -> db.Row:
    """The workers that live, the relays as they find them, and the incidents that are open. Raises as `deliveries`."""
    async with _reading(database, within) as tx:
        return {
            "workers": int(await tx.value("workers_alive", **{"class": ALIVE})),
            "relays": await tx.all("relay_states", **{"class": ALIVE}),
            "incidents": {row["kind"]: row["count"] for row in await tx.all("incidents_by_kind")},
        }


async def work(database: db.Database, within: float) -> db.Row:
    """What is under way, what waits, and for how long, in all and by urgency. Raises as `deliveries`."""
    async with _reading(database, within) as tx:
        row = await tx.one("work", most=MOST_DUE) or {}
        return {**row, "urgencies": await tx.all("work_by_urgency")}


async def readership(database: db.Database, within: float) -> db.Row:
    """How many readers and subscriptions there are. Raises as `deliveries`."""
    async with _reading(database, within) as tx:
        return await tx.one("readership") or {}


@asynccontextmanager
async def _reading(database: db.Database, within: float) -> AsyncIterator[db.Connection]:
    """A transaction that sees one moment, and in which no statement takes longer than `within` seconds."""
    async with database.transaction() as tx:
        await tx.execute("one_snapshot")
        await tx.execute("time_limit", milliseconds=round(within * 1000))
        yield tx
