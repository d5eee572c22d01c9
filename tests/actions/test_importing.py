"""Importing followers: good lines come in once, bad lines are named, readers who left are left alone."""

from __future__ import annotations

import asyncio
import io
import resource
import time
from pathlib import Path

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dispatcher import db, importing, stories
from dispatcher.addresses import address_hash, parse_address
from dispatcher.csvfiles import CsvFile
from dispatcher.errors import Invalid, NotFound, StoryClosed
from dispatcher.importing import Imported, Refusal
from dispatcher.texts import one_line

SECRET = "a secret for the tests, which is long enough"
SLUG = "tarrow-flood"


class Desk:
    """One story to import into, and what the last import refused."""

    def __init__(self, database: db.Database, directory: Path) -> None:
        self.database = database
        self.file = directory / "readers.csv"
        self.refused: list[Refusal] = []

    async def take(self, content: str | bytes, *, confirmed: bool = True) -> Imported:
        self.file.write_bytes(content.encode() if isinstance(content, str) else content)
        self.refused = []
        result = await importing.import_followers(
            self.database, SLUG, self.file, secret_key=SECRET, confirmed=confirmed, refused=self.refused.append
        )
        counts = (result.added, result.activated, result.already, result.duplicates, result.suppressed, result.left)
        assert result.read == sum(counts) + result.refused.total(), result
        return result

    async def followers(self) -> dict[str, db.Row]:
        async with self.database.connection() as connection:
            cursor = await connection.raw.execute(
                "SELECT s.*, f.confirmed_at, f.ended_at FROM subscriptions f JOIN subscribers s ON s.id = subscriber_id"
            )
            return {row["email"]: row for row in await cursor.fetchall()}

    async def run(self, statement: str, *values: object) -> None:
        async with self.database.transaction() as tx:
            await tx.raw.execute(statement.encode(), values)


@pytest.fixture
async def desk(database: db.Database, tmp_path: Path) -> Desk:
    await stories.create(database, SLUG, headline="The Tarrow bursts its banks")
    return Desk(database, tmp_path)


async def test_readers_follow_with_their_name_locale_and_timezone(desk: Desk) -> None:
    result = await desk.take(
        "email,name,locale,timezone\n"
        "ada@example.test,Ada,en-GB,Europe/London\n"
        "juergen@example.test,Jürgen Grün,de_AT,Europe/Vienna\n"
        "plain@example.test,,,\n"
    )

    assert (result.read, result.added) == (3, 3)
    found = await desk.followers()
    assert {email: (row["name"], row["locale"], row["timezone"]) for email, row in found.items()} == {
        "ada@example.test": ("Ada", "en-GB", "Europe/London"),
        "juergen@example.test": ("Jürgen Grün", "de-AT", "Europe/Vienna"),
        "plain@example.test": ("", "en", "UTC"),
    }
    assert all(row["confirmed_at"] for row in found.values())


async def test_the_address_hash_is_the_one_that_suppressions_keep(desk: Desk) -> None:
    await desk.take("email\nAda@Example.Test\n")

    [row] = (await desk.followers()).values()
    assert row["address_hash"] == address_hash(SECRET, parse_address("ada@example.test"))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
async def test_the_header_tells_the_delimiter(desk: Desk, delimiter: str) -> None:
    lines = [["name", "EMail ", "shoe size"], ["Ada", "ada@example.test", "38"]]
    result = await desk.take("\ufeff" + "\r\n".join(delimiter.join(line) for line in lines) + "\r\n")

    assert result.added == 1
    assert result.ignored_columns == ("shoe size",)


async def test_the_same_file_twice_changes_nothing(desk: Desk) -> None:
    content = "email,name\nada@example.test,Ada\nada@example.test,Ada again\nBOB@example.test,Bob\n"
    first = await desk.take(content)
    before = await desk.followers()
    second = await desk.take(content)

    assert (first.added, first.duplicates) == (2, 1)
    assert (second.added, second.already, second.duplicates) == (0, 2, 1)
    assert await desk.followers() == before
    assert before["ada@example.test"]["name"] == "Ada"


async def test_an_address_that_comes_again_in_a_later_chunk_counts_as_a_repeat(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "CHUNK_LINES", 2)
    result = await desk.take("email\n" + "".join(f"r{number % 5}@example.test\n" for number in range(15)))

    assert (result.added, result.duplicates) == (5, 10)


async def test_without_consent_the_new_wait_for_their_confirmation(desk: Desk) -> None:
    result = await desk.take("email\nada@example.test\n", confirmed=False)

    assert result.added == 1
    assert (await desk.followers())["ada@example.test"]["confirmed_at"] is None


async def test_consent_that_comes_later_confirms_those_who_wait(desk: Desk) -> None:
    await desk.take("email\nada@example.test\nbob@example.test\n", confirmed=False)
    result = await desk.take("email\nada@example.test\nnew@example.test\n")

    assert (result.added, result.activated, result.already) == (1, 1, 0)
    found = await desk.followers()
    assert found["ada@example.test"]["confirmed_at"]
    assert found["bob@example.test"]["confirmed_at"] is None


