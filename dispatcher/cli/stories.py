"""`dispatcher story …`: create, set, close, merge and list stories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dispatcher.cli.output import AsJson, note, print_json, print_table, say
from dispatcher.cli.session import run, who
from dispatcher.model import InDoubt

if TYPE_CHECKING:
    from dispatcher.config import Settings
    from dispatcher.db import Database
    from dispatcher.model import Story

app = typer.Typer(help="Create, set, close, merge and list stories.", no_args_is_help=True)

#: Seconds for which `merge` moves readers itself; the workers go on with the rest.
MERGING_PATIENCE = 60.0
Slug = Annotated[str, typer.Argument(help="The story's name in addresses, such as tarrow-flood.", show_default=False)]


@app.command()
def create(
    slug: Slug,
    headline: Annotated[str, typer.Option(help="What the story is about, in one line.", show_default=False)],
    summary: Annotated[str, typer.Option(help="One or two sentences for its page.", show_default=False)] = "",
    in_doubt: Annotated[
        InDoubt | None,
        typer.Option(
            help="What becomes of a message without an answer: sent again, or left to a person. Unset: as the"
            " installation does (DISPATCHER_IN_DOUBT).",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a developing story that readers can follow.

    \b
    Example:
      dispatcher story create tarrow-flood --headline "The Tarrow bursts its banks"
    """

    async def work(settings: Settings, database: Database) -> None:
        from dispatcher import stories

        story = await stories.create(database, slug, headline=headline, summary=summary, in_doubt=in_doubt, by=who())
        if as_json:
            print_json({"story": _as_json(story)})
        else:
            say(f"Created the story {story.slug}. Readers follow it at {settings.public_url}/s/{story.slug}")

    run(work, as_json=as_json)


@app.command("set")
def set_(
    slug: Slug,
    in_doubt: Annotated[
        Literal["resend", "hold", "default"],
        typer.Option(
            help="What becomes of a message without an answer: sent again, left to a person, or as the"
            " installation does (DISPATCHER_IN_DOUBT).",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Change what becomes of a story's messages that no relay answered.

    Between a message's last byte and the relay's answer nobody can know who
    has it. resend loses nobody, and may write to somebody twice; hold writes
    to nobody twice, and leaves those readers in doubt until you decide:
    dispatcher blast retry ID --state in_doubt

    \b
    Example:
      dispatcher story set tarrow-flood --in-doubt hold
    """

    async def work(settings: Settings, database: Database) -> None:
        from dispatcher import stories

        chosen = None if in_doubt == "default" else InDoubt(in_doubt)
        story = await stories.set_in_doubt(database, slug, chosen, by=who())
        if as_json:
            print_json({"story": _as_json(story)})
        else:
            what = "sent again" if (chosen or settings.in_doubt) is InDoubt.RESEND else "left to a person"
            as_all = "" if chosen else ", as the installation does"
            say(f"Messages of {story.slug} without an answer are {what}{as_all}.")

    run(work, as_json=as_json)


@app.command()
def close(
    slug: Slug,
    successor: Annotated[
        str | None, typer.Option(metavar="SLUG", help="The story that goes on where this one ends.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Close a story: it stays readable, and takes no more updates but corrections.

    Readers get no mail about it. To tell them, publish a final update instead:
    dispatcher publish SLUG --kind final --successor SLUG ...
    """

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import stories

        story = await stories.close(database, slug, successor=successor, by=who())
        if as_json:
            print_json({"story": _as_json(story)})
        else:
            say(f"Closed the story {story.slug}." + (f" {successor} goes on." if successor else ""))

    run(work, as_json=as_json)


@app.command()
def merge(
    slug: Slug,
    into: Annotated[str, typer.Option(metavar="SLUG", help="The story that goes on.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count whom it concerns, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Merge a story into another: whoever follows it follows that one instead.

    The story is closed and its page leads on; no mail is sent. Who follows
    both keeps their wishes for the other, and who has left the other stays
    away. It is refused while something of the story is going out.

    \b
    Example:
      dispatcher story merge levee --into tarrow-flood --dry-run
    """

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import merging

        seen = await merging.outlook(database, slug, into)
        if not dry_run:
            await merging.merge(database, slug, into, by=who(), seconds=MERGING_PATIENCE)
        counts = {"moving": seen.moving, "follow_both": seen.follow_both, "have_left": seen.have_left}
        left = 0 if dry_run else await merging.left(database, seen.story)
        if as_json:
            print_json(
                {"story": slug, "into": into, "dry_run": dry_run, "followers": seen.followers, **counts, "left": left}
            )
        else:
            say(
                f"{seen.moving:,} readers {'would move' if dry_run else 'move'} from {slug} to {into};"
                f" {seen.follow_both:,} follow both, {seen.have_left:,} have left {into} and stay away."
            )
            if left:
                note(f"The workers have still to move {left:,} of them.")

    run(work, as_json=as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List every story with its followers, developing ones first."""

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import stories

        found = await stories.listing(database)
        if as_json:
            print_json({"stories": [_as_json(story) for story in found]})
        elif found:
            rows = [(each.slug, str(each.state), f"{each.followers or 0:,}", each.headline) for each in found]
            print_table(("story", "state", "followers", "headline"), rows, numbers=("followers",))
        else:
            note("There is no story yet. Create one: dispatcher story create SLUG --headline TEXT")

    run(work, as_json=as_json)


def _as_json(story: Story) -> dict[str, object]:
    return {
        "slug": story.slug,
        "headline": story.headline,
        "summary": story.summary,
        "state": str(story.state),
        "created_at": story.created_at.isoformat(),
        "closed_at": None if story.closed_at is None else story.closed_at.isoformat(),
        "successor": story.successor,
        "followers": story.followers,
        "in_doubt": None if story.in_doubt is None else str(story.in_doubt),
    }
