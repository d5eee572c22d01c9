"""The update card as a browser sends it: what was typed, on which version, and what is to be done with it."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

from dispatcher.drafting import Text
from dispatcher.errors import Invalid, NotFound
from dispatcher.model import Importance, Kind
from dispatcher.web.forms import Sent

#: Hours that may be chosen for an update to expire after; none means as usual.
LIVES = (1, 2, 4, 6, 12, 24, 48)
_NUMBER = re.compile(r"[0-9]{1,9}")
_Word = TypeVar("_Word", bound=StrEnum)


def text_of(form: Sent, before: Text) -> Text:
    """What was typed; what the form does not have stays as it was. Nothing is checked but the choices.

    Raises `Invalid` for a choice that the card does not offer.
    """
    kind = _one_of(Kind, form, "kind", before.kind)
    return Text(
        kind=kind,
        importance=_one_of(Importance, form, "importance", before.importance),
        headline=form.line("headline", before.headline),
        summary=form.line("summary", before.summary),
        body=form.fields.get("body", before.body).replace("\r\n", "\n"),
        corrects_seq=_seq(form, before) if kind is Kind.CORRECTION else None,
        replaces=form.fields.get("replaces", "1" if before.replaces else "") == "1" and kind is not Kind.CORRECTION,
        expires_in=_life(form, before),
        successor=(form.fields.get("successor", before.successor or "").strip() or None)
        if kind is Kind.FINAL
        else None,
    )


def version_of(form: Sent, instead: str = "") -> int:
    """The version that was looked at, or the one that a button names. Raises `Invalid`."""
    return _number(instead or form.get("version"), "version")


def draft_number(raw: str) -> int:
    """The number of a draft, as it stands in an address. Raises `NotFound`."""
    if not _NUMBER.fullmatch(raw):
        raise NotFound("There is no such draft.", remedy="Go back to /desk/drafts.")
    return int(raw)


def _seq(form: Sent, before: Text) -> int | None:
    given = form.fields.get("corrects")
    if given is None:
        return before.corrects_seq
    return _number(given, "corrects") if given else None


def _life(form: Sent, before: Text) -> timedelta | None:
    given = form.fields.get("expires")
    if given is None:
        return before.expires_in
    return timedelta(seconds=_number(given, "expires")) if given else None


def _number(given: str, field: str) -> int:
    if not _NUMBER.fullmatch(given):
        raise Invalid(f"The form has no number for {field}.", remedy="Reload the page, and try again.", field=field)
    return int(given)


def _one_of(words: type[_Word], form: Sent, field: str, default: _Word) -> _Word:
    given = form.get(field)
    try:
        return words(given) if given else default
    except ValueError as error:
        raise Invalid("There is no such choice.", remedy="Reload the page, and choose again.", field=field) from error
