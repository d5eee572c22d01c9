"""How fast an installation hands mail to a relay: a real blast through real workers, with letters of one exact size."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psutil

from dispatcher import db, publishing, reporting
from dispatcher.channels.email.letter import Letter, Marks, Values, compile_letter
from dispatcher.config import Settings
from dispatcher.errors import Invalid
from dispatcher.model import BlastReport, DeliveryState, Draft, Importance, Kind, urgency_of
from dispatcher.nudges import Bell, Task
from dispatcher.pulse import ALIVE
from dispatcher.tokens import MessageIds, leave_links, manage_links

KB = 1024
SMALLEST_KB = 2
LARGEST_KB = 1024
#: Seconds that workers have to show that they are alive.
BOOT = 60.0
LOOK_EVERY = 0.1
#: Seconds over which processes are watched until they rest, how long that may take, and what share of one processor
#: counts as resting.
REST = 0.5
REST_WITHIN = 15.0
AT_REST = 0.1
WORDS = "The gauge at the bridge shows 6.12 metres, 38 centimetres more than an hour ago. "
#: What the parts of a box that send mail are called.
WORKERS = ("worker", "urgent")


class Use(NamedTuple):
    """What one process has used so far."""

    part: str  #: worker1, postgres, …
    pid: int
    cpu_seconds: float  #: with what its children had used that have ended
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Audience:
    """The readers of a benchmark's story."""

    story_id: int
    slug: str
    readers: int
    import_seconds: float


