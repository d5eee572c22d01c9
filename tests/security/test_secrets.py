"""S38: nobody runs with an example's secret, and what is shipped holds none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher.config import KNOWN_SECRETS
from tests.support.boxes import ROOT


@pytest.mark.parametrize(
    ("command", "secret"), [("web", "change-me"), ("worker", "development"), ("web", "too short"), ("worker", "")]
)
def test_no_program_starts_with_a_secret_that_others_know(tmp_path: Path, command: str, secret: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")} | {
        "DISPATCHER_DATA_DIR": str(tmp_path),
        "DISPATCHER_DATABASE_URL": "postgresql://u:database-password@127.0.0.1:1/d",
        "DISPATCHER_BROKER_URL": "redis://:broker-password@127.0.0.1:1/0",
        "DISPATCHER_SMTP_URL": "smtp://u:relay-password@127.0.0.1:1",
        "DISPATCHER_PUBLIC_URL": "https://alerts.example.org",
        "DISPATCHER_SECRET_KEY": secret,
    }
    done = subprocess.run(
        [sys.executable, "-m", "dispatcher.cli", command],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr

    assert done.returncode != 0
    assert "DISPATCHER_SECRET_KEY" in said
    assert "-password" not in said
    assert not secret or f"{secret!r}" not in said


def test_what_is_shipped_brings_no_secret_along() -> None:
    """Compose file and image want one to be set; no default of theirs would be accepted anyway."""
    for name in ("docker-compose.yml", "Dockerfile"):
        text = (ROOT / name).read_text()
        for found in re.findall(r"\$\{\w*(?:SECRET|PASSWORD|TOKEN)\w*(:?[-?])([^}]*)\}", text):
            assert found[0] == ":?" or not found[1], f"{name}: a secret has a default"
        assert not re.findall(r"^\s*\w*(?:SECRET|PASSWORD)\w*\s*[:=]\s*['\"]?(?!\$)\w+", text, re.MULTILINE), name
    assert "change-me" in KNOWN_SECRETS
