"""A story to try everything with: invented, from the first line to the last name.

Each update is a file: a few `key: value` lines, an empty line, and the body in Markdown.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from dispatcher.errors import Invalid
from dispatcher.model import Draft, Importance, Kind

_KEYS = ("headline", "summary", "kind", "importance", "corrects")


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleStory:
    """A story and its updates, oldest first; the last one is the news."""

    slug: str
    headline: str
    summary: str
    updates: tuple[Draft, ...]


def sample_story() -> SampleStory:
    """The sample: a night at a dam, of which the last update is breaking."""
    found = sorted(each.name for each in files(__name__).iterdir() if each.name.endswith(".md"))
    return SampleStory(
        slug="karsholm-dam",
        headline="Karsholm dam",
        summary="Meltwater and a jammed gate at the Karsholm dam threaten the towns along the Vessel.",
        updates=tuple(read_draft(files(__name__).joinpath(name).read_text("utf-8")) for name in found),
    )


def read_draft(text: str) -> Draft:
    """An update from a file: `key: value` lines, an empty line, the body in Markdown.

    The keys are headline (needed), summary, kind, importance and corrects (the number of the update that a correction
    corrects). Raises `Invalid`, naming the key and the remedy.
    """
    head, _, body = text.replace("\r\n", "\n").lstrip("\ufeff\n").partition("\n\n")
    values: dict[str, str] = {}
    for line in head.split("\n"):
        key, colon, value = line.partition(":")
        if not colon or key.strip().lower() not in _KEYS:
            raise Invalid(
                f"The line {line[:60]!r} is not one of {', '.join(_KEYS)}.",
                remedy="Begin the file with lines such as `headline: …`, then an empty line, then the body.",
                field="file",
            )
        values[key.strip().lower()] = value.strip()
    if not values.get("headline"):
        raise Invalid("The file has no headline.", remedy="Begin it with `headline: …`.", field="headline")
    corrects = values.get("corrects", "")
    try:
        return Draft(
            headline=values["headline"],
            summary=values.get("summary", ""),
            body=body.strip("\n") + "\n",
            kind=Kind(values.get("kind", Kind.UPDATE)),
            importance=Importance(values.get("importance", Importance.ROUTINE)),
            corrects_seq=int(corrects) if corrects else None,
        )
    except ValueError as error:
        raise Invalid(
            f"A value is not one that exists: {error}.",
            remedy=f"kind is {', '.join(Kind)}; importance is {', '.join(Importance)}; corrects is a number.",
            field="file",
        ) from error
