"""`dispatcher token …`: who may call the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.output import AsJson, note, print_json, print_table, say
from dispatcher.cli.session import run

if TYPE_CHECKING:
    from dispatcher.config import Settings
    from dispatcher.db import Database, Row

app = typer.Typer(help="Create, list and revoke API tokens.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="What the token is for, such as cms.", show_default=False)]


@app.command()
def create(name: Name, as_json: AsJson = False) -> None:
    """Create an API token and print it, this once.

    \b
    Example:
      TOKEN=$(dispatcher token create cms)
    """

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import access

        token = await access.create_token(database, name)
        if as_json:
            print_json({"name": name, "token": token})
        else:
            say(token)
            note("Keep it safe: it cannot be shown again. Send it as `Authorization: Bearer TOKEN`.")

    run(work, as_json=as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the tokens by name, with when they were made and revoked."""

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import access

        found = await access.tokens(database)
        if as_json:
            print_json({"tokens": [{"name": row["name"], **_dates(row)} for row in found]})
        elif found:
            rows = [(row["name"], *(date or "" for date in _dates(row).values())) for row in found]
            print_table(("name", "created", "revoked"), rows)
        else:
            note("There is no token yet. Create one: dispatcher token create NAME")

    run(work, as_json=as_json)


@app.command()
def revoke(name: Name, as_json: AsJson = False) -> None:
    """End a token at once."""

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import access

        await access.revoke_token(database, name)
        if as_json:
            print_json({"name": name, "revoked": True})
        else:
            say(f"Revoked the token {name}.")

    run(work, as_json=as_json)


def _dates(row: Row) -> dict[str, str | None]:
    return {key: row[key] and row[key].isoformat(timespec="seconds") for key in ("created_at", "revoked_at")}
