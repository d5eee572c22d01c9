"""Blasts are listed, paused, resumed, cancelled and tried again from the command line."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.cli.conftest import Program


@pytest.fixture
def blast(database_url: str) -> str:
    """A blast to three readers that is going out: one has failed, the others wait."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """
            INSERT INTO stories (slug, headline) VALUES ('tarrow-flood', 'The Tarrow bursts its banks');
            INSERT INTO updates (story_id, seq, kind, importance, headline, body, content_hash, published_by)
            VALUES (1, 1, 'update', 'major', 'Dam gives way', 'It gave way.', '', 'test');
            INSERT INTO blasts (update_id, channel, urgency, state, candidates) VALUES (1, 'email', 20, 'sending', 3);
            INSERT INTO subscribers (email, address_hash)
            SELECT 'reader' || n || '@example.org', decode(lpad(n::text, 32, '0'), 'hex') FROM generate_series(1, 3) n;
            INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at) SELECT 1, id, now() FROM subscribers;
            INSERT INTO batches (blast_id, urgency, subscriber_ids) VALUES (1, 20, '{1,2,3}');
            INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, attempts, code, reply)
            VALUES (1, 2, now(), 'failed', 1, 554, '5.6.0 No');
            """
        )
    return "1"


def state_of(database_url: str) -> object:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT state FROM blasts").fetchone()
    assert row is not None
    return row[0]


def test_a_blast_is_paused_says_so_and_goes_on(program: Program, blast: str) -> None:
    paused = program("blast", "pause", blast)
    listed = program("blast", "list")
    again = program("blast", "pause", blast, "--json")
    resumed = program("blast", "resume", blast)

    assert (paused.code, again.code, resumed.code) == (0, 0, 0)
    assert paused.out.startswith("Paused blast 1.\n")
    assert "Paused by cli" in paused.out
    assert "Go on with: dispatcher blast resume 1" in paused.out
    assert listed.out.splitlines() == [
        "blast\tstate\treaders\tstory\tupdate\theadline",
        "1\tpaused\t3\ttarrow-flood\t1\tDam gives way",
    ]
    assert (again.json["state"], again.json["waiting"]) == ("paused", 2)
    assert again.json["steered_by"].startswith("cli")
    assert resumed.out.startswith("Blast 1 goes on.\n")


def test_cancelling_without_a_terminal_needs_yes(program: Program, blast: str, database_url: str) -> None:
    refused = program("blast", "cancel", blast, "--json")
    before = state_of(database_url)
    cancelled = program("blast", "cancel", blast, "--yes")
    shown = program("blast", "list", "--json").json["blasts"]
    too_late = program("blast", "resume", blast)

    assert (refused.code, refused.json["error"]["field"], before) == (1, "yes", "sending")
    assert "--yes" in refused.json["error"]["remedy"]
    assert cancelled.code == 0
    assert "2 were not written to; only a new update reaches them." in cancelled.out
    assert [(each["id"], each["state"], each["candidates"]) for each in shown] == [(1, "cancelled", 3)]
    assert too_late.code == 1
    assert "Publish a new update" in too_late.err


@pytest.mark.parametrize(("answer", "code", "state"), [("n", 1, "sending"), ("y", 0, "cancelled")])
def test_at_a_terminal_cancelling_asks_first(
    program: Program, blast: str, database_url: str, answer: str, code: int, state: str
) -> None:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "dispatcher.cli", "blast", "cancel", blast],
            stdin=theirs,
            capture_output=True,
            text=True,
            env=program.env,
            timeout=60,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)

    assert done.returncode == code, done.stderr
    assert "Dam gives way" in done.stderr
    assert "2 waiting" in done.stderr
    assert "Cancel it?" in done.stderr
    assert ("Nothing was changed." in done.stderr) == (state == "sending")
    assert state_of(database_url) == state


def test_who_failed_is_counted_and_then_tried_again(program: Program, blast: str) -> None:
    dry = program("blast", "retry", blast, "--dry-run")
    nobody = program("blast", "retry", blast, "--state", "in_doubt")
    done = program("blast", "retry", blast, "--reason", "5.6.0 No", "--code", "55x", "--state", "failed", "--json")
    wrong = program("blast", "retry", blast, "--code", "5", "--json")

    assert dry.out == "1 reader of blast 1 would be tried again.\n"
    assert "no reader fits" in nobody.out
    assert {key: done.json[key] for key in ("retried", "left_out", "dry_run")} == {
        "retried": 1,
        "left_out": 0,
        "dry_run": False,
    }
    assert (done.json["blast"]["failed"], done.json["blast"]["deferred"]) == (0, 1)
    assert (wrong.code, wrong.json["error"]["field"]) == (1, "code")


@contextmanager
def watching(program: Program, blast: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "dispatcher.cli", "blast", "show", blast, "--watch"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=program.env
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_whoever_watches_a_paused_blast_is_told_how_it_goes_on(program: Program, blast: str, database_url: str) -> None:
    program("blast", "pause", blast)
    with watching(program, blast) as process:
        assert process.stderr is not None
        told = process.stderr.readline()
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE blasts SET state = 'done'")
        out, _ = process.communicate(timeout=60)

    assert "Go on with: dispatcher blast resume 1" in told
    assert process.returncode == 0
    assert "done;" in out


def test_a_story_says_what_becomes_of_its_doubts(program: Program) -> None:
    made = program("story", "create", "dam", "--headline", "The dam", "--in-doubt", "hold", "--json")
    default = program("story", "set", "dam", "--in-doubt", "default", DISPATCHER_IN_DOUBT="hold")
    changed = program("story", "set", "dam", "--in-doubt", "resend", "--json")
    missing = program("story", "set", "flood", "--in-doubt", "hold")

    assert made.json["story"]["in_doubt"] == "hold"
    assert default.out == "Messages of dam without an answer are left to a person, as the installation does.\n"
    assert changed.json["story"]["in_doubt"] == "resend"
    assert missing.code == 1


def test_a_wrong_setting_for_doubts_is_refused_with_the_remedy(program: Program) -> None:
    answer = program("story", "list", "--json", DISPATCHER_IN_DOUBT="perhaps")

    assert (answer.code, answer.json["error"]["field"]) == (1, "IN_DOUBT")
    assert "resend or hold" in answer.json["error"]["message"]
