"""Dispatcher beside Postfix's own load generator, `smtp-source`, into the same `smtp-sink`, turn by turn.

    make bench                                  50,000 mails of 20 and of 2 KiB, three pairs of runs each
    make bench ARGS="--messages 10000 --runs 1"

`smtp-source -d -s 10` repeats one message over ten open sessions, without a database. Dispatcher sends letters of the
same size to as many different readers, through its real workers, with a committed row in the ledger for each. Only
the ratios within a pair of runs mean anything: the machine is the same, and so is what else it does.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

KB = 1024
SESSIONS = 10  #: of smtp-source
BACKLOG = 4096  #: of smtp-sink


@dataclass(frozen=True)
class Pair:
    """One run of each, one after the other."""

    ours: dict[str, Any]
    rival_per_second: float

    @property
    def ratio(self) -> float:
        return float(self.ours["per_second"]) / self.rival_per_second


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--messages", type=int, default=50_000, help="mails in each run (50000)")
    parser.add_argument("--runs", type=int, default=3, help="pairs of runs for each size (3)")
    parser.add_argument("--size-kb", type=int, nargs="+", default=[20, 2], help="sizes in KiB (20 2)")
    parser.add_argument("--lanes", type=int, default=32, help="lanes of each worker process (32)")
    arguments = parser.parse_args()
    missing = [name for name in ("smtp-sink", "smtp-source") if shutil.which(name, path=_path()) is None]
    if missing:
        print(f"{' and '.join(missing)} not found: on Debian, apt-get install postfix.", file=sys.stderr)
        return 1
    print(f"{'size':>6} {'ours/s':>9} {'smtp-source/s':>14} {'ratio':>7} {'CPU µs/mail':>12} {'MB':>6}", flush=True)
    for size in arguments.size_kb:
        pairs = []
        for _ in range(arguments.runs):
            with tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as directory, a_sink() as port:
                os.chmod(directory, 0o755)  # noqa: PTH101  # PostgreSQL does not run as root, and must get in
                ours = run_ours(arguments.messages, size, port, arguments.lanes, directory)
                pairs.append(Pair(ours, run_rival(arguments.messages, size, port)))
            show(size, pairs[-1])
        print(f"{size:>3} KB median ratio {statistics.median(pair.ratio for pair in pairs):.2f}", flush=True)
    return 0


def show(size: int, pair: Pair) -> None:
    ours = pair.ours
    print(
        f"{size:>3} KB {ours['per_second']:>9,.0f} {pair.rival_per_second:>14,.0f} {pair.ratio:>7.2f} "
        f"{ours['cpu_us_per_message']:>12.0f} {ours['peak_rss_mb']:>6.0f}",
        flush=True,
    )


@contextmanager
def a_sink() -> Iterator[int]:
    """Postfix's smtp-sink on a free port, which throws away what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    user = ["-u", "postfix" if _exists("postfix") else "nobody"] if os.geteuid() == 0 else []
    sink = subprocess.Popen([_program("smtp-sink"), *user, f"127.0.0.1:{port}", str(BACKLOG)])
    try:
        _until_open(port)
        yield port
    finally:
        sink.terminate()
        sink.wait()


def run_ours(messages: int, size: int, port: int, lanes: int, directory: str) -> dict[str, Any]:
    """`dispatcher bench`, as anybody can run it."""
    command = [sys.executable, "-m", "dispatcher.cli", "bench", "--messages", str(messages), "--size-kb", str(size)]
    found = subprocess.run(
        [*command, "--smtp", f"smtp://127.0.0.1:{port}?lanes={lanes}", "--json"],
        env={**os.environ, "DISPATCHER_DATA_DIR": directory},
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise SystemExit(f"dispatcher bench failed:\n{found.stdout}{found.stderr}")
    result: dict[str, Any] = json.loads(found.stdout)
    return result


def run_rival(messages: int, size: int, port: int) -> float:
    """Messages per second of smtp-source, with the sessions kept open (-d)."""
    began = time.monotonic()
    subprocess.run(
        [
            _program("smtp-source"),
            *("-d", "-s", str(SESSIONS), "-m", str(messages), "-l", str(size * KB)),
            *("-f", "bench@example.test", "-t", "reader@example.test", f"127.0.0.1:{port}"),
        ],
        check=True,
    )
    return messages / (time.monotonic() - began)


def _until_open(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit("smtp-sink did not start")


def _exists(user: str) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwnam(user))
    return False


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _program(name: str) -> str:
    return shutil.which(name, path=_path()) or name


if __name__ == "__main__":
    raise SystemExit(main())
