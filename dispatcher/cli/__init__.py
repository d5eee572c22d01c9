"""The command line: `dispatcher --help`.

Every command answers errors of ours with their message and remedy on standard error and exit code 1; usage errors end
with 2; `--json` prints one object on standard output. Commands import what they need when they run, so that `--help`
and mistyped words are answered at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from dispatcher import __version__
from dispatcher.cli import (
    bench,
    blasts,
    demo,
    desk,
    doctor,
    drills,
    machine,
    parts,
    stories,
    subscribers,
    tokens,
    updates,
    withdrawals,
)
from dispatcher.cli.output import FAILED, tell_bug

ONE_MACHINE = "One machine"
DESK = "Stories, readers, updates"
PARTS = "The parts one by one"
CARE = "Care"

app = typer.Typer(
    name="dispatcher",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(rich_help_panel=ONE_MACHINE)(demo.demo)
app.command(rich_help_panel=ONE_MACHINE)(machine.up)
app.add_typer(stories.app, name="story", rich_help_panel=DESK)
app.add_typer(subscribers.app, name="subscribers", rich_help_panel=DESK)
app.command(rich_help_panel=DESK)(updates.publish)
app.add_typer(withdrawals.app, name="update", rich_help_panel=DESK)
app.command(rich_help_panel=DESK)(drills.drill)
app.add_typer(blasts.app, name="blast", rich_help_panel=DESK)
app.command(rich_help_panel=PARTS)(parts.web)
app.command(rich_help_panel=PARTS)(parts.worker)
app.command(rich_help_panel=PARTS)(parts.beat)
app.command(rich_help_panel=PARTS)(parts.migrate)
app.command(rich_help_panel=CARE)(doctor.doctor)
app.command(rich_help_panel=CARE)(bench.bench)
app.add_typer(desk.app, name="desk", rich_help_panel=CARE)
app.add_typer(tokens.app, name="token", rich_help_panel=CARE)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dispatcher {__version__}")
        raise typer.Exit


@app.callback()
def dispatcher(
    _version_asked: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Turns a new update of a developing story into an email for everyone who follows it.

    \b
    Try it:
      dispatcher demo
    Run it on this machine:
      dispatcher up
    and in another terminal:
      dispatcher story create tarrow-flood --headline "Tarrow flood"
      dispatcher subscribers import readers.csv --story tarrow-flood --confirmed
      dispatcher publish tarrow-flood --headline "Dam gives way" \\
        --body-file update.md --importance breaking --wait
    """


def main() -> None:
    """Run the command line, and end the program."""
    if os.environ.get("DISPATCHER_DEBUG"):
        app()
    try:
        app()
    except Exception as error:  # noqa: BLE001  # whatever it is, a person is owed a sentence
        tell_bug(error)
        sys.exit(FAILED)
