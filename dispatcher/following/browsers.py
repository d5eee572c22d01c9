"""Browsers that follow: with a reader's address, or all by themselves.

Whoever has a browser's endpoint and its secret is that browser. An endpoint alone moves nothing and tells nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from dispatcher import db
from dispatcher.errors import Conflict, NotFound
from dispatcher.following.answering import WEBPUSH
from dispatcher.following.asking import check_language, known_slug, open_story, usable_timezone
from dispatcher.following.joining import join
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
        return hashlib.sha256(self.endpoint.encode()).digest()


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
    name = one_line("name", device.name, longest=MAX_NAME, required=False)
    language, zone = check_language(locale), usable_timezone(timezone)
    async with database.transaction() as tx:
        story = open_story(await tx.one("find_following_story", slug=known_slug(slug)), slug)
        await tx.execute("lock_hashes", hashes=[device.endpoint_hash])
        if subscriber_id is not None:
            await _check_reader(tx, subscriber_id)
        reader_id = await _known_browser(tx, device, subscriber_id)
        if reader_id is None:
            reader_id = subscriber_id
            if reader_id is None:
                reader_id = await tx.value("create_browser_reader", locale=language, timezone=zone)
            await _add(tx, device, reader_id, name)
        await tx.execute(
            "follow_as_wished",
            story_id=story.id,
            subscriber_id=reader_id,
            cadence=str(cadence),
            channels=[WEBPUSH],
        )
    return reader_id


async def browser_reader(database: db.Database, endpoint: str, auth_secret: bytes) -> int | None:
    """Which reader the browser with this endpoint and secret is; None if nobody's, or the secret is another.

    Good for saying what this browser follows. It does not stand for a manage link: a browser may be shared.
    """
    endpoint_hash = hashlib.sha256(endpoint.encode(errors="surrogatepass")).digest()
    async with database.connection() as connection:
        row = await connection.one("find_device", endpoint_hash=endpoint_hash)
    secret = bytes(SECRET_SIZE) if row is None else row["auth_secret"]
    is_it = hmac.compare_digest(secret, auth_secret)
    return row["subscriber_id"] if is_it and row is not None else None


async def renew_device(database: db.Database, old_endpoint: str, old_auth_secret: bytes, device: NewDevice) -> int:
    """Give a browser the endpoint that its push service gave it now (`pushsubscriptionchange`); says whose it is.

    May be called again. Raises `NotFound` if no browser has the old endpoint and secret, nor the new one with its keys,
    and `Conflict` if the new endpoint is known with other keys.
    """
    old = NewDevice(endpoint=old_endpoint, public_key=b"", auth_secret=old_auth_secret)
    async with database.transaction() as tx:
        await tx.execute("lock_hashes", hashes=sorted({old.endpoint_hash, device.endpoint_hash}))
        before = await tx.one("lock_device", endpoint_hash=old.endpoint_hash)
        if before is None or not hmac.compare_digest(before["auth_secret"], old_auth_secret):
            reader_id = await _known_browser(tx, device, None)
            if reader_id is None:
                raise NotFound("This browser is not known.", remedy="Follow the story again in this browser.")
            return reader_id
        if before["id"] != (await tx.one("lock_device", endpoint_hash=device.endpoint_hash) or before)["id"]:
            # The page was quicker: the browser stands here twice.
            reader_id = await _known_browser(tx, device, before["subscriber_id"])
            await tx.execute("drop_device", device_id=before["id"])
        else:
            reader_id = before["subscriber_id"]
            await tx.execute("renew_device", device_id=before["id"], **_values(device))
    assert reader_id is not None  # noqa: S101  # both rows are held
    return reader_id


async def _check_reader(tx: db.Connection, subscriber_id: int) -> None:
    if await tx.one("reader_exists", subscriber_id=subscriber_id) is None:
        raise NotFound("There is no such reader any more.", field="subscriber")


async def _known_browser(tx: db.Connection, device: NewDevice, joins: int | None) -> int | None:
    """The reader of a browser that is known, after it has joined `joins`; None if it is new. Raises `Conflict`."""
    row = await tx.one("lock_device", endpoint_hash=device.endpoint_hash)
    if row is None:
        return None
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
    if row["is_alone"]:
        await join(tx, reader_id, joins)
    else:
        await tx.execute("move_device", device_id=row["id"], subscriber_id=joins)
    return joins


async def _add(tx: db.Connection, device: NewDevice, reader_id: int, name: str) -> None:
    await tx.execute("insert_device", subscriber_id=reader_id, name=name, **_values(device))


def _values(device: NewDevice) -> dict[str, object]:
    return {
        "endpoint": device.endpoint,
        "endpoint_hash": device.endpoint_hash,
        "public_key": device.public_key,
        "auth_secret": device.auth_secret,
    }
