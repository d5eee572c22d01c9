"""Find a reader by their address, and look at what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dispatcher import audit, db
from dispatcher.addresses import address_hash, parse_address
from dispatcher.errors import Invalid, NotFound
from dispatcher.texts import one_line

#: Characters that a beginning of an address needs at least: fewer would list half of the readers.
LEAST = 3
#: Readers that are listed at most.
MOST = 50
MAX_REASON = 500
#: No character sorts after this one.
_LAST = "\U0010ffff"


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A reader in a list."""

    id: int
    email: str
    name: str
    created_at: datetime
    stories: int  #: that they follow now
    is_suppressed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """A reader, but for what was sent."""

    row: db.Row  #: as `trace_reader` gives it
    subscriptions: list[db.Row]
    devices: list[db.Row]

    @property
    def id(self) -> int:
        return int(self.row["id"])


async def find(database: db.Database, secret_key: str, typed: str) -> int | None:
    """The number of the reader with exactly this address; None if it is no address, or nobody's."""
    try:
        hashed = address_hash(secret_key, parse_address(typed))
    except Invalid:
        return None
    async with database.connection() as connection:
        found = await connection.value("find_reader_by_hash", address_hash=hashed)
    return None if found is None else int(found)


async def search(database: db.Database, typed: str) -> list[Listed]:
    """Readers whose address begins so, at most `MOST`. Raises `Invalid` for less than `LEAST` characters."""
    low = typed.strip().lower()
    if len(low) < LEAST or "\0" in low:
        raise Invalid(f"Type at least {LEAST} characters of the address.", remedy="Begin at its start.", field="q")
    async with database.connection() as connection:
        rows = await connection.all("find_readers_by_prefix", low=low, high=low + _LAST, limit=MOST)
    return [Listed(**row) for row in rows]


async def reader(database: db.Database, subscriber_id: int) -> Reader:
    """What is known of a reader. Raises `NotFound`, also once they are erased."""
    async with database.connection() as connection:
        row = await connection.one("trace_reader", subscriber_id=subscriber_id)
        if row is None:
            raise nobody()
        return Reader(
            row=row,
            subscriptions=await connection.all("trace_subscriptions", subscriber_id=subscriber_id),
            devices=await connection.all("devices_of_reader", subscriber_id=subscriber_id),
        )


async def end(database: db.Database, subscriber_id: int, slug: str, *, by: str, reason: str) -> None:
    """End one subscription for a reader who asked the desk to. Raises `Invalid` without a reason, and `NotFound`."""
    reason = one_line("reason", reason, longest=MAX_REASON)
    async with database.transaction() as tx:
        if not await tx.execute("end_for_reader", subscriber_id=subscriber_id, slug=slug):
            raise NotFound("This reader does not follow that story.", remedy="Reload the page.", field="story")
        detail = {"story": slug, "reason": audit.without_addresses(reason)}
        await audit.note(
            tx, actor=by, action="ended a subscription", subject=audit.reader(subscriber_id), detail=detail
        )


def nobody() -> NotFound:
    return NotFound("There is no such reader.", remedy="They may have erased everything.", field="subscriber")
