"""An update is withdrawn, and rehearsed, from the command line."""

from __future__ import annotations

import psycopg
import pytest

from tests.cli.conftest import Program


@pytest.fixture
def story(database_url: str) -> str:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO stories (slug, headline) VALUES ('tarrow-flood', 'The Tarrow bursts its banks')"
        )
    return "tarrow-flood"


def test_an_update_is_rehearsed_published_and_withdrawn(program: Program, story: str) -> None:
    text = ("--headline", "Dam gives way", "--body-file", "-")
    drilled = program("drill", story, *text, stdin=b"It gave way.")
    published = program("publish", story, *text, "--json", stdin=b"It gave way.").json
    listed = program("blast", "list")
    shown = program("blast", "show", "1")
    withdrawn = program("update", "withdraw", story, "1", "--reason", "The dam holds.")
    again = program("update", "withdraw", story, "1", "--reason", "The dam holds.", "--json")

    assert drilled.out.startswith("The drill of tarrow-flood begins. It reaches nobody.\n")
    assert published["update"]["seq"] == 1
    assert "cancelled (drill)" in listed.out
    assert "Blast 1, a drill, which reaches nobody, in tarrow-flood: Dam gives way" in shown.out
    assert withdrawn.code == 0
    assert withdrawn.out.startswith("Withdrew update 1 of tarrow-flood. Readers are told why as update 2.\n")
    assert "was stopped: whoever it had not reached gets nothing." in withdrawn.out
    assert again.code == 1
    assert "is withdrawn already" in again.err
