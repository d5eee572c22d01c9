"""How the installation is at this moment, for the people of the desk: what is not well, what waits, what to do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from dispatcher import db
from dispatcher.checkup.doctor import STALLED, broker
from dispatcher.checkup.findings import NO_REMEDY, REMEDIES, Finding, Health
from dispatcher.config import Settings
from dispatcher.model import Urgency
from dispatcher.pulse import ALIVE

#: Milliseconds that a statement may take, and seconds that the broker has: somebody waits for the page.
WITHIN = 2_000
BROKER_WITHIN = 1.0
#: Seconds after which a mail that one person waits for, and the monitor's last round, are late.
LATE_MAIL = 60.0
LATE_ROUND = 60.0
#: Incidents that are over, as many as are shown.
PAST = 20
SEVERITY = (Health.OK, Health.WARN, Health.FAIL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """Something that was not well, or still is."""

    text: str
    opened_at: datetime
    closed_at: datetime | None  #: None while it lasts
    remedy: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """Work of one urgency that nobody has done yet."""

    name: str
    readers: int
    seconds: float  #: since the oldest of it was published


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """The installation at one moment."""

    now: datetime
    parts: list[Finding]
    open: list[Incident]
    past: list[Incident]  #: the newest first
    waiting: list[Waiting]  #: the most urgent first

    @property
    def health(self) -> Health:
        """As well as the part that is least well."""
        found = {Health.FAIL} if self.open else {part.health for part in self.parts}
        return max(found, key=SEVERITY.index)

    @property
    def troubles(self) -> int:
        """How many things want somebody's attention."""
        return len(self.open) + sum(part.health is not Health.OK for part in self.parts)


async def condition(settings: Settings, database: db.Database) -> Condition:
    """Look at everything that the ledger knows, and ask the broker. Asks no relay: its workers do all the time.

    Raises `DatabaseUnavailable`.
    """
    asking = asyncio.create_task(_broker(settings.broker_url))
    try:
        async with database.transaction() as tx:
            await tx.execute("time_limit", milliseconds=WITHIN)
            row = await tx.one("condition", **{"class": ALIVE}) or {}
            relays = await tx.all("relay_states", **{"class": ALIVE})
            stalled = await tx.one("stalled_work") or {}
            waiting = await tx.all("work_by_urgency")
            incidents = await tx.all("latest_incidents", past=PAST)
    finally:
        doorbell = await asking
    found = [_incident(each) for each in incidents]
    return Condition(
        now=row["now"],
        parts=[
            _workers(row["alive"], stalled["seconds"], stalled["being_sent"]),
            *_relays(settings, relays, row["alive"]),
            _letters(row["letters"], row["letter"]),
            _mails(row["mails"], row["mails_seconds"]),
            _database(row["version"], read_only=row["read_only"]),
            doorbell,
            _monitor(row["round_seconds"]),
        ],
        open=[each for each in found if each.closed_at is None],
        past=[each for each in found if each.closed_at is not None],
        waiting=[_waiting(each) for each in sorted(waiting, key=lambda each: each["urgency"])],
    )


def _workers(alive: int, waited: float, being_sent: int) -> Finding:
    if not alive:
        return Finding(
            name="Workers",
            health=Health.FAIL,
            detail="None is running: what is published waits.",
            remedy="On the server: `dispatcher worker`. What waits goes out as soon as one runs.",
        )
    running = _counted(alive, "worker runs", "workers run")
    if waited > STALLED and not being_sent:
        return Finding(
            name="Workers",
            health=Health.FAIL,
            detail=f"{running}, and work has waited for {waited:,.0f} seconds that none takes.",
            remedy="Their logs say why. Nothing is lost.",
        )
    busy = f", {_counted(being_sent, 'batch', 'batches')} on the way" if being_sent else ""
    return Finding(name="Workers", health=Health.OK, detail=f"{running}{busy}.")


def _relays(settings: Settings, rows: list[db.Row], alive: int) -> list[Finding]:
    """Each relay of the settings, and each that a worker still tells of."""
    told = {row["relay"]: row for row in rows}
    names = dict.fromkeys([*(relay.name for relay in settings.relays), *told])
    return [_relay(name, told.get(name), alive) for name in names]


