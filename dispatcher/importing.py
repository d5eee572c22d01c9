"""Import followers of a story from a CSV file: any size in constant memory, good lines kept, bad ones named.

The file is read in a thread, chunk by chunk, while the database merges the chunk before. Every chunk commits by itself,
and importing the same file again changes nothing: so an import that was interrupted is simply started again.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from dispatcher import db, stories
from dispatcher.addresses import MAX_ADDRESS, MailAddress, address_hash, parse_address
from dispatcher.csvfiles import Broken, CsvFile, unguarded
from dispatcher.errors import DatabaseUnavailable, Invalid, StoryClosed
from dispatcher.texts import DEFAULT_TIMEZONE, is_timezone, one_line

#: Lines that are merged, and committed, at once.
CHUNK_LINES = 50_000
CHUNK_BYTES = 16 * 1024 * 1024
MAX_NAME = 200
MAX_LOCALE = 35
DEFAULT_LOCALE = "en"
COLUMNS = ("email", "name", "locale", "timezone")

BAD_ADDRESS = "not a mail address"
BAD_NAME = "not a name"
BAD_LOCALE = "unknown locale"
BAD_TIMEZONE = "unknown timezone"
SUPPRESSED = "suppressed"
LEFT = "left this story"

# What `parse_address` takes as it stands: small letters, digits and the commonest signs. A test holds both equal.
_PLAIN = re.compile(r"([a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*)@([a-z0-9.-]+)")
_LOCALE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that was not imported, and why. `column` is empty where it is about the whole line."""

    line: int
    column: str
    reason: str  #: one of a few, to count by
    detail: str  #: a sentence for whoever mends the file


@dataclass(kw_only=True, slots=True)
class Imported:
    """What an import did. `read` is the sum of all the other counts."""

    story: str
    confirmed: bool  #: whether the new subscriptions get mail at once, or wait for their readers' confirmation
    read: int = 0  #: lines with something on them, without the header
    added: int = 0  #: now follow the story
    activated: int = 0  #: had followed without confirmation, and are confirmed now
    already: int = 0  #: followed before, nothing changed
    duplicates: int = 0  #: further lines with an address that the file had named before
    suppressed: int = 0  #: must never be written to; left alone
    left: int = 0  #: left this story themselves; left alone
    refused: Counter[str] = field(default_factory=Counter)  #: by reason
    ignored_columns: tuple[str, ...] = ()
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        """The public form of `subscribers import --json`."""
        counts = ("read", "added", "activated", "already", "duplicates", "suppressed", "left")
        return {
            "story": self.story,
            "confirmed": self.confirmed,
            **{name: getattr(self, name) for name in counts},
            "refused": dict(self.refused.most_common()),
            "ignored_columns": list(self.ignored_columns),
            "seconds": round(self.seconds, 3),
        }


Progress = Callable[[int, Imported], None]


async def import_followers(
    database: db.Database,
    slug: str,
    path: Path,
    *,
    secret_key: str,
    confirmed: bool = False,
    progress: Progress = lambda _bytes, _so_far: None,
    refused: Callable[[Refusal], None] = lambda _refusal: None,
) -> Imported:
    """Let everybody in the CSV file `path` follow the story `slug`, as `import_file` does.

    Raises `Invalid` also if the file cannot be opened.
    """
    await stories.find(database, slug)
    try:
        with path.open("rb", buffering=1024 * 1024) as file:
            return await import_file(
                database, slug, file, secret_key=secret_key, confirmed=confirmed, progress=progress, refused=refused
            )
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror or error}.", field="file") from error


async def import_file(
    database: db.Database,
    slug: str,
    file: BinaryIO,
    *,
    secret_key: str,
    confirmed: bool = False,
    progress: Progress = lambda _bytes, _so_far: None,
    refused: Callable[[Refusal], None] = lambda _refusal: None,
) -> Imported:
    """Let everybody in an open CSV file follow the story `slug`.

    The header needs `email`; `name`, `locale` and `timezone` are optional, other columns are ignored. A reader who
    left the story and an address that is suppressed are never brought back. `progress` is called after every chunk
    with the bytes read, `refused` for every line that was not imported. Raises `Invalid` if the header cannot be read,
    `NotFound` for the story, `StoryClosed` once it has ended, `DatabaseUnavailable`, and OSError if the file cannot be
    read on.
    """
    began = time.monotonic()
    story = await stories.find(database, slug)
    result = Imported(story=slug, confirmed=confirmed)
    try:
        source = CsvFile(file, wanted="email")
        result.ignored_columns = tuple(name for name in source.columns if name not in COLUMNS)
        chunks = _chunks(source, secret_key)
        connection = await database.dedicated()
        try:
            await _take_in(connection, chunks, story.id, result, progress, refused)
        finally:
            await connection.close()
    except db.Lost as error:
        raise DatabaseUnavailable(
            "The database went away during the import.",
            remedy="Import the same file again: what is in already is not touched.",
        ) from error
    result.seconds = time.monotonic() - began
    return result