async def test_a_reader_who_left_is_not_brought_back(desk: Desk) -> None:
    await desk.take("email\nada@example.test\n")
    await desk.run("UPDATE subscriptions SET ended_at = now(), ended_reason = 'left'")
    result = await desk.take("email\nADA@example.test\nbob@example.test\n")

    assert (result.left, result.added) == (1, 1)
    assert desk.refused == [Refusal(2, "email", importing.LEFT, desk.refused[0].detail)]
    assert (await desk.followers())["ada@example.test"]["ended_at"]


async def test_a_suppressed_address_stays_unknown(desk: Desk) -> None:
    hashed = address_hash(SECRET, parse_address("ada@example.test"))
    await desk.run("INSERT INTO suppressions (address_hash, reason) VALUES (%s, 'complained')", hashed)
    result = await desk.take("email\nbob@example.test\nada@example.test\n")

    assert (result.suppressed, result.added) == (1, 1)
    assert [(each.line, each.reason) for each in desk.refused] == [(3, importing.SUPPRESSED)]
    assert list(await desk.followers()) == ["bob@example.test"]


BAD_LINES = [
    (b"nobody,Ada,en,UTC", "email", importing.BAD_ADDRESS),
    (b",Ada,en,UTC", "email", importing.BAD_ADDRESS),
    (b'"a@example.test\nBcc: b@example.test",,,', "email", importing.BAD_ADDRESS),
    (b"a@localhost,Ada,en,UTC", "email", importing.BAD_ADDRESS),
    (b"a@example.test," + b"x" * 201 + b",en,UTC", "name", importing.BAD_NAME),
    (b'a@example.test,"A\nda",en,UTC', "name", importing.BAD_NAME),
    (b"a@example.test,A\x1b[31mda,en,UTC", "name", importing.BAD_NAME),
    (b"a@example.test,Ada,english please,UTC", "locale", importing.BAD_LOCALE),
    (b"a@example.test,Ada,en,Mars/Olympus", "timezone", importing.BAD_TIMEZONE),
    (b"a@example.test,Ada,en,../../etc/passwd", "timezone", importing.BAD_TIMEZONE),
    (b"a@example.test,Ada,en,UTC,more", "", "more cells than the header"),
    (b"a@example.test," * 4000, "", "more cells than the header"),
    (b"a@example.test,J\xfcrgen,en,UTC", "", "not UTF-8"),
    (b"a@example.test,A\x00da,en,UTC", "", "NUL byte"),
    (b'a@example.test,A"da" x"y,"en"x,UTC', "", "broken quotation marks"),
    (b"a@example.test," + b"x" * 10_000_000 + b",en,UTC", "", "line too long"),
    (b"," * 1_000_000, "", "line too long"),
]


async def test_every_bad_line_is_named_and_its_neighbours_are_kept(desk: Desk) -> None:
    content, expected, number = b"email,name,locale,timezone\n", [], 1
    for index, (line, column, reason) in enumerate(BAD_LINES):
        content += line + b"\n" + f"good{index}@example.test,,,\n".encode()
        expected.append((number + 1, column, reason))
        number += line.count(b"\n") + 2
    result = await desk.take(content)

    assert [(each.line, each.column, each.reason) for each in desk.refused] == expected
    assert all(each.detail for each in desk.refused)
    assert set(await desk.followers()) == {f"good{index}@example.test" for index in range(len(BAD_LINES))}
    assert result.refused.total() == len(BAD_LINES)


async def test_a_quotation_mark_that_is_never_closed_costs_its_own_line_alone(desk: Desk) -> None:
    good = [f"r{number}@example.test,Reader {number}" for number in range(200)]
    lines = ["email,name", *good[:10], 'bad@example.test,"Ada', *good[10:]]
    result = await desk.take("\n".join(lines))

    assert result.added == 200
    assert [(each.line, each.reason) for each in desk.refused] == [(12, "broken quotation marks")]


async def test_a_cell_may_run_over_lines_if_its_column_is_not_used(desk: Desk) -> None:
    result = await desk.take('email,note\na@example.test,"one\ntwo\nthree"\nnobody,\nb@example.test,\n')

    assert result.added == 2
    assert [each.line for each in desk.refused] == [5]


async def test_blank_lines_and_missing_cells_are_fine(desk: Desk) -> None:
    result = await desk.take("email,name,locale\n\na@example.test\n\r\n  b@example.test  ,Bob\nc@example.test,,,,\n\n")

    assert (result.read, result.added, result.refused.total()) == (3, 3, 0)


