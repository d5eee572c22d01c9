"""What became of a blast: counts by state that add up, percentiles from the publish commit, reasons."""

from __future__ import annotations

import asyncio
from typing import Any

from dispatcher import db
from dispatcher.db.revisions import revisions
from dispatcher.errors import DatabaseUnavailable, NotFound, Unavailable
from dispatcher.model import BlastReport, BlastState, ChannelName, DeliveryState, ListedBlast

TIMES = ("first_ms", "p50_ms", "p90_ms", "p99_ms", "last_ms")


async def blast(database: db.Database, blast_id: int) -> BlastReport:
    """One blast in numbers, all read in one snapshot. Raises `NotFound`."""
    async with database.transaction() as tx:
        await tx.execute("one_snapshot")
        row = await tx.one("blast_head", blast_id=blast_id)
        if row is None:
            raise NotFound(
                f"There is no blast {blast_id}.", remedy="`dispatcher blast list` shows which there are.", field="blast"
            )
        counts = await tx.all("blast_states", blast_id=blast_id)
        times = await tx.one("blast_times", blast_id=blast_id, published_at=row["published_at"]) or {}
        reasons = await tx.all("blast_reasons", blast_id=blast_id)
    passed: dict[str, Any] = {name: times.get(name) for name in TIMES}
    return BlastReport(
        **_head(row),
        states={DeliveryState(each["state"]): each["count"] for each in counts},
        reasons=tuple((each["reason"], each["count"]) for each in reasons),
        holding=row["holding"] or "",
        **passed,
    )


async def blasts(database: db.Database, *, limit: int = 20) -> list[ListedBlast]:
    """The open blasts, then the others, the newest first, at most `limit`."""
    async with database.connection() as connection:
        rows = await connection.all("list_blasts", limit=limit)
    return [ListedBlast(**_head(row)) for row in rows]


def _head(row: db.Row) -> dict[str, Any]:
    """What a report and a list both say of a blast."""
    return {
        "id": row["id"],
        "channel": ChannelName(row["channel"]),
        "state": BlastState(row["state"]),
        "story": row["slug"],
        "seq": row["seq"],
        "headline": row["headline"],
        "published_at": row["published_at"],
        "candidates": row["candidates"],
        "steered_by": row["steered_by"],
        "steered_at": row["steered_at"],
        "is_drill": row["is_drill"],
    }


async def ready(database: db.Database) -> None:
    """Return if the ledger can be written to, by a program of this version.

    Raises `DatabaseUnavailable` if the database does not answer or takes no writes, and `SchemaOutdated` if its schema
    is not the one that this program was written for.
    """
    async with database.transaction() as tx:
        found = await tx.one("schema_found") or {}
        if found["read_only"]:
            raise DatabaseUnavailable(
                "The database takes no writes.",
                remedy="It may be a standby: name the primary in DISPATCHER_DATABASE_URL.",
            )
        if not found["migrated"]:
            raise SchemaOutdated("The database has no schema yet.")
        await tx.one("can_write")
    at, newest = await asyncio.to_thread(revisions, database.url)
    if at != newest:
        raise SchemaOutdated(f"The schema is at revision {at or 'none'}; this program needs {newest}.")


class SchemaOutdated(Unavailable):
    """The database has another schema than this program needs."""

    remedy = "Run `dispatcher migrate` with the version of Dispatcher that runs here."
