"""`dispatcher token …`: who may call the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.output import AsJson, note, print_json, print_table, say
from dispatcher.cli.session import run, who
from dispatcher.roles import Scope

if TYPE_CHECKING:
    from dispatcher.config import Settings
    from dispatcher.db import Database, Row

app = typer.Typer(help="Create, list and revoke API tokens.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="What the token is for, such as cms.", show_default=False)]


@app.command()
def create(
    name: Name,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            help="What it is good for; repeat it for several. Unset: everything.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create an API token and print it, this once.

    read looks at stories and blasts, publish creates stories and publishes
    updates, steer pauses, resumes, cancels and retries blasts.

    \b
    Example:
      TOKEN=$(dispatcher token create cms --scope read --scope publish)
    """
    scopes = scope or list(Scope)

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import access

        token = await access.create_token(database, name, scopes, by=who())
        if as_json:
            print_json({"name": name, "token": token, "scopes": sorted({str(each) for each in scopes})})
        else:
            say(token)
            note("Keep it safe: it cannot be shown again. Send it as `Authorization: Bearer TOKEN`.")

    run(work, as_json=as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the tokens: their first characters, what they are good for, and when they were last used."""

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import access

        found = await access.tokens(database)
        if as_json:
            print_json({"tokens": [_as_json(row) for row in found]})
        elif found:
            rows = [
                (row["name"], _begins(row), " ".join(row["scopes"]), *(date or "" for date in _dates(row).values()))
                for row in found
            ]
            print_table(("name", "begins", "scopes", "created", "used", "revoked"), rows)
        else:
            note("There is no token yet. Create one: dispatcher token create NAME")

    run(work, as_json=as_json)


@app.command()
def revoke(name: Name, as_json: AsJson = False) -> None:
    """End a token at once."""

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import access

        await access.revoke_token(database, name, by=who())
        if as_json:
            print_json({"name": name, "revoked": True})
        else:
            say(f"Revoked the token {name}.")

    run(work, as_json=as_json)


def _as_json(row: Row) -> dict[str, object]:
    return {
        "name": row["name"],
        "prefix": row["prefix"],
        "scopes": row["scopes"],
        "created_by": row["created_by"],
        **_dates(row),
    }


def _begins(row: Row) -> str:
    """The first characters; of a token from before they were kept, nobody knows them."""
    return f"{row['prefix']}…" if row["prefix"] else ""


def _dates(row: Row) -> dict[str, str | None]:
    keys = ("created_at", "used_at", "revoked_at")
    return {key: row[key] and row[key].isoformat(timespec="seconds") for key in keys}
