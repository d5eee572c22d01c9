"""`dispatcher up`: everything in the foreground on one machine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.output import answering, note, say

if TYPE_CHECKING:
    from dispatcher.embedded.box import Box

Port = Annotated[
    int | None,
    typer.Option(min=1, max=65535, help="The port of the pages; 8080 or the next free one.", show_default=False),
]


def up(port: Port = None) -> None:
    """Run everything on this machine, until Ctrl-C.

    PostgreSQL, Valkey, a mail catcher, the pages and the workers. Whatever a
    setting names (DISPATCHER_DATABASE_URL, DISPATCHER_BROKER_URL,
    DISPATCHER_SMTP_URL) is used instead of the part that it replaces.
    """
    with answering():
        from dispatcher import config
        from dispatcher.embedded.box import Box

        with Box(config.data_dir(), port) as box:
            say(f"Dispatcher runs at {box.url}", style="bold")
            _print_places(box)
            serve(box)


def serve(box: Box) -> None:
    """Stay until Ctrl-C, and end everything cleanly then."""
    note("Ctrl-C ends it.")
    try:
        box.wait()
    except KeyboardInterrupt:
        note("Stopping …")


def _print_places(box: Box) -> None:
    if box.inbox_dir is not None:
        say(f"  Mail that it sends    {box.url}/inbox")
    _print_desk(box)
    say(f"  API                   {box.url}/api/v1/docs")
    say(f"  Data                  {box.data_dir}")
    say("Begin in another terminal with: dispatcher story create SLUG --headline TEXT")


def _print_desk(box: Box) -> None:
    """Where the desk is; while it has no lead, the link that makes the first one."""
    token = asyncio.run(_first_link(box.settings["DATABASE_URL"]))
    if token is None:
        say(f"  Desk                  {box.url}/desk")
    else:
        say(f"  Set up the desk       {box.url}/desk/setup/{token}", style="bold")
        note("  Whoever opens that link first becomes its lead; it works once, and for two days.")


async def _first_link(url: str) -> str | None:
    from dispatcher import db, people

    async with db.Database(url, size=2) as database:
        return await people.first_link(database)