@dataclass(frozen=True, slots=True)
class Running:
    """A benchmark's blast on its way, and what had been used before it."""

    blast_id: int
    bytes: int
    import_seconds: float
    wal: int
    ledger: int
    used: Sequence[Use]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a benchmark found. Times run from the publish commit, as in every blast."""

    report: BlastReport
    bytes: int  #: of one message, envelope not counted
    cut_ms: float  #: until the audience was frozen
    import_seconds: float  #: that it took to make the readers, before
    wal_bytes: int  #: that the whole database has written to its log meanwhile
    ledger_bytes: int  #: that the ledger has grown by
    cpu_seconds: Mapping[str, float]  #: by part; empty if the processes are not ours to look at
    processes: Sequence[Use]  #: of all parts, as they are in the end

    @property
    def accepted(self) -> int:
        return self.report.states.get(DeliveryState.ACCEPTED, 0)

    def cpu_us(self, *parts: str) -> float | None:
        """CPU time for each accepted message, in microseconds, of all parts whose names begin so."""
        used = [seconds for part, seconds in self.cpu_seconds.items() if part.startswith(parts)]
        return sum(used) / self.accepted * 1e6 if used and self.accepted else None

    @property
    def peak_rss_mb(self) -> float | None:
        """Of the largest worker process."""
        sizes = [each.peak_rss_bytes for each in self.processes if each.part.startswith(WORKERS)]
        return max(sizes) / 1e6 if sizes else None

    def as_json(self) -> dict[str, Any]:
        """The public form of `bench --json`."""
        whole = self.report.as_json()
        return {
            "messages": whole["candidates"],
            "accepted": whole["accepted"],
            **{name: whole[name] for name in ("seconds", "per_second")},
            "bytes": self.bytes,
            "cpu_us_per_message": _rounded(self.cpu_us(*WORKERS)),
            "peak_rss_mb": _rounded(self.peak_rss_mb),
            **{name: whole[name] for name in ("first_ms", "p50_ms", "p99_ms", "last_ms")},
            "cut_ms": round(self.cut_ms, 1),
            "import_seconds": round(self.import_seconds, 3),
            "database_cpu_us_per_message": _rounded(self.cpu_us("postgres")),
            "wal_bytes_per_message": _rounded(self.wal_bytes / self.accepted if self.accepted else None),
            "ledger_bytes_per_message": _rounded(self.ledger_bytes / self.accepted if self.accepted else None),
            "processes": [
                {"part": each.part, "cpu_seconds": round(each.cpu_seconds, 2), "peak_rss_mb": each.peak_rss_bytes / 1e6}
                for each in self.processes
            ],
        }


class Bench:
    """Makes readers, sends them blasts and measures; one after another or several at a time."""

    def __init__(
        self, settings: Settings, database: db.Database, bell: Bell, used: Callable[[], Sequence[Use]] = tuple
    ) -> None:
        """`used` reads what the processes of the installation have used."""
        self._settings = settings
        self._database = database
        self._bell = bell
        self._used = used

    async def workers_up(self, workers: int) -> None:
        """Wait until so many worker processes are alive, and have done what they do when they start.

        Raises `TimeoutError` if they do not come up.
        """
        deadline = time.monotonic() + BOOT
        while True:
            async with self._database.connection() as connection:
                alive = await connection.value("workers_alive", **{"class": ALIVE})
            if alive >= workers:
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {alive} of {workers} worker processes came up")
            await asyncio.sleep(LOOK_EVERY)
        await self._at_rest()

    async def audience(self, readers: int) -> Audience:
        """A story of its own with so many readers."""
        slug = f"bench-{secrets.token_hex(4)}"
        began = time.monotonic()
        async with self._database.transaction() as tx:
            story_id = await tx.value("bench_story", slug=slug)
            await tx.execute("bench_readers", slug=slug, readers=readers, story_id=story_id)
        async with self._database.connection() as connection:
            await connection.raw.execute("ANALYZE subscribers, subscriptions")
        return Audience(story_id, slug, readers, time.monotonic() - began)

    async def publish(
        self, audience: Audience, *, size_kb: int, importance: Importance = Importance.ROUTINE
    ) -> Running:
        """Send every reader a mail of `size_kb` KiB. Raises `Invalid` for a size that no letter can have."""
        _check_size(size_kb)
        letter, size = _letter(self._settings, audience.story_id, size_kb * KB)
        draft = Draft(headline="Benchmark", body=WORDS, importance=importance)
        used = self._used()
        async with self._database.transaction() as tx:
            before = await tx.one("bench_sizes") or {}
            published = await publishing.write(
                tx, audience.slug, draft, by="bench", is_approved=True
            )  # it reaches nobody
            # Workers take a letter that is there already, as if another worker had compiled it.
            await tx.execute("keep_letter", blast_id=published.blast_ids[0], variant="en/UTC", letter=letter.dumps())
        await self._bell.ring(Task.CUT, urgency=urgency_of(Kind.UPDATE, importance))
        return Running(published.blast_ids[0], size, audience.import_seconds, before["wal"], before["ledger"], used)

    async def finish(self, running: Running) -> Result:
        """Wait until nobody of the blast waits any more, and count."""
        await self._until_done(running.blast_id)
        used = self._used()
        report = await reporting.blast(self._database, running.blast_id)
        async with self._database.connection() as connection:
            after = await connection.one("bench_sizes") or {}
            cut_ms = await connection.value("bench_cut", blast_id=running.blast_id)
        return Result(
            report=report,
            bytes=running.bytes,
            cut_ms=cut_ms,
            import_seconds=running.import_seconds,
            wal_bytes=after["wal"] - running.wal,
            ledger_bytes=after["ledger"] - running.ledger,
            cpu_seconds=_difference(running.used, used),
            processes=used,
        )

    async def forget(self, audience: Audience) -> None:
        """Remove the readers, their story, and what was sent to them."""
        async with self._database.transaction() as tx:
            for statement in (
                *("bench_forget_ledger", "bench_forget_progress", "bench_forget_blasts", "bench_forget_readers"),
                *("bench_forget_updates", "bench_forget_story"),
            ):
                await tx.execute(statement, story_id=audience.story_id)

    async def progress(self, running: Running) -> int:
        """How many readers of a blast have a row in the ledger. Reads them all: look seldom."""
        async with self._database.connection() as connection:
            rows = await connection.all("blast_states", blast_id=running.blast_id)
        return sum(row["count"] for row in rows)

    async def _at_rest(self) -> None:
        """Wait until the installation's processes use hardly any CPU time, for `REST_WITHIN` seconds at most."""
        deadline = time.monotonic() + REST_WITHIN
        before = self._used()
        while before and time.monotonic() < deadline:
            await asyncio.sleep(REST)
            after = self._used()
            if sum(_difference(before, after).values()) < REST * AT_REST:
                return
            before = after

    async def _until_done(self, blast_id: int) -> None:
        """Wait with looks that cost next to nothing: a report a second would slow down what is measured."""
        while True:
            async with self._database.connection() as connection:
                head = await connection.one("blast_head", blast_id=blast_id)
            if head is None or head["state"] in ("done", "cancelled"):
                return
            await asyncio.sleep(LOOK_EVERY)


