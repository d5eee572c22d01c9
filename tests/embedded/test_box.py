"""The whole box, with small programs in the places of Dispatcher's own."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import psutil
import psycopg
import pytest

from dispatcher import config
from dispatcher.embedded.box import Box
from dispatcher.embedded.inbox import Inbox
from dispatcher.embedded.places import can_enter, nobody
from dispatcher.errors import Conflict, Misconfigured, Unavailable
from tests.support import programs
from tests.support.boxes import box_in_a_process, eventually, survivors
from tests.support.directories import service_directory


class Nothing(TypedDict):
    web: bool
    workers: int
    urgent: bool
    beat: bool


#: Seconds by which a machine that is busy with other tests may be late.
BUSY = 15.0
NOTHING = Nothing(web=False, workers=0, urgent=False, beat=False)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A data directory for boxes that a test starts and ends itself."""
    with service_directory() as directory:
        yield directory / "data"


@pytest.fixture(scope="module")
def lines() -> list[tuple[str, str]]:
    """What the running box has said so far."""
    return []


@pytest.fixture(scope="module")
def box(lines: list[tuple[str, str]]) -> Iterator[Box]:
    """A box that runs all the time."""
    with service_directory() as directory:
        commands = programs.COMMANDS
        with Box(directory / "data", commands=commands, concurrency=1, log=lambda *line: lines.append(line)) as box:
            yield box


