"""Files of readers that the desk hands in: checked whole before anything is imported, and watched while they are.

A file with a bad line changes nothing, unless whoever hands it in has allowed to leave bad lines out. It is worked on
by the process that has received it; how far it has come stands in the database, for every process to show. Should
that process end in the middle, the same file is handed in again: what is in already is not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import structlog

from dispatcher import audit, db, importing
from dispatcher.errors import DispatcherError, Invalid, NotFound
from dispatcher.importing import Imported, Refusal

log = structlog.get_logger()

#: Bytes and lines that a file from a browser may have; `dispatcher subscribers import` takes any number.
MAX_BYTES = 100_000_000
MAX_LINES = 2_000_000
#: A file with more bad lines than this is not the right file: nobody reads on. Where they may be left out, so many are
#: too many, and no more are kept for the report.
MOST_BAD = 1_000
MOST_KEPT = 20_000
#: Seconds between two notes of how far a file has come, and without one until it counts as lost.
EVERY = 0.5
SILENCE = 20.0
LISTED = 20
STORIES = 200


class Stopped(Exception):
    """This process ends."""


@dataclass(kw_only=True, slots=True)
class Upload:
    """One file on its way through this process."""

    id: int
    slug: str
    file: BinaryIO
    by: str
    confirmed: bool
    leaves_out: bool  #: bad lines are left out, and the others imported
    state: str = "waiting"
    bytes_read: int = 0
    counts: dict[str, Any] = field(default_factory=dict)
    bad: list[Refusal] = field(default_factory=list)  #: not yet in the database
    kept: int = 0  #: bad lines that are
    is_stopped: bool = False


class Uploads:
    """The files that one process works on, one after the other. On one event loop."""

    def __init__(self, database: db.Database, secret_key: str) -> None:
        self._database = database
        self._secret_key = secret_key
        self._turn = asyncio.Lock()
        self._running: dict[asyncio.Task[None], Upload] = {}

    async def begin(
        self, slug: str, name: str, size: int, file: BinaryIO, *, confirmed: bool, leaves_out: bool, by: str
    ) -> int:
        """Begin to work on an open file, which is closed in the end. Returns its number at once.

        Raises `NotFound` for a story that there is not, or that has ended.
        """
        async with self._database.transaction() as tx:
            await tx.execute("forget_imports")
            values = {"slug": slug, "name": audit.without_addresses(shown_name(name)), "size": size, "by": by}
            number = await tx.value("begin_import", **values, confirmed=confirmed, leaves_out=leaves_out)
        if number is None:
            raise NotFound("There is no such developing story.", remedy="Choose one from the list.", field="story")
        upload = Upload(id=number, slug=slug, file=file, by=by, confirmed=confirmed, leaves_out=leaves_out)
        task = asyncio.create_task(self._work(upload))
        self._running[task] = upload
        task.add_done_callback(self._forget)
        return int(number)

    async def close(self) -> None:
        """Stop, wherever each file is. Those that were being imported can be handed in again."""
        for task, upload in self._running.items():
            upload.is_stopped = True
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task).file.close()

    async def _work(self, upload: Upload) -> None:
        noting = asyncio.create_task(self._note_for_ever(upload))
        try:
            async with self._turn:
                state, reason = await self._outcome(upload)
        finally:
            noting.cancel()
            await asyncio.gather(noting, return_exceptions=True)
        try:
            await self._end(upload, state, reason)
        except DispatcherError as error:
            log.error("end of an import not noted", upload=upload.id, reason=error.message)

    async def _outcome(self, upload: Upload) -> tuple[str, str]:
        """Check a file, then import it; what became of it, and why."""
        try:
            upload.state = "checking"
            good = await asyncio.to_thread(check, upload)
            bad = len(upload.bad) + upload.kept
            if not good:
                return "refused", "There is no reader in this file."
            if bad and not upload.leaves_out:
                return "refused", f"{_lines(bad)} cannot be imported, so none was."
            upload.state, upload.bytes_read = "importing", 0
            upload.file.seek(0)
            await importing.import_file(
                self._database,
                upload.slug,
                upload.file,
                secret_key=self._secret_key,
                confirmed=upload.confirmed,
                progress=lambda done, so_far: _progressed(upload, done, so_far),
                refused=lambda refusal: _held_back(upload, refusal),
            )
        except DispatcherError as error:
            return "refused" if upload.state == "checking" else "failed", str(error)
        except Exception as error:
            log.exception("import failed", upload=upload.id, error=type(error).__name__)
            return "failed", "Something went wrong on our side. Hand the same file in again: what is in stays as it is."
        return "done", ""

    async def _note_for_ever(self, upload: Upload) -> None:
        """Write down how far a file has come. A database that is away is found out by the import itself."""
        while True:
            await asyncio.sleep(EVERY)
            with contextlib.suppress(DispatcherError):
                await self._keep_lines(upload)
                async with self._database.connection() as connection:
                    await connection.execute(
                        "see_import",
                        id=upload.id,
                        state=upload.state,
                        bytes_read=upload.bytes_read,
                        counts=json.dumps(upload.counts),
                    )

    async def _keep_lines(self, upload: Upload) -> None:
        taken = upload.bad[: MOST_KEPT - upload.kept]
        async with self._database.connection() as connection:
            await connection.execute(
                "keep_import_lines",
                id=upload.id,
                lines=[each.line for each in taken],
                fields=[each.column for each in taken],
                reasons=[each.reason for each in taken],
                details=[audit.without_addresses(each.detail) for each in taken],
            )
        del upload.bad[: len(taken)]
        upload.kept += len(taken)

    async def _end(self, upload: Upload, state: str, reason: str) -> None:
        await self._keep_lines(upload)
        async with self._database.transaction() as tx:
            values = {"bytes_read": upload.bytes_read, "counts": json.dumps(upload.counts)}
            await tx.execute("end_import", id=upload.id, state=state, reason=reason, **values)
            if state == "done":
                detail = {"import": upload.id, "confirmed": upload.confirmed, **upload.counts}
                await audit.note(
                    tx, actor=upload.by, action="imported readers", subject=f"story:{upload.slug}", detail=detail
                )


def check(upload: Upload) -> int:
    """Read the whole file, and say how many lines are good. Raises `Invalid` for what is no list of readers at all."""

    def progressed(done: int, lines: int) -> None:
        upload.bytes_read, upload.counts = done, {"read": lines}
        if upload.is_stopped:
            raise Stopped
        if lines > MAX_LINES:
            raise Invalid(
                f"The file has more than {MAX_LINES:,} lines.",
                remedy="Split it, or use `dispatcher subscribers import` on the server.",
                field="file",
            )

    def refused(refusal: Refusal) -> None:
        _keep(upload, refusal)
        most = MOST_KEPT if upload.leaves_out else MOST_BAD
        if len(upload.bad) + upload.kept >= most:
            raise Invalid(
                f"More than {most:,} lines are bad, so nobody has read on.",
                remedy="See whether it is the right file, and saved as CSV in UTF-8.",
                field="file",
            )

    return importing.check(upload.file, refused=refused, progress=progressed)


def _progressed(upload: Upload, done: int, so_far: Imported) -> None:
    upload.bytes_read = done
    told = so_far.as_json()
    upload.counts = {name: told[name] for name in COUNTS} | {"refused": so_far.refused.total()}


#: What an import counts, in the order in which it is told.
COUNTS = ("read", "added", "activated", "already", "duplicates", "suppressed", "left")


def _held_back(upload: Upload, refusal: Refusal) -> None:
    """The bad lines are known since the check; those of readers who must be left alone are not."""
    if refusal.reason in (importing.SUPPRESSED, importing.LEFT):
        _keep(upload, refusal)


def _keep(upload: Upload, refusal: Refusal) -> None:
    if len(upload.bad) + upload.kept < MOST_KEPT:
        upload.bad.append(refusal)


def shown_name(name: str) -> str:
    """A file's name as it may be shown: without the directories that it claims to lie in."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(each for each in last if each.isprintable())[:80] or "readers.csv"


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"


@dataclass(frozen=True, slots=True)
class Report:
    """A file that was handed in, with the first of its bad lines."""

    row: Mapping[str, Any]
    lines: list[db.Row]


async def report(database: db.Database, number: int, *, limit: int = MOST_KEPT) -> Report:
    """How far a file has come, or what became of it, with at most so many bad lines. Raises `NotFound`."""
    async with database.connection() as connection:
        row = await connection.one("find_import", id=number, silence=SILENCE)
        if row is None:
            raise NotFound("There is no such import.", remedy="Imports are kept for 30 days.", field="import")
        return Report(row, await connection.all("import_lines_of", id=number, limit=limit))


async def listing(database: db.Database) -> list[db.Row]:
    """The files of late, the newest first."""
    async with database.connection() as connection:
        return await connection.all("list_imports", limit=LISTED, silence=SILENCE)


async def choices(database: db.Database) -> list[db.Row]:
    """The stories that readers can be imported for, as `slug` and `headline`."""
    async with database.connection() as connection:
        return await connection.all("developing_stories", limit=STORIES)
