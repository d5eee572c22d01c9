"""Everybody else, on the same machine in the same run: Postfix's load generator and its sink, and the usual program."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dispatcher.embedded.valkey import Valkey
from tests.benchmarks import celery_program
from tests.benchmarks.programs import Sink, found
from tests.support.directories import running, service_directory

SESSIONS = 10  #: of smtp-source
BACKLOG = 4096  #: of smtp-sink


@contextmanager
def smtp_sink() -> Iterator[Sink]:
    """Postfix's smtp-sink on a free port, which throws away what it gets and does not tell how much."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    user = ["-u", "postfix" if _exists("postfix") else "nobody"] if os.geteuid() == 0 else []
    program = found("smtp-sink")
    assert program is not None, "ask `found` first"
    process = subprocess.Popen([program, *user, f"127.0.0.1:{port}", str(BACKLOG)])
    try:
        _until_open(port)
        yield Sink("smtp-sink", port, None)
    finally:
        process.terminate()
        process.wait()


def smtp_source(port: int, messages: int, size_kb: int) -> float:
    """Messages a second of `smtp-source -d -s 10`: one message over and over, the sessions kept open."""
    program = found("smtp-source")
    assert program is not None, "ask `found` first"
    began = time.monotonic()
    subprocess.run(
        [
            program,
            *("-d", "-s", str(SESSIONS), "-m", str(messages), "-l", str(size_kb * 1024)),
            *("-f", "bench@example.test", "-t", "reader@example.test", f"127.0.0.1:{port}"),
        ],
        check=True,
    )
    return messages / (time.monotonic() - began)


def usual_program(sink: Sink, mails: int, size_kb: int) -> float:
    """Mails a second of the usual Celery program, with a broker of its own."""
    with service_directory() as directory, running(Valkey(directory / "valkey")) as valkey:
        return celery_program.per_second(valkey.url, sink, mails, size_kb=size_kb)


def _until_open(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError("smtp-sink did not start")


def _exists(user: str) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwnam(user))
    return False
