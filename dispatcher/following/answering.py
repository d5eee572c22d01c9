"""What a worker answers to asks: at most one mail each, to the address alone, and within limits that no form knows.

The limits count what was owed to an address, whoever asked for it: so a list of forms cannot be turned into a weapon
against one inbox.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import structlog

from dispatcher import db
from dispatcher.addresses import mailbox_hash
from dispatcher.errors import DatabaseUnavailable
from dispatcher.model import ChannelName, NoticeKind
from dispatcher.tokens import ConfirmTokens, confirm_token_hash

log = structlog.get_logger()

#: Whoever holds it answers asks, and nobody else needs to.
ANSWER_LOCK = 7_214_004
#: Milliseconds of silence after which it is taken from a worker that sleeps, or whose host is cut off.
SILENCE = 3_000
#: Asks that are answered in one transaction.
MOST_ASKS = 200
#: Hours for which a confirm link is good.
CONFIRM_HOURS = 48
#: Hours after which such a mail is not sent any more: nobody waits for it.
NOTICE_HOURS = 24
#: Mails of each kind that an address is sent at most within an hour and within a day; to confirm, a mailbox.
LIMITS = {
    NoticeKind.CONFIRM: (1, 3),
    NoticeKind.LINK: (1, 3),
    NoticeKind.ALREADY: (1, 3),
    NoticeKind.FOLLOWING: (10, 30),
}
#: Whoever erased themselves may come back by confirming; no other suppression is ever lifted by a form.
OWN_ERASURE = "erased by the reader"
EMAIL = str(ChannelName.EMAIL)
WEBPUSH = str(ChannelName.WEBPUSH)


async def answer(database: db.Database, secret_key: str, *, alone: bool = False) -> int:
    """Answer up to `MOST_ASKS` asks, and say how many; 0: none waits that nobody else answers.

    What is owed then stands in `notices`. Any number of workers may answer at once; with `alone`, whoever finds another
    at it leaves all to that one: many at once would share a rush out in small pieces, at a multiple of the cost. An ask
    that cannot be answered stays, and holds up no other; raises what it raised if there was no other.
    """
    try:
        return await _answer(database, secret_key, alone=alone)
    except DatabaseUnavailable:
        raise
    except Exception as error:  # noqa: BLE001  # whatever is wrong with one, the others must not wait for it
        log.error("asks cannot be answered together", error=type(error).__name__)
        return await _answer_each(database, secret_key)


async def _answer(database: db.Database, secret_key: str, *, only: int | None = None, alone: bool = False) -> int:
    """Answer asks in one transaction, or `only` one."""
    async with database.transaction() as tx:
        if alone and not await tx.value("try_answering", lock=ANSWER_LOCK, milliseconds=SILENCE):
            return 0
        asks = sorted(await tx.all("take_asks", limit=MOST_ASKS, only=only), key=lambda ask: int(ask["id"]))
        if asks:
            for ask in asks:
                ask["mailbox_hash"] = mailbox_hash(secret_key, ask["email"])
            hashes = sorted({ask["address_hash"] for ask in asks})
            # Two workers must not each send the one mail that a mailbox may have.
            await tx.execute("lock_hashes", hashes=sorted({*hashes, *(ask["mailbox_hash"] for ask in asks)}))
            answers = Answers(await _look_up(tx, asks, hashes))
            for ask in asks:
                answers.to(ask)
            await _write(tx, answers, ConfirmTokens(secret_key))
    return len(asks)


async def _answer_each(database: db.Database, secret_key: str) -> int:
    """Answer asks each in a transaction of its own. Raises what the last one raised if none could be answered."""
    async with database.connection() as connection:
        waiting = [row["id"] for row in await connection.all("waiting_asks", limit=MOST_ASKS)]
    answered, trouble = 0, None
    for number in waiting:
        try:
            answered += await _answer(database, secret_key, only=number)
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  # see above
            trouble = error
            log.error("ask cannot be answered", ask=number, error=type(error).__name__)
    if trouble is not None and not answered:
        raise trouble
    return answered


class Standing(enum.Enum):
    """How a reader stands to a story, as far as an answer depends on it."""

    FOLLOWS = enum.auto()
    FRESH = enum.auto()  #: follows it since less than an hour ago, and was told so
    LEFT = enum.auto()
    UNCONFIRMED = enum.auto()


@dataclass(kw_only=True, slots=True)
class Known:
    """What the database knows of those who ask."""

    readers: dict[bytes, db.Row]
    standings: dict[tuple[int, int], Standing]  #: by reader and story
    in_hour: Counter[tuple[bytes, str]]  #: mails by address and kind, and those to confirm also by mailbox
    in_day: Counter[tuple[bytes, str]]
    newest: dict[int, int | None]  #: of every story that takes followers, its newest update


@dataclass(slots=True)
class Answers:
    """Decides what each ask is answered, and remembers it for the next ask of the same address."""

    known: Known
    confirmations: list[dict[str, Any]] = field(default_factory=list)
    subscriptions: list[dict[str, Any]] = field(default_factory=list)
    notices: list[dict[str, Any]] = field(default_factory=list)

    def to(self, ask: db.Row) -> None:
        reader = self.known.readers[ask["address_hash"]]
        if reader["suppressed_because"] not in (None, OWN_ERASURE):
            return
        if ask["kind"] == "link":
            if reader["id"] is not None and self._may(ask, NoticeKind.LINK):
                self._owe(ask, NoticeKind.LINK)
        elif ask["story_id"] in self.known.newest:
            self._to_follow(ask, reader)

    def _to_follow(self, ask: db.Row, reader: db.Row) -> None:
        standing = self.known.standings.get((reader["id"], ask["story_id"]))
        if standing in (Standing.FOLLOWS, Standing.FRESH):
            # Whoever presses a button twice is told once.
            if standing is Standing.FOLLOWS and self._may(ask, NoticeKind.ALREADY):
                self._owe(ask, NoticeKind.ALREADY, story_id=ask["story_id"])
        elif reader["is_confirmed"] and standing is not Standing.LEFT:
            if self._may(ask, NoticeKind.FOLLOWING):
                self._follow(ask, reader)
        elif self._may(ask, NoticeKind.CONFIRM):
            # The row waits for its number, of which its token is made.
            self.confirmations.append({**ask, "hours": CONFIRM_HOURS})

    def _follow(self, ask: db.Row, reader: db.Row) -> None:
        """One more story for a reader who has confirmed before. Their cadence elsewhere says nothing about this one."""
        story_id = ask["story_id"]
        self.known.standings[reader["id"], story_id] = Standing.FRESH
        # A browser of somebody else's is not let in by typing this reader's address: it goes on by itself.
        channels = [EMAIL, WEBPUSH] if ask["device_subscriber_id"] == reader["id"] else [EMAIL]
        self.subscriptions.append(
            {"story_id": story_id, "subscriber_id": reader["id"], "cadence": ask["cadence"], "channels": channels}
        )
        self._owe(ask, NoticeKind.FOLLOWING, story_id=story_id)
        update_id = self.known.newest[story_id]
        if ask["catch_up"] and update_id is not None:
            self._owe(ask, NoticeKind.CATCH_UP, story_id=story_id, update_id=update_id)

    def _may(self, ask: db.Row, kind: NoticeKind) -> bool:
        """Whether the address may be sent one more mail of this kind; if so, it counts from now on.

        Mails to confirm, which anybody can have sent to anybody, count for all addresses of a mailbox together.
        """
        counted = [(ask["address_hash"], str(kind))]
        if kind is NoticeKind.CONFIRM:
            counted.append((ask["mailbox_hash"], str(kind)))
        in_hour, in_day = LIMITS[kind]
        if any(self.known.in_hour[what] >= in_hour or self.known.in_day[what] >= in_day for what in counted):
            return False
        self.known.in_hour.update(counted)
        self.known.in_day.update(counted)
        return True

    def _owe(self, ask: db.Row, kind: NoticeKind, **more: Any) -> None:
        """A mail to a known reader, in that reader's own words and not in those of whoever asked."""
        reader = self.known.readers[ask["address_hash"]]
        own = {name: reader[name] for name in ("email", "address_hash", "locale", "timezone")}
        self.notices.append(notice(kind, own, subscriber_id=reader["id"], **more))