async def test_backslashes_in_a_name_arrive_as_they_are(desk: Desk) -> None:
    await desk.take("email,name\na@example.test,\\N back\\slash \\t\\.\n")

    assert (await desk.followers())["a@example.test"]["name"] == "\\N back\\slash \\t\\."


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"name,mail\nAda,a@example.test\n", "it has 'name', 'mail'"),
        ("email;név\n".encode("cp1250"), "not UTF-8"),
        ("email,name\n".encode("utf-16"), "not UTF-8"),
        ("email,name\n".encode("utf-16-le"), "NUL bytes"),
        (b"email," + b"x," * 40_000 + b"\n", "longer than"),
        (b"email," + b"x," * 2_000 + b"\n", "2,002 columns"),
        (b"email,name,email\n", "'email' twice"),
        (b'email,"name\n', "no column 'email'"),
        (b'"email\n', "not closed"),
    ],
)
def test_a_file_without_a_proper_header_is_refused_as_a_whole(content: bytes, says: str) -> None:
    with pytest.raises(Invalid, match=says) as refusal:
        CsvFile(io.BytesIO(content), wanted="email")

    assert refusal.value.remedy


async def test_a_file_that_cannot_be_opened_is_named(desk: Desk, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(Invalid, match=str(path)):
            await importing.import_followers(desk.database, SLUG, path, secret_key=SECRET)


async def test_an_unknown_story_is_named(desk: Desk) -> None:
    with pytest.raises(NotFound, match="no-such-story"):
        await importing.import_followers(desk.database, "no-such-story", desk.file, secret_key=SECRET)


async def test_two_imports_at_once_neither_wait_in_a_ring_nor_count_twice(desk: Desk, tmp_path: Path) -> None:
    addresses = [f"r{number}@example.test" for number in range(3000)]
    (tmp_path / "up.csv").write_text("\n".join(["email", *addresses]))
    (tmp_path / "down.csv").write_text("\n".join(["email", *reversed(addresses)]))
    results = await asyncio.gather(
        *(
            importing.import_followers(desk.database, SLUG, tmp_path / name, secret_key=SECRET)
            for name in ("up.csv", "down.csv")
        )
    )

    assert sum(result.added for result in results) == 3000
    assert sum(result.already for result in results) == 3000


async def test_a_large_file_takes_constant_memory_and_little_time(desk: Desk) -> None:
    lines = 120_000
    with desk.file.open("w") as file:
        file.write("email,name,locale,timezone\n")
        for number in range(lines):
            file.write(f"reader{number:07d}@example.test,Reader {number},de,Europe/Berlin\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    seen: list[int] = []
    result = await importing.import_followers(
        desk.database, SLUG, desk.file, secret_key=SECRET, progress=lambda done, _: seen.append(done)
    )

    assert result.added == lines
    assert seen[-1] == desk.file.stat().st_size
    assert len(seen) >= 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024, "kilobytes"
    assert time.monotonic() - began < 60


WORDS = st.text(alphabet="abcxyzABZ019.-_+@ éß'\"<>()\\,;:xn", max_size=40)


@given(st.one_of(WORDS, st.builds("{}@{}".format, WORDS, WORDS), st.builds("{}@{}.test".format, WORDS, WORDS)))
@settings(max_examples=400, deadline=None)
@example("postmaster@example.test")
@example("a" * 64 + "@example.test")
@example("a" * 65 + "@example.test")
@example("a@" + ".".join(["x" * 60] * 4) + ".test")
@example("abc@xn--bcher-kva.example.test")
@example("a@b--c.test")
@example("a@ab--c.test")
@example("a@-b.test")
@example("a@b.123")
@example("a@example..test")
@example("a.@example.test")
@example("a@localhost")
@example("a@printer.local")
@example(" a@example.test ")
@example("a@example.test\n")
def test_the_fast_way_to_check_an_address_says_what_the_thorough_one_says(text: str) -> None:
    try:
        expected = parse_address(text)
    except Invalid:
        with pytest.raises(importing._Refused):
            importing.check_address(text)
    else:
        assert importing.check_address(text) == expected


@given(st.text(max_size=220))
@settings(max_examples=300, deadline=None)
def test_the_fast_way_to_check_a_name_says_what_the_thorough_one_says(text: str) -> None:
    try:
        expected = one_line("name", text, longest=importing.MAX_NAME, required=False)
    except Invalid:
        with pytest.raises(importing._Refused):
            importing.check_name(text)
    else:
        assert importing.check_name(text) == expected


async def test_a_story_that_ends_while_a_file_is_imported_takes_no_more_of_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody lets them go, or moves them to the story that goes on: they would follow what is over."""
    monkeypatch.setattr(importing, "CHUNK_LINES", 2)
    desk.file.write_text("email\n" + "".join(f"reader{number}@example.org\n" for number in range(6)))
    chunks: list[int] = []

    def watch(_bytes: int, so_far: Imported) -> None:
        chunks.append(so_far.added)
        if len(chunks) == 1:
            with psycopg.connect(desk.database.url) as connection:
                connection.execute("UPDATE stories SET state = 'closed', closed_at = now()")

    with pytest.raises(StoryClosed) as caught:
        await importing.import_followers(
            desk.database, SLUG, desk.file, secret_key=SECRET, confirmed=True, progress=watch
        )
    assert "story that goes on" in caught.value.remedy
    assert len(await desk.followers()) == chunks[-1] == 2