def _relay(name: str, row: db.Row | None, alive: int) -> Finding:
    title = f"Relay {name}"
    if row is None:
        why = "No worker has tried it yet." if alive else "No worker is running that could tell."
        remedy = "Start a worker, or wait: each tells within seconds."
        return Finding(name=title, health=Health.WARN, detail=why, remedy=remedy)
    since = "" if row["since"] is None else f" since {row['since'].astimezone(UTC):%H:%M} UTC"
    reason = f": {row['reason'].rstrip('.')}" if row["reason"] else ""
    if row["unwanted"]:
        return Finding(
            name=title,
            health=Health.FAIL,
            detail=f"Refuses our mail by policy{since}{reason}.",
            remedy="Ask whoever runs it to lift that. Mail waits, or takes the other relays.",
        )
    if row["shut"]:
        return Finding(
            name=title,
            health=Health.FAIL,
            detail=f"Takes no mail{since}{reason}.",
            remedy="Mend it there. Mail waits and nobody is lost; workers ask again every 15 seconds by themselves.",
        )
    if row["closed"] < row["workers"] or row["silent"]:
        what = "Takes messages and does not answer" if row["silent"] else f"Out of reach for some workers{since}"
        remedy = "If it lasts, ask whoever runs it. Workers go on by themselves."
        return Finding(name=title, health=Health.WARN, detail=f"{what}{reason}.", remedy=remedy)
    lanes = _counted(row["lanes"], "connection", "connections")
    return Finding(name=title, health=Health.OK, detail=f"Takes mail: {lanes} open, {row['busy']} busy.")


def _letters(count: int, last: str | None) -> Finding:
    """What the press could not make of updates that are going out."""
    if not count:
        return Finding(name="Letters", health=Health.OK, detail="All that were needed could be made.")
    return Finding(
        name="Letters",
        health=Health.FAIL,
        detail=f"{_counted(count, 'letter', 'letters')} cannot be made: {(last or '').rstrip('.')}.",
        remedy="Mend the text by a new update, or the template; `dispatcher blast retry` then tries the readers again.",
    )


def _mails(count: int, seconds: float) -> Finding:
    name = "Mails to one person"
    if seconds > LATE_MAIL:
        detail = f"{count:,} waiting, the oldest for {seconds:,.0f} seconds: confirmations, links, invitations."
        remedy = "See whether a worker runs, and whether a relay takes mail."
        return Finding(name=name, health=Health.FAIL, detail=detail, remedy=remedy)
    return Finding(name=name, health=Health.OK, detail=f"{count:,} waiting." if count else "None waits.")


def _database(version: int, *, read_only: bool) -> Finding:
    detail = f"PostgreSQL {version // 10_000}.{version % 10_000} answers"
    if read_only:
        remedy = "It may be a standby: DISPATCHER_DATABASE_URL has to name the primary."
        return Finding(name="Database", health=Health.FAIL, detail=f"{detail}, and takes no writes.", remedy=remedy)
    return Finding(name="Database", health=Health.OK, detail=f"{detail}.")


async def _broker(url: str) -> Finding:
    """The broker is a doorbell: without it, work begins a few seconds later and nothing is lost."""
    try:
        async with asyncio.timeout(BROKER_WITHIN):
            found = await asyncio.to_thread(broker, url)
    except TimeoutError:
        found = None
    if found is not None and found.health is Health.OK:
        return Finding(name="Broker", health=Health.OK, detail="Answers.")
    return Finding(
        name="Broker",
        health=Health.WARN,
        detail="Does not answer. Updates go out all the same, a few seconds later.",
        remedy="Start it, or correct DISPATCHER_BROKER_URL; `dispatcher doctor` tells more.",
    )


def _monitor(seconds: float | None) -> Finding:
    """Whether somebody looks for troubles at all."""
    if seconds is not None and seconds <= LATE_ROUND:
        return Finding(name="Monitor", health=Health.OK, detail=f"Looked round {seconds:,.0f} seconds ago.")
    detail = (
        "Has not looked round yet." if seconds is None else f"Looked round {seconds:,.0f} seconds ago, and not since."
    )
    return Finding(name="Monitor", health=Health.WARN, detail=detail, remedy="Wait a minute; then see the logs of web.")


def _incident(row: db.Row) -> Incident:
    remedy = REMEDIES.get(row["kind"], NO_REMEDY)
    return Incident(text=row["text"], opened_at=row["opened_at"], closed_at=row["closed_at"], remedy=remedy)


def _waiting(row: db.Row) -> Waiting:
    name = Urgency(row["urgency"]).name.capitalize() if row["urgency"] in list(Urgency) else f"Urgency {row['urgency']}"
    return Waiting(name=name, readers=row["readers"], seconds=row["seconds"])


def _counted(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"
