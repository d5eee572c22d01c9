"""From a headline in any alphabet to a story's name in addresses."""

from __future__ import annotations

import re
import unicodedata

from anyascii import anyascii

#: What joins the parts of a word in headlines, and is nothing in an address.
_SILENT = re.compile(r"['’ʼ`´ʹʺ\"]")
_OTHERS = re.compile(r"[^a-z0-9]+")


def slug_of(headline: str, *, longest: int, otherwise: str = "story") -> str:
    """A slug of at most `longest` characters, cut between words where it can be; `otherwise` if no letter is left."""
    letters = "".join(map(_latin, unicodedata.normalize("NFC", headline)))
    slug = _OTHERS.sub("-", _SILENT.sub("", letters).lower()).strip("-")
    return _cut(slug, longest) or otherwise


def numbered(slug: str, number: int, *, longest: int) -> str:
    """The slug with a number at its end, still of at most `longest` characters."""
    end = f"-{number}"
    return _cut(slug, longest - len(end)) + end


def _latin(character: str) -> str:
    if character.isascii():
        return character
    category = unicodedata.category(character)
    if category[0] in "SC":  # emoji have long names
        return " "
    made = anyascii(character)
    # A character that is a word by itself begins with a capital: 東京 is Dong Jing.
    return f" {made}" if category == "Lo" and made[:1].isupper() else made


def _cut(slug: str, longest: int) -> str:
    if len(slug) <= longest:
        return slug
    whole = slug[: longest + 1].rpartition("-")[0]
    return (whole if len(whole) > longest // 2 else slug[:longest]).strip("-")
