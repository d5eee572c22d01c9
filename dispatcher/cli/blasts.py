"""`dispatcher blast …`: see what becomes of a blast, and steer it while it goes out."""

from __future__ import annotations

import asyncio
import enum
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli import watching
from dispatcher.cli.output import FAILED, AsJson, answering, note, print_json, print_table, say
from dispatcher.cli.session import run, who
from dispatcher.errors import Invalid
from dispatcher.model import BlastState, DeliveryState

if TYPE_CHECKING:
    from dispatcher.config import Settings
    from dispatcher.db import Database
    from dispatcher.model import BlastReport, ListedBlast, Retried, Steered

app = typer.Typer(help="See what becomes of a blast, and steer it.", no_args_is_help=True)


class Whom(enum.StrEnum):
    """Readers who may be tried again."""

    FAILED = "failed"
    IN_DOUBT = "in_doubt"


HEADS = ("blast", "state", "readers", "story", "update", "headline")

BlastId = Annotated[int, typer.Argument(metavar="ID", min=1, help="The number of the blast.", show_default=False)]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Show so many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the blasts: the open ones first, the newest first."""

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import reporting

        found = await reporting.blasts(database, limit=limit)
        if as_json:
            print_json({"blasts": [each.as_json() for each in found]})
        elif found:
            print_table(HEADS, map(_cells, found), numbers=("blast", "readers", "update"))
        else:
            note(
                "There is no blast yet. Publish an update: dispatcher publish SLUG --headline TEXT --body-file FILE.md"
            )

    run(work, as_json=as_json)


def _cells(each: ListedBlast) -> tuple[str, ...]:
    readers = "" if each.candidates is None else f"{each.candidates:,}"
    state = f"{each.state} (drill)" if each.is_drill else str(each.state)
    return (str(each.id), state, readers, each.story, str(each.seq), each.headline)


@app.command()
def show(
    blast_id: BlastId,
    watch: Annotated[bool, typer.Option("--watch", help="Watch until the last reader has an outcome.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a blast in numbers: who was reached, who was not and why, and how fast."""

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import reporting

        report = await reporting.blast(database, blast_id)
        if watch and not report.settled:
            [report] = await watching.until_settled(database, [blast_id])
        if as_json:
            print_json(report.as_json())
        else:
            watching.print_report(report)

    run(work, as_json=as_json)


@app.command()
def pause(blast_id: BlastId, as_json: AsJson = False) -> None:
    """Stop a blast for now: nothing more of it goes out until it is resumed.

    Messages whose last byte has left cannot be stopped. An update goes on
    expiring while its blast is paused.

    \b
    Examples:
      dispatcher blast pause 48
      dispatcher blast resume 48
    """

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import steering

        steered = await steering.pause(database, blast_id, by=who())
        await _answer(database, steered, "Paused blast {}.", "Blast {} was paused already.", as_json=as_json)

    run(work, as_json=as_json)


@app.command()
def resume(blast_id: BlastId, as_json: AsJson = False) -> None:
    """Go on with a paused blast where it stopped.

    \b
    Example:
      dispatcher blast resume 48
    """

    async def work(settings: Settings, database: Database) -> None:
        from dispatcher import steering
        from dispatcher.nudges import Bell

        steered = await steering.resume(database, Bell(settings.broker_url), blast_id, by=who())
        await _answer(database, steered, "Blast {} goes on.", "Blast {} was not paused.", as_json=as_json)

    run(work, as_json=as_json)


@app.command()
def cancel(
    blast_id: BlastId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """End a blast for good: who was not written to yet never will be.

    It asks first. What a relay took cannot be called back: if it was wrong,
    publish a correction. To stop for a while only, pause the blast.

    \b
    Examples:
      dispatcher blast cancel 48
      dispatcher blast cancel 48 --yes --json
    """
    if not yes:
        _ask(blast_id, as_json=as_json)

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import steering

        steered = await steering.cancel(database, blast_id, by=who())
        await _answer(database, steered, "Cancelled blast {}.", "Blast {} was cancelled already.", as_json=as_json)

    run(work, as_json=as_json)


@app.command()
def retry(
    blast_id: BlastId,
    state: Annotated[
        list[Whom] | None,
        typer.Option(help="Who: those who failed (if you do not say), or those in doubt. Give it twice for both."),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(help="Only readers with exactly this reason, as `blast show` names it.", show_default=False),
    ] = None,
    code: Annotated[
        str | None, typer.Option(metavar="550", help="Only this reply code: 550, 55x or 5xx.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Try readers again who failed, once what was in their way is mended.

    Readers who left or are suppressed are left out. Who is in doubt may have
    the message already, and may get it a second time, with the same
    Message-ID: look into the relay's log first.

    \b
    Examples:
      dispatcher blast retry 48 --dry-run
      dispatcher blast retry 48 --reason "5.7.1 Relaying denied"
      dispatcher blast retry 48 --code 55x
      dispatcher blast retry 48 --state in_doubt
    """

    async def work(settings: Settings, database: Database) -> None:
        from dispatcher import reporting, steering
        from dispatcher.nudges import Bell

        retried = await steering.retry(
            database,
            Bell(settings.broker_url),
            blast_id,
            by=who(),
            states=[DeliveryState(each) for each in state or [Whom.FAILED]],
            reason=reason,
            code=code,
            dry_run=dry_run,
        )
        if as_json:
            report = await reporting.blast(database, blast_id)
            print_json({**retried.as_json(), "blast": report.as_json()})
        else:
            _say_retried(retried)

    run(work, as_json=as_json)


async def _answer(database: Database, steered: Steered, done: str, before: str, *, as_json: bool) -> None:
    from dispatcher import reporting

    report = await reporting.blast(database, steered.blast_id)
    if as_json:
        print_json(report.as_json())
        return
    say((done if steered.changed else before).format(steered.blast_id))
    watching.print_report(report)


def _ask(blast_id: int, *, as_json: bool) -> None:
    """Let a person confirm that this blast shall end. The event loop does not run meanwhile, so Ctrl-C works."""
    with answering(as_json):
        if not sys.stdin.isatty():
            raise Invalid(
                "Cancelling a blast cannot be undone, and nobody is here to confirm it.",
                remedy="Add --yes, or pause it instead.",
                field="yes",
            )
        report = asyncio.run(_look(blast_id))
        watching.print_report(report, tell=note)
    if not typer.confirm("Cancel it? Who was not written to yet never will be, and it cannot be undone.", err=True):
        note("Nothing was changed.")
        raise typer.Exit(FAILED)


async def _look(blast_id: int) -> BlastReport:
    from dispatcher import config, reporting
    from dispatcher.db import Database

    async with Database(config.load().database_url, size=2) as database:
        return await reporting.blast(database, blast_id)


def _say_retried(retried: Retried) -> None:
    readers = "1 reader" if retried.count == 1 else f"{retried.count:,} readers"
    if retried.dry_run:
        say(f"{readers} of blast {retried.blast_id} would be tried again.")
    elif not retried.count:
        say(f"Nobody in blast {retried.blast_id} was tried again: no reader fits.")
    elif retried.state is BlastState.PAUSED:
        say(f"{readers} will be tried again once it goes on: dispatcher blast resume {retried.blast_id}")
    else:
        say(f"{readers} will be tried again. Watch it: dispatcher blast show {retried.blast_id} --watch")
    if retried.left_out:
        say(f"{retried.left_out:,} more left or are suppressed: they are left out.")
