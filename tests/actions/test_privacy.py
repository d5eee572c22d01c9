"""A reader's own data: all of it handed over, and nothing left of it but a keyed hash once it is erased."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from psycopg import sql

from dispatcher import db, following, importing, privacy, stories, subscribing
from dispatcher.addresses import address_hash, parse_address
from dispatcher.errors import Invalid, NotFound
from dispatcher.model import DeliveryState
from tests.actions.test_browsers import browser, follow
from tests.actions.test_following import ADA, Forms
from tests.support.newsroom import SECRET, newsroom
from tests.support.plans import explained
from tests.support.sink import Session, a_sink

BOB = "bob@example.org"


def refuse_ada(step: str, argument: str, session: Session) -> str | None:
    """Refuse one reader, in words that name her as relays do."""
    if step == "RCPT" and ADA in argument:
        return f"554 5.7.0 <{ADA}>: Recipient address rejected: Access denied for {ADA.upper()}"
    return None


@pytest.fixture
async def forms(database: db.Database) -> Forms:
    room = newsroom(database)
    await room.story()
    await stories.create(database, "strike", headline="School strike")
    return Forms(database, room)


async def dump(database: db.Database) -> dict[str, str]:
    """Every row of every table, as text."""
    async with database.connection() as connection:
        cursor = await connection.raw.execute("SELECT relname FROM pg_stat_user_tables ORDER BY relname")
        tables = [row["relname"] for row in await cursor.fetchall()]
        found = {}
        for table in tables:
            statement = sql.SQL("SELECT string_agg(t::text, E'\\n') AS rows FROM {} t").format(sql.Identifier(table))
            row = await (await connection.raw.execute(statement)).fetchone()
            found[table] = (row and row["rows"]) or ""
    assert {"subscribers", "deliveries", "notices", "confirmations", "asks", "incidents"} <= found.keys()
    return found


def where(dumped: dict[str, str], *traces: str) -> set[str]:
    return {table for table, rows in dumped.items() for trace in traces if trace.lower() in rows.lower()}


async def lived(forms: Forms) -> int:
    """A reader who left traces wherever a reader can."""
    await forms.room.follow("dam", BOB)
    reader = await forms.confirmed()
    await forms.room.run("UPDATE subscribers SET name = 'Ada Lovelace' WHERE id = %s", reader)
    async with a_sink(refuse_ada) as sink:
        forms.room.settings = newsroom(forms.database, sink.port).settings
        async with forms.room.sender() as sender:
            await forms.room.settle(sender, await forms.room.publish())
    [kept] = await forms.room.run("SELECT reply FROM deliveries WHERE subscriber_id = %s", reader)
    assert kept["reply"].startswith("5.7.0 <[address]>: Recipient")
    # Earlier versions kept what a relay said as it was.
    await forms.room.run("UPDATE deliveries SET reply = %s WHERE subscriber_id = %s", f"5.7.0 <{ADA}> denied", reader)
    await follow(forms, browser(name="Ada's telephone"), subscriber_id=reader)
    await forms.room.run(
        "WITH blast AS (INSERT INTO blasts (update_id, channel, urgency, state, candidates) "
        "SELECT id, 'webpush', 20, 'done', 1 FROM updates RETURNING id) "
        "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, reply) "
        "SELECT blast.id, devices.id, now(), 'failed', 'no room for ' || devices.name FROM blast, devices"
    )
    await forms.room.run(
        "INSERT INTO incidents (kind, subject, text) VALUES ('relay', 'x', 'It says: no mail for <Ada@example.org>')"
    )
    await forms.room.run("UPDATE batches SET reason = '421 too many to Ada@Example.org'")
    await forms.ask("strike")
    await forms.ask("strike", BOB)
    await forms.answer()
    await forms.ask_for_link()
    return reader


async def test_nothing_is_left_of_an_erased_reader_but_the_hash(forms: Forms) -> None:
    """S32: every table of the database, read as text."""
    reader = await lived(forms)
    hashed = address_hash(SECRET, parse_address(ADA))
    traces = (ADA, "Lovelace", "telephone", browser().endpoint, browser().auth_secret.hex())
    before = await dump(forms.database)
    assert where(before, ADA) >= {"subscribers", "deliveries", "notices", "asks", "incidents"}

    await privacy.erase(forms.database, reader)
    after = await dump(forms.database)

    assert where(after, *traces) == set()
    assert where(after, hashed.hex()) == {"suppressions"}
    assert where(after, BOB) == where(before, BOB) != set()
    with pytest.raises(NotFound):
        await subscribing.reader(forms.database, reader)
    await privacy.erase(forms.database, reader)
    assert await dump(forms.database) == after


async def test_the_sums_stay_true_after_an_erasure(forms: Forms) -> None:
    reader = await lived(forms)
    [row] = await forms.room.run("SELECT id FROM blasts WHERE channel = 'email'")
    numbers = "SELECT blast_id, subscriber_id, state, attempts, code, recorded_at FROM deliveries ORDER BY 1, 2"
    before = await forms.room.run(numbers)
    await privacy.erase(forms.database, reader)

    assert await forms.room.run(numbers) == before
    assert sum(1 for each in before if each["blast_id"] == row["id"]) == 2
    assert [each["state"] for each in before if each["subscriber_id"] == reader] == ["deferred"]


async def test_a_running_blast_stops_writing_to_who_is_erased(forms: Forms) -> None:
    await forms.room.follow("dam", BOB)
    reader = await forms.confirmed()
    published = await forms.room.publish()
    await forms.room.cut()
    await privacy.erase(forms.database, reader)
    async with a_sink() as sink:
        forms.room.settings = newsroom(forms.database, sink.port).settings
        async with forms.room.sender() as sender:
            report = await forms.room.settle(sender, published)

    assert [taken.recipient for taken in sink.taken] == [BOB]
    assert report.candidates == 2
    assert (report.states[DeliveryState.ACCEPTED], report.states[DeliveryState.WITHDRAWN]) == (1, 1)


async def test_no_import_brings_an_erased_reader_back(forms: Forms, tmp_path: Path) -> None:
    """S30."""
    await privacy.erase(forms.database, await forms.confirmed())
    file = tmp_path / "readers.csv"
    file.write_text(f"email\nADA@Example.org\n{ADA}\n{BOB}\n")
    for _ in range(2):
        done = await importing.import_followers(forms.database, "dam", file, secret_key=SECRET, confirmed=True)
        assert done.suppressed >= 1

    assert await forms.room.run("SELECT email FROM subscribers") == [{"email": BOB}]


async def test_whoever_erased_themselves_can_come_back_by_confirming(forms: Forms) -> None:
    await privacy.erase(forms.database, await forms.confirmed())
    await forms.ask("strike")
    await forms.answer()
    assert await forms.notices() == ["confirm"]
    done = await following.confirm(forms.database, SECRET, await forms.token())

    assert set(await forms.follows(done.subscriber_id)) == {"strike"}
    assert await forms.count("suppressions") == 0


async def test_an_erasure_does_not_forget_a_complaint(forms: Forms) -> None:
    reader = await forms.confirmed()
    hashed = address_hash(SECRET, parse_address(ADA))
    await forms.room.run(
        "INSERT INTO suppressions (address_hash, reason) VALUES (%s, %s)", hashed, f"complaint of <{ADA}>"
    )
    await privacy.erase(forms.database, reader)
    await forms.ask()
    await forms.answer()

    assert await forms.room.run("SELECT reason FROM suppressions") == [{"reason": "complaint of [address]"}]
    assert await forms.notices() == []


async def test_an_address_is_erased_whether_or_not_it_is_known(forms: Forms) -> None:
    await forms.confirmed()

    assert await privacy.erase_address(forms.database, SECRET, " Ada@EXAMPLE.org ") is True
    assert await privacy.erase_address(forms.database, SECRET, ADA) is False
    assert await privacy.erase_address(forms.database, SECRET, "nobody@example.org") is False
    assert where(await dump(forms.database), ADA, "nobody@example.org") == set()
    assert await forms.count("suppressions") == 2
    with pytest.raises(Invalid):
        await privacy.erase_address(forms.database, SECRET, "ada")


async def test_a_browser_by_itself_is_erased_too(forms: Forms) -> None:
    reader = await follow(forms, browser())
    await privacy.erase(forms.database, reader)

    assert where(await dump(forms.database), browser().endpoint) == set()
    assert [await forms.count(table) for table in ("devices", "subscribers", "subscriptions", "suppressions")] == [
        0
    ] * 4


async def test_an_erasure_and_an_answer_at_once_leave_nothing_of_the_address(forms: Forms) -> None:
    reader = await forms.confirmed()
    for _ in range(6):
        for slug in ("dam", "strike"):
            await forms.ask(slug)
        await forms.ask_for_link()
        await asyncio.gather(forms.answer(), privacy.erase(forms.database, reader), forms.answer())
        assert where(await dump(forms.database), ADA) == set()
        await forms.room.run("DELETE FROM suppressions")
        reader = await forms.confirmed()


async def test_an_erasure_and_a_confirmation_at_once_leave_one_of_the_two(forms: Forms) -> None:
    for _ in range(6):
        await forms.ask()
        await forms.answer()
        token = await forms.token()
        done, _ = await asyncio.gather(
            following.confirm(forms.database, SECRET, token),
            privacy.erase_address(forms.database, SECRET, ADA),
            return_exceptions=True,
        )
        left = where(await dump(forms.database), ADA)
        assert left == set() or not isinstance(done, Exception)
        assert (await forms.count("subscribers") == 1) != (await forms.count("suppressions") == 1)
        await privacy.erase_address(forms.database, SECRET, ADA)
        assert where(await dump(forms.database), ADA) == set()


async def test_a_reader_takes_all_of_their_own_data_along_and_nobody_elses(forms: Forms) -> None:
    """S33."""
    reader = await lived(forms)
    await forms.room.run("UPDATE notices SET created_at = now() - interval '91 days' WHERE kind = 'confirm'")
    taken = await privacy.export(forms.database, reader)

    text = json.dumps(taken)
    assert (taken["reader"]["email"], taken["reader"]["name"]) == (ADA, "Ada Lovelace")
    assert [(each["story"], each["channels"]) for each in taken["stories"]] == [
        ("dam", ["email", "webpush"]),
        ("strike", ["email"]),
    ]
    assert [each["endpoint"] for each in taken["devices"]] == [browser().endpoint]
    assert [(each["story"], bool(each["used_at"])) for each in taken["confirmations"]] == [("dam", True)]
    assert [(each["kind"], each["story"]) for each in taken["notices"]] == [("following", "strike")]
    [mail] = [each for each in taken["deliveries"] if each["channel"] == "email"]
    assert (mail["story"], mail["seq"], mail["state"]) == ("dam", 1, "deferred")
    assert ADA in mail["reply"]
    assert [each["device"] for each in taken["deliveries"]] == [None, "Ada's telephone"]
    assert BOB not in text
    assert browser().auth_secret.hex() not in text
    assert address_hash(SECRET, parse_address(ADA)).hex() not in text


async def test_what_a_browser_by_itself_left_can_be_taken_along(forms: Forms) -> None:
    await forms.confirmed()
    taken = await privacy.export(forms.database, await follow(forms, browser()))

    assert taken["reader"]["email"] is None
    assert [each["story"] for each in taken["stories"]] == ["dam"]
    assert (taken["notices"], taken["confirmations"]) == ([], [])


async def test_old_deliveries_stay_behind(forms: Forms) -> None:
    reader = await lived(forms)
    await forms.room.run("UPDATE updates SET published_at = now() - interval '91 days'")

    assert (await privacy.export(forms.database, reader))["deliveries"] == []


async def test_nobody_has_nothing_to_take_along(forms: Forms) -> None:
    with pytest.raises(NotFound):
        await privacy.export(forms.database, 4711)
    await privacy.erase(forms.database, 4711)
    assert await forms.count("suppressions") == 0


@pytest.mark.parametrize("name", ["erase_replies", "export_deliveries"])
async def test_one_reader_among_many_is_found_by_key(forms: Forms, name: str) -> None:
    """Three blasts of 20,000 readers each, on a ledger that nobody has counted yet and on one that was."""
    await forms.room.run(
        "INSERT INTO subscribers (email, address_hash) "
        "SELECT 'reader' || n || '@example.org', int8send(n) FROM generate_series(1, 20000) AS n"
    )
    await forms.room.run(
        "INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at) SELECT t.id, r.id, now() "
        "FROM subscribers r, stories t WHERE t.slug = 'dam'"
    )
    for _ in range(3):
        await forms.room.publish()
    await forms.room.run(
        "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, reply) "
        "SELECT b.id, r.id, now(), 'accepted', '2.0.0 Ok' FROM blasts b, subscribers r"
    )
    [row] = await forms.room.run("SELECT max(id) AS id FROM subscribers")
    for counted in (False, True):
        if counted:
            await forms.room.run("ANALYZE")
        async with forms.database.connection() as connection:
            cursor = await connection.raw.execute(
                f"EXPLAIN (ANALYZE, FORMAT TEXT) {explained(name)}", {"subscriber_id": row["id"]}
            )
            plan = "\n".join(str(line["QUERY PLAN"]) for line in await cursor.fetchall())
        assert "Seq Scan on deliveries" not in plan, plan
        assert "deliveries_pkey" in plan, plan
