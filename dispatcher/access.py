"""Who may call the API, and for what: bearer tokens with scopes, of which only hashes are kept."""

from __future__ import annotations

from collections.abc import Collection

from dispatcher import audit, db
from dispatcher.errors import Conflict, DispatcherError, Invalid, NotFound, Unauthorized
from dispatcher.roles import Scope
from dispatcher.texts import one_line
from dispatcher.tokens import api_token_hash, new_api_token

#: Characters of a token that lists show, so that it is known again where it is kept: 4 of them are its own.
SHOWN = 8
#: Seconds for which the last use of a token is taken to be now.
USE_SEEN = 600.0


class ScopeMissing(DispatcherError):
    """This token is not good for that."""

    status = 403
    remedy = "Create one that is with `dispatcher token create NAME --scope SCOPE`."


async def create_token(
    database: db.Database, name: str, scopes: Collection[Scope] = tuple(Scope), *, by: str = "cli"
) -> str:
    """Create an API token. It is shown this once.

    Raises `Conflict` if a token has that name already, `Invalid` if it would be good for nothing.
    """
    name = one_line("name", name, longest=80)
    if not scopes:
        raise Invalid("A token needs a scope.", remedy=f"Choose of {', '.join(Scope)}.", field="scope")
    token, hashed = new_api_token()
    given = sorted({str(scope) for scope in scopes})
    async with database.transaction() as tx:
        if not await tx.execute(
            "create_token", name=name, token_hash=hashed, scopes=given, prefix=token[:SHOWN], created_by=by
        ):
            raise Conflict(f"There is a token {name!r} already.", remedy="Choose another name.", field="name")
        await audit.note(tx, actor=by, action="created an API token", subject=name, detail={"scopes": given})
    return token


async def revoke_token(database: db.Database, name: str, *, by: str = "cli") -> None:
    """End a token at once. Raises `NotFound`."""
    async with database.transaction() as tx:
        if not await tx.execute("revoke_token", name=name):
            raise NotFound(f"There is no live token {name!r}.", field="name")
        await audit.note(tx, actor=by, action="revoked an API token", subject=name)


async def tokens(database: db.Database) -> list[db.Row]:
    """Every token's name, first characters and scopes; who made it and when, when it was last used, when revoked."""
    async with database.connection() as connection:
        return await connection.all("list_tokens")


async def caller(database: db.Database, authorization: str | None, *, needs: Scope) -> str:
    """The name behind an `Authorization: Bearer …` header.

    Raises `Unauthorized` for a token that is none, `ScopeMissing` for one that is not good for what is asked.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized
    hashed = api_token_hash(token.strip())
    async with database.connection() as connection:
        found = await connection.one("find_token", token_hash=hashed, seconds=USE_SEEN)
        if found is None:
            raise Unauthorized("This bearer token is not valid.")
        if str(needs) not in found["scopes"]:
            raise ScopeMissing(f"This token is not good for that: it lacks the scope {needs}.", field="Authorization")
        if found["is_stale"]:
            await connection.execute("see_token", token_hash=hashed)
    return str(found["name"])
