"""The benchmark itself, small: it must keep running, and its sums must hold."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.against_postfix import _path, a_sink, run_rival
from tests.support.directories import service_directory


def test_a_small_benchmark_sends_every_mail_and_prints_one_object(pytestconfig: pytest.Config) -> None:
    command = [sys.executable, "-m", "dispatcher.cli", "bench", "--messages", "700", "--size-kb", "4", "--json"]
    env = {key: value for key, value in os.environ.items() if not key.startswith("DISPATCHER_")}

    with service_directory() as directory:
        env["DISPATCHER_DATA_DIR"] = str(directory)
        found = subprocess.run(command, env=env, cwd=pytestconfig.rootpath, capture_output=True, text=True, check=False)
        left = [path.name for path in Path(directory).iterdir()]

    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert (result["messages"], result["accepted"]) == (700, 700)
    assert abs(result["bytes"] - 4096) <= 32
    assert 0 < result["first_ms"] <= result["p50_ms"] <= result["p99_ms"]
    assert result["peak_rss_mb"] < 120
    assert left == []


@pytest.mark.skipif(shutil.which("smtp-source", path=_path()) is None, reason="Debian's postfix is not installed")
def test_the_rival_runs_against_the_same_sink() -> None:
    with a_sink() as port:
        assert run_rival(200, 2, port) > 0
