"""The languages that templates and sentences speak: which one a reader gets, and its catalogue.

English is what is written in the templates. Every other language is `catalogues/LANGUAGE/messages.po` beside this
file, read as it is: there is nothing to be compiled beforehand, and nothing that could be out of date.
"""

from __future__ import annotations

import gettext
import io
import re
from functools import cache
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from dispatcher.config import LANGUAGES
from dispatcher.errors import Misconfigured

#: The language of the templates and of everything that has no catalogue.
SOURCE = "en"
#: Characters of an Accept-Language header that are looked at. Browsers send 100.
_MOST = 1000
# RFC 9110 §12.4.2 and §12.5.4: a language range (RFC 4647 §2.1) or `*`, and perhaps its weight.
_RANGE = re.compile(
    r"\s*(\*|[a-z]{1,8}(?:-[a-z0-9]{1,8})*)\s*(?:;\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?", re.IGNORECASE
)


def known(locale: str) -> str:
    """The one of `LANGUAGES` that a locale such as `uk-UA` or `uk_UA.UTF-8` asks for; English if it asks for none."""
    language = _language(locale)
    return language if language in LANGUAGES else SOURCE


def best_locale(accept_language: str | None, default: str) -> str:
    """The one of `LANGUAGES` that a reader likes best, by the Accept-Language header (RFC 9110 §12.5.4).

    A range counts for its language as a whole, so that `uk-UA` finds `uk` (lookup, RFC 4647 §3.4). What is no range is
    passed over; `default` is for whoever names none of our languages, or likes all of them equally.
    """
    liked: dict[str, float] = {}
    for part in (accept_language or "")[:_MOST].split(","):
        if found := _RANGE.fullmatch(part):
            language, weight = _language(found[1]), float(found[2] or 1)
            liked[language] = max(weight, liked.get(language, 0.0))
    default = known(default)
    anything = liked.get("*", 0.0)
    # `max` keeps the first of equals: what the header names first, then what the newsroom speaks.
    languages = sorted(LANGUAGES, key=lambda each: (list(liked).index(each) if each in liked else 99, each != default))
    best = max(languages, key=lambda each: liked.get(each, anything))
    return best if liked.get(best, anything) > 0 else default


def translations(locale: str) -> gettext.NullTranslations:
    """The catalogue of a locale's language, read once per process.

    Raises `Misconfigured` if this installation lacks it.
    """
    return _translations(known(locale))


@cache
def _translations(language: str) -> gettext.NullTranslations:
    if language == SOURCE:
        return gettext.NullTranslations()
    compiled = io.BytesIO()
    write_mo(compiled, read_catalogue(language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def catalogue_path(language: str) -> Path:
    """Where the catalogue of a language is."""
    return Path(__file__).parent / "catalogues" / language / "messages.po"


def read_catalogue(language: str) -> Catalog:
    """The catalogue as its file has it. Raises `Misconfigured` if there is none or it cannot be read."""
    path = catalogue_path(language)
    try:
        with path.open("rb") as file:
            return read_po(file, locale=language, domain="messages", abort_invalid=True)
    except (OSError, ValueError) as error:
        raise Misconfigured(
            f"The catalogue of the language {language!r} cannot be read: {error}.", remedy="Install Dispatcher again."
        ) from error


def _language(tag: str) -> str:
    """The primary subtag of a language tag (RFC 5646 §2.2.1), in lower case."""
    return re.split(r"[-_.@]", tag.strip(), maxsplit=1)[0].lower()
