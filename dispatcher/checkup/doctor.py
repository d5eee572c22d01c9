"""What `dispatcher doctor` examines: every part that mail needs on its way, each with a remedy if it is not well."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from dispatcher import config, db
from dispatcher.channels.email.relay import probe
from dispatcher.checkup.findings import NO_REMEDY, REMEDIES, Finding, Health
from dispatcher.config import RelaySettings, Settings
from dispatcher.db.revisions import revisions
from dispatcher.errors import DispatcherError, Misconfigured
from dispatcher.nudges import new_celery
from dispatcher.pulse import ALIVE

#: The oldest PostgreSQL that the statements are written for.
OLDEST_POSTGRES = 15
#: Bytes free in the data directory below which to fail, and to warn.
TOO_LITTLE_SPACE = 200 * 1024 * 1024
LITTLE_SPACE = 1024 * 1024 * 1024
#: Seconds that work may wait for a worker.
STALLED = 60.0
#: Seconds that the broker has for its answer.
BROKER_TIMEOUT = 3.0
#: Seconds that work may wait before a person should know.
LONG_WAIT = 900.0
LOCAL = ("localhost", "127.0.0.1", "::1")


async def examine(env: Mapping[str, str] | None = None) -> list[Finding]:
    """Examine everything at once. Never raises for what it finds: wrong settings are a finding too."""
    try:
        settings = config.load(env)
    except Misconfigured as error:
        return [_failed("settings", error), disk(config.data_dir(env))]
    doorbell, *relays = await asyncio.gather(
        asyncio.to_thread(broker, settings.broker_url), *(_relay(relay) for relay in settings.relays)
    )
    return [
        *examine_settings(settings),
        *await _database(settings.database_url),
        doorbell,
        *relays,
        disk(settings.data_dir),
    ]


def examine_settings(settings: Settings) -> list[Finding]:
    """What the settings promise to readers and to other mail servers."""
    return [_public_url(settings), _mail_from(settings)]


def disk(directory: Path) -> Finding:
    """The space that is left where the data directory is, or will be."""
    there = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(there).free
    remedy = "Free some space, or set DISPATCHER_DATA_DIR to a directory on another disk."
    detail = f"{free / 1024**3:,.1f} GB free for {directory}"
    if free < TOO_LITTLE_SPACE:
        return Finding(name="disk", health=Health.FAIL, detail=detail, remedy=remedy)
    if free < LITTLE_SPACE:
        return Finding(name="disk", health=Health.WARN, detail=detail, remedy=remedy)
    return Finding(name="disk", health=Health.OK, detail=detail)


def _public_url(settings: Settings) -> Finding:
    parts = urlsplit(settings.public_url)
    name = "public address"
    if settings.development:
        return Finding(name=name, health=Health.OK, detail=f"{settings.public_url} (development)")
    if parts.hostname in LOCAL:
        return Finding(
            name=name,
            health=Health.FAIL,
            detail=f"{settings.public_url} leads readers to their own machine",
            remedy="Set DISPATCHER_PUBLIC_URL to the address under which they reach the pages.",
        )
    if parts.scheme == "http":
        return Finding(
            name=name,
            health=Health.WARN,
            detail=f"{settings.public_url} is not encrypted",
            remedy="Put a proxy with a certificate in front, and set DISPATCHER_PUBLIC_URL to its https:// address.",
        )
    return Finding(name=name, health=Health.OK, detail=settings.public_url)


def _mail_from(settings: Settings) -> Finding:
    name, detail = "sender", str(settings.mail_from)
    if settings.development:
        return Finding(name=name, health=Health.OK, detail=f"{detail} (development)")
    if settings.mail_domain in ("localhost", "localhost.localdomain") or "." not in settings.mail_domain:
        return Finding(
            name=name,
            health=Health.FAIL,
            detail=f"{detail} is no address that anybody can answer",
            remedy="Set DISPATCHER_MAIL_FROM to an address in a domain of yours.",
        )
    return Finding(name=name, health=Health.OK, detail=detail)


async def _database(url: str) -> list[Finding]:
    """Reachable, recent, migrated, writable; and with that, whether workers are alive."""
    try:
        async with db.Database(url, size=1) as database:
            connection = await database.dedicated()  # the pool would try for ten seconds
            version = int(await connection.value("server_version"))
            await connection.close()
            at, newest = await asyncio.to_thread(revisions, url)
            found = [_version(version), _schema(at, newest)]
            if at == newest:
                found += await _ledger(database)
            return found
    except DispatcherError as error:
        return [_failed("database", error)]


def _version(version: int) -> Finding:
    detail = f"PostgreSQL {version // 10_000}.{version % 10_000}"
    if version < OLDEST_POSTGRES * 10_000:
        remedy = f"Use PostgreSQL {OLDEST_POSTGRES} or newer."
        return Finding(name="database", health=Health.FAIL, detail=f"{detail} is too old", remedy=remedy)
    return Finding(name="database", health=Health.OK, detail=detail)


def _schema(at: str | None, newest: str | None) -> Finding:
    if at == newest:
        return Finding(name="schema", health=Health.OK, detail=f"at {at}, the newest")
    return Finding(
        name="schema",
        health=Health.FAIL,
        detail=f"at {at or 'nothing'}, and this program needs {newest}",
        remedy="Run `dispatcher migrate`.",
    )


async def _ledger(database: db.Database) -> list[Finding]:
    async with database.connection() as connection:
        await connection.value("can_write")
        alive = int(await connection.value("workers_alive", **{"class": ALIVE}))
        stalled = await connection.one("stalled_work") or {}
        relays = await connection.all("relay_states", **{"class": ALIVE})
        waiting = await connection.all("work_by_urgency")
        open_ones = await connection.all("open_incidents")
    return [
        Finding(name="ledger", health=Health.OK, detail="takes writes"),
        workers(alive, stalled["seconds"], stalled["being_sent"]),
        _waiting(waiting),
        *(_circuit(row) for row in relays),
        *(_incident(row) for row in open_ones),
    ]


def workers(alive: int, waiting_seconds: float, being_sent: int) -> Finding:
    """Whether somebody does the work: judged by live workers, and by work that waits although nobody is sending."""
    name = "workers"
    remedy = "Start one: `dispatcher worker`; if some run, their logs say why they do not get on."
    if waiting_seconds > STALLED and not being_sent:
        detail = f"work has waited for {waiting_seconds:,.0f} s and nobody takes it; {alive} alive"
        return Finding(name=name, health=Health.FAIL, detail=detail, remedy=remedy)
    if not alive:
        return Finding(name=name, health=Health.WARN, detail="none is running", remedy=remedy)
    return Finding(name=name, health=Health.OK, detail=f"{alive} alive, {being_sent} batches being sent")


def _waiting(rows: list[db.Row]) -> Finding:
    """How much waits, and for how long."""
    name = "waiting work"
    readers = sum(row["readers"] for row in rows)
    oldest = max((row["seconds"] for row in rows), default=0.0)
    if not rows:
        return Finding(name=name, health=Health.OK, detail="none")
    detail = f"{readers:,} readers, the oldest for {oldest:,.0f} s"
    if oldest > LONG_WAIT:
        remedy = "`dispatcher blast list` shows what is under way; more lanes or relays send it faster."
        return Finding(name=name, health=Health.WARN, detail=detail, remedy=remedy)
    return Finding(name=name, health=Health.OK, detail=detail)


def _circuit(row: db.Row) -> Finding:
    """A relay as the workers find it, not as it answers this program just now."""
    name = f"circuit {row['relay']}"
    if row["closed"] == row["workers"]:
        detail = f"closed in all {row['workers']} workers, {row['lanes']} lanes open, {row['overdue']} overdue"
        return Finding(name=name, health=Health.OK, detail=detail)
    return Finding(
        name=name,
        health=Health.FAIL if row["shut"] or row["unwanted"] else Health.WARN,
        detail=f"open in {row['workers'] - row['closed']} of {row['workers']} workers: {row['reason'] or 'no reason'}",
        remedy="Mend it there, or take it out of DISPATCHER_SMTP_URL. Workers ask it again every 15 s by themselves.",
    )


def _incident(row: db.Row) -> Finding:
    return Finding(
        name=row["kind"].replace("_", " "),
        health=Health.FAIL,
        detail=f"{row['text']} Open for {row['seconds']:,.0f} s.",
        remedy=REMEDIES.get(row["kind"], NO_REMEDY),
    )


def broker(url: str) -> Finding:
    """Whether the broker answers within `BROKER_TIMEOUT` seconds. Blocks until then."""
    with new_celery(url, timeout=BROKER_TIMEOUT).connection_for_write() as connection:
        name = connection.as_uri()  # with its password starred out
        try:
            connection.ensure_connection(max_retries=1, timeout=BROKER_TIMEOUT, reraise_as_library_errors=False)
        except (OSError, *connection.connection_errors) as error:
            return Finding(
                name="broker",
                health=Health.FAIL,
                detail=f"{name} does not answer: {error}",
                remedy="Start it, or correct DISPATCHER_BROKER_URL. Meanwhile updates go out a few seconds later.",
            )
    return Finding(name="broker", health=Health.OK, detail=name)


async def _relay(relay: RelaySettings) -> Finding:
    found = await probe(relay)
    name = f"relay {relay.name}"
    if not found.reachable:
        return Finding(name=name, health=Health.FAIL, detail=found.detail, remedy=found.remedy)
    if not found.pipelining:
        return Finding(name=name, health=Health.WARN, detail=found.detail, remedy=found.remedy)
    if relay.password and not found.tls:
        remedy = "Use smtps://, or starttls=require."
        return Finding(name=name, health=Health.WARN, detail="the password travels unencrypted", remedy=remedy)
    return Finding(name=name, health=Health.OK, detail=found.detail + (", with TLS" if found.tls else ""))


def _failed(name: str, error: DispatcherError) -> Finding:
    return Finding(name=name, health=Health.FAIL, detail=error.message, remedy=error.remedy)
