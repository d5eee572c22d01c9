"""Stories, readers, updates and tokens from the command line."""

from __future__ import annotations

import csv
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from dispatcher.cli import updates
from dispatcher.embedded.postgres import Postgres
from dispatcher.errors import Invalid, TooLarge
from dispatcher.model import DeliveryState
from tests.cli.conftest import Program
from tests.support.databases import fresh_database


@pytest.fixture
def story(database_url: str) -> str:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO stories (slug, headline) VALUES ('tarrow-flood', 'The Tarrow bursts its banks')"
        )
    return "tarrow-flood"


def test_a_story_is_created_listed_and_closed(program: Program, story: str) -> None:
    assert program("story", "create", "after-the-flood", "--headline", "[bold]After[/bold] the flood").code == 0
    closed = program("story", "close", story, "--successor", "after-the-flood", "--json")

    assert closed.json["story"]["state"] == "closed"
    assert program("story", "list").out.splitlines() == [
        "story\tstate\tfollowers\theadline",
        "after-the-flood\tdeveloping\t0\t[bold]After[/bold] the flood",
        "tarrow-flood\tclosed\t0\tThe Tarrow bursts its banks",
    ]
    listed = program("story", "list", "--json").json["stories"]
    assert [(each["slug"], each["successor"]) for each in listed] == [
        ("after-the-flood", None),
        ("tarrow-flood", "after-the-flood"),
    ]


