"""`dispatcher demo`: one story, some readers, one update, watched to the last acceptance."""

from __future__ import annotations

import asyncio
import csv
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.machine import Port, serve
from dispatcher.cli.output import FAILED, WELL, AsJson, answering, note, print_json, say
from dispatcher.cli.updates import read_body
from dispatcher.model import Importance

if TYPE_CHECKING:
    from dispatcher.config import Settings
    from dispatcher.embedded.box import Box
    from dispatcher.model import BlastReport, Draft
    from dispatcher.samples import SampleStory

#: What a demo takes over from its surroundings. Never a database, a broker or a relay: those may be real.
KEPT = ("DISPATCHER_DATA_DIR", "DISPATCHER_DEBUG", "DISPATCHER_LOG", "DISPATCHER_LOG_LEVEL")

READERS = (
    ("Ada Winter", "en", "Europe/London"),
    ("Jürgen Grün", "de", "Europe/Berlin"),
    ("Zoë Crane", "en-AU", "Australia/Sydney"),
    ("Łucja Żak", "pl", "Europe/Warsaw"),
    ("José Ibáñez", "es", "America/Mexico_City"),
    ("佐藤 花子", "ja", "Asia/Tokyo"),
    ("Олена Коваленко", "uk", "Europe/Kyiv"),
    ("ليلى حداد", "ar", "Asia/Beirut"),
    ("Søren Åberg", "da", "Europe/Copenhagen"),
    ("", "en", "UTC"),
)


def demo(
    subscribers: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many readers.")] = 500,
    update: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.md", help="Your own update: its first line is # and the headline.", show_default=False
        ),
    ] = None,
    exit_: Annotated[bool, typer.Option("--exit", help="End as soon as everybody is reached.")] = False,
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Send one update to many readers, here and now, and watch.

    It runs in a box of its own, with a mail catcher: no mail leaves this
    machine. Each demo starts from nothing. In a terminal it then keeps serving,
    so that you can look around, until Ctrl-C. The exit code is 0 only if every
    reader was reached.

    \b
    Examples:
      dispatcher demo --subscribers 20000
      dispatcher demo --update my-update.md
      dispatcher demo --exit --json
    """
    with answering(as_json):
        from dispatcher import config, samples
        from dispatcher.embedded.box import Box

        story = samples.sample_story()
        news = story.updates[-1] if update is None else own_update(read_body(update))
        env = {key: value for key, value in os.environ.items() if not key.startswith(config.PREFIX) or key in KEPT}
        directory = config.data_dir() / "demo"
        note("Starting PostgreSQL, Valkey, a mail catcher, the pages and the workers …")
        quiet = {"DISPATCHER_LOG_LEVEL": env.get("DISPATCHER_LOG_LEVEL", "warning")}
        with Box(directory, port, wipe=True, env=env, extra_env=quiet) as box:
            if not as_json:
                _print_places(box, story)
            reports = asyncio.run(_play(config.load(box.env), story, news, subscribers))
            well = all(report.candidates == subscribers == _accepted(report) for report in reports)
            stays = sys.stdout.isatty() and not exit_ and not as_json
            if as_json:
                print_json({"blasts": [report.as_json() for report in reports]})
            else:
                _print_reports(box, reports)
            if stays:
                _print_next(box, story)
                serve(box)
    raise typer.Exit(WELL if well else FAILED)


def own_update(text: str) -> Draft:
    """An update from a file: `# headline`, then the body in Markdown; or with `key: value` lines, as the samples."""
    from dispatcher.model import Draft
    from dispatcher.samples import read_draft

    first, _, rest = text.lstrip("\ufeff \r\n").partition("\n")
    if first.startswith("# "):
        return Draft(headline=first[2:].strip().rstrip("#").strip(), body=rest, importance=Importance.BREAKING)
    return read_draft(text)


async def _play(settings: Settings, story: SampleStory, news: Draft, subscribers: int) -> list[BlastReport]:
    """Create the story with its past, let the readers follow it, publish the news, and watch it arrive."""
    from dispatcher import importing, publishing, stories
    from dispatcher.cli import watching
    from dispatcher.db import Database
    from dispatcher.nudges import Bell

    bell = Bell(settings.broker_url)
    async with Database(settings.database_url, size=2) as database:
        await stories.create(database, story.slug, headline=story.headline, summary=story.summary)
        for past in story.updates[:-1]:
            await publishing.publish(database, bell, story.slug, past, by="demo")
        readers = settings.data_dir / "readers.csv"
        await asyncio.to_thread(_write_readers, readers, subscribers)
        await importing.import_followers(database, story.slug, readers, secret_key=settings.secret_key, confirmed=True)
        note(f"{subscribers:,} readers follow “{story.headline}”. Publishing: {news.headline}")
        # A correction in somebody's own file names an update of theirs, and the sample story has others.
        news = news if news.corrects_seq is None else replace(news, corrects_seq=min(news.corrects_seq, 1))
        published = await publishing.publish(database, bell, story.slug, news, by="demo")
        return await watching.until_settled(database, published.blast_ids)


def _write_readers(path: Path, count: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("email", "name", "locale", "timezone"))
        writer.writerows(_readers(count))


def _readers(count: int) -> Iterator[tuple[str, str, str, str]]:
    for number in range(1, count + 1):
        yield f"reader{number:06d}@example.test", *READERS[number % len(READERS)]


def _accepted(report: BlastReport) -> int:
    from dispatcher.model import DeliveryState

    return report.states.get(DeliveryState.ACCEPTED, 0)


def _print_reports(box: Box, reports: list[BlastReport]) -> None:
    from dispatcher.cli import watching

    for report in reports:
        watching.print_report(report)
    say(f"  The mails are in {box.inbox_dir}")


def _print_places(box: Box, story: SampleStory) -> None:
    say()
    say(f"  What arrives      {box.url}/inbox")
    say(f"  The story         {box.url}/s/{story.slug}")
    say(f"  The API           {box.url}/api/v1/docs")
    say()


def _print_next(box: Box, story: SampleStory) -> None:
    program = os.path.relpath(sys.argv[0]) if Path(sys.argv[0]).name == "dispatcher" else "dispatcher"
    say()
    say("Try next, in another terminal:")
    say(f"  export DISPATCHER_DATA_DIR={box.data_dir}")
    say(f"  echo 'The **east bank** is dry again.' | {program} publish {story.slug} \\")
    say("    --headline 'The water falls' --body-file - --wait")
    say(f"  {program} doctor")
    say()
