"""What most commands need: the settings, an open database, and one event loop."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import typer

from dispatcher.cli.output import WELL, answering

if TYPE_CHECKING:
    from dispatcher.config import Settings
    from dispatcher.db import Database

    Work = Callable[[Settings, Database], Awaitable[int | None]]


def run(work: Work, *, as_json: bool = False) -> None:
    """Do a command's work with an open database, and end the program with the exit code that it returns."""
    from dispatcher import config

    with answering(as_json):
        settings = config.load()
        code = asyncio.run(_with_database(settings, work))
    raise typer.Exit(WELL if code is None else code)


def who() -> str:
    """Whom the ledger names as the publisher."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"  # a container's user need not have a name


async def _with_database(settings: Settings, work: Work) -> int | None:
    from dispatcher.db import Database

    async with Database(settings.database_url, size=2) as database:
        # The pool would try for ten seconds; a person at a terminal wants to know at once.
        await (await database.dedicated()).close()
        return await work(settings, database)