def notice(
    kind: NoticeKind,
    to: db.Row,
    *,
    subscriber_id: int | None = None,
    story_id: int | None = None,
    confirmation_id: int | None = None,
    update_id: int | None = None,
) -> dict[str, Any]:
    """The values of `insert_notice`; `to` has email, address_hash, locale and timezone."""
    return {
        "kind": str(kind),
        "email": to["email"],
        "address_hash": to["address_hash"],
        "locale": to["locale"],
        "timezone": to["timezone"],
        "subscriber_id": subscriber_id,
        "story_id": story_id,
        "confirmation_id": confirmation_id,
        "update_id": update_id,
        "hours": NOTICE_HOURS,
    }


async def _look_up(tx: db.Connection, asks: list[db.Row], hashes: list[bytes]) -> Known:
    readers = {row["address_hash"]: row for row in await tx.all("askers", hashes=hashes)}
    pairs = {
        (readers[ask["address_hash"]]["id"], ask["story_id"])
        for ask in asks
        if ask["story_id"] is not None and readers[ask["address_hash"]]["id"] is not None
    }
    standings = await tx.all(
        "askers_subscriptions", subscribers=[reader for reader, _ in pairs], stories=[story for _, story in pairs]
    )
    mails = await tx.all("mails_of_late", hashes=hashes)
    mailboxes = await tx.all("confirmations_of_late", hashes=sorted({ask["mailbox_hash"] for ask in asks}))
    mails += [{**row, "address_hash": row["mailbox_hash"], "kind": str(NoticeKind.CONFIRM)} for row in mailboxes]
    wanted = sorted({ask["story_id"] for ask in asks} - {None})
    return Known(
        readers=readers,
        standings={(row["subscriber_id"], row["story_id"]): _standing(row) for row in standings},
        in_hour=Counter({(row["address_hash"], row["kind"]): row["in_hour"] for row in mails}),
        in_day=Counter({(row["address_hash"], row["kind"]): row["in_day"] for row in mails}),
        newest={row["id"]: row["update_id"] for row in await tx.all("asked_stories", stories=wanted)},
    )


