"""README, Makefile and their friends say what is so."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from dispatcher import config, identity
from dispatcher.cli import app

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
#: Settings that are read outside `dispatcher.config`.
READ_ELSEWHERE = {
    "DATA_DIR",
    "LOG",
    "LOG_LEVEL",
    "DEBUG",
    "URGENT_ONLY",
    "CHAOS",
    "REQUIRE_BROWSER",
    "DATABASE_PASSWORD",
}


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def test_every_command_in_the_readme_exists_with_its_options() -> None:
    shown = re.findall(
        r"(?:^|[`$(] ?)dispatcher((?: [a-z][a-z-]*)+)((?:[^\n`#]|\\\n)*)", text_of("README.md"), re.MULTILINE
    )
    assert shown
    for words, rest in shown:
        command: Any = get_command(app)
        for word in words.split():
            if not hasattr(command, "commands"):
                break  # an argument
            assert word in command.commands, f"dispatcher{words}"
            command = command.commands[word]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest):
            assert option in known, f"dispatcher{words} {option}"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))

    for name in DOCUMENTS:
        for target in re.findall(r"(?:^|`)make ([a-z]+)", text_of(name), re.MULTILINE):
            assert target in targets, f"{name}: make {target}"


def test_every_setting_is_in_the_readme_and_every_setting_in_the_readme_is_read() -> None:
    source = Path(config.__file__).read_text() + Path(identity.__file__).read_text()
    read = set(re.findall(r"(?:need|values\.get)\(\"([A-Z_]+)\"", source)) - {"INBOX_DIR"}
    shown = {name.removeprefix(config.PREFIX) for name in re.findall(r"DISPATCHER_[A-Z_]+", text_of("README.md"))}

    assert read <= shown
    assert shown <= read | READ_ELSEWHERE


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_to_a_file_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text_of(name)):
        if not target.startswith("docs/screenshots/"):
            assert (ROOT / target).exists(), target


def test_make_without_a_target_shows_what_there_is() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    for target in ("demo", "up", "test", "check", "chaos", "bench"):
        assert f"make {target} " in shown


def test_make_passes_arguments_on_and_keeps_standard_output_clean() -> None:
    # The tests themselves run under make, which says more when it is called from within.
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-n", "demo", "ARGS=--exit --json"]
    dry = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout.splitlines()

    assert dry[-1] == ".venv/bin/dispatcher demo --exit --json"
    assert all(line.endswith(">&2") for line in dry[:-1] if "install" in line)


def test_the_checks_of_a_change_are_the_ones_that_make_runs() -> None:
    ci = text_of(".ci/run")

    assert "make check" in ci
    assert "DISPATCHER_REQUIRE_BROWSER=1 make test" in ci
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci/run")], check=False).returncode == 0
