"""`dispatcher demo`: from nothing to 30 mails; and, while it serves, everything else against a living box."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dispatcher.cli.demo import own_update
from dispatcher.errors import Invalid
from dispatcher.model import Importance
from tests.cli.conftest import Program
from tests.support.boxes import survivors
from tests.support.directories import service_directory

READERS = 30
NEWS = "# Bridge closed\n\nThe **Linden bridge** is closed until further notice.\n"


class Demo:
    """A demo on a terminal, which serves until Ctrl-C."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        update = directory / "update.md"
        update.write_text(NEWS)
        self.program = Program({"DISPATCHER_DATA_DIR": str(directory / "demo")})
        ours, theirs = pty.openpty()
        self._screen = ours
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dispatcher.cli", "demo", "--subscribers", str(READERS), "--update", str(update)],
            # A relay and a database that the demo must not touch.
            env={
                **self.program.env,
                "DISPATCHER_DATA_DIR": str(directory),
                "DISPATCHER_SMTP_URL": "smtp://127.0.0.1:1",
                "DISPATCHER_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
                "TERM": "xterm",
                "COLUMNS": "100",
            },
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def read_until(self, words: str, within: float = 90.0) -> str:
        """Everything on the screen, once it shows `words`."""
        deadline = time.monotonic() + within
        while words not in self.text:
            ready, _, _ = select.select([self._screen], [], [], 0.5)
            if ready:
                self.text += os.read(self._screen, 65_536).decode(errors="replace")
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(self.text)
        return self.text

    def close(self) -> None:
        os.close(self._screen)
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """A demo that serves. Ctrl-C must end it cleanly afterwards, and leave nothing running."""
    with service_directory() as directory:
        running = Demo(directory)
        try:
            running.read_until("Ctrl-C ends it")
            yield running
            parent = psutil.Process(running.process.pid)
            family = [parent, *parent.children(recursive=True)]
            began = time.monotonic()
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(40) == 0
            assert time.monotonic() - began < 20
            assert survivors(family) == []
        finally:
            running.close()


def test_it_reaches_every_reader_and_says_where_to_look(demo: Demo) -> None:
    screen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", demo.text)

    assert f"{READERS} of {READERS} accepted" in screen
    assert "Bridge closed" in screen
    assert "Error" not in screen
    [inbox] = set(re.findall(r"http://\S+/inbox", screen))
    with urllib.request.urlopen(inbox, timeout=10) as answer:
        assert "Bridge closed" in answer.read().decode()
    mails = [path for path in (demo.directory / "demo").rglob("*") if path.is_file() and path.parent.name == "new"]
    assert len(mails) == READERS


def test_an_update_is_published_and_awaited_while_it_serves(demo: Demo) -> None:
    answer = demo.program(
        *("publish", "karsholm-dam", "--headline", "Bridge open", "--body-file", "-", "--wait", "--json"),
        stdin=b"It is open again.",
    )

    assert answer.code == 0, answer.err
    [blast] = answer.json["blasts"]
    assert (blast["candidates"], blast["accepted"], blast["waiting"]) == (READERS, READERS, 0)
    assert blast["first_ms"] <= blast["p50_ms"] <= blast["p90_ms"] <= blast["p99_ms"] <= blast["last_ms"]
    assert f"{READERS} of {READERS} accepted" in demo.program("blast", "show", str(blast["id"]), "--watch").out


def test_the_doctor_finds_nothing_wrong(demo: Demo) -> None:
    answer = demo.program("doctor", "--json")

    assert answer.code == 0, answer.out
    assert answer.json["ok"]
    assert {each["status"] for each in answer.json["checks"]} == {"ok"}


def test_without_a_terminal_it_ends_by_itself_and_standard_output_is_json_alone() -> None:
    with service_directory() as directory:
        program = Program({"DISPATCHER_DATA_DIR": str(directory)})
        answer = program("demo", "--subscribers", "12", "--json")

    assert answer.code == 0, answer.err
    [blast] = json.loads(answer.out)["blasts"]
    assert blast["candidates"] == blast["accepted"] == 12
    assert blast["seconds"] > 0


def test_an_update_of_ones_own_is_a_heading_and_a_body() -> None:
    draft = own_update("\ufeff\n# Bridge closed #\r\n\nStay away.\n\n## More\n")

    assert (draft.headline, draft.importance) == ("Bridge closed", Importance.BREAKING)
    assert draft.body.endswith("## More\n")
    with pytest.raises(Invalid):
        own_update("No heading here.\n\nText.")
