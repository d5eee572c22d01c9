"""Everything on one machine: the database, the broker, the mail catcher and Dispatcher's own programs.

    with Box(data_dir) as box:      # starts everything, and returns once the pages answer
        box.wait()                  # until Ctrl-C, SIGTERM, or a part that cannot be kept running

What is set in the environment (DISPATCHER_DATABASE_URL, _BROKER_URL, _SMTP_URL, _PUBLIC_URL, _SECRET_KEY) is used as
it is, and the part that it replaces is not started.

    data_dir/
      box.lock box.json     held, and written, while the box runs: how other commands find it
      secrets.json          made at the first start
      postgres/ valkey/ mail/
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Self

from dispatcher import config
from dispatcher.embedded import parts, places, ports
from dispatcher.embedded.console import Console
from dispatcher.embedded.postgres import Postgres
from dispatcher.embedded.process import Log, Part
from dispatcher.embedded.supervisor import Supervisor
from dispatcher.embedded.valkey import Valkey
from dispatcher.errors import Conflict, Misconfigured

OURS = ("postgres", "valkey", "mail", "secrets.json", "box.json", "beat-schedule")


class Box:
    """One installation on one machine.

    `data_dir`: where it keeps everything; it is made if it is missing. `port`: of the pages; None takes 8080 or the
    next free one. `workers`: how many worker programs, each with `concurrency` processes (None: one a processor).
    `urgent`, `beat`, `web`: whether these programs run. `extra_env`: environment for Dispatcher's programs, on top of
    ours. `wipe`: start from nothing. `log`: takes (part, line); the default writes to standard error. `commands`:
    other programs than Dispatcher's own, by name, see `parts.COMMANDS`. `env`: instead of this process's environment.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        web: bool = True,
        workers: int = 1,
        urgent: bool = True,
        beat: bool = True,
        concurrency: int | None = None,
        extra_env: Mapping[str, str] | None = None,
        wipe: bool = False,
        log: Log | None = None,
        commands: Mapping[str, Sequence[str]] = parts.COMMANDS,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir.expanduser().absolute()
        self.settings: dict[str, str] = {}  #: by short name (DATABASE_URL …); known once `start` has returned
        self.port = 0  #: of the pages, likewise
        self._wanted_port = port
        self._team = parts.Team(web=web, workers=workers, urgent=urgent, beat=beat, concurrency=concurrency)
        self._extra_env = dict(extra_env or {})
        self._wipe = wipe
        self._log = Console() if log is None else log
        self._commands = commands
        self._env = dict(os.environ if env is None else env)
        self._lock = places.Lock(self.data_dir / "box.lock")
        self._held = ExitStack()
        self._supervisor: Supervisor | None = None

    @property
    def url(self) -> str:
        """Where the pages are."""
        return self.settings["PUBLIC_URL"]

    @property
    def inbox_dir(self) -> Path | None:
        """The Maildir of the catcher; None where mail goes to a relay."""
        return Path(self.settings["INBOX_DIR"]) if "INBOX_DIR" in self.settings else None

    @property
    def env(self) -> dict[str, str]:
        """The environment of Dispatcher's programs in this box."""
        return {
            **self._env,
            **config.as_env({**self.settings, "DATA_DIR": str(self.data_dir)}),
            "PYTHONUNBUFFERED": "1",
            **self._extra_env,
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything, and return once it is ready.

        From here to `stop`, SIGTERM and SIGHUP end this program as Ctrl-C does, by an exception in its main thread, so
        that nothing is left half ended.

        Raises `Conflict` if a box runs here already or the port is taken, `Misconfigured` if the directory or a
        setting cannot be used, `Unavailable` if there is no room on the disk or a part does not come up. Nothing is
        left running then.
        """
        try:
            self._held.enter_context(_signals_raise())
            self._take_directory()
            self._supervisor = Supervisor(self._plan(), self._log)
            self._supervisor.start()
            self._publish()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything, within 5 s. Does nothing the second time."""
        with _deaf():
            if self._supervisor is not None:
                self._supervisor.stop()
            self._held.close()

    def wait(self) -> None:
        """Wait until somebody ends the box with Ctrl-C, SIGTERM or SIGHUP.

        Raises `Unavailable`, with its last lines, if a part cannot be kept running; everything has ended then.
        """
        try:
            if self._supervisor is not None:
                self._supervisor.wait()
        except ENDINGS:
            return
        self.check()

    def check(self) -> None:
        """Raise what `wait` would raise, if it has come to that."""
        if self._supervisor is not None and self._supervisor.failure is not None:
            raise self._supervisor.failure

    def pids(self) -> dict[str, int]:
        """The process ids of the parts that run, by name."""
        return self._supervisor.pids() if self._supervisor is not None else {}

    def _take_directory(self) -> None:
        places.make_ours(self.data_dir, "box.lock")
        with places.explained(self.data_dir):
            self._lock.acquire(self._conflict)
            self._held.callback(self._lock.release)
            self._lock.write(str(os.getpid()))
            (self.data_dir / "box.json").unlink(missing_ok=True)
            if self._wipe:
                self._wipe_all()

    def _conflict(self) -> Conflict:
        found = config.running_box(self.data_dir)
        pid = found.get("PID") or (self.data_dir / "box.lock").read_text().strip()
        where = f", {found['PUBLIC_URL']}" if "PUBLIC_URL" in found else ", still starting"
        return Conflict(
            f"A box is already running in {self.data_dir} (process {pid}{where}).",
            remedy=f"Use that one, end it with `kill {pid}`, or set DISPATCHER_DATA_DIR to another directory.",
        )

    def _wipe_all(self) -> None:
        for name in OURS:
            path = self.data_dir / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _plan(self) -> list[Part]:
        """Settle every setting, and say what has to run for it."""
        given = _given(self._env)
        claim = ports.claim(self._wanted_port)
        self._held.callback(claim.release)
        self.port = claim.port
        self.settings = {
            "PUBLIC_URL": f"http://localhost:{claim.port}",
            # Where no mail can leave, cookies over plain HTTP and the like are fine.
            "ENV": "production" if "SMTP_URL" in given else "development",
            **given,
        }
        services = [
            *([] if "DATABASE_URL" in given else self._database()),
            *([] if "BROKER_URL" in given else self._broker()),
            *([] if "SMTP_URL" in given else self._catcher()),
        ]
        if "SECRET_KEY" not in given:
            self.settings["SECRET_KEY"] = self._secret()
        config.load(self.env)  # a wrong setting is told here, once, and not by every program
        return [*services, *parts.programs(self._team, self.port, self.env, self._commands)]

    def _database(self) -> list[Part]:
        server = Postgres(self.data_dir / "postgres")
        if not server.data.exists():
            self._log("box", f"Making a database in {server.directory}")
        server.prepare()
        self._held.callback(server.release)
        self.settings["DATABASE_URL"] = server.url
        return [server.part()]

    def _broker(self) -> list[Part]:
        server = Valkey(self.data_dir / "valkey")
        server.prepare()
        self._held.callback(server.release)
        self.settings["BROKER_URL"] = server.url
        return [server.part()]

    def _catcher(self) -> list[Part]:
        listener = self._held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        maildir = self.data_dir / "mail" / "Maildir"
        places.make_private(maildir.parent)
        self.settings["SMTP_URL"] = f"smtp://127.0.0.1:{listener.getsockname()[1]}"
        self.settings["INBOX_DIR"] = str(maildir)
        return [parts.catcher(listener, maildir, self._env)]

    def _secret(self) -> str:
        path = self.data_dir / "secrets.json"
        with places.explained(self.data_dir):
            try:
                return str(json.loads(path.read_text())["SECRET_KEY"])
            except FileNotFoundError:
                key = secrets.token_urlsafe(48)
                places.write_private(path, json.dumps({"SECRET_KEY": key}) + "\n")
                return key
            except (ValueError, KeyError, TypeError) as error:
                raise Misconfigured(
                    f"{path} cannot be read as JSON with a SECRET_KEY.",
                    remedy="Restore it from a backup; without it the links in mails sent so far no longer work.",
                    field="SECRET_KEY",
                ) from error

    def _publish(self) -> None:
        """Tell other commands where everything is, now that it is there."""
        path = self.data_dir / "box.json"
        self._held.callback(path.unlink, missing_ok=True)
        places.write_private(path, json.dumps({**self.settings, "PID": str(os.getpid())}, indent=2) + "\n")


class Ended(SystemExit):
    """SIGTERM or SIGHUP, as an exception in the main thread."""


#: What a box is ended by: for those who do something between `start` and `wait`.
ENDINGS = (KeyboardInterrupt, Ended)


def _given(env: Mapping[str, str]) -> dict[str, str]:
    """Settings from the environment, by short name."""
    found = {
        key.removeprefix(config.PREFIX): value.strip() for key, value in env.items() if key.startswith(config.PREFIX)
    }
    return {key: value for key, value in found.items() if value and key != "DATA_DIR"}


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `Ended`, unless the program has other plans for them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for each in taken:
        signal.signal(each, _raise_ended)
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # some launchers leave it so, and then no exit code is ever known
    try:
        yield
    finally:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)


def _raise_ended(signum: int, _: FrameType | None) -> None:
    raise Ended(128 + signum)


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore further wishes to end while ending: it takes 5 s at most, and half of it would leave processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for each in before:
        signal.signal(each, lambda *_: None)
    try:
        yield
    finally:
        for each, handler in before.items():
            # What `_signals_raise` has given back meanwhile stays given back.
            if handler is not None and handler is not _raise_ended:
                signal.signal(each, handler)
