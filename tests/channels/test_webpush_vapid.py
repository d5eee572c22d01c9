"""One key pair for every process, kept under seal, and tokens that are renewed before they end."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from py_vapid import Vapid02

from dispatcher import db, vapid
from dispatcher.channels.webpush.authorisation import GOOD_FOR
from dispatcher.errors import Misconfigured
from dispatcher.vapid import Vapid

SECRET = "a secret for tests only, long enough for anybody"
SUBJECT = "mailto:desk@courier.example"
ORIGIN = "https://push.example.org"


def of(database: db.Database, secret: str = SECRET) -> Vapid:
    return Vapid(database, secret, SUBJECT)


def claims(header: str) -> dict[str, Any]:
    part = header.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


async def kept(database: db.Database) -> list[bytes]:
    async with database.connection() as connection:
        cursor = await connection.raw.execute("SELECT sealed FROM keys")
        return [bytes(row["sealed"]) for row in await cursor.fetchall()]


async def test_whoever_is_first_makes_the_key_and_everybody_has_the_same(database: db.Database) -> None:
    processes = [of(database) for _ in range(12)]
    keys = await asyncio.gather(*(each.public_key() for each in processes for _ in range(2)))

    assert len(set(keys)) == 1
    assert len(await kept(database)) == 1
    assert await of(database).public_key() == keys[0]


async def test_a_token_is_good_for_its_origin_and_signed_with_the_key_that_browsers_have(database: db.Database) -> None:
    ours = of(database)
    header = await ours.authorise(ORIGIN)

    assert Vapid02.verify(header.replace(", ", ","))
    assert header.endswith(f"k={await ours.public_key()}")
    assert claims(header)["aud"] == ORIGIN
    assert claims(header)["sub"] == SUBJECT
    assert claims(await ours.authorise("https://other.example"))["aud"] == "https://other.example"


async def test_a_token_is_used_until_shortly_before_its_end(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr("time.time", lambda: now)
    ours = of(database)
    first = await ours.authorise(ORIGIN)
    now += GOOD_FOR - vapid.RENEW_BEFORE - 1
    same = await ours.authorise(ORIGIN)
    now += 2
    renewed = await ours.authorise(ORIGIN)

    assert first == same
    assert claims(first)["exp"] == 1_800_000_000 + GOOD_FOR
    assert claims(renewed)["exp"] == int(now) + GOOD_FOR
    assert claims(renewed)["exp"] - now <= 12 * 3600


async def test_the_key_lies_sealed_in_the_database(database: db.Database) -> None:
    ours = of(database)
    await ours.public_key()
    (sealed,) = await kept(database)
    signer = await ours._key()

    assert signer.secret not in sealed
    assert len(sealed) == 12 + 32 + 16


async def test_with_another_secret_nobody_opens_it_and_nobody_makes_a_second_one(database: db.Database) -> None:
    right = await of(database).public_key()
    stranger = of(database, "another secret, which is long enough as well")
    for ask in (stranger.public_key(), stranger.authorise(ORIGIN)):
        with pytest.raises(Misconfigured, match="another DISPATCHER_SECRET_KEY") as error:
            await ask

    assert "delete the row 'vapid'" in error.value.remedy
    assert await of(database).public_key() == right


@pytest.mark.parametrize(
    "change",
    ["substring(sealed FROM 1 FOR 10)", "''", "sealed || '\\x00'", "set_byte(sealed, 20, get_byte(sealed, 20) # 1)"],
)
async def test_a_damaged_key_is_told_of_and_not_replaced(database: db.Database, change: str) -> None:
    await of(database).public_key()
    async with database.transaction() as tx:
        await tx.raw.execute(f"UPDATE keys SET sealed = {change}")
    (damaged,) = await kept(database)

    with pytest.raises(Misconfigured):
        await of(database).public_key()
    assert await kept(database) == [damaged]
