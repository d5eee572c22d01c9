"""The real program, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SECRET = "a secret for the tests, which is long enough"


@dataclass(frozen=True)
class Answer:
    """What a run of the program said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON value that it must be."""
        return json.loads(self.out)


class Program:
    """`dispatcher` with an environment of its own."""

    def __init__(self, env: Mapping[str, str]) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("DISPATCHER_")}
        # Where it is set, every single run would compile all of its libraries again, for seconds.
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)
        self.env = {**inherited, **env}

    def __call__(self, *arguments: str, stdin: bytes = b"", **env: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "dispatcher.cli", *arguments],
            input=stdin,
            capture_output=True,
            env={**self.env, **env},
            timeout=60,
            check=False,
        )
        answer = Answer(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in answer.err, answer.err
        return answer


@pytest.fixture
def lonely(tmp_path: Path) -> Program:
    """The program where nothing is set and no box runs."""
    return Program({"DISPATCHER_DATA_DIR": str(tmp_path / "data")})


@pytest.fixture
def program(database_url: str, broker_url: str, tmp_path: Path) -> Program:
    """The program with a database of its own, and no worker."""
    return Program(
        {
            "DISPATCHER_DATA_DIR": str(tmp_path / "data"),
            "DISPATCHER_DATABASE_URL": database_url,
            "DISPATCHER_BROKER_URL": broker_url,
            "DISPATCHER_SMTP_URL": "smtp://127.0.0.1:1",
            "DISPATCHER_PUBLIC_URL": "https://alerts.example.org",
            "DISPATCHER_MAIL_FROM": "The Courier <alerts@courier.example.org>",
            "DISPATCHER_SECRET_KEY": SECRET,
        }
    )
