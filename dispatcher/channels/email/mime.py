"""The parts of MIME that a letter needs, written for speed and for exactness: headers, quoted-printable, line lengths.

Everything here is pure. Header values come out without their final CRLF and folded where that is safe; bodies come
out with CRLF line ends.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Callable
from email.headerregistry import Address

from dispatcher.errors import Invalid

#: RFC 5322 §2.1.1: the longest line that may travel, in octets without its CRLF.
MAX_LINE = 998
#: RFC 5322 §2.1.1: the length that header lines should keep to.
FOLD_AT = 78
#: RFC 2047 §2: the longest encoded word, and the longest line that holds one.
_WORD, _WORD_LINE = 75, 76
_SHELL = len("=?utf-8?q??=")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_Q_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!*+-/")
#: A tag with its attributes, or anything else that begins with `<`; quoted values may hold any character.
_TAG = re.compile(r"<(?:[^<>\"']|\"[^\"]*\"|'[^']*')*>")


def clean(field: str, value: str) -> str:
    """`value` if it may stand in a header. Raises `Invalid` for control characters, which could end the line."""
    if _CONTROLS.search(value):
        raise Invalid(
            f"{field} has a line break or another control character.", remedy="Write it on one line.", field=field
        )
    return value


def unstructured(name: str, value: str) -> bytes:
    """A header of free text, such as Subject: folded, and as encoded words where it needs them (RFC 2047)."""
    value = " ".join(clean(name, value).split())
    plain = value.isascii() and "=?" not in value and all(len(word) <= FOLD_AT - 2 for word in value.split())
    words = value.split() if plain else encoded_words(value, len(name) + 2)
    return fold(name, words, FOLD_AT if plain else _WORD_LINE)


def structured(name: str, value: str) -> bytes:
    """A header whose ASCII value has its own grammar: folded at its spaces and nowhere else."""
    clean(name, value)
    if not value.isascii():
        raise Invalid(f"The header {name} holds a character outside ASCII.", field=name)
    return fold(name, value.split(), FOLD_AT)


def fold(name: str, words: list[str], width: int) -> bytes:
    """The header line from its words. A word that is longer than a line stands on one of its own."""
    lines, line = [], f"{name}:"
    for word in words:
        if len(line) + 1 + len(word) > width and line != f"{name}:":
            lines.append(line)
            line = ""
        line += f" {word}"
    lines.append(line)
    if any(len(each) > MAX_LINE for each in lines):
        raise Invalid(f"The header {name} is too long.", remedy="Shorten it.", field=name)
    return "\r\n".join(lines).encode("ascii")


def encoded_words(text: str, column: int) -> list[str]:
    """RFC 2047 encoded words for `text`, the first of which fits behind `column` characters on its line."""
    first = min(_WORD, _WORD_LINE - column) - _SHELL
    data = text.encode()
    if 4 * -(-len(data) // 3) <= first:
        # The usual name of a person: short enough for one word, so it needs no search for the best cut.
        return [f"=?utf-8?b?{binascii.b2a_base64(data, newline=False).decode()}?="]
    in_q = [_q(character) for character in text]
    if sum(map(len, in_q)) <= 4 * -(-len(data) // 3):
        return [f"=?utf-8?q?{run.decode()}?=" for run in _runs(in_q, first, int)]
    characters = [character.encode() for character in text]
    runs = _runs(characters, first, lambda octets: 4 * -(-octets // 3))
    return [f"=?utf-8?b?{binascii.b2a_base64(run, newline=False).decode()}?=" for run in runs]


def _runs(pieces: list[bytes], first: int, size: Callable[[int], int]) -> list[bytes]:
    """Join per-character pieces while a word has room; a character never spans two words (RFC 2047 §5)."""
    runs, run, room = [], b"", first
    for piece in pieces:
        if run and size(len(run) + len(piece)) > room:
            runs.append(run)
            run, room = b"", _WORD - _SHELL
        run += piece
    return [*runs, run]


def _q(character: str) -> bytes:
    if character == " ":
        return b"_"
    return b"".join(b"%c" % octet if octet in _Q_SAFE else b"=%02X" % octet for octet in character.encode())


def mailbox(name: str, address: str, *, column: int = 4) -> str:
    """A name and an address as they stand in To or From (RFC 5322 §3.4), folded behind `column` characters.

    Both must have been checked for control characters. The address is not encoded: where it has characters outside
    ASCII, the message is one for SMTPUTF8 (RFC 6532).
    """
    name = " ".join(name.split())
    if not name:
        return address
    if name.isascii() and len(name) <= 60 and "=?" not in name:
        if '"' in name or "\\" in name:
            name = name.replace("\\", "\\\\").replace('"', '\\"')
        shown, last = f'"{name}"', len(name) + 2 + column
    else:
        words = encoded_words(name, column)
        shown, last = "\r\n ".join(words), len(words[-1]) + (column if len(words) == 1 else 1)
    return f"{shown} <{address}>" if last + len(address) + 3 <= FOLD_AT else f"{shown}\r\n <{address}>"


def sender(address: Address) -> tuple[str, str]:
    """The name and the ASCII address of a sender, its domain in A-labels. Raises `Invalid` for other local parts."""
    clean("From", address.display_name + address.username + address.domain)
    if not address.username.isascii() or not address.domain or len(address.addr_spec) > 254:
        raise Invalid(
            "The sender's address needs an ASCII local part and a domain.",
            remedy="Set DISPATCHER_MAIL_FROM to an address such as alerts@courier.example.",
            field="MAIL_FROM",
        )
    domain = address.domain if address.domain.isascii() else address.domain.encode("idna").decode()
    return address.display_name, f"{address.username}@{domain}"


def boundary(*contents: str) -> str:
    """A multipart boundary that depends on nothing but the contents, and stands in none of them (RFC 2046 §5.1.1)."""
    digest = hashlib.sha256("\0".join(contents).encode())
    # `=_` cannot occur in quoted-printable, so no encoded part can hold it either.
    while any((found := f"=_{digest.hexdigest()[:32]}") in content for content in contents):
        digest.update(b"again")
    return found


def quoted(data: bytes) -> bytes:
    """Quoted-printable with CRLF line ends, lines of at most 76, dots stuffed; LF in `data` ends a line.

    The last line has room for a soft break behind it.
    """
    encoded = binascii.b2a_qp(data, istext=True, quotetabs=False).replace(b"\n", b"\r\n")
    if encoded[:1] == b"." or b"\n." in encoded:
        encoded = stuffed(encoded)
    return encoded


def stuffed(data: bytes) -> bytes:
    """Double a dot that begins a line (RFC 5321 §4.5.2)."""
    data = data.replace(b"\n.", b"\n..")
    return b"." + data if data[:1] == b"." else data


def unstuffed(data: bytes) -> bytes:
    """As `stuffed` has found it: what a receiver makes of it."""
    data = data.replace(b"\n..", b"\n.")
    return data[1:] if data[:2] == b".." else data


def wrap_html(html: str, width: int = 400) -> str:
    """Break the lines of an HTML document where a reader cannot see it: at spaces in text and behind a tag's name.

    Lines stay near `width` octets where they have such places. Text within <pre>, <style> and <title> and comments
    are left as they are.
    """
    out: list[str] = []
    column, end, verbatim = 0, 0, ""
    for tag in _TAG.finditer(html):
        raw, text = tag.group(), html[end : tag.start()]
        end = tag.end()
        if text:
            text = text if verbatim else _wrap_text(text, column, width)
            out.append(text)
            column = _column(text, column)
        if column + len(raw) > width and (gap := raw.find(" ")) > 0 and raw[1] != "!":
            # The first space of a tag is never inside a quoted value.
            out += (raw[:gap], "\n", raw[gap + 1 :])
            column = _column(raw[gap + 1 :], 0)
        else:
            out.append(raw)
            column = _column(raw, column)
        if found := _VERBATIM.match(raw):
            verbatim = _verbatim_after(found, verbatim)
    out.append(_wrap_text(html[end:], column, width))
    return "".join(out)


_VERBATIM = re.compile(r"<(/?)(pre|style|title|textarea|script)\b", re.IGNORECASE)


def _verbatim_after(tag: re.Match[str], verbatim: str) -> str:
    """The element whose text must not be touched, if any, behind `tag`."""
    closing, name = tag.group(1), tag.group(2).lower()
    if closing:
        return "" if name == verbatim else verbatim
    return verbatim or name


def _wrap_text(text: str, column: int, width: int) -> str:
    if column + 4 * len(text) <= width:
        return text
    out: list[str] = []
    for number, word in enumerate(text.split(" ")):
        size = _octets(word)
        if number:
            out.append("\n" if column + 1 + size > width else " ")
            column = 0 if out[-1] == "\n" else column + 1
        out.append(word)
        column = _column(word, column)
    return "".join(out)


def _column(text: str, column: int) -> int:
    """Where the line stands in octets after `text`, if it stood at `column` before."""
    newline = text.rfind("\n")
    return column + _octets(text) if newline < 0 else _octets(text[newline + 1 :])


def _octets(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