def unset(**settings: str) -> dict[str, str]:
    """This environment with these settings of ours and no others."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(config.PREFIX)}
    return {**kept, **config.as_env(settings)}


def send(box: Box, subject: str) -> None:
    relay = config.RelaySettings.parse(box.settings["SMTP_URL"])
    with smtplib.SMTP(relay.host, relay.port) as client:
        client.sendmail("desk@example.org", ["reader@example.org"], f"Subject: {subject}\n\n")


def query(box: Box, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(box.settings["DATABASE_URL"], autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def test_everything_is_up_when_it_has_started(box: Box, lines: list[tuple[str, str]]) -> None:
    with urllib.request.urlopen(f"{box.url}/healthz", timeout=20) as answer:
        assert answer.read().decode() == box.url
    send(box, "Hello")

    assert set(box.pids()) == {"postgres", "valkey", "catcher", "web", "worker1", "urgent", "beat"}
    assert query(box, "SELECT 1") == [(1,)]
    assert box.inbox_dir is not None
    assert Inbox(box.inbox_dir).page().entries[0].subject == "Hello"
    assert eventually(lambda: ("worker1", "worker1 works with 1") in lines)


def test_other_commands_find_a_running_box_by_its_directory(box: Box) -> None:
    env = {"DISPATCHER_DATA_DIR": str(box.data_dir)}

    found = config.load(env)

    assert (found.database_url, found.broker_url) == (box.settings["DATABASE_URL"], box.settings["BROKER_URL"])
    assert (found.inbox_dir, found.public_url, found.development) == (box.inbox_dir, box.url, True)
    assert (box.data_dir / "box.json").stat().st_mode & 0o777 == 0o600
    assert (box.data_dir / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_a_box_that_has_ended_is_not_found(home: Path) -> None:
    with Box(home, commands=programs.COMMANDS, **NOTHING):
        pass

    assert not (home / "box.json").exists()
    with pytest.raises(Misconfigured, match="no box is running"):
        config.load({"DISPATCHER_DATA_DIR": str(home)})


def test_database_mails_and_secret_survive_a_restart(home: Path) -> None:
    box = Box(home, commands=programs.COMMANDS, **NOTHING)
    box.start()
    query(box, "CREATE TABLE kept AS SELECT 'still here' AS word")
    send(box, "Before the restart")
    secret = box.settings["SECRET_KEY"]
    box.stop()
    box.start()
    try:
        assert query(box, "SELECT word FROM kept") == [("still here",)]
        assert box.settings["SECRET_KEY"] == secret
        assert box.inbox_dir is not None
        assert Inbox(box.inbox_dir).page(query="before the restart").total == 1
    finally:
        box.stop()


def test_a_wiped_box_starts_from_nothing_and_leaves_what_is_not_its_own(home: Path) -> None:
    with Box(home, commands=programs.COMMANDS, **NOTHING) as box:
        query(box, "CREATE TABLE mine ()")
        secret = box.settings["SECRET_KEY"]
    (home / "notes.txt").write_text("not the box's")

    with Box(home, commands=programs.COMMANDS, wipe=True, **NOTHING) as box:
        assert query(box, "SELECT to_regclass('mine')") == [(None,)]
        assert box.settings["SECRET_KEY"] != secret
    assert (home / "notes.txt").exists()


def test_a_second_box_in_one_directory_is_told_where_the_first_is(box: Box) -> None:
    with pytest.raises(Conflict, match=rf"already running .*process {os.getpid()}, {box.url}.*DISPATCHER_DATA_DIR"):
        Box(box.data_dir, commands=programs.COMMANDS).start()

    assert query(box, "SELECT 1") == [(1,)]


def test_two_boxes_run_side_by_side(box: Box, home: Path) -> None:
    with Box(home, commands=programs.COMMANDS, concurrency=1) as other:
        assert box.port != other.port
        query(box, "CREATE TABLE IF NOT EXISTS only_here ()")
        assert query(other, "SELECT to_regclass('only_here')") == [(None,)]
        send(other, "For the other")
        assert other.inbox_dir is not None
        assert Inbox(other.inbox_dir).page(query="For the other").total == 1
        assert box.inbox_dir is not None
        assert Inbox(box.inbox_dir).page(query="For the other").total == 0


def test_a_port_that_is_taken_is_named_and_nothing_is_started(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        box = Box(home, port, commands=programs.COMMANDS)
        with pytest.raises(Conflict, match=rf"Port {port} is taken.*--port N"):
            box.start()

    assert box.pids() == {}


def test_a_port_that_is_free_is_used(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with Box(home, port, commands=programs.COMMANDS, workers=0, urgent=False, beat=False) as box:
        assert (box.port, box.url) == (port, f"http://localhost:{port}")


def test_what_the_environment_brings_is_not_started_again(box: Box) -> None:
    env = unset(
        DATABASE_URL=box.settings["DATABASE_URL"],
        BROKER_URL="redis://localhost:1",
        SMTP_URL="smtp://relay.example:2525",
        PUBLIC_URL="https://alerts.example.org",
        SECRET_KEY="k" * 40,
        NEWSROOM="The Courier",
    )
    with service_directory() as parent, Box(parent / "data", commands=programs.COMMANDS, env=env, workers=0) as other:
        told = config.load({"DISPATCHER_DATA_DIR": str(parent / "data")})

        assert set(other.pids()) == {"web", "urgent", "beat"}
        assert (other.url, other.inbox_dir, told.development) == ("https://alerts.example.org", None, False)
        assert (told.newsroom.name, told.secret_key) == ("The Courier", "k" * 40)
        assert {path.name for path in (parent / "data").iterdir()} == {"box.lock", "box.json"}


def test_a_wrong_setting_is_told_before_anything_starts(home: Path) -> None:
    box = Box(home, commands=programs.COMMANDS, env=unset(SMTP_URL="mailhost"))

    with pytest.raises(Misconfigured, match="DISPATCHER_SMTP_URL must look like smtp://"):
        box.start()

    assert box.pids() == {}


@pytest.mark.parametrize("name", ["worker1", "catcher", "valkey", "postgres", "web"])
def test_a_part_that_is_killed_is_started_again(box: Box, lines: list[tuple[str, str]], name: str) -> None:
    before = box.pids()[name]
    os.kill(before, signal.SIGKILL)

    assert eventually(lambda: box.pids().get(name, before) != before)
    assert eventually(lambda: ("box", f"{name} has ended (killed by SIGKILL); it is started again") in lines)
    assert eventually(lambda: _works(box, name))


def _works(box: Box, name: str) -> bool:
    try:
        match name:
            case "postgres":
                return query(box, "SELECT 1") == [(1,)]
            case "catcher":
                send(box, "Again")
            case "valkey":
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(box.settings["BROKER_URL"].removeprefix("redis+socket://"))
            case "web":
                urllib.request.urlopen(box.url, timeout=5).close()
    except (OSError, psycopg.OperationalError):
        return False
    return True


def test_children_of_a_killed_part_are_gone_before_it_starts_again(box: Box) -> None:
    worker = psutil.Process(box.pids()["worker1"])
    assert eventually(lambda: len(worker.children()) == 1)
    children = worker.children()
    worker.kill()

    assert survivors([worker, *children]) == []


def test_a_part_that_cannot_be_kept_running_ends_the_box_with_its_last_words(home: Path) -> None:
    commands = {**programs.COMMANDS, "beat": programs.BROKEN}
    with Box(home, commands=commands, web=False, workers=0, urgent=False) as box:
        children = [psutil.Process(pid) for pid in box.pids().values()]
        with pytest.raises(Unavailable, match=r"beat ended 5 times within 30 s.*exit code 3[\s\S]*the reason why"):
            box.wait()

        assert survivors(children) == []
        with pytest.raises(Unavailable):
            box.check()


def test_a_migration_that_fails_lets_nothing_else_start(home: Path) -> None:
    box = Box(home, commands={**programs.COMMANDS, "migrate": programs.BROKEN})

    with pytest.raises(Unavailable, match=r"migrate ended at once \(exit code 3\)[\s\S]*the reason why it fails"):
        box.start()

    assert box.pids() == {}
    assert not (home / "postgres" / "data" / "postmaster.pid").exists()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_everything_within_five_seconds(home: Path, signum: signal.Signals) -> None:
    with box_in_a_process(home) as running:
        family = running.family()
        began = time.monotonic()
        running.process.send_signal(signum)
        assert running.process.wait(30) == 0
        seconds = time.monotonic() - began

    assert len(family) > 12
    assert survivors(family) == []
    assert seconds < 5.0 + BUSY
    assert not (home / "postgres" / "data" / "postmaster.pid").exists()


def test_parts_that_take_no_hint_are_ended_by_force_in_the_same_five_seconds(home: Path) -> None:
    with box_in_a_process(home, "worker") as running:
        os.kill(running.pids["web"], signal.SIGSTOP)
        family = running.family()
        began = time.monotonic()
        running.process.terminate()
        assert running.process.wait(30) == 0
        seconds = time.monotonic() - began

    assert survivors(family) == []
    assert 3.0 < seconds < 5.0 + BUSY
    assert not (home / "postgres" / "data" / "postmaster.pid").exists()


def test_killing_the_box_leaves_no_process_and_no_obstacle(home: Path) -> None:
    with box_in_a_process(home) as running:
        family = running.family()
        running.process.kill()
        running.process.wait()

        assert len(family) > 12
        assert survivors(family, within=8.0) == []
    with Box(home, commands=programs.COMMANDS, **NOTHING) as box:
        assert query(box, "SELECT 1") == [(1,)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_needs_no_root(home: Path) -> None:
    python = _python_for_everybody()
    with service_directory() as parent:
        os.chown(parent, nobody().uid, nobody().gid)
        with box_in_a_process(parent / "data", python=[python], account=nobody()) as running:
            family = running.family()
            assert {each.uids().real for each in family} == {nobody().uid}
            assert (parent / "data").stat().st_mode & 0o777 == 0o700
            running.process.terminate()
            assert running.process.wait(30) == 0
        assert survivors(family) == []


def _python_for_everybody() -> str:
    """A Python of our version that an ordinary user may run: ours may lie in root's home."""
    for path in (Path(sys.executable), Path(f"/usr/bin/python3.{sys.version_info.minor}")):
        if path.exists() and can_enter(path.resolve(), nobody()) is None:
            return str(path)
    pytest.skip("no Python of this version that an ordinary user may run")


def test_a_damaged_secret_is_not_replaced(home: Path) -> None:
    with Box(home, commands=programs.COMMANDS, **NOTHING):
        pass
    kept = (home / "secrets.json").read_text()
    (home / "secrets.json").write_text("{")
    try:
        with pytest.raises(Misconfigured, match="cannot be read as JSON"):
            Box(home, commands=programs.COMMANDS, **NOTHING).start()
    finally:
        (home / "secrets.json").write_text(kept)
    assert json.loads(kept).keys() == {"SECRET_KEY"}


def test_a_data_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Misconfigured, match=r"file.*Set DISPATCHER_DATA_DIR"):
        Box(tmp_path / "file" / "data", commands=programs.COMMANDS).start()
