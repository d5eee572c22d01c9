"""Notices: mails to one reader that this person waits for. They travel on the mail's lanes, ahead of everything else.

As with batches, the row is the queue: claimed under a lease, sent outside any transaction, recorded before the lane
goes on. A notice whose worker dies is free again at once, and one that kills its workers is given up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, Protocol

import structlog

from dispatcher import db, policy, stories
from dispatcher.addresses import needs_utf8
from dispatcher.channels import Fate, Outcome
from dispatcher.channels.email.letter import Letter, Values
from dispatcher.channels.feed import Backlog
from dispatcher.config import Settings
from dispatcher.errors import Invalid
from dispatcher.letters import LetterFailed, Letters
from dispatcher.model import DeliveryState, NoticeKind, Story, Urgency
from dispatcher.parcels import OVERDUE_MARGIN
from dispatcher.pulse import ALIVE, LEASE, RESERVE
from dispatcher.rendering.notices import NoticeView
from dispatcher.tokens import ConfirmTokens, MessageIds, invitation_seal, leave_links, manage_links

log = structlog.get_logger()

#: Notices that one process claims at once, and has on their way at most.
AT_ONCE = 100
MOST = 200
#: A mail on which so many workers have died is claimed only by a worker that has no other on its way: should this one
#: die too, it is clear of what.
SUSPECT = 2
#: Seconds before a notice is tried again that failed for a reason of ours.
ERROR_PAUSE = 15.0
#: Seconds at least before one is claimed again that came back: whatever was in its way is seldom gone at once.
LEAST_PAUSE = 1.0
#: Seconds at least between two looks for notices.
CLAIM_EVERY = 0.02
RECONNECT = 0.5
#: What of a mail's `detail` is for nobody to read.
HIDDEN = frozenset({"sealed", "token_hash", "path"})
#: Mails to those who work here: they lead to a page of the desk.
FOR_THE_DESK = frozenset({NoticeKind.INVITATION, NoticeKind.OVERRIDE, NoticeKind.NOT_SENT, NoticeKind.UNSCHEDULED})
#: What the ledger of notices keeps of one that was not sent.
OVER = "what it is about was over before it went out"


class Notice:
    """One claimed notice: a row of `claim_notices`."""

    def __init__(self, row: db.Row, deadline: float) -> None:
        self.id: int = row["id"]
        self.kind = NoticeKind(row["kind"])
        self.email: str = row["email"]
        self.address_hash: bytes = row["address_hash"]
        self.name: str = row["name"]
        self.subscriber_id: int = row["subscriber_id"] or 0
        self.story_id: int = row["story_id"] or 0
        self.story: Story | None = None if row["slug"] is None else stories.story_from({**row, "id": row["story_id"]})
        self.confirmation_id: int = row["confirmation_id"] or 0
        self.blast_id: int = row["blast_id"] or 0  #: of the update that a reader is caught up with
        self.locale: str = row["locale"]
        self.timezone: str = row["timezone"]
        self.cadence: str = row["cadence"]
        self.confirmed_at: datetime | None = row["confirmed_at"]
        self.attempts: int = row["attempts"]
        #: A worker that died with it may have sent it.
        self.in_doubt_count: int = max(row["in_doubt_count"], int(row["claims"] > 1))
        self.suppressed_because: str | None = row["suppressed_because"]
        self.withdrawn: bool = row["withdrawn"]
        self.detail: dict[str, str] = row["detail"]  #: what a mail to the desk is about
        self.token: int = row["lease_token"]
        self.is_suspect: bool = row["claims"] > SUSPECT  #: workers have died on it before
        self.is_called_back = False  #: its reader may have gone since it was claimed: look again
        self.deadline = deadline  #: on the monotonic clock: not begun after it
        self.expires_at = time.monotonic() + row["expires_in"]

    def skipped(self) -> tuple[DeliveryState, str] | None:
        """Why it is not sent, if so."""
        if self.withdrawn:
            return DeliveryState.WITHDRAWN, OVER
        if self.suppressed_because is not None:
            return DeliveryState.SUPPRESSED, self.suppressed_because
        if self.expires_at <= time.monotonic():
            return DeliveryState.EXPIRED, "it expired before a relay took it"
        return None


class Result(NamedTuple):
    """What became of a notice, to be written down. `recorded` is called when it is."""

    notice: Notice
    outcome: Outcome
    settled: policy.Settlement
    recorded: Callable[[], None]


class NoticeMail:
    """A `Parcel`: a notice on its way."""

    __slots__ = ("_counter", "_letter", "_notice", "_values", "address", "needs_utf8", "return_path", "returns",
                 "urgency")  # fmt: skip

    def __init__(self, counter: Counter, notice: Notice, letter: Letter, values: Values, return_path: str) -> None:
        self._counter = counter
        self._notice = notice
        self._letter = letter
        self._values = values
        self.urgency = int(Urgency.TRANSACTIONAL)
        self.returns = 0
        self.return_path = return_path
        self.address = notice.email
        self.needs_utf8 = needs_utf8(notice.email)

    def wanted(self) -> bool:
        return not self._counter.is_stopped(self._notice)

    def message(self, *, eight_bit: bool) -> bytes:
        return self._letter.splice(self._values, eight_bit=eight_bit)

    def settle(self, outcome: Outcome, recorded: Callable[[], None]) -> None:
        if outcome.fate is Fate.UNSENT:
            self._counter.give_back(self._notice, outcome.wait)
            recorded()
        else:
            self._counter.settle(self._notice, outcome, recorded)

    def overdue(self, patience: float) -> None:
        outcome = Outcome(Fate.IN_DOUBT, None, "the message went out and the relay has not answered yet")
        self._counter.settle(self._notice, outcome, _nothing, retry_in=patience + OVERDUE_MARGIN)


class Counter(Protocol):
    """What a notice on its way needs of whoever sent it."""

    def is_stopped(self, notice: Notice) -> bool: ...

    def give_back(self, notice: Notice, pause: float) -> None: ...

    def settle(
        self, notice: Notice, outcome: Outcome, recorded: Callable[[], None], *, retry_in: float | None = None
    ) -> None: ...


class Notices:
    """One process's part in sending them. On one event loop."""

    def __init__(
        self,
        settings: Settings,
        database: db.Database,
        letters: Letters,
        backlog: Backlog,
        *,
        worker: Callable[[], int | None],
        offered: Callable[[], None],
    ) -> None:
        """`worker` says this worker's number while it may claim, `offered` is called when the backlog has grown."""
        self._settings = settings
        self._database = database
        self._letters = letters
        self._backlog = backlog
        self._worker = worker
        self._offered = offered
        self._message_ids = MessageIds(settings.secret_key, settings.mail_domain)
        self._leave = leave_links(settings.secret_key)
        self._manage = manage_links(settings.secret_key)
        self._confirm = ConfirmTokens(settings.secret_key)
        self._invitation = invitation_seal(settings.secret_key)
        self._return_path = settings.mail_from.addr_spec
        self._held: dict[int, Notice] = {}  # by lease token
        self._results: list[Result] = []
        self._given_back: list[tuple[Notice, float]] = []
        self._poke = asyncio.Event()
        self._more = asyncio.Event()
        self._stopping = False
        self._closing = False
        self._claiming: asyncio.Task[None] | None = None
        self._recording: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._claiming = asyncio.create_task(self._claim_for_ever())
        self._recording = asyncio.create_task(self._record_for_ever())

    def nudge(self) -> None:
        """There may be something to claim. Returns at once."""
        self._poke.set()

    def stop(self) -> None:
        """Claim no more."""
        self._stopping = True
        self._poke.set()

    async def close(self) -> None:
        """Write down what has come to an end, and give the rest back. Call once nothing is on its way any more."""
        self.stop()
        if self._claiming is not None:
            await self._claiming
        self._closing = True
        self._more.set()
        if self._recording is not None:
            await self._recording

    def is_stopped(self, notice: Notice) -> bool:
        """True if this notice may not be begun any more."""
        return self._stopping or notice.is_called_back or time.monotonic() >= min(notice.deadline, notice.expires_at)

    def left(self, subscriber_id: int) -> None:
        """This reader may have gone, or paused: what waits for them here is looked at again before it is begun."""
        for notice in self._held.values():
            notice.is_called_back = notice.is_called_back or notice.subscriber_id == subscriber_id

    def give_back(self, notice: Notice, pause: float) -> None:
        """It was never offered to a relay."""
        self._held.pop(notice.token, None)
        self._given_back.append((notice, 0.0 if self._stopping else max(pause, LEAST_PAUSE)))
        self._more.set()

    def settle(
        self, notice: Notice, outcome: Outcome, recorded: Callable[[], None], *, retry_in: float | None = None
    ) -> None:
        """Write this outcome down with the next commit. With `retry_in`, nothing is tried for so many seconds."""
        settled = policy.settle(
            outcome,
            attempts=notice.attempts,
            in_doubt_count=notice.in_doubt_count,
            expires_in=notice.expires_at - time.monotonic(),
            in_doubt=self._settings.in_doubt,
        )
        if retry_in is not None:
            settled = settled._replace(retry_in=retry_in)
        self._put(Result(notice, outcome, settled, recorded))

    def _put(self, result: Result) -> None:
        self._results.append(result)
        self._more.set()

    def interrupted(self) -> None:
        """Others hold this worker for dead, and claim what it holds: begin none of it any more."""
        for notice in self._held.values():
            notice.is_called_back = True

    async def _claim_for_ever(self) -> None:
        while not self._stopping:
            self._poke.clear()
            since = time.monotonic()
            try:
                if await self._claim():
                    continue
            except Exception as error:  # noqa: BLE001  # a worker that claims no more is dead without knowing it
                log.error("cannot claim notices", error=type(error).__name__, reason=str(error).split("\n")[0])
                await asyncio.sleep(1)
                continue
            await self._poke.wait()
            # Whoever waits alone is served at once; in a rush a few gather first, for every worker hears of each.
            await asyncio.sleep(max(0.0, CLAIM_EVERY - (time.monotonic() - since)))

    async def _claim(self) -> bool:
        """Claim some and start them. False if there is nothing to do until the next poke."""
        worker = self._worker()
        if worker is None or len(self._held) >= MOST or any(notice.is_suspect for notice in self._held.values()):
            return False
        claimed_at = time.monotonic()
        async with self._database.connection() as connection:
            rows = await claim(connection, worker, may_be_alone=not self._held)
        claimed = [Notice(row, claimed_at + LEASE - RESERVE) for row in rows]
        self._held.update((notice.token, notice) for notice in claimed)
        if self._worker() != worker:
            self.interrupted()
        for notice in claimed:
            await self._begin(notice)
        return bool(claimed)

    async def _begin(self, notice: Notice) -> None:
        if self._stopping:
            self.give_back(notice, 0.0)
            return
        if (skip := notice.skipped()) is not None:
            state, why = skip
            settled = policy.Settlement(state, notice.attempts, notice.in_doubt_count, None)
            self._put(Result(notice, Outcome(Fate.FAILED, reply=why), settled, _nothing))
            return
        try:
            letter, values = await self._letter(notice), self._values(notice)
        except (LetterFailed, Invalid) as error:
            reason = error.reason if isinstance(error, LetterFailed) else error.message
            log.error("notice cannot be made", kind=str(notice.kind), notice=notice.id, reason=reason)
            self.settle(notice, Outcome(Fate.DEFERRED, reply=reason), _nothing)
        except Exception as error:
            log.exception("notice failed", kind=str(notice.kind), notice=notice.id, error=type(error).__name__)
            self.give_back(notice, ERROR_PAUSE)
        else:
            mail = NoticeMail(self, notice, letter, values, self._return_path)
            self._backlog.add(int(Urgency.TRANSACTIONAL), [mail])
            self._offered()

    async def _letter(self, notice: Notice) -> Letter:
        if notice.kind is NoticeKind.CATCH_UP:
            content = await self._letters.content(notice.blast_id)
            return await self._letters.letter(notice.blast_id, content, notice.locale, notice.timezone)
        if notice.kind is NoticeKind.TEST:
            return await self._letters.of_job(notice.detail["job"])
        view = NoticeView(
            newsroom=self._settings.newsroom,
            public_url=self._settings.public_url,
            mail_from=self._settings.mail_from,
            kind=notice.kind,
            story=notice.story,
            parts=tuple((name, str(notice.detail[name])) for name in sorted(notice.detail.keys() - HIDDEN)),
        )
        return await self._letters.notice(view, notice.locale, notice.timezone)

    def _values(self, notice: Notice) -> Values:
        action, manage = self._links(notice)
        blast_id, reader_id = notice.blast_id, notice.subscriber_id if notice.blast_id else notice.id
        return Values(
            address=notice.email,
            name=notice.name,
            message_id=self._message_ids.make(blast_id, reader_id),
            leave_url=action,
            manage_url=manage,
            wish=self._letters.wish(notice.cadence, notice.confirmed_at, notice.locale, notice.timezone),
        )

    def _links(self, notice: Notice) -> tuple[str, str]:
        """Where the mail's button leads, and to the reader's own page. Raises `Invalid` for a broken seal."""
        public = self._settings.public_url
        if notice.kind is NoticeKind.CONFIRM:
            token = self._confirm.make(notice.confirmation_id, notice.address_hash, notice.story_id)
            return f"{public}/confirm/{token}", ""
        if notice.kind is NoticeKind.INVITATION:
            token = self._invitation.open(notice.detail["sealed"], notice.address_hash)
            return f"{public}/desk/invitation/{token}", ""
        if notice.kind in FOR_THE_DESK:
            return f"{public}{notice.detail.get('path', '/desk/log')}", ""
        return (
            f"{public}/u/{self._leave.make(notice.story_id, notice.subscriber_id)}",
            f"{public}/manage/{self._manage.make(0, notice.subscriber_id)}",
        )

    async def _record_for_ever(self) -> None:
        while True:
            if not self._results and not self._given_back:
                if self._closing:
                    return
                self._more.clear()
                await self._more.wait()
                continue
            try:
                await self._record()
            except Exception as error:  # noqa: BLE001  # lanes wait for this: try for ever
                log.error("notices cannot be recorded", error=type(error).__name__, reason=str(error).split("\n")[0])
                if self._closing:
                    return  # the leases lapse, and others see to them
                await asyncio.sleep(RECONNECT)

    async def _record(self) -> None:
        # One statement cannot write a row twice: an overdue notice may have been answered in the meantime.
        results = list({result.notice.id: result for result in self._results}.values())
        given_back, count, returned = self._given_back, len(self._results), len(self._given_back)
        async with self._database.connection() as connection:
            if results:
                await connection.execute("record_notices", **_columns(results))
            if bad := [result for result in results if result.outcome.bad_address]:
                await connection.execute(
                    "suppress_notice_addresses",
                    ids=[result.notice.id for result in bad],
                    reasons=[f"no such address ({result.outcome.reply.partition(' ')[0]})" for result in bad],
                )
            if given_back:
                await connection.execute(
                    "release_notices",
                    ids=[notice.id for notice, _ in given_back],
                    tokens=[notice.token for notice, _ in given_back],
                    pauses=[pause for _, pause in given_back],
                )
        del self._given_back[:returned]
        done = self._results[:count]
        del self._results[:count]
        for result in done:
            self._held.pop(result.notice.token, None)
            result.recorded()
        self._poke.set()


async def claim(connection: db.Connection, worker: int, *, may_be_alone: bool) -> list[db.Row]:
    """What a worker may send now: several mails, or one suspect by itself if the worker `may_be_alone` with it."""
    values = {"worker": worker, "lease": LEASE, "suspect": SUSPECT, "class": ALIVE}
    rows = await connection.all("claim_notices", most=AT_ONCE, alone=False, **values)
    if not rows and may_be_alone:
        rows = await connection.all("claim_notices", most=1, alone=True, **values)
    return rows


def _columns(results: list[Result]) -> dict[str, list[object]]:
    return {
        "ids": [result.notice.id for result in results],
        "states": [str(result.settled.state) for result in results],
        "attempts": [result.settled.attempts for result in results],
        "in_doubt": [result.settled.in_doubt_count for result in results],
        "retry_in": [result.settled.retry_in for result in results],
        "codes": [result.outcome.code for result in results],
        "relays": [result.outcome.relay for result in results],
        "replies": [result.outcome.reply for result in results],
    }


def _nothing() -> None:
    pass
