"""CSV files from anywhere, read row by row: constant memory whatever is in them, every problem with its line number.

UTF-8, with or without a byte order mark; comma, semicolon or tab, whichever finds the wanted column in the header;
quoted cells as in RFC 4180. A broken line costs that line, never its neighbours.
"""

from __future__ import annotations

import csv
import enum
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dispatcher.errors import Invalid

#: The longest line in bytes, with everything in it. A longer one is skipped without being read into memory.
MAX_LINE = 64 * 1024
#: How many lines one quoted cell may run over before its quotation mark counts as never closed.
MAX_ROW_LINES = 20
DELIMITERS = ",;\t"
#: What a spreadsheet takes a formula by.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
SAVE_AS = "Save it as CSV in UTF-8."


class Reason(enum.StrEnum):
    """Why a line cannot be read. The words are for people."""

    TOO_LONG = "line too long"
    ENCODING = "not UTF-8"
    NUL = "NUL byte"
    QUOTES = "broken quotation marks"
    CELLS = "more cells than the header"


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that cannot be read, by the line on which it starts."""

    line: int
    reason: Reason
    detail: str


class CsvFile:
    """An open CSV file whose header has the column `wanted`.

    Raises `Invalid` at once if the file is empty, is no UTF-8 text, or has no such column, naming those it has.
    Column names are compared without case and outer spaces.
    """

    def __init__(self, file: BinaryIO, *, wanted: str) -> None:
        self._lines = _Lines(file)
        self.columns, delimiter = _header(self._lines.header(), wanted)
        self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)

    @property
    def bytes_read(self) -> int:
        """How far into the file we are."""
        return self._lines.bytes_read

    def rows(self) -> Iterator[tuple[int, list[str]] | Broken]:
        """Every row that is not blank: the number of its first line and its cells, as many as the header has."""
        lines, reader, width = self._lines, self._reader, len(self.columns)
        while True:
            lines.begin_row()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except _Unreadable as problem:
                yield lines.refuse(problem.reason, problem.detail)
                continue
            except csv.Error as error:
                yield lines.refuse(Reason.QUOTES, _in_words(error))
                continue
            if len(cells) == width:
                yield lines.first, cells
            elif len(cells) < width:
                if cells:
                    yield lines.first, cells + [""] * (width - len(cells))
            elif any(cells[width:]):
                yield Broken(
                    lines.first, Reason.CELLS, f"The line has {len(cells):,} cells and the header has {width:,}."
                )
            else:
                yield lines.first, cells[:width]


def guarded(cell: str) -> str:
    """A cell as it may stand in a file that people open: a spreadsheet would run some as formulas."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def unguarded(cell: str) -> str:
    """What `guarded` made of a cell, taken back: so what was exported can be imported."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


class _Unreadable(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail


class _Lines:
    """The lines of a file, one row at a time. Not a generator, since it goes on after an error."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._again: deque[bytes] = deque()
        self._row: list[bytes] = []
        self._number = 0
        self.first = 0
        self.bytes_read = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        raw = self._again.popleft() if self._again else self._read()
        if not raw:
            raise StopIteration
        self._number += 1
        self._row.append(raw)
        if len(raw) > MAX_LINE:
            raise _Unreadable(Reason.TOO_LONG, f"The line is longer than {MAX_LINE:,} bytes.")
        if len(self._row) > MAX_ROW_LINES:
            raise _Unreadable(Reason.QUOTES, f"A quoted cell is not closed within {MAX_ROW_LINES} lines.")
        if b"\0" in raw:
            raise _Unreadable(Reason.NUL, "The line has a NUL byte.")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            detail = f"The line is not UTF-8: byte 0x{raw[error.start]:02X} at place {error.start + 1}."
            raise _Unreadable(Reason.ENCODING, detail) from error

    def header(self) -> bytes:
        self._number = 1
        return self._read()

    def begin_row(self) -> None:
        self._row.clear()
        self.first = self._number + 1

    def refuse(self, reason: Reason, detail: str) -> Broken:
        """Give up the row's first line alone: those after it are read again as rows of their own."""
        after = [raw for raw in self._row[1:] if len(raw) <= MAX_LINE]
        self._again.extendleft(reversed(after))
        self._number -= len(after)
        return Broken(self.first, reason, detail)

    def _read(self) -> bytes:
        raw = self._file.readline(MAX_LINE + 1)
        self.bytes_read += len(raw)
        if len(raw) > MAX_LINE:
            rest = raw
            while rest and not rest.endswith(b"\n"):
                rest = self._file.readline(MAX_LINE)
                self.bytes_read += len(rest)
        return raw


def _header(raw: bytes, wanted: str) -> tuple[tuple[str, ...], str]:
    """The column names, and the delimiter that tells them apart."""
    if not raw.strip():
        raise Invalid("The file is empty, or its first line is.", remedy=f"Begin it with a header: {wanted},name.")
    if len(raw) > MAX_LINE:
        raise Invalid(f"The header is longer than {MAX_LINE:,} bytes.", remedy=SAVE_AS)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid("The header is not UTF-8 text.", remedy=SAVE_AS) from error
    if "\0" in text:
        raise Invalid("The header has NUL bytes: this is no CSV file, or one in UTF-16.", remedy=SAVE_AS)
    found = {delimiter: _split(text, delimiter) for delimiter in DELIMITERS}
    for delimiter, columns in found.items():
        if wanted in columns:
            return _without_repeats(columns), delimiter
    likeliest = max(found.values(), key=len)
    if not likeliest:
        raise Invalid("The header has a quoted cell that is not closed.", remedy=SAVE_AS)
    names = ", ".join(repr(name[:40]) for name in likeliest[:10]) + (", …" if len(likeliest) > 10 else "")
    raise Invalid(
        f"The header has no column {wanted!r}; it has {names}.",
        remedy=f"Name the column with the addresses {wanted!r}.",
        field=wanted,
    )


def _split(text: str, delimiter: str) -> tuple[str, ...]:
    """The cells of a header with this delimiter; none if it cannot be read so."""
    try:
        cells = next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return ()
    return tuple(cell.strip().lower() for cell in cells)


def _without_repeats(columns: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted({name for name in columns if name and columns.count(name) > 1}) if len(columns) < 1000 else []
    if repeated or len(columns) >= 1000:
        what = f"has {repeated[0][:40]!r} twice" if repeated else f"has {len(columns):,} columns"
        raise Invalid(f"The header {what}.", remedy="Keep each column once, and only those that are needed.")
    return columns


def _in_words(error: csv.Error) -> str:
    if "new-line character" in str(error):
        return "A carriage return stands alone in the line."
    if "unexpected end" in str(error):
        return "A quoted cell is not closed."
    return "A quotation mark stands where a cell neither begins nor ends."
