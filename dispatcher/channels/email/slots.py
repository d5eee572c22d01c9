"""Slots: what differs from reader to reader, where it may stand, and how it is escaped for that place."""

from __future__ import annotations

import enum
import html
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from dispatcher.channels.email.mime import FOLD_AT, clean, mailbox, quoted
from dispatcher.errors import Invalid

MAX_ADDRESS = 254
MAX_NAME = 200
MAX_WISH = 200
MAX_URL = 900
MAX_MESSAGE_ID = 250

_ATOM = r"[^\s\"(),.:;<>@\[\\\]\x00-\x20\x7f-\xa0]+"
_ADDRESS = rf"{_ATOM}(?:\.{_ATOM})*@{_ATOM}(?:\.{_ATOM})*"
_URL = r"https?://[!#-;=?-~]+"
_MESSAGE_ID = r"<[!#-'*+\-./0-9=?A-Z^_`a-z{|}~]+@[!#-'*+\-./0-9=?A-Z^_`a-z{|}~]+>"
_PLAIN_ATOM = r"[!#-%*+\-/0-9=?A-Z^_`a-z{|}~]+"
#: Nearly every reader's values but the name, joined by line feeds: all ASCII, and nothing that HTML would escape.
_plain = re.compile(
    rf"{_PLAIN_ATOM}(?:\.{_PLAIN_ATOM})*@[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*\n<[0-9A-Za-z.-]+@[0-9A-Za-z.-]+>\n"
    r"(?:https?://[!#-%(-;=?-~]+)?\n(?:https?://[!#-%(-;=?-~]+)?\n[ !#-%(-;=?-~]*"
).fullmatch
#: A name that may stand between quotes, and in HTML, as it is.
_plain_name = re.compile(r"[0-9A-Za-z(),\-.]+(?: [0-9A-Za-z(),\-.]+)*").fullmatch


class Values(NamedTuple):
    """One reader's values, in plain text. Nothing here is escaped or encoded yet."""

    address: str  #: the checked address; outside ASCII only if it needs SMTPUTF8
    message_id: str  #: with its angle brackets (RFC 5322 §3.6.4)
    #: Ends this subscription and takes the one-click POST too (RFC 8058). In a mail that asks for something: does it.
    leave_url: str = ""
    manage_url: str = ""
    wish: str = ""  #: what the reader asked for, in words: "major updates only, since 8 November 2025"
    name: str = ""  #: as the reader gave it


class Field(enum.IntEnum):
    """Positions in `Values`, and behind them what is made of several."""

    ADDRESS = 0
    MESSAGE_ID = 1
    LEAVE_URL = 2
    MANAGE_URL = 3
    WISH = 4
    NAME = 5
    MAILBOX = 6  #: name and address as they stand in To


class Place(enum.StrEnum):
    """Where a slot stands, which decides how its value is written there."""

    HEADER = "header"
    LINK_HEADER = "link-header"  #: List-Unsubscribe: in angle brackets, on a line of its own if it is long
    TEXT = "text"
    TEXT_START = "text-start"  #: first on its line, so a dot there must be doubled
    TEXT_START_DOT = "text-start-dot"  #: the same, and what follows it begins with a dot
    HTML = "html"
    HTML_START = "html-start"
    HTML_START_DOT = "html-start-dot"
    QUOTED_TEXT = "quoted-text"
    QUOTED_HTML = "quoted-html"


@dataclass(frozen=True, slots=True)
class Marks:
    """Placeholders for one compilation, which pass through Jinja, MJML and css-inline unharmed.

    Templates see them as `reader.address` and so on. Nobody can forge one: the nonce is drawn when the content is
    there already, and is checked to be absent from it.
    """

    nonce: str

    @classmethod
    def fresh(cls, content: str) -> Marks:
        """New marks that do not stand in `content`."""
        while (nonce := f"slot{secrets.token_hex(12)}") in content:
            pass
        return cls(nonce)

    def of(self, field: Field) -> str:
        return f"{self.nonce}n{field:d}z"

    def split(self, content: str) -> list[str]:
        """Literals and the digits of fields in turn, beginning and ending with a literal."""
        return re.split(f"{self.nonce}n([0-5])z", content)

    @property
    def address(self) -> str:
        return self.of(Field.ADDRESS)

    @property
    def name(self) -> str:
        return self.of(Field.NAME)

    @property
    def leave_url(self) -> str:
        return self.of(Field.LEAVE_URL)

    @property
    def action_url(self) -> str:
        """The link of a mail that asks for something, such as a confirmation. It is in the place of `leave_url`."""
        return self.leave_url

    @property
    def manage_url(self) -> str:
        return self.of(Field.MANAGE_URL)

    @property
    def wish(self) -> str:
        return self.of(Field.WISH)


