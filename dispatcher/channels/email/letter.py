"""Letters: a message compiled once per variant into literal bytes with slots, and spliced per reader in microseconds.

A letter has two forms of the same message: an 8-bit one (RFC 6152), and a 7-bit one in quoted-printable, for relays
without 8BITMIME and for values that would make an 8-bit line too long. Every worker splices the same stored bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.headerregistry import Address
from email.utils import format_datetime
from operator import itemgetter
from typing import Any, NamedTuple

from dispatcher.channels.email import mime
from dispatcher.channels.email.slots import PIECES, Field, Marks, Place, Values, how_to_write, prepare
from dispatcher.errors import Invalid

__all__ = ["Compiled", "Field", "Letter", "Marks", "Place", "Values", "compile_letter"]

_MAGIC = b"dispatcher-letter/1\n"
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Recipe(NamedTuple):
    """How to make one piece of a reader's message: which value, written for which place, at most how long."""

    field: Field
    place: Place
    limit: int  #: octets; beyond it a line could pass 998


@dataclass(frozen=True, slots=True)
class Compiled:
    """One form of a letter: literals with a hole between each two, and what goes into the holes."""

    literals: tuple[bytes, ...]
    recipes: tuple[Recipe, ...]
    holes: tuple[int, ...]  #: for each hole the recipe that fills it
    _plan: tuple[Any, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        frame: list[bytes] = [b""] * (2 * len(self.holes) + 1)
        frame[::2] = self.literals
        ways = [how_to_write(each.field, each.place) for each in self.recipes]
        further = [(number, finish) for number, finish in ways if finish]
        position = iter(range(PIECES, PIECES + len(further)))
        where = [next(position) if finish else number for number, finish in ways]
        limits = [(number, each.limit) for number, each in zip(where, self.recipes, strict=True)]
        least = min((each.limit for each in self.recipes), default=0)
        pick = itemgetter(*(where[each] for each in self.holes))
        object.__setattr__(self, "_plan", (frame, further, pick, limits, least))

    def fill(self, prepared: tuple[list[bytes], int]) -> bytes | None:
        """The message with these values, made by `prepare`; None if one of them would make a line too long."""
        pieces, longest = prepared
        frame, further, pick, limits, least = self._plan
        if further:
            pieces = pieces + [finish(pieces[number]) for number, finish in further]
        if longest >= least and any(len(pieces[number]) > limit for number, limit in limits):
            return None
        parts = frame.copy()
        parts[1::2] = pick(pieces)
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Letter:
    """A compiled message. Immutable, and the same bytes again for the same content."""

    eight_bit: Compiled
    seven_bit: Compiled

    def splice(self, values: Values, *, eight_bit: bool) -> bytes:
        """One reader's message: CRLF line ends, dots stuffed, without the final dot (RFC 5321 §4.5.2).

        With `eight_bit` false every octet is ASCII. Without it being asked for, the quoted-printable form is also
        taken if a value is too long for an 8-bit line. Raises `Invalid`, naming the field, for values that could
        break out of their place: control characters, links that are none, addresses that would be several.
        """
        prepared = prepare(values, utf8=eight_bit)
        message = self.eight_bit.fill(prepared) if eight_bit else None
        if message is None:
            message = self.seven_bit.fill(prepared)
        assert message is not None  # noqa: S101  # its places wrap their own lines
        return message

    def dumps(self) -> bytes:
        """The letter as it is stored: a line that names the version, a line of JSON, and the literals."""
        head = {form: _describe(getattr(self, form)) for form in ("eight_bit", "seven_bit")}
        literals = (*self.eight_bit.literals, *self.seven_bit.literals)
        return b"".join((_MAGIC, json.dumps(head, separators=(",", ":")).encode(), b"\n", *literals))

    @classmethod
    def loads(cls, data: bytes) -> Letter:
        """Read what `dumps` wrote. Raises `Invalid` for anything else, such as another version's letter."""
        try:
            forms, rest = _read(data)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise Invalid(
                "This is not a letter of this version.", remedy="Compile it again.", field="letter"
            ) from error
        if rest != len(data):
            raise Invalid("This stored letter has the wrong length.", remedy="Compile it again.", field="letter")
        return cls(*forms)


def _read(data: bytes) -> tuple[list[Compiled], int]:
    if not data.startswith(_MAGIC):
        raise ValueError("another format")
    start = data.index(b"\n", len(_MAGIC)) + 1
    head = json.loads(data[len(_MAGIC) : start])
    forms = []
    for name in ("eight_bit", "seven_bit"):
        form, start = _restore(head[name], data, start)
        forms.append(form)
    return forms, start


def _describe(form: Compiled) -> dict[str, Any]:
    return {
        "literals": [len(each) for each in form.literals],
        "recipes": [[each.field.name, each.place.value, each.limit] for each in form.recipes],
        "holes": form.holes,
    }


def _restore(form: dict[str, Any], data: bytes, start: int) -> tuple[Compiled, int]:
    literals = []
    for length in form["literals"]:
        literals.append(data[start : start + int(length)])
        start += int(length)
    recipes = tuple(Recipe(Field[name], Place(place), int(limit)) for name, place, limit in form["recipes"])
    holes = tuple(map(int, form["holes"]))
    if len(holes) < 2 or len(literals) != len(holes) + 1 or not all(0 <= each < len(recipes) for each in holes):
        raise ValueError("its slots do not match its text")
    return Compiled(tuple(literals), recipes, holes), start


def compile_letter(
    *,
    subject: str,
    text: str,
    html: str,
    marks: Marks,
    mail_from: Address,
    date: datetime,
    headers: Sequence[tuple[str, str]] = (),
    one_click: bool = True,
) -> Letter:
    """Compile a message of two alternatives, plain text and HTML, in which `marks` stand for a reader's values.

    `headers` are further headers with ASCII values; `one_click` adds List-Unsubscribe with the reader's link and
    List-Unsubscribe-Post (RFC 8058). The bytes depend on the content alone. Raises `Invalid` for control characters,
    for an empty subject, and for marks that touch each other or stand in a header.
    """
    text, html = _body("text", text), mime.wrap_html(_body("html", html))
    if not subject.strip():
        raise Invalid("The subject is empty.", field="subject")
    if date.tzinfo is None:
        raise Invalid("The date has no timezone.", field="date")
    top = _headers(subject, mail_from, date, headers, one_click=one_click)
    # The marks differ each time, so they must not count for the boundary.
    divider = mime.boundary(*("\0".join(marks.split(each)) for each in (text, html)), subject)
    parts = (("text/plain", text, False), ("text/html", html, True))
    eight, seven = _Builder(marks), _Builder(marks)
    for form, wide in ((eight, True), (seven, False)):
        for piece in top:
            form.add(piece)
        form.add(b"MIME-Version: 1.0\r\n")
        form.add(f'Content-Type: multipart/alternative;\r\n boundary="{divider}"\r\n'.encode())
        form.add(b"Content-Transfer-Encoding: 8bit\r\n" if wide else b"")
        for kind, content, is_html in parts:
            encoding = "8bit" if wide and _lines_fit(marks, content) else "quoted-printable"
            form.add(f"\r\n--{divider}\r\nContent-Type: {kind}; charset=utf-8\r\n".encode())
            form.add(f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode())
            if encoding == "8bit":
                form.eight_bit(content, html=is_html)
            else:
                form.quoted(content, html=is_html)
        form.add(f"\r\n--{divider}--\r\n".encode())
    return Letter(eight.done(), seven.done())


def _body(name: str, content: str) -> str:
    content = content.replace("\r\n", "\n").replace("\r", "\n")
    if found := _FORBIDDEN.search(content):
        raise Invalid(f"The {name} has the control character U+{ord(found.group()):04X}.", field=name)
    return content if content.endswith("\n") else f"{content}\n"


def _headers(
    subject: str, mail_from: Address, date: datetime, headers: Sequence[tuple[str, str]], *, one_click: bool
) -> list[bytes | tuple[Field, Place]]:
    """The top of the message as literals and slots. To comes with its name only, so that its value may fold."""
    name, address = mime.sender(mail_from)
    shown = mime.mailbox(name, address, column=len("From: "))
    pieces: list[bytes | tuple[Field, Place]] = [
        f"Date: {format_datetime(date.astimezone(UTC))}\r\nFrom: {shown}\r\nTo: ".encode("ascii"),
        (Field.MAILBOX, Place.HEADER),
        b"\r\n" + mime.unstructured("Subject", subject) + b"\r\nMessage-ID: ",
        (Field.MESSAGE_ID, Place.HEADER),
        b"\r\n",
        *(mime.structured(key, value) + b"\r\n" for key, value in headers),
    ]
    if one_click:
        pieces += [b"List-Unsubscribe:", (Field.LEAVE_URL, Place.LINK_HEADER)]
        pieces += [b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"]
    return pieces


def _lines_fit(marks: Marks, content: str) -> bool:
    """True if no line passes the limit by its literals alone, with something left for each of its slots."""
    for line in content.split("\n"):
        if marks.nonce in line:
            pieces = marks.split(line)
            if _room(pieces) // (len(pieces) // 2) < _LEAST_ROOM:
                return False
        elif len(line) * 4 > mime.MAX_LINE and len(line.encode()) >= mime.MAX_LINE:
            return False
    return True


#: Octets that an 8-bit line must leave for each of its slots.
_LEAST_ROOM = 64


def _room(pieces: list[str]) -> int:
    """The octets that the literals of a line leave free, one dot that may be doubled aside."""
    return mime.MAX_LINE - 1 - sum(len(each.encode()) for each in pieces[::2])


class _Builder:
    """Collects literals and holes for one form."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._literals: list[list[bytes]] = [[]]
        self._slots: list[tuple[Field, Place, int]] = []

    def add(self, piece: bytes | tuple[Field, Place], limit: int = 1 << 20) -> None:
        if isinstance(piece, bytes):
            self._literals[-1].append(piece)
            return
        self._slots.append((*piece, limit))
        self._literals.append([])

    def eight_bit(self, content: str, *, html: bool) -> None:
        """Add a part as it is, with dots stuffed and line ends as CRLF. It ends with a line end."""
        plain: list[str] = []
        for line in content.split("\n"):
            if self._marks.nonce in line:
                self._plain_lines([*plain, ""] if plain else [])
                self._line_of_slots(self._pieces(line), _HTML_PLACES if html else _TEXT_PLACES)
                plain = [""]
            else:
                plain.append(line)
        self._plain_lines(plain)

    def _plain_lines(self, lines: list[str]) -> None:
        self.add(mime.stuffed("\r\n".join(lines).encode()))

    def _line_of_slots(self, pieces: list[str], places: tuple[Place, Place, Place]) -> None:
        limit = _room(pieces) // (len(pieces) // 2)
        self.add(mime.stuffed(pieces[0].encode()))
        for position, (number, literal) in enumerate(zip(pieces[1::2], pieces[2::2], strict=True)):
            first = position == 0 and not pieces[0]
            place = places[0 if not first else 2 if literal.startswith(".") else 1]
            self.add((Field(int(number)), place), limit)
            self.add(literal.encode())

    def quoted(self, content: str, *, html: bool) -> None:
        """Add a part in quoted-printable, each slot on lines of its own between soft line breaks (RFC 2045 §6.7)."""
        place = Place.QUOTED_HTML if html else Place.QUOTED_TEXT
        pieces = self._pieces(content)
        for position, literal in enumerate(pieces[::2]):
            encoded = mime.quoted(literal.encode())
            if position and not encoded.startswith(b"\r\n"):
                encoded = b"=\r\n" + encoded
            if position < len(pieces) // 2:
                encoded += b"" if encoded.endswith(b"\r\n") or not encoded else b"=\r\n"
                self.add(encoded)
                self.add((Field(int(pieces[2 * position + 1])), place))
            else:
                self.add(encoded)

    def _pieces(self, content: str) -> list[str]:
        pieces = self._marks.split(content)
        if any(not literal for literal in pieces[2:-1:2]):
            raise Invalid("Two slots of a letter touch each other.", remedy="Put a character between them.")
        return pieces

    def done(self) -> Compiled:
        """The form, with one recipe for all holes that take the same value in the same way."""
        limits: dict[tuple[Field, Place], int] = {}
        for each, place, limit in self._slots:
            limits[each, place] = min(limit, limits.get((each, place), limit))
        numbers = {key: number for number, key in enumerate(limits)}
        return Compiled(
            literals=tuple(b"".join(each) for each in self._literals),
            recipes=tuple(Recipe(each, place, limit) for (each, place), limit in limits.items()),
            holes=tuple(numbers[each, place] for each, place, _ in self._slots),
        )


_TEXT_PLACES = (Place.TEXT, Place.TEXT_START, Place.TEXT_START_DOT)
_HTML_PLACES = (Place.HTML, Place.HTML_START, Place.HTML_START_DOT)
