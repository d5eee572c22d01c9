"""`dispatcher publish`: send an update out."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from dispatcher.cli import watching
from dispatcher.cli.output import AsJson, answering, print_json, say
from dispatcher.cli.session import run, who
from dispatcher.cli.stories import Slug
from dispatcher.errors import Invalid, TooLarge
from dispatcher.model import Draft, Importance, Kind, Published

if TYPE_CHECKING:
    from dispatcher.config import Settings
    from dispatcher.db import Database

#: Bytes of a text that are read at most; publishing holds the real limit, after CRLF has shrunk to LF.
MOST_READ = 1024 * 1024
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def publish(
    slug: Slug,
    headline: Annotated[str, typer.Option(help="The update in one line: the mail's subject.", show_default=False)],
    body_file: Annotated[
        str, typer.Option(metavar="FILE.md", help="The text, in Markdown; - reads standard input.", show_default=False)
    ],
    summary: Annotated[str, typer.Option(help="The line beside the subject in an inbox.", show_default=False)] = "",
    importance: Annotated[Importance, typer.Option(help="Breaking news overtakes everything.")] = Importance.ROUTINE,
    kind: Annotated[Kind, typer.Option(help="What the update does to its story.")] = Kind.UPDATE,
    corrects: Annotated[
        int | None, typer.Option(metavar="N", help="The number of the update that this corrects.", show_default=False)
    ] = None,
    replaces: Annotated[
        bool,
        typer.Option("--replace", help="Stop what is still going out: whoever was not reached gets only this."),
    ] = False,
    successor: Annotated[
        str | None,
        typer.Option(
            metavar="SLUG",
            help="With --kind final: the story that goes on. Readers are offered to follow it.",
            show_default=False,
        ),
    ] = None,
    expires_in: Annotated[
        str | None,
        typer.Option(metavar="6h", help="Reach nobody later than this: 30m, 6h or 2d.", show_default=False),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: the same key never sends twice.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch until the last reader has an outcome.")] = False,
    as_json: AsJson = False,
) -> None:
    """Publish an update to everyone who follows the story SLUG. One of kind final closes the story.

    It is safe to publish while the broker or the relay is away: the update
    waits, and goes out once they answer. With --wait the exit code is 0 only
    if nobody failed, expired or is in doubt.

    \b
    Examples:
      dispatcher publish tarrow-flood --headline "Dam gives way" \\
        --body-file update.md --importance breaking --wait
      echo "The **A4** is open again." | \\
        dispatcher publish tarrow-flood --headline "A4 open" --body-file -
    """
    with answering(as_json):
        draft = Draft(
            headline=headline,
            body=read_body(body_file),
            summary=summary,
            kind=Kind.CORRECTION if corrects is not None and kind is Kind.UPDATE else kind,
            importance=importance,
            corrects_seq=corrects,
            expires_in=None if expires_in is None else duration(expires_in),
            replaces=replaces,
            successor=successor,
        )

    async def work(settings: Settings, database: Database) -> int | None:
        from dispatcher import publishing, reporting
        from dispatcher.nudges import Bell

        published = await publishing.publish(database, Bell(settings.broker_url), slug, draft, by=who(), key=key)
        if wait:
            return await wait_for(database, published, as_json=as_json)
        if as_json:
            reports = [await reporting.blast(database, each) for each in published.blast_ids]
            print_json({"blasts": [report.as_json() for report in reports], "update": update_as_json(published)})
        else:
            _say_published(published)
        return None

    run(work, as_json=as_json)


async def wait_for(database: Database, published: Published, *, as_json: bool) -> int:
    """Watch the blasts of an update until they are through, print what became of them, and say the exit code."""
    reports = await watching.until_settled(database, published.blast_ids)
    if as_json:
        print_json({"blasts": [report.as_json() for report in reports], "update": update_as_json(published)})
    else:
        for report in reports:
            watching.print_report(report)
    return watching.verdict(reports)


def duration(text: str) -> timedelta:
    """A length of time such as 30m, 6h or 2d. Raises `Invalid`."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text.strip().lower())
    if not found:
        raise Invalid(f"{text[:20]!r} is no length of time.", remedy="Write 30m, 6h or 2d.", field="expires-in")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def read_body(path: str) -> str:
    """The text of an update from a file, or from standard input for `-`. Raises `Invalid` or `TooLarge`."""
    try:
        if path == "-":
            raw = _bounded(sys.stdin.buffer)
        else:
            with Path(path).open("rb") as file:
                raw = _bounded(file)
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror or error}.", field="body-file") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8 text.", remedy="Save it as UTF-8.", field="body-file") from error


def _bounded(file: BinaryIO) -> bytes:
    raw = file.read(MOST_READ + 1)
    if len(raw) > MOST_READ:
        raise TooLarge(
            f"The text has more than {MOST_READ:,} bytes.",
            remedy="Link to the long version instead.",
            field="body-file",
        )
    return raw


def _say_published(published: Published) -> None:
    update = published.update
    if published.replayed:
        say(f"This key was used for update {update.seq} of {published.story.slug} before: nothing was sent again.")
    else:
        say(f"Published update {update.seq} of {published.story.slug}.")
        for blast_id in published.superseded:
            say(f"Blast {blast_id} was stopped: whoever it had not reached gets this update instead.")
    for blast_id in published.blast_ids:
        say(f"Watch it go out: dispatcher blast show {blast_id} --watch")


def update_as_json(published: Published) -> dict[str, object]:
    """The public form of an update that was just made."""
    update = published.update
    return {
        "id": update.id,
        "story": published.story.slug,
        "seq": update.seq,
        "kind": str(update.kind),
        "importance": str(update.importance),
        "headline": update.headline,
        "corrects": update.corrects_seq,
        "published_at": update.published_at.isoformat(),
        "expires_at": None if update.expires_at is None else update.expires_at.isoformat(),
        "replayed": published.replayed,
        "superseded": list(published.superseded),
    }
