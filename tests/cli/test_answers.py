"""How the command line answers: help, usage errors, refusals, bugs; and that --json is JSON whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from dispatcher import __version__
from dispatcher.cli import app
from tests.cli.conftest import Program

COMMANDS = [
    ["up"],
    ["demo"],
    ["web"],
    ["worker"],
    ["beat"],
    ["migrate"],
    ["story", "create"],
    ["story", "set"],
    ["story", "close"],
    ["story", "list"],
    ["subscribers", "import"],
    ["publish"],
    ["blast", "list"],
    ["blast", "show"],
    ["blast", "pause"],
    ["blast", "resume"],
    ["blast", "cancel"],
    ["blast", "retry"],
    ["token", "create"],
    ["token", "list"],
    ["token", "revoke"],
    ["doctor"],
]


def test_the_program_says_what_it_can_do(lonely: Program) -> None:
    answer = lonely("--help")

    assert answer.code == 0
    for command in COMMANDS:
        assert command[0] in answer.out


def test_the_program_says_its_version(lonely: Program) -> None:
    assert lonely("--version").out == f"dispatcher {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_either_flag(command: list[str]) -> None:
    long, short = (CliRunner().invoke(app, [*command, flag]) for flag in ("--help", "-h"))

    assert long.exit_code == 0
    assert "Usage:" in long.stdout
    assert short.stdout == long.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish"],
        ["publish", "slug", "--headline", "x", "--body-file", "x.md", "--importance", "earth-shaking"],
        ["blast", "show", "many"],
        ["blast", "show", "0"],
        ["blast", "retry", "1", "--state", "expired"],
        ["story", "set", "slug", "--in-doubt", "perhaps"],
        ["demo", "--subscribers", "0"],
        ["worker", "--concurrency", "none"],
        ["no-such-command"],
    ],
    ids=" ".join,
)
def test_a_usage_error_ends_with_2_and_leaves_standard_output_alone(arguments: list[str]) -> None:
    answer = CliRunner().invoke(app, arguments)

    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "Usage:" in answer.stderr


def test_without_settings_it_names_the_one_that_is_missing_and_the_remedy(lonely: Program) -> None:
    answer = lonely("story", "list")

    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("Error: DISPATCHER_DATABASE_URL is not set")
    assert "dispatcher up" in answer.err


def test_a_refusal_is_one_json_object_too(lonely: Program) -> None:
    answer = lonely("story", "list", "--json")

    assert answer.code == 1
    assert answer.json["error"]["type"] == "Misconfigured"
    assert answer.json["error"]["field"] == "DATABASE_URL"
    assert "dispatcher up" in answer.json["error"]["remedy"]


def test_a_database_that_is_away_is_told_in_one_line(program: Program) -> None:
    answer = program("story", "list", DISPATCHER_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")

    assert answer.code == 1
    assert answer.err.startswith("Error: The database does not answer")


def test_an_example_secret_does_not_start(program: Program) -> None:
    answer = program("worker", DISPATCHER_SECRET_KEY="change-me")

    assert answer.code == 1
    assert "DISPATCHER_SECRET_KEY" in answer.err


@pytest.mark.parametrize("command", [["web"], ["beat"], ["migrate"]], ids=" ".join)
def test_no_part_starts_without_its_settings(lonely: Program, command: list[str]) -> None:
    answer = lonely(*command)

    assert answer.code == 1
    assert "DISPATCHER_DATABASE_URL" in answer.err


BUGGY = """
import dispatcher.cli
from dispatcher.cli.output import answering

@dispatcher.cli.app.command()
def stumble(as_json: dispatcher.cli.demo.AsJson = False):
    with answering(as_json):
        raise RuntimeError("nobody thought of ada@example.test")

dispatcher.cli.main()
"""


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["plain", "json"])
def test_a_bug_is_told_in_two_lines_without_any_address(flags: list[str]) -> None:
    env = {key: value for key, value in os.environ.items() if key != "DISPATCHER_DEBUG"}
    done = subprocess.run(
        [sys.executable, "-c", BUGGY, "stumble", *flags], capture_output=True, text=True, env=env, check=False
    )

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Error: RuntimeError: nobody thought of [address]",
        "This is a bug in Dispatcher. DISPATCHER_DEBUG=1 shows where it happened.",
    ]
    assert ("nobody thought of [address]" in done.stdout) == bool(flags)


def test_a_bug_shows_where_it_happened_if_asked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUGGY, "stumble"],
        capture_output=True,
        text=True,
        env={**os.environ, "DISPATCHER_DEBUG": "1"},
        check=False,
    )

    assert done.returncode == 1
    assert "in stumble" in done.stderr