def check(
    file: BinaryIO, *, refused: Callable[[Refusal], None], progress: Callable[[int, int], None], every: int = 1_000
) -> int:
    """Read a whole open file as `import_file` would, and change nothing: the number of lines that could be imported.

    `refused` is called for every line that could not, `progress` after every so many lines, also empty ones, with the
    bytes read and the lines; what they raise ends it. Blocks. Raises `Invalid` if the header cannot be read.
    """
    source = CsvFile(_Watched(file, progress, every), wanted="email")  # type: ignore[arg-type]  # it reads lines alone
    encode = _encoder(source.columns, "only checked")
    good = 0
    for row in source.rows():
        if isinstance(row, Broken):
            refused(Refusal(row.line, "", str(row.reason), row.detail))
            continue
        try:
            encode(*row)
        except _Refused as refusal:
            refused(Refusal(row[0], refusal.column, refusal.reason, refusal.detail))
        else:
            good += 1
    return good


class _Watched:
    """A file that tells how much of it was read."""

    def __init__(self, file: BinaryIO, progress: Callable[[int, int], None], every: int) -> None:
        self._file = file
        self._progress = progress
        self._every = every
        self._bytes = self._lines = 0

    def readline(self, most: int) -> bytes:
        found = self._file.readline(most)
        self._bytes += len(found)
        self._lines += 1
        if self._lines % self._every == 0:
            self._progress(self._bytes, self._lines)
        return found


@dataclass(slots=True)
class _Chunk:
    rows: bytes
    count: int
    refusals: list[Refusal]
    bytes_read: int


async def _take_in(
    connection: db.Connection,
    chunks: Iterator[_Chunk],
    story_id: int,
    result: Imported,
    progress: Progress,
    refused: Callable[[Refusal], None],
) -> None:
    """Merge chunk after chunk, and have the next one read meanwhile."""
    await connection.execute("import_rows_table")
    await connection.execute("import_seen_table")
    reading = asyncio.create_task(asyncio.to_thread(next, chunks, None))
    try:
        while (chunk := await reading) is not None:
            reading = asyncio.create_task(asyncio.to_thread(next, chunks, None))
            stopped = await _merge(connection, chunk, story_id, result)
            result.read += chunk.count + len(chunk.refusals)
            result.refused.update(each.reason for each in chunk.refusals)
            for refusal in sorted([*chunk.refusals, *stopped], key=lambda each: each.line):
                refused(refusal)
            progress(chunk.bytes_read, result)
    finally:
        # The thread cannot be stopped: the file stays open until it is through with its chunk.
        await asyncio.gather(reading, return_exceptions=True)


async def _merge(connection: db.Connection, chunk: _Chunk, story_id: int, result: Imported) -> list[Refusal]:
    """One transaction: merge a chunk and count. Returns the lines that were held back."""
    if not chunk.count:
        return []
    async with connection.raw.transaction():
        if not await connection.value("import_still_may", story_id=story_id):
            # Those in it would follow what is over: nobody lets them go any more, or moves them to where it goes on.
            raise StoryClosed(
                f"The story {result.story!r} is closed.",
                remedy="Import the file into the story that goes on; what was imported before this one ended stays.",
                field="story",
            )
        await connection.execute("import_while_nobody_is_erased")
        await connection.execute("import_small_joins")
        await connection.execute("import_clear")
        async with connection.raw.cursor() as cursor, cursor.copy(db.statements()["import_copy"]) as copy:
            await copy.write(chunk.rows)
        duplicates = chunk.count - await connection.execute("import_note_addresses")
        if duplicates:
            await connection.execute("import_drop_repeats")
        suppressed = await connection.all("import_drop_suppressed")
        left = await connection.all("import_drop_left", story_id=story_id)
        await connection.execute("import_subscribers")
        activated = await connection.execute("import_confirm", story_id=story_id) if result.confirmed else 0
        added = await connection.execute("import_subscriptions", story_id=story_id, confirmed=result.confirmed)
    result.duplicates += duplicates
    result.suppressed += len(suppressed)
    result.left += len(left)
    result.activated += activated
    result.added += added
    result.already += chunk.count - duplicates - len(suppressed) - len(left) - activated - added
    return [
        *(Refusal(row["line"], "email", SUPPRESSED, "This address must not be written to.") for row in suppressed),
        *(Refusal(row["line"], "email", LEFT, "This reader left the story and is not brought back.") for row in left),
    ]


