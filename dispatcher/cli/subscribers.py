"""`dispatcher subscribers …`: the readers who follow a story."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from dispatcher.cli.output import FAILED, AsJson, aside, note, print_json, print_table, say
from dispatcher.cli.session import run
from dispatcher.errors import Invalid

if TYPE_CHECKING:
    from dispatcher import importing
    from dispatcher.config import Settings
    from dispatcher.db import Database, Row
    from dispatcher.importing import Imported, Refusal

app = typer.Typer(help="Import, export and erase readers.", no_args_is_help=True)

#: The columns of an export. The first four are those that an import takes.
EXPORTED = ("email", "name", "locale", "timezone", "story", "cadence", "channels", "confirmed_at")
#: Refused lines that are shown; `--report` keeps them all.
SHOWN = 20


@app.callback()
def subscribers() -> None:
    """Import, export and erase readers."""


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="UTF-8, with a header.", show_default=False)],
    story: Annotated[str, typer.Option(metavar="SLUG", help="The story that they follow.", show_default=False)],
    confirmed: Annotated[
        bool, typer.Option("--confirmed", help="They agreed before: write to them at once, without asking again.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Write every line that was not imported here.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import followers of a story from a CSV file.

    The header needs the column email; name, locale and timezone are optional,
    others are ignored. Commas, semicolons and tabs are told apart by the
    header. Good lines are kept, bad ones are named, and the same file again
    changes nothing. Readers who left the story and suppressed addresses are
    never brought back. The exit code is 1 if a line was refused.

    \b
    Example:
      dispatcher subscribers import readers.csv --story tarrow-flood \\
        --confirmed --report refused.csv
    """

    async def work(settings: Settings, database: Database) -> int | None:
        from dispatcher import importing

        with ExitStack() as stack:
            keep = stack.enter_context(_kept(report)) if report else lambda _: None
            shown = _Shown(keep)
            result = await importing.import_followers(
                database,
                story,
                file,
                secret_key=settings.secret_key,
                confirmed=confirmed,
                progress=stack.enter_context(_progress(file)),
                refused=shown,
            )
        shown.say_the_rest(report)
        if as_json:
            print_json(result.as_json())
        else:
            _print(result)
        return FAILED if result.refused else None

    run(work, as_json=as_json)


