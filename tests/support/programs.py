"""Small real programs for a box under test: `python programs.py web PORT | worker NAME | stubborn | broken | sleeper`.

They stand where Dispatcher's own programs stand, so that the box is tested by itself.
"""

from __future__ import annotations

import http.server
import os
import signal
import sys
import time
from pathlib import Path

from dispatcher.embedded.process import die_with_parent

_SELF = (sys.executable, str(Path(__file__).resolve()))

#: A whole box of them, as `Box(commands=…)` takes it.
COMMANDS: dict[str, tuple[str, ...]] = {
    "migrate": (*_SELF, "migrate"),
    "web": (*_SELF, "web", "{port}"),
    "worker": (*_SELF, "worker", "{name}", "{concurrency}"),
    "urgent": (*_SELF, "worker", "urgent", "1"),
    "beat": (*_SELF, "sleeper"),
}
STUBBORN = (*_SELF, "stubborn")
BROKEN = (*_SELF, "broken")


def web(port: str) -> None:
    """Answer everything with the public URL that the environment names."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(os.environ["DISPATCHER_PUBLIC_URL"].encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name in the base class)
            """Stay silent."""

    http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


def worker(name: str, concurrency: str) -> None:
    """Have children, as Celery has, and end them before ourselves."""
    parent = os.getpid()
    children = []
    for _ in range(int(concurrency)):
        child = os.fork()
        if child == 0:
            die_with_parent(parent)
            sleeper()
        children.append(child)
    signal.signal(signal.SIGTERM, lambda *_: _end(children))
    print(f"{name} works with {concurrency}", flush=True)
    sleeper()


def stubborn() -> None:
    """Take no hint."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("never", flush=True)
    if os.fork() == 0:
        sleeper()
    sleeper()


def broken() -> None:
    """Fail."""
    print("the reason why it fails", flush=True)
    sys.exit(3)


def migrate() -> None:
    """Have nothing to do."""


def sleeper() -> None:
    """Do nothing until ended."""
    while True:
        time.sleep(60)


def _end(children: list[int]) -> None:
    for child in children:
        os.kill(child, signal.SIGTERM)
    for child in children:
        os.waitpid(child, 0)
    sys.exit(0)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
