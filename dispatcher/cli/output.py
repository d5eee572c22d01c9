"""What the command line says, and where: results on standard output, everything else on standard error.

With `--json` standard output holds one JSON object and nothing else, also when a command fails.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dispatcher.errors import DispatcherError

#: Exit codes: usage errors end with 2, which typer sees to.
WELL = 0
FAILED = 1
INTERRUPTED = 130

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else.")]

screen = Console(highlight=False, markup=False)
aside = Console(stderr=True, highlight=False, markup=False)

_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Text from outside as it may be shown: without anything that a terminal would obey."""
    return _CONTROLS.sub("\ufffd", text)


def say(text: str = "", *, style: str = "") -> None:
    """A line of the result."""
    screen.print(Text(clean(text), style=style), soft_wrap=True)


def note(text: str = "", *, style: str = "") -> None:
    """A line beside the result: progress, hints, errors."""
    aside.print(Text(clean(text), style=style), soft_wrap=True)


def print_json(value: dict[str, Any]) -> None:
    """The one JSON object of a command."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()) -> None:
    """Rows under heads: a table on a terminal, else one line a row with tabs between the cells."""
    if not screen.is_terminal:
        for row in (heads, *rows):
            sys.stdout.write("\t".join(clean(cell) for cell in row) + "\n")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right" if head in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    screen.print(table)


@contextmanager
def answering(as_json: bool = False) -> Iterator[None]:
    """Set up logs, and turn an error of ours into its message and remedy, and exit code 1.

    Anything else is a bug, and passes.
    """
    from dispatcher import logs

    try:
        logs.setup()
        yield
    except DispatcherError as error:
        tell(error, as_json=as_json)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        note("Stopped.")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if as_json and not isinstance(error, typer.Exit | typer.Abort):
            print_json({"error": {"type": "Bug", "message": _bug(error), "remedy": "", "field": None}})
        raise


def tell(error: DispatcherError, *, as_json: bool = False) -> None:
    """Say what went wrong and what to do about it."""
    if as_json:
        kind = type(error).__name__
        print_json({"error": {"type": kind, "message": error.message, "remedy": error.remedy, "field": error.field}})
    note(f"Error: {error.message}", style="red")
    if error.remedy:
        note(error.remedy)


def tell_bug(error: BaseException) -> None:
    """Say that we met an error that we did not foresee."""
    note(f"Error: {_bug(error)}", style="red")
    note("This is a bug in Dispatcher. DISPATCHER_DEBUG=1 shows where it happened.")


def _bug(error: BaseException) -> str:
    from dispatcher.logs import hide_addresses

    first = (str(error).strip().splitlines() or [""])[0][:300]
    return hide_addresses(f"{type(error).__name__}: {first}" if first else type(error).__name__)