async def run(
    settings: Settings,
    *,
    messages: int,
    size_kb: int,
    workers: int,
    used: Callable[[], Sequence[Use]] = tuple,
    forget: bool = True,
) -> Result:
    """Send `messages` mails of `size_kb` KiB each to the installation's relays, and leave nothing behind.

    Starts when `workers` worker processes are alive. `used` reads what the installation's processes have used. Without
    `forget` the readers stay, for a database that is thrown away anyway.
    Raises `Invalid` for a size that no letter can have, `TimeoutError` if the workers do not come up.
    """
    _check_size(size_kb)
    async with db.Database(settings.database_url, size=2) as database:
        bench = Bench(settings, database, Bell(settings.broker_url), used)
        audience = await bench.audience(messages)
        try:
            await bench.workers_up(workers)
            return await bench.finish(await bench.publish(audience, size_kb=size_kb))
        finally:
            if forget:
                await bench.forget(audience)


def _check_size(size_kb: int) -> None:
    if not SMALLEST_KB <= size_kb <= LARGEST_KB:
        raise Invalid(f"size-kb is from {SMALLEST_KB} to {LARGEST_KB}.", field="size-kb")


def uses_of(parts: Mapping[str, int]) -> list[Use]:
    """What the processes of these parts, named with their process ids, have used, each with all its descendants."""
    return [use for part, pid in parts.items() for use in _family(part, pid)]


def _family(part: str, pid: int) -> Iterator[Use]:
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            times = process.cpu_times()
            peak = _peak_rss(process)
        except psutil.NoSuchProcess:
            continue  # it has ended meanwhile, and its parent tells what it had used
        seconds = times.user + times.system + times.children_user + times.children_system
        yield Use(part, process.pid, seconds, peak)


def _peak_rss(process: psutil.Process) -> int:
    """The most memory that a process has ever had, in bytes; where the kernel does not tell, what it has now."""
    try:
        with open(f"/proc/{process.pid}/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return int(process.memory_info().rss)


def _difference(before: Sequence[Use], after: Sequence[Use]) -> dict[str, float]:
    found: dict[str, float] = {}
    for sign, uses in ((-1, before), (1, after)):
        for use in uses:
            found[use.part] = found.get(use.part, 0.0) + sign * use.cpu_seconds
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _letter(settings: Settings, story_id: int, size: int) -> tuple[Letter, int]:
    """A letter that makes messages of about `size` bytes, with every header and slot that a real one has."""
    values = Values(
        address="reader10000@bench-00000000.example.test",
        name="Reader 10000",
        message_id=MessageIds(settings.secret_key, settings.mail_domain).make(story_id, 1),
        leave_url=f"{settings.public_url}/u/{leave_links(settings.secret_key).make(story_id, 1)}",
        manage_url=f"{settings.public_url}/manage/{manage_links(settings.secret_key).make(0, 1)}",
        wish="every update, since 8 March 2026",
    )
    filler = 0
    for _ in range(8):
        letter = _with_filler(settings, max(filler, 0))
        got = len(letter.splice(values, eight_bit=True))
        if abs(got - size) <= 16 or (got > size and not filler):
            break
        filler += size - got
    return letter, got


def _with_filler(settings: Settings, filler: int) -> Letter:
    marks = Marks.fresh("")
    prose = (WORDS * (filler // len(WORDS) + 1))[:filler]
    # A fifth of what an alert says stands in its text part too.
    lines = [prose[at : at + 70] for at in range(0, len(prose), 70)]
    cut = len(lines) // 5
    return compile_letter(
        subject="Benchmark",
        text="\n".join([*lines[:cut], f"Stop: {marks.leave_url}", ""]),
        html="<p>" + "\n".join(lines[cut:]) + f'</p><p>{marks.wish} <a href="{marks.manage_url}">Manage</a></p>',
        marks=marks,
        mail_from=settings.mail_from,
        date=datetime.now(UTC),
        headers=[("List-Id", f"<bench.stories.{settings.mail_domain}>"), ("Auto-Submitted", "auto-generated")],
    )
