"""`dispatcher bench`: how fast this installation hands mail to a relay."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.output import FAILED, WELL, AsJson, answering, note, print_json, print_table

if TYPE_CHECKING:
    from dispatcher.benchmarking import Result

LANES = 64


def bench(
    messages: Annotated[int, typer.Option(min=1, max=5_000_000, help="How many mails.")] = 10_000,
    size_kb: Annotated[int, typer.Option(min=2, max=1024, help="The size of each mail, in KiB.")] = 20,
    smtp: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The relay to send to; without it the box's own mail catcher."),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Worker processes; one a processor. Not with --here.", show_default=False),
    ] = None,
    lanes: Annotated[
        int, typer.Option(min=1, max=200, help="Lanes of each process, unless the URL says so. Not with --here.")
    ] = LANES,
    here: Annotated[
        bool, typer.Option("--here", help="In this installation, with its workers and its relays.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure how fast mail goes out: real workers, real letters, a row in the ledger for each.

    It runs in a throw-away box, and everybody's address is at example.test,
    which does not exist. With --here it uses this installation: its relays
    then get that mail, and nothing of it stays in the database.

    \b
    Examples:
      dispatcher bench --messages 50000 --smtp smtp://127.0.0.1:2525
      dispatcher bench --here --messages 1000 --json
    """
    with answering(as_json):
        if here:
            result = _here(messages, size_kb)
        else:
            result = _in_a_box(messages, size_kb, smtp, processes or os.cpu_count() or 1, lanes)
        shown = result.as_json()
        if as_json:
            print_json(shown)
        else:
            print_table(("figure", "value"), [(name, f"{value}") for name, value in shown.items() if value != []])
    raise typer.Exit(WELL if shown["accepted"] == messages else FAILED)


def _here(messages: int, size_kb: int) -> Result:
    from dispatcher import benchmarking, config

    return asyncio.run(benchmarking.run(config.load(), messages=messages, size_kb=size_kb, workers=1))


def _in_a_box(messages: int, size_kb: int, smtp: str | None, processes: int, lanes: int) -> Result:
    from dispatcher import benchmarking, config
    from dispatcher.config import RelaySettings
    from dispatcher.embedded.box import Box

    env = {key: value for key, value in os.environ.items() if not key.startswith(config.PREFIX)}
    extra = {"DISPATCHER_LOG_LEVEL": os.environ.get("DISPATCHER_LOG_LEVEL", "warning")}
    if smtp is not None:
        RelaySettings.parse(smtp)
        env["DISPATCHER_SMTP_URL"] = smtp if "lanes=" in smtp else f"{smtp}{'&' if '?' in smtp else '?'}lanes={lanes}"
    directory = config.data_dir() / "bench"
    note("Starting PostgreSQL, Valkey and the workers …")
    try:
        with Box(
            directory, web=False, urgent=False, beat=False, concurrency=processes, wipe=True, env=env, extra_env=extra
        ) as box:
            job = benchmarking.run(
                config.load(box.env),
                messages=messages,
                size_kb=size_kb,
                workers=processes,
                used=lambda: benchmarking.uses_of(box.pids()),
                forget=False,
            )
            return asyncio.run(job)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