#: Where `prepare` puts things: the values as they are and To by `Field`, then the values escaped for HTML.
ESCAPED, PIECES = len(Field), 2 * len(Field) - 1


def prepare(values: Values, *, utf8: bool) -> tuple[list[bytes], int]:
    """Every value checked, as it is and escaped for HTML, and a length that none of them exceeds. About 3 µs.

    `utf8` says whether To may hold characters outside ASCII. Raises `Invalid`, naming the field.
    """
    address, message_id, _, _, wish, name = values
    joined = "\n".join(values[:5])
    if not (
        len(joined) <= MAX_URL
        and len(address) <= MAX_ADDRESS
        and len(message_id) <= MAX_MESSAGE_ID
        and len(wish) <= MAX_WISH
        and _plain(joined)
    ):
        return _prepare_with_care(values, utf8=utf8)
    pieces = joined.encode().split(b"\n")
    if len(name) <= 50 and _plain_name(name):
        # The commonest case by far: what stands in To and in HTML is the name as it is.
        shown = f'"{name}" <{address}>'
        if len(shown) > FOLD_AT - 4:
            shown = mailbox(name, address)
        raw = escaped = name.encode()
    else:
        _check("name", name, MAX_NAME)
        shown, raw, escaped = mailbox(name, address), name.encode(), html.escape(name).encode()
    return [*pieces, raw, shown.encode(), *pieces, escaped], len(joined) + len(escaped)


def _prepare_with_care(values: Values, *, utf8: bool) -> tuple[list[bytes], int]:
    """`prepare` for values that are long, or need escaping, or are wrong."""
    _check("address", values.address, MAX_ADDRESS, _ADDRESS, "must look like reader@example.org")
    _check("message_id", values.message_id, MAX_MESSAGE_ID, _MESSAGE_ID, "must look like <id@example.org>")
    _check("leave_url", values.leave_url, MAX_URL, f"(?:{_URL})?", "must be an http or https link in ASCII")
    _check("manage_url", values.manage_url, MAX_URL, f"(?:{_URL})?", "must be an http or https link in ASCII")
    _check("wish", values.wish, MAX_WISH)
    _check("name", values.name, MAX_NAME)
    if not utf8 and not values.address.isascii():
        raise Invalid(
            "This address can only travel with SMTPUTF8 (RFC 6531).",
            remedy="Use a relay that offers SMTPUTF8 and 8BITMIME.",
            field="address",
        )
    escaped = [html.escape(each).encode() for each in values]
    shown = mailbox(values.name, values.address)
    return [*(each.encode() for each in values), shown.encode(), *escaped], max(map(len, escaped))


def _check(field: str, value: str, longest: int, pattern: str = ".*", rule: str = "must be one line") -> None:
    clean(field, value)
    # An address is measured in octets (RFC 5321 §4.5.3.1.3), words for people in characters.
    size = len(value.encode() if field == "address" else value)
    if size > longest:
        raise Invalid(f"{field} has {size} characters; {longest} is the most.", field=field)
    if not re.fullmatch(pattern, value):
        raise Invalid(f"{field} {rule}.", field=field)


def _link_header(url: bytes) -> bytes:
    if not url:
        raise Invalid("leave_url is empty, and this letter has a List-Unsubscribe header.", field="leave_url")
    return b"%s <%s>" % (b"" if len(url) <= _SHORT_LINK else b"\r\n", url)


_SHORT_LINK = FOLD_AT - len("List-Unsubscribe: <>")


def _start(data: bytes) -> bytes:
    return b"." + data if data[:1] == b"." else data


def _start_dot(data: bytes) -> bytes:
    # Without a value, the dot that follows the slot is the first on its line.
    return b"." + data if data[:1] in (b".", b"") else data


def _quoted(data: bytes) -> bytes:
    return data and quoted(data)


#: For each place, what more is to be done to the value after it has been escaped.
_AFTERWARDS: dict[Place, Callable[[bytes], bytes]] = {
    Place.LINK_HEADER: _link_header,
    Place.TEXT_START: _start,
    Place.TEXT_START_DOT: _start_dot,
    Place.HTML_START: _start,
    Place.HTML_START_DOT: _start_dot,
    Place.QUOTED_TEXT: _quoted,
    Place.QUOTED_HTML: _quoted,
}
_IN_HTML = (Place.HTML, Place.HTML_START, Place.HTML_START_DOT, Place.QUOTED_HTML)


def how_to_write(field: Field, place: Place) -> tuple[int, Callable[[bytes], bytes] | None]:
    """Which of the prepared pieces a slot takes, and what is still to be done to it."""
    number = field + ESCAPED if place in _IN_HTML else int(field)
    if field in (Field.LEAVE_URL, Field.MANAGE_URL) and place in (Place.TEXT_START, Place.HTML_START):
        return number, None  # a link begins with h
    return number, _AFTERWARDS.get(place)
