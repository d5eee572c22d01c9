"""A browser that followed by itself becomes one of a reader's.

Whoever moves a browser holds, in this order, the hashes of the addresses and endpoints that it is about, and then the
readers by their numbers. So two of them wait for each other, and never in a ring.
"""

from __future__ import annotations

from collections.abc import Iterable

from dispatcher import db


async def hold_readers(tx: db.Connection, ids: Iterable[int | None]) -> dict[int, bool]:
    """Hold those of the readers that there are, until the transaction ends, and say of each if it has no address."""
    rows = await tx.all("lock_readers", ids=[each for each in ids if each is not None])
    return {row["id"]: row["is_alone"] for row in rows}


async def join(tx: db.Connection, alone_id: int | None, subscriber_id: int) -> bool:
    """Bring a browser's reader without an address into another reader, with all that it follows. Both are held.

    False, and nothing is changed, if `alone_id` is nobody, has an address, has no browser left, or is that reader.
    """
    if alone_id is None or not await tx.execute("move_devices", **{"from": alone_id, "to": subscriber_id}):
        return False
    await tx.execute("join_followed", **{"from": alone_id, "to": subscriber_id})
    await tx.execute("drop_empty_reader", subscriber_id=alone_id)
    return True
