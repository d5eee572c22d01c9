"""Who may call the API: bearer tokens, of which only hashes are kept."""

from __future__ import annotations

from dispatcher import db
from dispatcher.errors import Conflict, NotFound, Unauthorized
from dispatcher.texts import one_line
from dispatcher.tokens import api_token_hash, new_api_token


async def create_token(database: db.Database, name: str) -> str:
    """Create an API token. It is shown this once. Raises `Conflict` if a token has that name already."""
    name = one_line("name", name, longest=80)
    token, hashed = new_api_token()
    async with database.transaction() as tx:
        if not await tx.execute("create_token", name=name, token_hash=hashed):
            raise Conflict(f"There is a token {name!r} already.", remedy="Choose another name.", field="name")
    return token


async def revoke_token(database: db.Database, name: str) -> None:
    """End a token at once. Raises `NotFound`."""
    async with database.transaction() as tx:
        if not await tx.execute("revoke_token", name=name):
            raise NotFound(f"There is no live token {name!r}.", field="name")


async def tokens(database: db.Database) -> list[db.Row]:
    """Every token's name, when it was made, and when it was revoked."""
    async with database.connection() as connection:
        return await connection.all("list_tokens")


async def caller(database: db.Database, authorization: str | None) -> str:
    """The name behind an `Authorization: Bearer …` header. Raises `Unauthorized`."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized
    async with database.connection() as connection:
        name = await connection.value("find_token", token_hash=api_token_hash(token.strip()))
    if name is None:
        raise Unauthorized("This bearer token is not valid.")
    return str(name)
