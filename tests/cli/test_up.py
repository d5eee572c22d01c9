"""`dispatcher up`: the link with which the first lead of the desk gets in."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil

from tests.cli.conftest import Program
from tests.support.boxes import survivors
from tests.support.directories import service_directory


def run_up(directory: Path) -> tuple[subprocess.Popen[str], str]:
    """The program, and what it says until everything runs."""
    program = Program({"DISPATCHER_DATA_DIR": str(directory)})
    process = subprocess.Popen(
        [sys.executable, "-m", "dispatcher.cli", "up"],
        env={**program.env, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = ""
    while "Begin in another terminal" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    return process, said


def end(process: subprocess.Popen[str]) -> None:
    parent = psutil.Process(process.pid)
    family = [parent, *parent.children(recursive=True)]
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(20) == 0
        assert survivors(family) == []
    finally:
        process.kill()
        assert process.stdout is not None
        process.stdout.close()


def test_it_prints_a_link_that_sets_up_the_desk() -> None:
    with service_directory() as directory:
        process, said = run_up(directory)
        try:
            [link] = re.findall(r"http://\S+/desk/setup/[\w-]{43}", said)
            with urllib.request.urlopen(link, timeout=10) as answer:
                assert "Become the first lead" in answer.read().decode()
        finally:
            end(process)