def _standing(row: db.Row) -> Standing:
    if row["has_ended"]:
        return Standing.LEFT
    if not row["is_confirmed"]:
        return Standing.UNCONFIRMED
    return Standing.FRESH if row["is_fresh"] else Standing.FOLLOWS


async def _write(tx: db.Connection, answers: Answers, tokens: ConfirmTokens) -> None:
    """Write what was decided: confirmations with the hashes of their tokens, subscriptions, and the mails owed."""
    ids = await tx.all("new_confirmation_ids", count=len(answers.confirmations))
    for row, drawn in zip(answers.confirmations, ids, strict=True):
        token = tokens.make(drawn["id"], row["address_hash"], row["story_id"])
        row |= {"id": drawn["id"], "token_hash": confirm_token_hash(token)}
    asked = [
        notice(NoticeKind.CONFIRM, row, story_id=row["story_id"], confirmation_id=row["id"])
        for row in answers.confirmations
    ]
    # Every worker takes rows of subscriptions in one order.
    answers.subscriptions.sort(key=lambda row: (row["story_id"], row["subscriber_id"]))
    statements = db.statements()
    async with tx.raw.cursor() as cursor:
        for name, rows in (
            ("insert_confirmation", answers.confirmations),
            ("follow_at_once", answers.subscriptions),
            ("insert_notice", [*asked, *answers.notices]),
        ):
            if rows:
                await cursor.executemany(statements[name], rows)
