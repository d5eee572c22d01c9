"""`dispatcher update …`: take an update back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.output import AsJson, print_json, say
from dispatcher.cli.session import run, who
from dispatcher.cli.stories import Slug
from dispatcher.cli.updates import update_as_json, wait_for

if TYPE_CHECKING:
    from dispatcher.config import Settings
    from dispatcher.db import Database
    from dispatcher.model import Published

app = typer.Typer(help="Take an update back.", no_args_is_help=True)


@app.callback()
def update() -> None:
    """Take an update back."""


@app.command()
def withdraw(
    slug: Slug,
    seq: Annotated[int, typer.Argument(metavar="SEQ", min=1, help="The number of the update.", show_default=False)],
    reason: Annotated[str, typer.Option(help="What readers are told, in one line.", show_default=False)],
    wait: Annotated[bool, typer.Option("--wait", help="Watch until the last push has an outcome.")] = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw update SEQ of the story SLUG: it stops, and pushes of it are replaced.

    What has not gone out never does. Its text is shown no longer, and a push
    that is on a screen is replaced by the reason. Mails cannot be taken back,
    and nobody is mailed: publish a correction if readers need the right text.

    \b
    Example:
      dispatcher update withdraw tarrow-flood 8 --reason "The dam holds."
    """

    async def work(settings: Settings, database: Database) -> int | None:
        from dispatcher import reporting, withdrawing
        from dispatcher.nudges import Bell

        bell = Bell(settings.broker_url)
        withdrawn = await withdrawing.withdraw(database, bell, slug, seq, by=who(), reason=reason)
        if wait:
            return await wait_for(database, withdrawn, as_json=as_json)
        if as_json:
            reports = [await reporting.blast(database, each) for each in withdrawn.blast_ids]
            print_json({"blasts": [report.as_json() for report in reports], "update": update_as_json(withdrawn)})
        else:
            _say_withdrawn(withdrawn, seq)
        return None

    run(work, as_json=as_json)


def _say_withdrawn(withdrawn: Published, seq: int) -> None:
    say(f"Withdrew update {seq} of {withdrawn.story.slug}. Readers are told why as update {withdrawn.update.seq}.")
    for blast_id in withdrawn.superseded:
        say(f"Blast {blast_id} was stopped: whoever it had not reached gets nothing.")
    for blast_id in withdrawn.blast_ids:
        say(f"Pushes of it are replaced. Watch that: dispatcher blast show {blast_id} --watch")
    say(f"Do readers need the right text? dispatcher publish {withdrawn.story.slug} --corrects {seq} …")