def _chunks(source: CsvFile, secret_key: str) -> Iterator[_Chunk]:
    """The file as chunks that are ready for the database."""
    encode = _encoder(source.columns, secret_key)
    rows: list[str] = []
    refusals: list[Refusal] = []
    size = 0
    for row in source.rows():
        if isinstance(row, Broken):
            refusals.append(Refusal(row.line, "", str(row.reason), row.detail))
        else:
            line, cells = row
            try:
                text = encode(line, cells)
            except _Refused as refusal:
                refusals.append(Refusal(line, refusal.column, refusal.reason, refusal.detail))
            else:
                rows.append(text)
                size += len(text)
        if len(rows) + len(refusals) >= CHUNK_LINES or size >= CHUNK_BYTES:
            yield _Chunk("".join(rows).encode(), len(rows), refusals, source.bytes_read)
            rows, refusals, size = [], [], 0
    yield _Chunk("".join(rows).encode(), len(rows), refusals, source.bytes_read)


class _Refused(Exception):
    def __init__(self, column: str, reason: str, detail: str) -> None:
        self.column = column
        self.reason = reason
        self.detail = detail


def _encoder(columns: tuple[str, ...], secret_key: str) -> Callable[[int, list[str]], str]:
    """What turns a row of the file into a line of COPY's text format."""
    where = {name: columns.index(name) for name in COLUMNS if name in columns}
    email_at = where.pop("email")
    name_at, locale_at, timezone_at = (where.get(name, -1) for name in COLUMNS[1:])

    def encode(line: int, cells: list[str]) -> str:
        address = check_address(unguarded(cells[email_at]))
        name = check_name(unguarded(cells[name_at])) if name_at >= 0 else ""
        locale = check_locale(cells[locale_at]) if locale_at >= 0 else DEFAULT_LOCALE
        timezone = check_timezone(cells[timezone_at]) if timezone_at >= 0 else DEFAULT_TIMEZONE
        hashed = address_hash(secret_key, address).hex()
        return f"{line}\t\\\\x{hashed}\t{_escape(address.email)}\t{_escape(name)}\t{locale}\t{timezone}\n"

    return encode


def _escape(text: str) -> str:
    """A value in COPY's text format; it has neither tabs nor line breaks."""
    return text.replace("\\", "\\\\") if "\\" in text else text


def check_address(raw: str) -> MailAddress:
    """What `parse_address` says, at a tenth of the time where the address is plain and its domain was seen before."""
    text = raw.strip(" ")
    plain = _PLAIN.fullmatch(text)
    if plain and len(text) <= MAX_ADDRESS and len(plain[1]) <= 64 and _is_plain_domain(plain[2]):
        return MailAddress(email=text, key=text)
    try:
        return parse_address(raw)
    except Invalid as error:
        raise _Refused("email", BAD_ADDRESS, error.message) from error


@lru_cache(maxsize=16_384)
def _is_plain_domain(domain: str) -> bool:
    """True if `parse_address` takes this domain and leaves it as it is."""
    if "xn--" in domain:
        return False  # its Unicode form counts too: one more length to check, for every address
    try:
        return parse_address(f"x@{domain}").email == f"x@{domain}"
    except Invalid:
        return False


def check_name(raw: str) -> str:
    """A reader's name on one line, at most `MAX_NAME` characters; empty is fine."""
    name = raw.strip(" \t")
    if name.isprintable() and len(name) <= MAX_NAME:
        return name
    try:
        return one_line("name", raw, longest=MAX_NAME, required=False)
    except Invalid as error:
        raise _Refused("name", BAD_NAME, str(error)) from error


@lru_cache(maxsize=1024)
def check_locale(raw: str) -> str:
    """A language tag such as `en`, `pt-BR` or `zh_Hant_TW` (BCP 47), with hyphens; `en` where it is empty."""
    locale = raw.strip()
    if not locale:
        return DEFAULT_LOCALE
    if len(locale) > MAX_LOCALE or not _LOCALE.fullmatch(locale):
        raise _Refused("locale", BAD_LOCALE, f"{locale[:MAX_LOCALE]!r} is no language tag such as en or pt-BR.")
    return locale.replace("_", "-")


@lru_cache(maxsize=1024)
def check_timezone(raw: str) -> str:
    """A timezone by its IANA name, such as `Europe/Berlin`; `UTC` where it is empty."""
    timezone = raw.strip()
    if not timezone:
        return DEFAULT_TIMEZONE
    if not is_timezone(timezone):
        raise _Refused("timezone", BAD_TIMEZONE, f"{timezone[:40]!r} is no timezone such as Europe/Berlin.")
    return timezone
