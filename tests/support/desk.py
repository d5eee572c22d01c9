"""People of the desk for tests of what they do there: without passwords, for nobody signs in."""

from __future__ import annotations

from dispatcher import approval, people
from dispatcher.approval import Rule
from dispatcher.drafting import Text
from dispatcher.model import Importance
from dispatcher.people import Person
from dispatcher.roles import Role
from tests.support.newsroom import Newsroom

TEXT = Text(headline="Water is over the wall", body="The gauge reads 6.12 m.", importance=Importance.MAJOR)


async def employ(room: Newsroom, name: str, role: Role) -> Person:
    """Somebody at the desk, at `name@courier.example`."""
    email = f"{name}@courier.example"
    await room.run("INSERT INTO people (email, name, role) VALUES (%s, %s, %s::role)", email, name.title(), str(role))
    return await people.find(room.database, email)


async def set_rule(
    room: Newsroom, *, breaking: bool = False, over: int | None = None, everything: bool = False
) -> None:
    """When a second person has to approve."""
    await approval.write(room.database, Rule(breaking=breaking, over=over, all=everything), by="test")


async def updates(room: Newsroom) -> int:
    """How many updates and blasts there are."""
    rows = await room.run("SELECT (SELECT count(*) FROM updates) + (SELECT count(*) FROM blasts) AS n")
    return int(rows[0]["n"])


async def log_of(room: Newsroom, subject: str) -> list[str]:
    """What was done to something, the oldest first."""
    return [row["action"] for row in await room.run("SELECT action FROM audit WHERE subject = %s ORDER BY id", subject)]
