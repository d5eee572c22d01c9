"""`dispatcher web | worker | beat | migrate`: the parts one by one, for many machines and for containers."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Never

import typer

from dispatcher import config
from dispatcher.cli.output import AsJson, answering, print_json, say
from dispatcher.errors import Misconfigured

if TYPE_CHECKING:
    from dispatcher.config import Settings

#: Celery as a program. It warns of root because pickled messages could run anything; ours are JSON and carry nothing.
CELERY = (
    *(sys.executable, "-W", "ignore:You're running the worker with superuser privileges"),
    *("-m", "celery", "--quiet", "-A", "workers.app:app"),
)


def web(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8000,
) -> None:
    """Serve the pages and the API.

    Put a proxy with a certificate in front, and set DISPATCHER_PUBLIC_URL to its address.
    """
    with answering():
        settings = config.load()
        from dispatcher import app

        app.serve(settings, host, port)


def worker(
    urgent_only: Annotated[
        bool, typer.Option("--urgent-only", help="Take breaking news alone: it then never waits for a slow newsletter.")
    ] = False,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Processes; one a processor, or 1 with --urgent-only.", show_default=False),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Its name in logs; another for each on one machine.", show_default=False)
    ] = None,
) -> None:
    """Run a worker, which takes updates to their readers.

    Run as many as you like, on as many machines as you like; keep one --urgent-only among them.
    """
    with answering():
        config.load()
        env = {"DISPATCHER_URGENT_ONLY": "1" if urgent_only else "0"}
        become(worker_command(urgent_only=urgent_only, concurrency=concurrency, name=name), env)


def beat() -> None:
    """Ring the bell every few seconds, so that work which lost its nudge is found. One is enough."""
    with answering():
        become(beat_command(config.load()))


def migrate(
    to: Annotated[str, typer.Option(metavar="REV", help="A revision; base takes everything down.")] = "head",
    roles: Annotated[
        bool, typer.Option("--roles", help="Then make roles for web, workers and readers of figures.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database to the schema that this version needs.

    With --roles, the roles dispatcher_web, dispatcher_worker and
    dispatcher_reader are made there, each with the rights that such a program
    needs and no others. They cannot sign in: users that belong to them can.
    """
    from dispatcher.db import migrate as migrations
    from dispatcher.db.revisions import revisions

    with answering(as_json):
        url = config.load().database_url
        before, _ = revisions(url)
        migrations.migrate(url, to)
        after, _ = revisions(url)
        if roles:
            migrations.make_roles(url)
        if as_json:
            print_json({"before": before, "after": after, **({"roles": True} if roles else {})})
        elif before == after:
            say(f"The database is at {after or 'base'} already.")
        else:
            say(f"The database is at {after or 'base'} now; it was at {before or 'base'}.")
        if roles and not as_json:
            say("Roles: dispatcher_web, dispatcher_worker and dispatcher_reader.")


def worker_command(*, urgent_only: bool, concurrency: int | None = None, name: str | None = None) -> list[str]:
    """The program that works: Celery, with the queues that this worker listens to."""
    from dispatcher.nudges import QueueName

    queues = [QueueName.URGENT] if urgent_only else [QueueName.URGENT, QueueName.BULK]
    processes = concurrency or (1 if urgent_only else os.cpu_count() or 1)
    node = f"{name or ('urgent' if urgent_only else 'worker')}@%h"
    return [
        *CELERY,
        "worker",
        *("-Q", ",".join(queues), "-c", str(processes), "-n", node, "-l", "WARNING"),
        *("--without-gossip", "--without-mingle"),
    ]


def beat_command(settings: Settings) -> list[str]:
    """The program that ticks, with its memory in the data directory."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(
            f"{settings.data_dir} cannot be made: {error.strerror or error}.",
            remedy="Set DISPATCHER_DATA_DIR to a directory that may be written.",
            field="DATA_DIR",
        ) from error
    schedule = str(settings.data_dir / "beat-schedule")
    return [*CELERY, "beat", "-l", "WARNING", "-s", schedule, "--pidfile="]


def become(command: Sequence[str], env: dict[str, str] | None = None) -> Never:
    """Turn this process into another program, which then gets our signals itself."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], list(command), {**os.environ, **(env or {})})  # noqa: S606
