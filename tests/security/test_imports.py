"""No import brings back whom somebody had erased or suppressed, not even one that is running just then (S30)."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dispatcher import db, importing, privacy
from dispatcher.addresses import address_hash, parse_address
from tests.support.crowd import held
from tests.support.newsroom import SECRET, Newsroom, newsroom
from tests.support.relays import until
from tests.support.sink import a_sink

ADA, BOB = "ada@example.org", "bob@example.org"


def a_file(directory: Path, *lines: str) -> Path:
    file = directory / "readers.csv"
    file.write_text("\n".join(("email", *lines)))
    return file


async def bring_in(room: Newsroom, file: Path) -> importing.Imported:
    return await importing.import_followers(room.database, "dam", file, secret_key=SECRET, confirmed=True)


async def waits_for_a_lock(room: Newsroom) -> bool:
    return bool(await room.run("SELECT pid FROM pg_locks WHERE NOT granted"))


async def test_who_is_erased_while_an_import_runs_is_not_in_the_database_afterwards(
    database: db.Database, database_url: str, tmp_path: Path
) -> None:
    """S30, S32: the import has looked whom it must leave out, and has not written yet, when the operator erases one."""
    room = newsroom(database)
    await room.story()
    async with held(database_url, "LOCK TABLE subscribers IN EXCLUSIVE MODE") as shut:
        importing_ = asyncio.create_task(bring_in(room, a_file(tmp_path, ADA, BOB)))
        await until(lambda: waits_for_a_lock(room))
        erasing = asyncio.create_task(privacy.erase_address(database, SECRET, ADA))
        await asyncio.wait([erasing], timeout=0.5)
        await shut.rollback()
        await asyncio.gather(importing_, erasing)

    assert await room.run("SELECT email FROM subscribers") == [{"email": BOB}]
    again = await bring_in(room, a_file(tmp_path, ADA, BOB))
    assert (again.suppressed, again.already) == (1, 1)


async def test_every_reason_to_be_silent_keeps_out_of_every_import_in_every_spelling(
    database: db.Database, tmp_path: Path
) -> None:
    """S30: 100 % of 300, each in three spellings; and not one of them is written to."""
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story()
        emails = [f"reader{number}@example.org" for number in range(300)]
        reasons = ("no such address (5.1.1)", "complaint", "erased by the reader")
        for number, email in enumerate(emails):
            hashed = address_hash(SECRET, parse_address(email))
            await room.run("INSERT INTO suppressions VALUES (%s, %s)", hashed, reasons[number % 3])
        done = await bring_in(
            room, a_file(tmp_path, *(spelt for each in emails for spelt in (each, each.upper(), f" {each} ")), BOB)
        )
        async with room.sender() as sender:
            await room.finish(sender, await room.publish())

    assert (done.suppressed, done.duplicates, done.added) == (300, 600, 1)
    assert await room.run("SELECT email FROM subscribers") == [{"email": BOB}]
    assert [each.recipient for each in sink.taken] == [BOB]