def test_a_story_is_merged_into_another_and_that_ends_with_a_final_update(
    program: Program, story: str, database_url: str
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO stories (slug, headline) VALUES ('levee', 'The levee'), ('after', 'After')")
        connection.execute("INSERT INTO subscribers (email, address_hash) VALUES ('ada@mail.example', 'x')")
        connection.execute("INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at) VALUES (2, 1, now())")
    seen = program("story", "merge", "levee", "--into", story, "--dry-run", "--json").json
    assert (seen["moving"], seen["left"], seen["dry_run"]) == (1, 0, True)
    done = program("story", "merge", "levee", "--into", story)
    assert done.out.startswith("1 readers move from levee to tarrow-flood")
    again = program("story", "merge", "levee", "--into", story)
    assert (again.code, "is closed" in again.err) == (1, True)
    final = ("publish", story, "--headline", "It is over", "--body-file", "-", "--kind", "final")
    wrong = program(*final, "--successor", story, stdin=b"x")
    assert (wrong.code, "its own successor" in wrong.err) == (1, True)
    assert program(*final, "--successor", "after", stdin=b"The water is gone.").code == 0
    listed = program("story", "list", "--json").json["stories"]
    assert {(each["slug"], each["state"], each["successor"]) for each in listed} == {
        *(("after", "developing", None), ("tarrow-flood", "closed", "after"), ("levee", "closed", "tarrow-flood"))
    }


def test_a_story_that_exists_is_not_created_again(program: Program, story: str) -> None:
    answer = program("story", "create", story, "--headline", "Again")

    assert answer.code == 1
    assert "Choose another slug." in answer.err


def test_an_update_is_published_though_broker_and_relay_are_away(program: Program, story: str) -> None:
    answer = program(
        *("publish", story, "--headline", "Dam gives way", "--body-file", "-", "--importance", "breaking"),
        *("--expires-in", "6h", "--json"),
        DISPATCHER_BROKER_URL="redis://127.0.0.1:1/0",
        stdin="Go **uphill** now, wherever you are — über die Brücke.\r\n".encode(),
    )

    assert answer.code == 0, answer.err
    assert answer.json["update"]["seq"] == 1
    assert answer.json["update"]["importance"] == "breaking"
    assert answer.json["update"]["expires_at"] > answer.json["update"]["published_at"]
    [blast] = answer.json["blasts"]
    assert blast["state"] == "cutting"
    assert {
        *("id", "channel", "candidates", "waiting", "first_ms", "p50_ms", "p90_ms", "p99_ms", "last_ms"),
        *("seconds", "per_second"),
        *map(str, DeliveryState),
    } <= blast.keys()
    assert program("blast", "show", str(blast["id"]), "--json").json == blast
    assert "Dam gives way" in program("blast", "show", str(blast["id"])).out


def test_the_same_key_publishes_once(program: Program, story: str, tmp_path: Path) -> None:
    body = tmp_path / "update.md"
    body.write_text("\ufeffThe A4 is open again.", encoding="utf-8")
    arguments = ("publish", story, "--headline", "A4 open", "--body-file", str(body), "--key", "cms-17")
    first, second = program(*arguments), program(*arguments)

    assert (first.code, second.code) == (0, 0)
    assert "Published update 1" in first.out
    assert "nothing was sent again" in second.out
    body.write_text("The A4 is closed again.")
    third = program(*arguments)
    assert third.code == 1
    assert "Use a new key" in third.err


def test_a_correction_names_what_it_corrects(program: Program, story: str) -> None:
    arguments = ("publish", story, "--headline", "Dam holds", "--body-file", "-", "--corrects", "1", "--json")
    refused = program(*arguments, stdin=b"It holds.")
    program("publish", story, "--headline", "Dam gives way", "--body-file", "-", stdin=b"It gave way.")
    accepted = program(*arguments, stdin=b"It holds.")

    assert (refused.code, refused.json["error"]["field"]) == (1, "corrects")
    assert (accepted.json["update"]["kind"], accepted.json["update"]["corrects"]) == ("correction", 1)


def test_a_text_that_is_not_utf8_is_refused_before_anything_is_written(program: Program, story: str) -> None:
    answer = program("publish", story, "--headline", "x", "--body-file", "-", stdin=b"Gr\xfc\xdfe")

    assert answer.code == 1
    assert "not UTF-8" in answer.err
    assert program("blast", "show", "1").code == 1


def test_a_text_is_read_whole_or_refused(tmp_path: Path) -> None:
    body = tmp_path / "update.md"
    body.write_bytes(b"\xef\xbb\xbfNews.\r\n")
    assert updates.read_body(str(body)) == "News.\r\n"

    body.write_bytes(b"x" * (updates.MOST_READ + 1))
    with pytest.raises(TooLarge, match="more than"):
        updates.read_body(str(body))
    with pytest.raises(Invalid, match="cannot be read"):
        updates.read_body(str(tmp_path / "missing.md"))


def test_a_length_of_time_is_a_number_and_a_unit() -> None:
    lengths = [updates.duration(text) for text in ("30m", "6h", " 2D ")]

    assert lengths == [timedelta(minutes=30), timedelta(hours=6), timedelta(days=2)]
    for text in ("", "6", "h", "0h", "-6h", "6 hours", "1.5h", "9999999h"):
        with pytest.raises(Invalid, match="no length of time"):
            updates.duration(text)


def test_readers_are_imported_and_refused_lines_kept(program: Program, story: str, tmp_path: Path) -> None:
    readers, report = tmp_path / "readers.csv", tmp_path / "refused.csv"
    bad = [f"nobody {number}\x1b[2J;x" for number in range(30)]
    readers.write_text("\n".join(["email;shoes", "ada@example.test;38", "ada@example.test;38", *bad]))
    answer = program("subscribers", "import", str(readers), "--story", story, "--report", str(report))

    assert answer.code == 1
    assert "\x1b" not in answer.out + answer.err
    assert "Ignored columns: shoes" in answer.err
    assert len([line for line in answer.err.splitlines() if line.startswith("line ")]) == 20
    assert "wait for their confirmation" in answer.out
    with report.open(newline="") as file:
        kept = list(csv.DictReader(file))
    assert [row["line"] for row in kept] == [str(number) for number in range(4, 34)]
    assert {row["reason"] for row in kept} == {"not a mail address"}

    readers.write_text("email\nada@example.test\n")
    again = program("subscribers", "import", str(readers), "--story", story, "--confirmed", "--json")
    assert again.code == 0
    assert {key: again.json[key] for key in ("read", "added", "activated", "refused")} == {
        "read": 1,
        "added": 0,
        "activated": 1,
        "refused": {},
    }


def test_a_token_is_the_only_thing_on_standard_output(program: Program) -> None:
    made = program("token", "create", "cms")

    assert made.out.startswith("dsp_")
    assert made.out.count("\n") == 1
    assert program("token", "create", "cms").code == 1
    assert program("token", "revoke", "cms").code == 0
    assert program("token", "revoke", "cms").code == 1
    [listed] = program("token", "list", "--json").json["tokens"]
    assert listed["name"] == "cms"
    assert listed["revoked_at"]
    assert listed["used_at"] is None
    assert made.out.startswith(listed["prefix"])
    assert len(listed["prefix"]) == 8


def test_a_token_is_good_for_what_was_said_and_else_for_everything(program: Program) -> None:
    assert program("token", "create", "all").code == 0
    assert program("token", "create", "screen", "--scope", "read").code == 0
    assert program("token", "create", "cms", "--scope", "publish", "--scope", "read").code == 0
    assert program("token", "create", "odd", "--scope", "erase").code == 2

    listed = program("token", "list", "--json").json["tokens"]
    assert {each["name"]: each["scopes"] for each in listed} == {
        "all": ["publish", "read", "steer"],
        "screen": ["read"],
        "cms": ["publish", "read"],
    }


def test_people_of_the_desk_are_invited_listed_and_ended(program: Program) -> None:
    made = program("desk", "invite", "ada@courier.example", "--role", "lead")

    assert "/desk/invitation/" in made.out
    assert made.out.count("\n") == 1
    assert program("desk", "invite", "no address").code == 1
    assert program("desk", "list", "--json").json == {"people": []}
    assert program("desk", "end", "ada@courier.example").code == 1
    assert program("desk", "reset", "ada@courier.example").code == 1


def test_migrating_twice_changes_nothing(program: Program, postgres: Postgres) -> None:
    with fresh_database(postgres) as empty:
        first = program("migrate", "--json", DISPATCHER_DATABASE_URL=empty)
        second = program("migrate", DISPATCHER_DATABASE_URL=empty)

    assert first.json["before"] is None
    assert first.json["after"]
    assert "already" in second.out


def test_the_command_line_publishes_nothing_that_a_second_person_has_to_approve(
    program: Program, story: str, database_url: str
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """INSERT INTO desk_settings VALUES ('approval', '{"breaking": true, "over": null, "all": false}')"""
        )
    publish = ("publish", story, "--headline", "Levee gives way", "--body-file", "-", "--json")

    refused = program(*publish, "--importance", "breaking", stdin=b"Walk uphill.")
    routine = program(*publish, stdin=b"Walk uphill.")

    assert refused.code != 0
    assert "A second person has to approve this" in refused.out + refused.err
    assert "draft" in refused.out + refused.err
    assert routine.json["update"]["seq"] == 1
