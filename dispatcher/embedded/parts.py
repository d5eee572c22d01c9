"""Dispatcher's own programs as parts of a box: which, with what arguments, and when they count as up."""

from __future__ import annotations

import http.client
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatcher.embedded.process import Child, Part

SERVICES, MIGRATION, PROGRAMS = range(3)  #: the stages of a box
_CLI = (sys.executable, "-m", "dispatcher.cli")

#: How the programs are started. `{port}`, `{concurrency}` and `{name}` stand for words of their own.
COMMANDS: Mapping[str, Sequence[str]] = {
    "migrate": (*_CLI, "migrate"),
    "web": (*_CLI, "web", "--port", "{port}"),
    "worker": (*_CLI, "worker", "--concurrency", "{concurrency}", "--name", "{name}"),
    "urgent": (*_CLI, "worker", "--urgent-only"),
    "beat": (*_CLI, "beat"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """Which programs run in a box."""

    web: bool = True
    workers: int = 1
    urgent: bool = True
    beat: bool = True
    concurrency: int | None = None  #: processes of each worker; None: one a processor

    def names(self) -> Iterator[tuple[str, str]]:
        """The name of each program, and that of its command."""
        if self.web:
            yield "web", "web"
        for number in range(1, self.workers + 1):
            yield f"worker{number}", "worker"
        if self.urgent:
            yield "urgent", "urgent"
        if self.beat:
            yield "beat", "beat"


def programs(team: Team, port: int, env: Mapping[str, str], commands: Mapping[str, Sequence[str]]) -> list[Part]:
    """The migration, and after it the programs of a team."""
    words = {"{port}": str(port), "{concurrency}": str(team.concurrency or os.cpu_count() or 1)}

    def argv(command: str, name: str) -> list[str]:
        return [{**words, "{name}": name}.get(word, word) for word in commands[command]]

    migration = Part(
        name="migrate",
        argv=argv("migrate", "migrate"),
        env=env,
        stage=MIGRATION,
        once=True,
        ready_within=3600.0,  # a large table takes its time, and half a migration helps nobody
    )
    return [
        migration,
        *(
            Part(
                name=name,
                argv=argv(command, name),
                env=env,
                stage=PROGRAMS,
                ready=_answers(port) if command == "web" else _lives,
            )
            for name, command in team.names()
        ),
    ]


def catcher(listener: socket.socket, maildir: Path, env: Mapping[str, str]) -> Part:
    """The mail catcher, on a socket that stays open here: mail waits in it while the catcher is started again."""
    number = listener.fileno()
    return Part(
        name="catcher",
        argv=[sys.executable, "-m", "dispatcher.embedded.catcher", "--fd", str(number), "--maildir", str(maildir)],
        env=env,
        stage=SERVICES,
        pass_fds=(number,),
        ready=lambda child: child.spoke,
        shows=lambda line: not line.isdigit(),  # its first line is its port
    )


def _answers(port: int) -> Callable[[Child], bool]:
    """The condition that the pages answer on a port."""

    def condition(_: Child) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return condition


def _lives(_: Child) -> bool:
    return True
