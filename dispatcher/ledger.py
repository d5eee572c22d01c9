"""The ledger's pen: one committer per process writes all waiting outcomes in one statement, again and again.

While one commit is on its way the next outcomes gather, so the batch size finds itself: the busier, the larger.
A lane goes on only when its outcome is committed. If the database is away, lanes wait, and nothing is sent that
could not be written down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from dispatcher import db
from dispatcher.db.statement import Statement
from dispatcher.errors import DatabaseUnavailable
from dispatcher.model import ChannelName, DeliveryState

log = structlog.get_logger()

#: Most rows that one statement writes.
MOST_ROWS = 2000
RECONNECT = 0.5
#: What `_cells` gives, by the names that the statement has for it.
PARAMETERS = ("blasts", "subscribers", "states", "attempts", "in_doubt", "retry_in", "codes", "relays", "replies")
NOTHING = [b"{}"] * len(PARAMETERS)
OPEN = (DeliveryState.DEFERRED, DeliveryState.IN_DOUBT)


@dataclass(slots=True)
class Entry:
    """One outcome to be written: what became of one blast for one subscriber."""

    blast_id: int
    subscriber_id: int
    state: DeliveryState
    attempts: int
    in_doubt_count: int
    retry_in: float | None  #: seconds from now, on the database's clock; None: not again
    code: int | None
    relay: str
    reply: str
    recorded: Callable[[], None]  #: called once the row is committed
    bad_address: bool = False  #: there is no such address or device: never send to it again
    channel: ChannelName = ChannelName.EMAIL
    address: str = ""  #: of a bad address: where it was sent to

    @property
    def is_gone(self) -> bool:
        """Whether it is a device of which its push service says that it is no more."""
        return self.bad_address and self.channel is not ChannelName.EMAIL


class Ledger:
    """Collects entries and commits them in groups. One for a process, on one event loop."""

    def __init__(self, database: db.Database) -> None:
        self._database = database
        self._waiting: list[Entry] = []
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.trouble = ""  #: why entries cannot be written just now
        self.commits = 0
        self.rows = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def put(self, entry: Entry) -> None:
        """Write this entry with the next commit."""
        self._waiting.append(entry)
        self._more.set()

    def put_all(self, entries: Iterable[Entry]) -> None:
        self._waiting.extend(entries)
        self._more.set()

    async def close(self) -> None:
        """Write what waits, then stop."""
        self._closing = True
        self._more.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while not (self._closing and not self._waiting):
            try:
                connection = await self._database.dedicated()
            except DatabaseUnavailable as error:
                await self._trouble(error.message)
                continue
            try:
                async with Statement(connection, "record", PARAMETERS) as record:
                    await record.run(NOTHING)  # planned now, not when the first reader waits for it
                    self.trouble = ""
                    await self._write_until_lost(record)
            except Exception as error:  # noqa: BLE001  # without its ledger a worker can do nothing: try for ever
                await self._trouble(f"{type(error).__name__}: {str(error).strip().split(chr(10))[0]}")
            finally:
                await connection.close()

    async def _write_until_lost(self, record: Statement) -> None:
        while True:
            if not self._waiting:
                if self._closing:
                    return
                self._more.clear()
                await self._more.wait()
                continue
            group = self._waiting[:MOST_ROWS]
            await self._try_moved_again([entry for entry in group if entry.is_gone])
            await record.run(_values(group))
            if bad := [entry for entry in group if entry.bad_address]:
                await self._suppress(bad)
            # Only now: had the connection been lost, the same group would be written again; that changes nothing.
            del self._waiting[: len(group)]
            self.commits += 1
            self.rows += len(group)
            for entry in group:
                try:
                    entry.recorded()
                except Exception:
                    log.exception("a lane failed", blast=entry.blast_id, subscriber=entry.subscriber_id)

    async def _try_moved_again(self, gone: list[Entry]) -> None:
        """A device that was given another endpoint meanwhile is not gone. It is written down as one to be tried once
        more: were that added afterwards, its blast might have ended in between.
        """
        if not gone:
            return
        async with self._database.connection() as connection:
            rows = await connection.all(
                "moved_devices",
                ids=[entry.subscriber_id for entry in gone],
                endpoints=[entry.address for entry in gone],
            )
        moved = {row["id"] for row in rows}
        for entry in gone:
            if entry.subscriber_id in moved:
                entry.state, entry.retry_in, entry.bad_address = DeliveryState.DEFERRED, 0.0, False

    async def _suppress(self, bad: list[Entry]) -> None:
        addresses = [entry for entry in bad if entry.channel is ChannelName.EMAIL]
        devices = [entry for entry in bad if entry.is_gone]
        async with self._database.connection() as connection:
            if addresses:
                await connection.execute(
                    "suppress_bad_addresses",
                    ids=[entry.subscriber_id for entry in addresses],
                    reasons=[f"no such address ({entry.reply.partition(' ')[0]})" for entry in addresses],
                )
            if devices:
                await connection.execute(
                    "remove_gone_devices",
                    ids=[entry.subscriber_id for entry in devices],
                    endpoints=[entry.address for entry in devices],
                )

    async def _trouble(self, why: str) -> None:
        self.trouble = why
        log.error("ledger cannot write", reason=why, waiting=len(self._waiting))
        await asyncio.sleep(RECONNECT)


def _values(group: list[Entry]) -> list[bytes]:
    """The columns of a group as array literals, in the order of `PARAMETERS`."""
    if len({(entry.blast_id, entry.subscriber_id) for entry in group}) < len(group):
        # One statement cannot write a row twice. Of two entries for one reader a final one counts, else the later.
        ordered = sorted(group, key=_is_final)
        group = list({(entry.blast_id, entry.subscriber_id): entry for entry in ordered}.values())
    columns = zip(*map(_cells, group), strict=True)
    return [("{" + ",".join(column) + "}").encode() for column in columns]


def _is_final(entry: Entry) -> bool:
    return entry.state not in OPEN


def _cells(entry: Entry) -> tuple[str, ...]:
    """One entry's cells, each as it stands in an array literal."""
    retry_in, code = entry.retry_in, entry.code
    return (
        str(entry.blast_id),
        str(entry.subscriber_id),
        entry.state.value,
        str(entry.attempts),
        str(entry.in_doubt_count),
        "NULL" if retry_in is None else f"{retry_in:.3f}",
        "NULL" if code is None else str(code),
        _quoted(entry.relay),
        _quoted(entry.reply),
    )


def _quoted(text: str) -> str:
    """A text as an element of an array literal (PostgreSQL documentation, 8.15.6)."""
    if "\\" in text or '"' in text or "\0" in text:
        text = text.replace("\0", " ").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
