"""Readers from the command line: written out as CSV that is safe to open, and erased."""

from __future__ import annotations

import csv
import io
import stat
from pathlib import Path

import psycopg
import pytest

from dispatcher.addresses import address_hash, parse_address
from tests.cli.conftest import SECRET, Program

ADA = "ada@example.test"


@pytest.fixture
def readers(database_url: str) -> str:
    """A story with three readers, one of whom has left; one follows another story too, and has not confirmed that."""
    people = [
        (ADA, "Lovelace, Ada", "en-GB", "Europe/London"),
        ("+formula@example.test", "=cmd|' /C calc'!A0", "uk", "Europe/Kyiv"),
        ("left@example.test", "Left", "en", "UTC"),
    ]
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO stories (slug, headline) VALUES ('dam', 'The dam'), ('strike', 'The strike')")
        for email, *more in people:
            connection.execute(
                "INSERT INTO subscribers (email, address_hash, name, locale, timezone) VALUES (%s, %s, %s, %s, %s)",
                (email, address_hash(SECRET, parse_address(email)), *more),
            )
        connection.execute(
            "INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at, ended_at, ended_reason) "
            "VALUES (1, 1, now(), NULL, NULL), (2, 1, NULL, NULL, NULL), (1, 2, now(), NULL, NULL), "
            "(1, 3, now(), now(), 'reader')"
        )
        connection.execute("INSERT INTO subscribers (locale) VALUES ('en')")
    return "dam"


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_readers_are_written_out_with_what_they_follow(program: Program, readers: str) -> None:
    found = rows(program("subscribers", "export").out)

    assert [(row["email"], row["story"], row["cadence"], row["channels"]) for row in found] == [
        (ADA, "dam", "every", "email"),
        (ADA, "strike", "every", "email"),
        ("'+formula@example.test", "dam", "every", "email"),
    ]
    assert (found[0]["name"], found[0]["locale"], found[0]["timezone"]) == ("Lovelace, Ada", "en-GB", "Europe/London")
    assert [bool(row["confirmed_at"]) for row in found] == [True, False, True]


def test_no_cell_is_a_formula(program: Program, readers: str) -> None:
    """S28."""
    cells = [cell for row in rows(program("subscribers", "export").out) for cell in row.values()]

    assert "'=cmd|' /C calc'!A0" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_what_was_written_out_can_be_read_in_again(program: Program, readers: str, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    assert program("subscribers", "export", str(file), "--story", readers).code == 0
    again = program("subscribers", "import", str(file), "--story", readers, "--json")

    assert {key: again.json[key] for key in ("read", "already", "added", "refused")} == {
        "read": 2,
        "already": 2,
        "added": 0,
        "refused": {},
    }


def test_a_file_of_readers_is_for_its_owner_alone(program: Program, readers: str, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    answer = program("subscribers", "export", str(file), "--story", "strike", "--json")

    assert answer.json == {"rows": 1, "story": "strike", "file": str(file)}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [row["email"] for row in rows(file.read_text())] == [ADA]


def test_nothing_is_written_where_nothing_can_be(program: Program, readers: str, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    unknown = program("subscribers", "export", str(file), "--story", "none", "--json")
    nowhere = program("subscribers", "export", str(tmp_path / "none" / "out.csv"), "--json")
    mixed = program("subscribers", "export", "--json")

    assert [answer.code for answer in (unknown, nowhere, mixed)] == [1, 1, 1]
    assert [answer.json["error"]["field"] for answer in (unknown, nowhere, mixed)] == ["story", "file", "file"]
    assert not file.exists()


def test_a_story_without_readers_is_a_header(program: Program, readers: str) -> None:
    program("story", "create", "quiet", "--headline", "Quiet")
    answer = program("subscribers", "export", "--story", "quiet")

    assert answer.out == "email,name,locale,timezone,story,cadence,channels,confirmed_at\n"


def left(database_url: str) -> list[str]:
    with psycopg.connect(database_url) as connection:
        return [
            row[0] for row in connection.execute("SELECT email FROM subscribers WHERE email IS NOT NULL ORDER BY 1")
        ]


def test_a_reader_is_erased_and_no_import_brings_them_back(
    program: Program, readers: str, database_url: str, tmp_path: Path
) -> None:
    first = program("subscribers", "erase", "Ada@Example.TEST", "--yes")
    second = program("subscribers", "erase", ADA, "--yes", "--json")
    file = tmp_path / "in.csv"
    file.write_text(f"email\n{ADA}\n")
    again = program("subscribers", "import", str(file), "--story", readers, "--confirmed", "--json")

    assert first.code == 0
    assert "Erased." in first.out
    assert second.json == {"erased": False, "suppressed": True}
    assert again.json["suppressed"] == 1
    assert left(database_url) == ["+formula@example.test", "left@example.test"]
    for answer in (first, second, again):
        assert "@" not in answer.out + answer.err


@pytest.mark.parametrize(("typed", "erased"), [(b"y\n", True), (b"n\n", False), (b"\n", False), (b"", False)])
def test_an_erasure_is_asked_for_first(
    program: Program, readers: str, database_url: str, typed: bytes, erased: bool
) -> None:
    answer = program("subscribers", "erase", ADA, stdin=typed)

    assert "Erase this reader" in answer.err
    assert answer.code == (0 if erased else 1)
    assert (ADA not in left(database_url)) == erased


def test_an_address_can_be_kept_out_of_the_list_of_programs(program: Program, readers: str, database_url: str) -> None:
    unsure = program("subscribers", "erase", "-", stdin=ADA.encode())
    assert (unsure.code, ADA in left(database_url)) == (2, True)

    assert program("subscribers", "erase", "-", "--yes", stdin=f"{ADA}\n".encode()).code == 0
    assert ADA not in left(database_url)


def test_what_is_no_address_erases_nobody(program: Program, readers: str, database_url: str) -> None:
    answer = program("subscribers", "erase", "ada", "--yes", "--json")

    assert answer.code == 1
    assert answer.json["error"]["field"] == "email"
    assert len(left(database_url)) == 3
