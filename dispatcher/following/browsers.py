"""Browsers that follow: with a reader's address, or all by themselves.

Whoever has a browser's endpoint and its secret is that browser. An endpoint alone moves nothing and tells nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from dispatcher import db
from dispatcher.errors import Conflict, NotFound
from dispatcher.following.answering import WEBPUSH
from dispatcher.following.asking import check_language, known_slug, open_story, usable_timezone
from dispatcher.following.joining import hold_readers, join
from dispatcher.model import Cadence
from dispatcher.texts import one_line

MAX_NAME = 80
SECRET_SIZE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class NewDevice:
    """A browser as it introduces itself; the door has checked where its endpoint points and that its key is one."""

    endpoint: str
    public_key: bytes  #: 65 bytes, an uncompressed point (RFC 8291 §3.1)
    auth_secret: bytes  #: 16 bytes
    name: str = ""  #: what its reader knows it by: `Firefox on Linux`

    @property
    def endpoint_hash(self) -> bytes:
        return _endpoint_hash(self.endpoint)


async def follow_in_browser(
    database: db.Database,
    slug: str,
    device: NewDevice,
    *,
    cadence: Cadence,
    locale: str,
    timezone: str,
    subscriber_id: int | None = None,
) -> int:
    """Let a browser follow a story, and say which reader it is: a new one without an address, or the one it was.

    With `subscriber_id`, which only a manage link may name, the browser joins that reader, with all that it followed by
    itself. Raises `NotFound` for story and reader, `StoryEnded`, `Invalid` for name or language, and `Conflict` if the
    endpoint is known with other keys: then whoever asks is not that browser.
    """
    device = replace(device, name=one_line("name", device.name, longest=MAX_NAME, required=False))
    slug, language, zone = known_slug(slug), check_language(locale), usable_timezone(timezone)

    async def follow(tx: db.Connection) -> int:
        story = open_story(await tx.one("hold_followed_story", slug=slug), slug)
        [known], readers = await _hold(tx, [device.endpoint_hash], subscriber_id)
        if subscriber_id is not None and subscriber_id not in readers:
            raise NotFound("There is no such reader any more.", field="subscriber")
        if known is not None:
            reader_id = await _take(tx, device, known, readers, subscriber_id)
        else:
            reader_id = subscriber_id or await tx.value("create_browser_reader", locale=language, timezone=zone)
            await tx.execute("insert_device", subscriber_id=reader_id, name=device.name, **_values(device))
        await tx.execute(
            "follow_as_wished", story_id=story.id, subscriber_id=reader_id, cadence=str(cadence), channels=[WEBPUSH]
        )
        return reader_id

    return await _once_it_stands_still(database, follow)


async def browser_reader(database: db.Database, endpoint: str, auth_secret: bytes) -> int | None:
    """Which reader the browser with this endpoint and secret is; None if nobody's, or the secret is another.

    Good for saying what this browser follows. It does not stand for a manage link: a browser may be shared.
    """
    async with database.connection() as connection:
        row = await connection.one("find_device", endpoint_hash=_endpoint_hash(endpoint))
    secret = bytes(SECRET_SIZE) if row is None else row["auth_secret"]
    is_it = hmac.compare_digest(secret, auth_secret)
    return row["subscriber_id"] if is_it and row is not None else None


async def renew_device(database: db.Database, old_endpoint: str, old_auth_secret: bytes, device: NewDevice) -> int:
    """Give a browser the endpoint that its push service gave it now (`pushsubscriptionchange`); says whose it is.

    May be called again. Raises `NotFound` if no browser has the old endpoint and secret, nor the new one with its keys,
    and `Conflict` if the new endpoint is known with other keys.
    """

    async def renew(tx: db.Connection) -> int:
        [before, after], readers = await _hold(tx, [_endpoint_hash(old_endpoint), device.endpoint_hash])
        if before is None or not hmac.compare_digest(before["auth_secret"], old_auth_secret):
            if after is None:
                raise NotFound("This browser is not known.", remedy="Follow the story again in this browser.")
            return await _take(tx, device, after, readers)
        reader_id: int = before["subscriber_id"]
        if after is None or after["id"] == before["id"]:
            await tx.execute("renew_device", device_id=before["id"], **_values(device))
        else:
            # The page was quicker: the browser stands here twice.
            await _take(tx, device, after, readers, reader_id)
            await tx.execute("drop_device", device_id=before["id"])
        return reader_id

    return await _once_it_stands_still(database, renew)


class _Moved(Exception):
    """A browser became another reader's before its reader was held."""


async def _once_it_stands_still(database: db.Database, act: Callable[[db.Connection], Awaitable[int]]) -> int:
    """Do something with a browser in one transaction; from the beginning, and holding nothing, if it was moved."""
    while True:
        try:
            async with database.transaction() as tx:
                return await act(tx)
        except _Moved:
            continue


async def _hold(
    tx: db.Connection, endpoint_hashes: Sequence[bytes], joins: int | None = None
) -> tuple[list[db.Row | None], dict[int, bool]]:
    """Hold browsers, their readers, and the reader that one joins; None for a browser that is not known.

    The readers come back with whether they are without an address. Raises `_Moved`.
    """
    await tx.execute("lock_hashes", hashes=sorted(set(endpoint_hashes)))
    seen = [await tx.one("find_device", endpoint_hash=each) for each in endpoint_hashes]
    readers = await hold_readers(tx, [joins, *(row["subscriber_id"] for row in seen if row is not None)])
    rows = [await tx.one("find_device", endpoint_hash=each) for each in endpoint_hashes]
    # Whoever moves a browser holds its reader: from here on, those that are held stand still.
    if any(row is not None and row["subscriber_id"] not in readers for row in rows):
        raise _Moved
    return rows, readers


async def _take(
    tx: db.Connection, device: NewDevice, row: db.Row, readers: dict[int, bool], joins: int | None = None
) -> int:
    """The reader of a browser that is known and held, after it has joined `joins`. Raises `Conflict`."""
    same = hmac.compare_digest(row["auth_secret"], device.auth_secret)
    if not same or row["public_key"] != device.public_key:
        raise Conflict(
            "This browser is known with other keys.",
            remedy="Forbid notifications of this site, allow them again, and try once more.",
            field="keys",
        )
    reader_id: int = row["subscriber_id"]
    if joins is None or joins == reader_id:
        return reader_id
    if readers[reader_id]:
        await join(tx, reader_id, joins)
    else:
        await tx.execute("move_device", device_id=row["id"], subscriber_id=joins)
        await tx.execute("without_browsers", subscriber_id=reader_id)
    return joins


def _endpoint_hash(endpoint: str) -> bytes:
    return hashlib.sha256(endpoint.encode(errors="surrogatepass")).digest()


def _values(device: NewDevice) -> dict[str, object]:
    return {
        "endpoint": device.endpoint,
        "endpoint_hash": device.endpoint_hash,
        "public_key": device.public_key,
        "auth_secret": device.auth_secret,
    }
