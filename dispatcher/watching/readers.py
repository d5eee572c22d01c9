"""The readers behind a number on the live page: by state, and by reason, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dispatcher import audit, db
from dispatcher.errors import Invalid
from dispatcher.model import ChannelName, DeliveryState
from dispatcher.reasons import Answer, Reason, in_words
from dispatcher.watching.looking import MOST_READERS, reason_of, retriable, unknown

#: Readers on one page of the list, and in one part of a download.
PAGE = 50
PART = 1_000
#: Rows of the ledger that are looked at for one page; where few of them have the reason, a page is not full.
WINDOW = 20_000
LAST = 2**63 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which readers of an update: of one channel or of all, in one state or in any, for one reason or for any."""

    channel: ChannelName | None = None
    state: DeliveryState | None = None
    reason: str = ""  #: the key of a `Reason`


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One reader or device, and what became of one message."""

    id: int  #: of the reader, or of the device that a push went to
    reader_id: int | None  #: None: erased since
    email: str | None  #: None: a browser without an address, or erased since
    device: str | None  #: a browser's name; None for mail
    channel: ChannelName
    state: DeliveryState
    reason: Reason
    recorded_at: datetime
    next_at: datetime | None
    attempts: int
    code: int | None
    relay: str
    reply: str


@dataclass(frozen=True, slots=True)
class Page:
    """Readers in the order of their numbers, and where the next page begins; None at the end."""

    readers: list[Listed]
    after: str | None


async def readers(
    database: db.Database, slug: str, seq: int, wanted: Wanted, *, after: str = "", limit: int = PAGE
) -> Page:
    """A page of the readers of an update, by `after` as the page before gave it. Raises `NotFound`, `Invalid`."""
    async with database.connection() as connection:
        blasts = await _blasts(connection, slug, seq, wanted.channel)
        number, last_id = _place(after)
        while number < len(blasts):
            blast_id, channel = blasts[number]
            found, end = await _some(connection, blast_id, channel, wanted, last_id, limit)
            following = (
                f"{number}-{end}" if end is not None else f"{number + 1}-0" if number + 1 < len(blasts) else None
            )
            if found or following is None or end is not None:
                return Page(found, following)
            number, last_id = number + 1, 0
    return Page([], None)


async def every_page(database: db.Database, slug: str, seq: int, wanted: Wanted) -> AsyncIterator[list[Listed]]:
    """All of them, a thousand at a time. Raises as `readers` does, before it yields anything."""
    after: str | None = ""
    while after is not None:
        page = await readers(database, slug, seq, wanted, after=after, limit=PART)
        yield page.readers
        after = page.after


async def answers(
    database: db.Database, slug: str, seq: int, blast_id: int, state: DeliveryState, key: str
) -> tuple[list[Answer], str]:
    """What was answered to those of one blast who ended in a state for one reason, and the reason in words.

    Nothing, if nobody is left whom a person could have tried again. Raises `NotFound` for a blast of another update.
    """
    async with database.connection() as connection:
        row = await connection.one("watched_update", slug=slug, seq=seq)
        channel = dict(await _blasts(connection, slug, seq, None)).get(blast_id)
        if row is None or channel is None:
            raise unknown(slug, seq)
        rows = await retriable(connection, blast_id, row["story_id"])
    meant = [each for each in rows if each["state"] == state and reason_of(each, channel).key == key]
    words = reason_of(meant[0], channel).words if meant else ""
    return [Answer(channel, state, each["code"], each["status"], each["reply"]) for each in meant], words


async def _blasts(
    connection: db.Connection, slug: str, seq: int, channel: ChannelName | None
) -> list[tuple[int, ChannelName]]:
    row = await connection.one("watched_update", slug=slug, seq=seq)
    if row is None:
        raise unknown(slug, seq)
    heads = await connection.all("watched_blasts", update_id=row["id"])
    found = [(head["id"], ChannelName(head["channel"])) for head in heads]
    return [each for each in found if channel is None or each[1] is channel]


def _place(after: str) -> tuple[int, int]:
    """Which blast, and the number of the last reader that was shown."""
    if not after:
        return 0, 0
    number, _, last_id = after.partition("-")
    if not (number.isascii() and number.isdecimal() and last_id.isascii() and last_id.isdecimal() and len(after) < 30):
        raise Invalid("There is no such page.", remedy="Begin with the first page.", field="after")
    return int(number), min(int(last_id), LAST)


async def _some(
    connection: db.Connection,
    blast_id: int,
    channel: ChannelName,
    wanted: Wanted,
    after: int,
    limit: int,
) -> tuple[list[Listed], int | None]:
    """So many readers of one blast, and where to go on; None if there are no more."""
    values: dict[str, Any] = {"blast_id": blast_id, "after": after}
    unreached = wanted.state is not None and wanted.state is not DeliveryState.ACCEPTED
    if unreached:
        values["state"] = str(wanted.state)
    end = await connection.value("end_of_unreached" if unreached else "end_of_ledger", most=WINDOW, **values)
    values |= {"until": LAST if end is None else end, "limit": limit}
    if unreached:
        values |= await _answers(connection, blast_id, channel, wanted)
        rows = await connection.all("unreached_of_blast", **values)
    else:
        rows = await connection.all("ledger_of_blast", only_accepted=wanted.state is not None, **values)
    found = [_listed(row, channel) for row in rows]
    if len(found) == limit:
        return found, found[-1].id
    return found, None if end is None else int(end)


async def _answers(
    connection: db.Connection, blast_id: int, channel: ChannelName, wanted: Wanted
) -> dict[str, list[Any] | bool]:
    """The answers that mean the wanted reason, as the ledger has them."""
    if not wanted.reason:
        return {"any_reason": True, "codes": [], "statuses": [], "replies": []}
    rows = await connection.all("watched_reasons", blast_ids=[blast_id], most=MOST_READERS)
    meant = [row for row in rows if reason_of(row, channel).key == wanted.reason]
    return {
        "any_reason": False,
        "codes": [-1 if row["code"] is None else row["code"] for row in meant],
        "statuses": [row["status"] for row in meant],
        "replies": [row["reply"] for row in meant],
    }


def _listed(row: db.Row, channel: ChannelName) -> Listed:
    state = DeliveryState(row["state"])
    status = _status(row["reply"]) if row["code"] is not None else ""
    return Listed(
        id=row["id"],
        reader_id=row["reader_id"],
        email=row["email"],
        device=row["device"],
        channel=channel,
        state=state,
        reason=in_words(Answer(channel, state, row["code"], status, row["reply"])),
        recorded_at=row["recorded_at"],
        next_at=row["next_at"],
        attempts=row["attempts"],
        code=row["code"],
        relay=row["relay"],
        reply=row["reply"],
    )


def _status(reply: str) -> str:
    """The enhanced status that a reply begins with, as the statement `watched_reasons` finds it."""
    first = reply.split(" ", 1)[0]
    parts = first.split(".")
    return first if len(parts) == 3 and all(part.isascii() and part.isdecimal() for part in parts) else ""


async def note_download(database: db.Database, slug: str, seq: int, *, by: str, detail: dict[str, str]) -> None:
    """Write into the log of the desk that somebody takes a list of readers. Raises `NotFound`."""
    async with database.transaction() as tx:
        if await tx.one("watched_update", slug=slug, seq=seq) is None:
            raise unknown(slug, seq)
        await audit.note(tx, actor=by, action="downloaded readers", subject=f"update:{slug}/{seq}", detail=detail)
