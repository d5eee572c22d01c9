"""`dispatcher drill`: rehearse an update, up to the relay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.output import AsJson, answering, print_json, say
from dispatcher.cli.session import run, who
from dispatcher.cli.stories import Slug
from dispatcher.cli.updates import read_body, update_as_json, wait_for
from dispatcher.model import Draft, Importance, Kind

if TYPE_CHECKING:
    from dispatcher.config import Settings
    from dispatcher.db import Database


def drill(
    slug: Slug,
    headline: Annotated[str, typer.Option(help="The update in one line.", show_default=False)],
    body_file: Annotated[
        str, typer.Option(metavar="FILE.md", help="The text, in Markdown; - reads standard input.", show_default=False)
    ],
    summary: Annotated[str, typer.Option(help="The line beside the subject in an inbox.", show_default=False)] = "",
    importance: Annotated[Importance, typer.Option(help="As it would be published.")] = Importance.ROUTINE,
    corrects: Annotated[
        int | None, typer.Option(metavar="N", help="The number of the update that this corrects.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch until the last reader has an outcome.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rehearse an update for everyone who follows the story SLUG. It reaches nobody.

    Workers freeze the real audience, make each reader's very message, and hand
    it to nobody. A drill waits for everything real, and ends as soon as its
    story has a real update.

    \b
    Example:
      dispatcher drill tarrow-flood --headline "Dam gives way" \\
        --body-file update.md --wait
    """
    with answering(as_json):
        draft = Draft(
            headline=headline,
            body=read_body(body_file),
            summary=summary,
            kind=Kind.UPDATE if corrects is None else Kind.CORRECTION,
            importance=importance,
            corrects_seq=corrects,
        )

    async def work(settings: Settings, database: Database) -> int | None:
        from dispatcher import drilling, reporting
        from dispatcher.nudges import Bell

        rehearsed = await drilling.drill(database, Bell(settings.broker_url), slug, draft, by=who())
        if wait:
            return await wait_for(database, rehearsed, as_json=as_json)
        if as_json:
            reports = [await reporting.blast(database, each) for each in rehearsed.blast_ids]
            print_json({"blasts": [report.as_json() for report in reports], "update": update_as_json(rehearsed)})
        else:
            say(f"The drill of {slug} begins. It reaches nobody.")
            for blast_id in rehearsed.blast_ids:
                say(f"Watch it: dispatcher blast show {blast_id} --watch")
        return None

    run(work, as_json=as_json)
