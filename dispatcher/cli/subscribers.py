"""`dispatcher subscribers …`: the readers who follow a story."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.output import FAILED, AsJson, aside, note, print_json, print_table, say
from dispatcher.cli.session import run
from dispatcher.errors import Invalid

if TYPE_CHECKING:
    from dispatcher import importing
    from dispatcher.config import Settings
    from dispatcher.db import Database
    from dispatcher.importing import Imported, Refusal

app = typer.Typer(help="Import readers.", no_args_is_help=True)

#: Refused lines that are shown; `--report` keeps them all.
SHOWN = 20


@app.callback()
def subscribers() -> None:
    """Import readers."""


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
