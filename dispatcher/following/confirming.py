"""Double opt-in: a token from a mail shows what it would confirm, and a button confirms it."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from dispatcher import db, stories
from dispatcher.addresses import masked
from dispatcher.errors import NotFound
from dispatcher.following.answering import EMAIL, WEBPUSH, notice
from dispatcher.following.asking import open_story
from dispatcher.following.joining import hold_readers, join
from dispatcher.model import Cadence, NoticeKind, Story
from dispatcher.tokens import ConfirmTokens, confirm_token_hash


class BadConfirmLink(NotFound):
    """This link is not valid any more."""

    remedy = (
        "If you have just confirmed, all is well: you follow the story. "
        "Otherwise ask again on the story's page; a link is good for 48 hours and for one time."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pending:
    """What a confirm link would confirm, to be shown beside its button."""

    story: Story  #: may have closed since; `successor` then goes on
    successor_headline: str  #: empty if no story goes on where this one ended
    cadence: Cadence
    catch_up: bool
    email_masked: str  #: `a…@example.org`
    asked_by: int | None  #: the reader without an address whose browser asked, and may be brought along
    device_names: tuple[str, ...]  #: that browser; anybody may have asked from it, so whoever confirms says if it comes
    locale: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmed:
    """Who follows now, and what."""

    subscriber_id: int
    story: Story
    cadence: Cadence
    locale: str  #: of the confirmation, for the page that follows


async def pending(database: db.Database, token: str) -> Pending:
    """What `token` would confirm; changes nothing. Raises `BadConfirmLink` for every token that confirms nothing."""
    async with database.connection() as connection:
        row = await _open(connection, token)
    return Pending(
        story=stories.story_from(row),
        successor_headline=row["successor_headline"] or "",
        cadence=Cadence(row["cadence"]),
        catch_up=row["catch_up"],
        email_masked=masked(row["email"]),
        asked_by=row["device_subscriber_id"] if row["device_names"] else None,
        device_names=tuple(row["device_names"]),
        locale=row["locale"],
    )


async def confirm(database: db.Database, secret_key: str, token: str, *, with_browser: bool = False) -> Confirmed:
    """Let the reader of an address follow the story that their token names, and use the token up.

    It takes back that the reader left this story or erased themselves. `with_browser`: the browser that asked joins
    them; otherwise it goes on by itself, for whoever typed an address may not be who reads it. Raises `BadConfirmLink`,
    or `StoryEnded`, which leaves everything as it was.
    """
    async with database.transaction() as tx:
        row = await _open(tx, token)
        _check_bound(secret_key, token, row)
        await tx.execute("lock_hashes", hashes=[row["address_hash"]])
        story = open_story(await tx.one("hold_followed_story", slug=row["slug"]), row["slug"])
        if not await tx.execute("use_confirmation", confirmation_id=row["confirmation_id"]):
            raise BadConfirmLink
        await tx.execute("lift_own_erasure", address_hash=row["address_hash"])
        if await tx.value("find_suppression", address_hash=row["address_hash"]):
            raise BadConfirmLink
        subscriber_id = await _reader(tx, row)
        alone_id = row["device_subscriber_id"] if with_browser else None
        await hold_readers(tx, (subscriber_id, alone_id))
        joined = await join(tx, alone_id, subscriber_id)
        await tx.execute(
            "follow_as_wished",
            story_id=story.id,
            subscriber_id=subscriber_id,
            cadence=row["cadence"],
            channels=[EMAIL, WEBPUSH] if joined else [EMAIL],
        )
        if row["catch_up"]:
            await _catch_up(tx, row, story, subscriber_id)
    return Confirmed(subscriber_id=subscriber_id, story=story, cadence=Cadence(row["cadence"]), locale=row["locale"])


async def _open(connection: db.Connection, token: str) -> db.Row:
    row = await connection.one("open_confirmation", token_hash=confirm_token_hash(token))
    if row is None:
        raise BadConfirmLink
    return row


def _check_bound(secret_key: str, token: str, row: db.Row) -> None:
    """Only the token that we made for this address and story is good, whatever somebody wrote into the table."""
    made = ConfirmTokens(secret_key).make(row["confirmation_id"], row["address_hash"], row["id"])
    if not hmac.compare_digest(made.encode(), token.encode(errors="surrogatepass")):
        raise BadConfirmLink


async def _reader(tx: db.Connection, row: db.Row) -> int:
    """The reader with this address, who may be new."""
    found: int | None = await tx.value(
        "create_reader",
        email=row["email"],
        address_hash=row["address_hash"],
        locale=row["locale"],
        timezone=row["timezone"],
    )
    if found is None:
        found = await tx.value("reader_of_address", address_hash=row["address_hash"])
    assert found is not None  # noqa: S101  # whoever erases a reader holds the same lock
    return found


async def _catch_up(tx: db.Connection, row: db.Row, story: Story, subscriber_id: int) -> None:
    """Owe the reader the newest update, if the story has one that has not expired."""
    [found] = await tx.all("asked_stories", stories=[story.id])
    if found["update_id"] is not None:
        owed = notice(
            NoticeKind.CATCH_UP, row, subscriber_id=subscriber_id, story_id=story.id, update_id=found["update_id"]
        )
        await tx.execute("insert_notice", **owed)
