"""What a person may type into a field: one line or many, how long, and no characters that lie about the text."""

from __future__ import annotations

import re
import zoneinfo
from functools import cache

from dispatcher.errors import Invalid, TooLarge

#: C0 and C1 controls, line and paragraph separators: everything that could end a line in a header or a log.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: In running text, tabs and line feeds are welcome.
_BODY_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")


def one_line(field: str, value: str, *, longest: int, required: bool = True) -> str:
    """A line of text without its outer spaces. Raises `Invalid` with the field and the remedy."""
    text = value.strip(" \t")
    if required and not text.strip():
        raise Invalid(f"{field} is empty.", remedy="Write a line of text.", field=field)
    if _CONTROLS.search(text) or _SURROGATES.search(text):
        raise Invalid(
            f"{field} has a line break or another control character.", remedy="Write it on one line.", field=field
        )
    if len(text) > longest:
        raise Invalid(
            f"{field} has {len(text):,} characters; {longest} is the most.", remedy="Shorten it.", field=field
        )
    return text


def many_lines(field: str, value: str, *, most_bytes: int) -> str:
    """Running text with LF line ends. Raises `Invalid`, or `TooLarge` beyond `most_bytes` of UTF-8."""
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise Invalid(f"{field} is empty.", remedy="Write what is new.", field=field)
    if _SURROGATES.search(text):
        raise Invalid(f"{field} is not valid Unicode text.", remedy="Save it as UTF-8.", field=field)
    if _BODY_CONTROLS.search(text):
        raise Invalid(
            f"{field} has a control character.", remedy="Remove it, or save the text as plain UTF-8.", field=field
        )
    size = len(text.encode())
    if size > most_bytes:
        raise TooLarge(
            f"{field} has {size:,} bytes; {most_bytes:,} is the most.",
            remedy="Link to the long version instead.",
            field=field,
        )
    return text


#: The timezone of whoever named none.
DEFAULT_TIMEZONE = "UTC"


def is_timezone(name: str) -> bool:
    """Whether this is the IANA name of a timezone, such as `Europe/Kyiv`."""
    return name in _timezones()


@cache
def _timezones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) | {DEFAULT_TIMEZONE}
