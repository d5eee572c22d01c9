"""`dispatcher desk …`: who may come to the desk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.output import AsJson, note, print_json, print_table, say
from dispatcher.cli.session import run, who
from dispatcher.roles import Role

if TYPE_CHECKING:
    from dispatcher.config import Settings
    from dispatcher.db import Database

app = typer.Typer(help="Invite, list and end the people of the desk.", no_args_is_help=True)

Email = Annotated[str, typer.Argument(help="Their email address.", show_default=False)]


@app.command()
def invite(
    email: Email,
    role: Annotated[Role, typer.Option(help="What they may do; each role may all that the one before it may.")] = (
        Role.REPORTER
    ),
    as_json: AsJson = False,
) -> None:
    """Print a link with which somebody joins the desk; it works once, and for two days.

    \b
    Example:
      dispatcher desk invite ada@courier.example --role lead
    """

    async def work(settings: Settings, database: Database) -> None:
        from dispatcher import people

        token = await people.invite(database, email, role, by=who())
        _print_link(f"{settings.public_url}/desk/invitation/{token}", email, as_json=as_json)

    run(work, as_json=as_json)


@app.command()
def reset(email: Email, as_json: AsJson = False) -> None:
    """Print a link with which somebody sets a new password. Their codes stay on."""

    async def work(settings: Settings, database: Database) -> None:
        from dispatcher import people

        person = await people.find(database, email)
        token = await people.reset(database, person.id, by=who())
        _print_link(f"{settings.public_url}/desk/invitation/{token}", person.email, as_json=as_json)

    run(work, as_json=as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the people of the desk, and those who were there."""

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import people

        found = await people.everybody(database)
        if as_json:
            print_json(
                {
                    "people": [
                        {
                            "email": each.email,
                            "name": each.name,
                            "role": str(each.role),
                            "codes": each.has_totp,
                            "signed_in_at": each.signed_in_at and each.signed_in_at.isoformat(timespec="seconds"),
                            "ended_at": each.ended_at and each.ended_at.isoformat(timespec="seconds"),
                        }
                        for each in found
                    ]
                }
            )
        elif found:
            rows = [
                (
                    each.email,
                    each.name,
                    str(each.role),
                    "on" if each.has_totp else "off",
                    each.ended_at.isoformat(timespec="seconds") if each.ended_at else "",
                )
                for each in found
            ]
            print_table(("email", "name", "role", "codes", "ended"), rows)
        else:
            note("There is nobody yet. Let the first one in: dispatcher desk invite EMAIL --role lead")

    run(work, as_json=as_json)


@app.command()
def end(email: Email, as_json: AsJson = False) -> None:
    """End somebody's access at once, in every browser."""

    async def work(_: Settings, database: Database) -> None:
        from dispatcher import people

        person = await people.find(database, email)
        await people.end(database, person.id, by=who())
        if as_json:
            print_json({"email": person.email, "ended": True})
        else:
            say(f"The access of {person.email} has ended.")

    run(work, as_json=as_json)


def _print_link(link: str, email: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"email": email, "link": link})
    else:
        say(link)
        note(f"Pass it on to {email}, and to nobody else: it works once, and for two days.")
