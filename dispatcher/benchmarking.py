"""How fast an installation hands mail to a relay: a real blast through real workers, with letters of one exact size."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dispatcher import db, publishing, reporting
from dispatcher.channels.email.letter import Letter, Marks, Values, compile_letter
from dispatcher.config import Settings
from dispatcher.errors import Invalid
from dispatcher.model import BlastReport, DeliveryState, Draft, Importance
from dispatcher.nudges import Bell, Task
from dispatcher.pulse import ALIVE
from dispatcher.tokens import MessageIds, leave_links, manage_links

KB = 1024
SMALLEST_KB = 2
LARGEST_KB = 1024
#: Seconds that workers have to show that they are alive.
BOOT = 60.0
LOOK_EVERY = 0.1
WORDS = "The gauge at the bridge shows 6.12 metres, 38 centimetres more than an hour ago. "


@dataclass(frozen=True, slots=True)
class Cost:
    """What worker processes have used so far."""

    cpu_seconds: float
    rss_bytes: int  #: of the largest process


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a benchmark found. Times run from the publish commit, as in every blast."""

    report: BlastReport
    bytes: int  #: of one message, envelope not counted
    cpu_us_per_message: float | None  #: in all worker processes together; None if they are not ours to look at
    peak_rss_mb: float | None  #: of the largest worker process

    def as_json(self) -> dict[str, Any]:
        """The public form of `bench --json`."""
        whole = self.report.as_json()
        return {
            "messages": whole["candidates"],
            "accepted": whole["accepted"],
            **{name: whole[name] for name in ("seconds", "per_second")},
            "bytes": self.bytes,
            "cpu_us_per_message": self.cpu_us_per_message and round(self.cpu_us_per_message, 1),
            "peak_rss_mb": self.peak_rss_mb and round(self.peak_rss_mb, 1),
            **{name: whole[name] for name in ("first_ms", "p50_ms", "p99_ms")},
        }


async def run(
    settings: Settings,
    *,
    messages: int,
    size_kb: int,
    workers: int,
    cost: Callable[[], Cost] | None,
) -> Result:
    """Send `messages` mails of `size_kb` KiB each to the installation's relays, and leave nothing behind.

    Starts when `workers` worker processes are alive. `cost` reads what they have used.
    Raises `Invalid` for a size that no letter can have, `TimeoutError` if the workers do not come up.
    """
    if not SMALLEST_KB <= size_kb <= LARGEST_KB:
        raise Invalid(f"size-kb is from {SMALLEST_KB} to {LARGEST_KB}.", field="size-kb")
    slug = f"bench-{secrets.token_hex(4)}"
    bell = Bell(settings.broker_url)
    async with db.Database(settings.database_url, size=2) as database:
        async with database.transaction() as tx:
            story_id = await tx.value("bench_story", slug=slug)
            await tx.execute("bench_readers", slug=slug, readers=messages, story_id=story_id)
        async with database.connection() as connection:
            await connection.raw.execute("ANALYZE subscribers, subscriptions")
        await _workers_up(database, workers)
        before = cost() if cost else None
        async with database.transaction() as tx:
            published = await publishing.write(
                tx, slug, Draft(headline="Benchmark", body=WORDS, importance=Importance.ROUTINE), by="bench"
            )
            blast_id = published.blast_ids[0]
            letter, size = _letter(settings, story_id, blast_id, size_kb * KB)
            # Workers take a letter that is there already, as if another worker had compiled it.
            await tx.execute("keep_letter", blast_id=blast_id, variant="en/UTC", letter=letter.dumps())
        await bell.ring(Task.CUT)
        try:
            await _until_done(database, blast_id)
            after = cost() if cost else None
            report = await reporting.blast(database, blast_id)
        finally:
            await _forget(database, story_id, blast_id)
    accepted = report.states.get(DeliveryState.ACCEPTED, 0)
    used = (after.cpu_seconds - before.cpu_seconds) / accepted * 1e6 if before and after and accepted else None
    return Result(
        report=report,
        bytes=size,
        cpu_us_per_message=used,
        peak_rss_mb=after.rss_bytes / 1e6 if after else None,
    )


async def _workers_up(database: db.Database, workers: int) -> None:
    deadline = time.monotonic() + BOOT
    while True:
        async with database.connection() as connection:
            alive = await connection.value("workers_alive", **{"class": ALIVE})
        if alive >= workers:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {alive} of {workers} worker processes came up")
        await asyncio.sleep(0.1)


async def _until_done(database: db.Database, blast_id: int) -> None:
    """Wait with looks that cost next to nothing: a report a second would slow down what is measured."""
    while True:
        async with database.connection() as connection:
            head = await connection.one("blast_head", blast_id=blast_id)
        if head is None or head["state"] in ("done", "cancelled"):
            return
        await asyncio.sleep(LOOK_EVERY)


async def _forget(database: db.Database, story_id: int, blast_id: int) -> None:
    async with database.transaction() as tx:
        for statement in ("bench_forget_ledger", "bench_forget_blast"):
            await tx.execute(statement, blast_id=blast_id)
        for statement in ("bench_forget", "bench_forget_updates", "bench_forget_story"):
            await tx.execute(statement, story_id=story_id)


def _letter(settings: Settings, story_id: int, blast_id: int, size: int) -> tuple[Letter, int]:
    """A letter that makes messages of about `size` bytes, with every header and slot that a real one has."""
    values = Values(
        address="reader10000@bench-00000000.example.test",
        name="Reader 10000",
        message_id=MessageIds(settings.secret_key, settings.mail_domain).make(blast_id, 1),
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
