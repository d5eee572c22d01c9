"""A reader's own data: handed over whole, or erased but for a keyed hash.

What was sent stays counted: rows of the ledger keep their numbers, for whom nobody can say any more.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime, time
from typing import Any

from dispatcher import db, stories
from dispatcher.addresses import address_hash, parse_address
from dispatcher.errors import NotFound

#: Days back to which mails and deliveries are handed over.
EXPORTED_DAYS = 90


async def erase(database: db.Database, subscriber_id: int) -> None:
    """Remove a reader and all that is known of them; one who is gone already stays so.

    A keyed hash of the address stays, so that no import brings it back. A blast that is running stops within a second.
    """
    async with database.transaction() as tx:
        row = await tx.one("hash_of_reader", subscriber_id=subscriber_id)
        if row is None:
            return
        if row["address_hash"] is None:
            await _erase_reader(tx, subscriber_id)
        else:
            await _erase_address(tx, row["address_hash"])


async def erase_address(database: db.Database, secret_key: str, address: str) -> bool:
    """The same by the address, whether or not it is known: it is not written to any more. True if it was a reader's.

    Raises `Invalid` for what is no address.
    """
    hashed = address_hash(secret_key, parse_address(address))
    async with database.transaction() as tx:
        return await _erase_address(tx, hashed)


async def _erase_address(tx: db.Connection, hashed: bytes) -> bool:
    await tx.execute("erase_while_nobody_imports")
    await tx.execute("erase_asks", address_hash=hashed)
    await tx.execute("lock_hashes", hashes=[hashed])
    await tx.execute("erase_confirmations", address_hash=hashed)
    await tx.execute("erase_notices", address_hash=hashed)
    row = await tx.one("reader_to_erase", address_hash=hashed)
    if row is not None:
        await tx.execute("erase_from_reasons", subscriber_id=row["id"], email=row["email"])
        await _erase_reader(tx, row["id"])
    await tx.execute("suppress_erased", address_hash=hashed)
    return row is not None


async def _erase_reader(tx: db.Connection, subscriber_id: int) -> None:
    await tx.execute("hold_to_erase", subscriber_id=subscriber_id)
    await tx.execute("erase_replies", subscriber_id=subscriber_id)
    await tx.execute("erase_devices", subscriber_id=subscriber_id)
    await tx.execute("erase_subscriptions", subscriber_id=subscriber_id)
    await tx.execute("erase_reader", subscriber_id=subscriber_id)


async def export(database: db.Database, subscriber_id: int) -> dict[str, Any]:
    """Everything that is kept about a reader and about nobody else, ready for JSON; times in ISO 8601.

    Mails and deliveries go back `EXPORTED_DAYS` days. Raises `NotFound` once they are erased.
    """
    async with database.transaction() as tx:
        await tx.execute("one_snapshot")
        row = await tx.one("export_reader", subscriber_id=subscriber_id)
        if row is None:
            raise NotFound("There is nothing here any more.", field="subscriber")
        hashed = row.pop("address_hash")
        parts: dict[str, Any] = {
            "reader": row,
            "stories": await tx.all("export_subscriptions", subscriber_id=subscriber_id),
            "devices": await tx.all("export_devices", subscriber_id=subscriber_id),
            "confirmations": await tx.all("export_confirmations", address_hash=hashed),
            "notices": await tx.all("export_notices", address_hash=hashed),
            "deliveries": await tx.all("export_deliveries", subscriber_id=subscriber_id),
        }
    ready: dict[str, Any] = _ready(parts)
    return ready


def _ready(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, dict):
        return {name: _ready(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_ready(each) for each in value]
    return value.isoformat() if isinstance(value, datetime | time) else value


async def everybody(database: db.Database, slug: str | None = None) -> AsyncGenerator[db.Row, None]:
    """Every reader with an address and every story that they follow, one row each, in constant memory.

    Of one story only, if `slug` is given; raises `NotFound` for one that there is not.
    """
    story_id = None if slug is None else (await stories.find(database, slug)).id
    async with database.transaction() as tx, tx.raw.cursor("everybody") as cursor:
        cursor.itersize = 2000
        await cursor.execute(db.statements()["export_subscribers"], {"story_id": story_id})
        async for row in cursor:
            yield row