@app.command()
def export(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE.csv", help="Standard output if left out.", show_default=False)
    ] = None,
    story: Annotated[
        str | None, typer.Option(metavar="SLUG", help="Only those who follow this story.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the readers with an address, and what they follow, as CSV.

    One row for each reader and story, those who left not among them; confirmed_at
    is empty for those who have not confirmed yet. Cells that a spreadsheet would
    run as a formula begin with an apostrophe; an import takes it off again. The
    file can be read by its owner alone.

    \b
    Example:
      dispatcher subscribers export readers.csv --story tarrow-flood
    """

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import privacy

        if as_json and file is None:
            raise Invalid("With --json the readers need a file of their own.", remedy="Name one.", field="file")
        count = 0
        async with aclosing(privacy.everybody(database, story)) as rows:
            first = await anext(rows, None)  # before the file is touched: there may be no such story
            with _csv_at(file) as lines:
                lines.writerow(EXPORTED)
                if first is not None:
                    lines.writerow(_cells(first))
                    count = 1
                async for row in rows:
                    lines.writerow(_cells(row))
                    count += 1
        if as_json:
            print_json({"rows": count, "story": story, "file": str(file)})
        elif file is not None:
            note(f"{count:,} rows written to {file}.")

    run(work, as_json=as_json)


@app.command()
def erase(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="- reads it from standard input.", show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a reader and everything that is known of them.

    What is left is a keyed hash of the address, so that no import brings it
    back. Whoever wants to can follow a story again and confirm by mail.

    \b
    Example:
      dispatcher subscribers erase ada@example.org
    """
    if address == "-":
        if not yes:
            raise typer.BadParameter("An address from standard input needs --yes.", param_hint="ADDRESS")
        address = sys.stdin.readline().strip()
    if not yes:
        typer.confirm("Erase this reader and everything that is known of them?", abort=True, err=True)

    async def work(settings: Settings, database: Database) -> None:
        from dispatcher import privacy

        known = await privacy.erase_address(database, settings.secret_key, address)
        if as_json:
            print_json({"erased": known, "suppressed": True})
        elif known:
            say("Erased. A keyed hash of the address is left, so that no import brings it back.")
        else:
            say("No reader has this address. It is not written to any more, and no import brings it in.")

    run(work, as_json=as_json)


def _cells(row: Row) -> list[str]:
    """A reader and a story as a line of the export."""
    from dispatcher.csvfiles import guarded

    confirmed_at = "" if row["confirmed_at"] is None else row["confirmed_at"].isoformat(timespec="seconds")
    plain = [row[name] for name in ("email", "name", "locale", "timezone", "slug", "cadence")]
    return [guarded(cell) for cell in (*plain, " ".join(row["channels"]), confirmed_at)]


class _Lines(Protocol):
    def writerow(self, row: Iterable[str], /) -> object: ...


@contextmanager
def _csv_at(path: Path | None) -> Iterator[_Lines]:
    """Lines of CSV to standard output, or to a file that only its owner can read."""
    if path is None:
        yield csv.writer(sys.stdout, lineterminator="\n")
        return
    try:
        with open(path, "w", newline="", encoding="utf-8", opener=_private) as file:  # for its opener
            yield csv.writer(file)
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror or error}.", field="file") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _Shown:
    """Shows the first lines that were not imported, and hands all of them on."""

    def __init__(self, keep: Callable[[Refusal], None]) -> None:
        self._keep = keep
        self.count = 0

    def __call__(self, refusal: Refusal) -> None:
        self._keep(refusal)
        self.count += 1
        if self.count <= SHOWN:
            where = f"line {refusal.line}" + (f", {refusal.column}" if refusal.column else "")
            note(f"{where}: {refusal.detail}")

    def say_the_rest(self, report: Path | None) -> None:
        if report and self.count:
            note(f"All {self.count:,} lines that were not imported are in {report}.")
        elif self.count > SHOWN:
            note(f"… and {self.count - SHOWN:,} more. --report FILE.csv keeps them all.")


@contextmanager
def _kept(path: Path) -> Iterator[Callable[[Refusal], None]]:
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("line", "column", "reason", "detail"))

            def keep(refusal: Refusal) -> None:
                try:
                    writer.writerow((refusal.line, refusal.column, refusal.reason, refusal.detail))
                except OSError as error:
                    raise _not_written(path, error) from error

            yield keep
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> Invalid:
    return Invalid(f"{path} cannot be written: {error.strerror or error}.", field="report")


@contextmanager
def _progress(file: Path) -> Iterator[importing.Progress]:
    """A bar by bytes on a terminal; elsewhere the lines read so far, now and then."""
    if not aside.is_terminal:

        def line(_: int, so_far: Imported) -> None:
            if so_far.read % 500_000 == 0 and so_far.read:
                note(f"{so_far.read:,} lines read")

        yield line
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.fields[lines]} lines"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=aside) as bar:
        size = file.stat().st_size if file.is_file() else None
        task = bar.add_task("import", total=size, lines="0")

        def advance(bytes_read: int, so_far: Imported) -> None:
            bar.update(task, completed=bytes_read, lines=f"{so_far.read:,}")

        yield advance


def _print(result: Imported) -> None:
    if result.ignored_columns:
        names = ", ".join(name[:40] or "(no name)" for name in result.ignored_columns[:10])
        note(f"Ignored columns: {names}" + (" …" if len(result.ignored_columns) > 10 else ""))
    rows = [
        ("lines read", result.read),
        ("added", result.added),
        ("confirmed now, waiting before", result.activated),
        ("followed already", result.already),
        ("further lines of the same address", result.duplicates),
        ("suppressed, left alone", result.suppressed),
        ("left the story, left alone", result.left),
        *((f"refused: {reason}", count) for reason, count in result.refused.most_common()),
    ]
    print_table(("what", "lines"), [(what, f"{count:,}") for what, count in rows if count], numbers=("lines",))
    if result.added and not result.confirmed:
        say("Those added wait for their confirmation and get no mail until then. With --confirmed they get it at once.")
