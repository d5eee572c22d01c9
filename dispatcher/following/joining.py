"""A browser that followed by itself becomes one of a reader's."""

from __future__ import annotations

from dispatcher import db


async def join(tx: db.Connection, alone_id: int | None, subscriber_id: int) -> bool:
    """Bring a browser's reader without an address into another reader, with all that it follows.

    False, and nothing is changed, if `alone_id` is nobody, has an address, has no browser left, or is that reader.
    Devices come first: whoever else decides about a browser holds its row.
    """
    if alone_id is None or not await tx.execute("move_devices", **{"from": alone_id, "to": subscriber_id}):
        return False
    await tx.execute("join_followed", **{"from": alone_id, "to": subscriber_id})
    await tx.execute("drop_empty_reader", subscriber_id=alone_id)
    return True
