"""Child processes that never outlive us, and whose output we read line by line."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from dispatcher.errors import Unavailable

PR_SET_PDEATHSIG = 1
MAX_LINE = 16_384
UNKNOWN = 255
TICK = 0.01  #: seconds between two looks at a child that we wait for
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")

#: Loaded before any fork: between fork and exec nothing may be imported, and PyDLL keeps the interpreter's lock.
_libc = ctypes.PyDLL(None) if sys.platform == "linux" else None

Log = Callable[[str, str], None]  #: takes the name of a part and one line that it wrote


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group that a program runs as."""

    uid: int
    gid: int


def die_with_parent(parent: int | None = None, signum: int = signal.SIGKILL) -> None:
    """Have the kernel send `signum` to this process as soon as its parent ends, however that ends.

    `parent` is the process id that the parent is known to have: if it is gone already, this process ends here and now.
    Without it only a parent that ends during the call is noticed. The promise is bound to the parent's *thread* that
    started this process, and is lost when this process changes its user: call it after that. Linux only; elsewhere
    the call does nothing.
    """
    expected = os.getppid() if parent is None else parent
    if _libc is None:
        return
    _libc.prctl(PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
    if os.getppid() != expected:
        os.kill(os.getpid(), signal.SIGKILL)


def _always(_: Child) -> bool:
    return True


def _nothing() -> None:
    return


def silent(_name: str, _line: str) -> None:
    """The log of those who want none."""


def _everything(_: str) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Part:
    """One program of a box: how it is started, when it counts as up, and how it is ended."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)  #: the whole environment, nothing is added
    stage: int = 0  #: parts of a lower stage are up before this one starts, and end after it
    once: bool = False  #: runs to its end, which must be exit code 0, before the next stage starts
    cwd: Path | None = None
    account: Account | None = None  #: None: as ourselves
    pass_fds: tuple[int, ...] = ()
    before: Callable[[], None] = _nothing  #: called before every start, the first and each restart
    ready: Callable[[Child], bool] = _always
    ready_within: float = 60.0  #: seconds
    stop_signal: int = signal.SIGTERM
    hurry_signal: int | None = None  #: sent before SIGKILL to a part that did not end in time
    death_signal: int = signal.SIGKILL  #: what the kernel sends if we are killed ourselves
    shows: Callable[[str], bool] = _everything  #: which of its lines people see; the others only explain failures
    explains: Callable[[Sequence[str]], Exception | None] = lambda _: None  #: a better error for these last lines


class Child:
    """A running program, in a session of its own, so that its whole process group can be ended by its id."""

    def __init__(self, part: Part, log: Log) -> None:
        self.part = part
        self.log = log
        self.tail: deque[str] = deque(maxlen=40)
        self._lines = 0
        leash = _Leash(part.death_signal)
        account = part.account
        try:
            self._popen = subprocess.Popen(
                list(part.argv),
                env=dict(part.env),
                cwd=part.cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
                pass_fds=part.pass_fds,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                preexec_fn=leash,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(f"{part.name} cannot be started: {error}.") from error
        self.pid = self._popen.pid
        self._code: int | None = None
        self._reader = threading.Thread(target=self._read, name=f"{part.name} output", daemon=True)
        self._reader.start()

    @property
    def spoke(self) -> bool:
        """Whether it has written at least one line."""
        return self._lines > 0

    def exit_code(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs.

        The process is not reaped here: until `close` its id stays taken, and so does that of its process group.
        """
        if self._code is None:
            try:
                found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:  # somebody else in this program has reaped it, and knows its code
                self._code = UNKNOWN
                return self._code
            if found is not None:
                self._code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        return self._code

    def signal(self, signum: int) -> None:
        """Send a signal to the program, if it still runs."""
        if self.exit_code() is None:
            os.kill(self.pid, signum)

    def wait(self, deadline: float) -> bool:
        """Wait for its end, at most until the monotonic time `deadline`. True if it has ended."""
        while self.exit_code() is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(TICK)
        return True

    def close(self) -> None:
        """End what is left of its process group with SIGKILL, and reap it. Does nothing the second time."""
        if self._popen.returncode is not None:
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        except PermissionError:  # macOS answers so when only a zombie is left in the group
            if self.exit_code() is None:
                raise
        self._popen.wait()
        if self._code is None:
            self._code = self._popen.returncode
        self._reader.join(1.0)

    def failure(self, message: str) -> Exception:
        """An error that ends with the program's last lines; or the one that the part itself makes of them."""
        self._reader.join(0.2)
        lines = list(self.tail)
        last = "\n".join(f"    {line}" for line in lines[-12:])
        return self.part.explains(lines) or Unavailable(
            message, remedy=f"Its last lines were:\n{last}" if last else "It wrote nothing."
        )

    def _read(self) -> None:
        with cast("IO[bytes]", self._popen.stdout) as output:
            rest = b""
            while chunk := os.read(output.fileno(), 65_536):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_LINE:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._take(line)
            if rest:
                self._take(rest)

    def _take(self, raw: bytes) -> None:
        line = _UNPRINTABLE.sub("", raw[:MAX_LINE].decode("utf-8", "replace")).rstrip()
        self.tail.append(line)
        self._lines += 1
        if self.part.shows(line):
            self.log(self.part.name, line)


def bring_up(part: Part, log: Log, *, give_up: Callable[[], bool] = lambda: False) -> Child:
    """Start a part and wait until it is ready, or for its end if it runs once.

    Raises what the part's last lines mean, or `Unavailable` with these lines, if it ends early or takes too long.
    Returns early, with the child as it is, as soon as `give_up` says so.
    """
    part.before()
    child = Child(part, log)
    try:
        until_ready(child, give_up=give_up)
    except BaseException:
        child.close()
        raise
    return child


def until_ready(child: Child, *, give_up: Callable[[], bool] = lambda: False) -> None:
    """Wait as `bring_up` does, for a child that was started before."""
    part = child.part
    deadline = time.monotonic() + part.ready_within
    while not give_up():
        code = child.exit_code()
        if code is not None and part.once and code == 0:
            return
        if code is not None:
            raise child.failure(f"{part.name} ended at once ({how_it_ended(code)}).")
        if not part.once and part.ready(child):
            return
        if time.monotonic() > deadline:
            raise child.failure(f"{part.name} was not ready within {part.ready_within:g} s.")
        time.sleep(TICK)


def end(child: Child, within: float) -> None:
    """End a child as its part wishes, at most `within` seconds, after that by force. Nothing of it is left."""
    deadline = time.monotonic() + within
    child.signal(child.part.stop_signal)
    if not child.wait(deadline) and child.part.hurry_signal is not None:
        child.signal(child.part.hurry_signal)
        child.wait(time.monotonic() + 0.3)
    child.close()


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class _Leash:
    """Runs in the child between fork and exec, after its user has changed."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        self.parent = os.getpid()

    def __call__(self) -> None:
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, int(self.signum), 0, 0, 0)
            if os.getppid() != self.parent:
                os._exit(1)
