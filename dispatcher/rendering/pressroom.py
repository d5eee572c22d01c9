"""`python -m dispatcher.rendering.pressroom FD PARENT MODULE:FUNCTION`: the program that makes a worker's letters.

It has one thread and everything imported and compiled beforehand, so it can fork: each letter is made in a process of
its own, under limits of the kernel that no template can argue with. This process renders nothing that it has not seen
end well in such a process.

Frames on the socket: two 4-byte numbers, the job's and the length; then a job's JSON, or `L` and a letter's bytes, or
`F` and the reason why there is none.
"""

from __future__ import annotations

import gc
import os
import re
import resource
import select
import selectors
import signal
import socket
import struct
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Never

from jinja2 import TemplateSyntaxError

from dispatcher.config import LANGUAGES
from dispatcher.embedded.process import die_with_parent
from dispatcher.errors import DispatcherError
from dispatcher.model import ChannelName
from dispatcher.rendering.making import Made
from dispatcher.rendering.samples import sample_notices, sample_views
from dispatcher.rendering.wire import pack, unpack

#: Seconds of processor time for one letter. A usual one takes 0.01, the worst that fits into an update 1.6.
CPU = 2
#: Seconds by the clock, for a template that waits for something.
PATIENCE = 5.0
#: MiB that making a letter may take beyond what this process has. A usual one takes 4, the largest 30.
MEMORY = 256
#: Octets of a letter, in both of its forms.
MAX_LETTER = 1 << 20
#: Letters that are made at the same time.
AT_ONCE = 2

FRAME = struct.Struct(">II")
LETTER, FAILURE = b"L", b"F"
#: Exit codes of a process that could not even say what was wrong.
OUT_OF_MEMORY, LOST = 75, 70
#: Characters of a reason: an editor reads it in a table.
_MAX_REASON = 300
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

Render = Callable[..., Made]


def main(fd: str, parent: str, function: str) -> None:
    """Make letters until the other end of the socket is closed."""
    # A signal to the whole group ends the worker when its messages are through. The press ends with it, not before.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    die_with_parent(int(parent))
    module, _, name = function.partition(":")
    render: Render = getattr(import_module(module), name)
    sample = warm_up(render)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(fd)) as worker:
        Room(worker, render, sample).serve()


def warm_up(render: Render) -> bytes:
    """Make letters for nobody, so that templates are compiled and caches filled when the first job comes.

    Returns one of these jobs, for others to warm up with. What does not end well in a process of its own is not tried
    in this one, nor are those after it, and the answer may be empty: each job then finds its own reason.
    """
    done = b""
    for sample in _samples():
        trial = Printer(render)
        trial.give(0, sample)
        while not trial.step():
            select.select([trial], [], [], trial.seconds_left)
        trial.close()
        if not trial.answer.startswith(LETTER):
            break
        _make(sample, render)
        done = done or sample
    return done


def _samples() -> Iterator[bytes]:
    """A job of every sort, in every language."""
    update = sample_views()[0]
    for language in LANGUAGES:
        yield pack(update, locale=language, timezone="UTC")
        yield pack(update, locale=language, timezone="UTC", channel=ChannelName.WEBPUSH)
        for notice in sample_notices():
            yield pack(notice, locale=language, timezone="UTC")


class Room:
    """Jobs as they come, a few at a time."""

    def __init__(self, worker: socket.socket, render: Render, sample: bytes) -> None:
        self._worker = worker
        self._render = render
        self._sample = sample
        self._queue: deque[tuple[int, bytes]] = deque()
        self._busy: list[Printer] = []
        self._spare: Printer | None = None

    def serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._worker, selectors.EVENT_READ)
            while True:
                if self._spare is None and not self._busy:
                    self._spare = Printer(self._render, worker=self._worker, sample=self._sample)
                patience = min((printer.seconds_left for printer in self._busy), default=None)
                ready = {key.fileobj for key, _ in selector.select(patience)}
                if self._worker in ready and not self._take():
                    return
                for printer in [each for each in self._busy if each.step()]:
                    self._busy.remove(printer)
                    selector.unregister(printer)
                    self._worker.sendall(FRAME.pack(printer.number, len(printer.answer)) + printer.answer)
                    printer.close()
                while self._queue and len(self._busy) < AT_ONCE:
                    printer = self._next()
                    self._busy.append(printer)
                    selector.register(printer, selectors.EVENT_READ)
                    printer.give(*self._queue.popleft())

    def _next(self) -> Printer:
        spare, self._spare = self._spare, None
        return spare or Printer(self._render, worker=self._worker)

    def _take(self) -> bool:
        """Read one job. False if there will be no more."""
        head = self._worker.recv(FRAME.size, socket.MSG_WAITALL)
        if len(head) < FRAME.size:
            return False
        number, length = map(int, FRAME.unpack(head))
        data = self._worker.recv(length, socket.MSG_WAITALL)
        self._queue.append((number, data))
        return len(data) == length


class Printer:
    """A process that makes one letter, and is gone."""

    def __init__(self, render: Render, *, worker: socket.socket | None = None, sample: bytes = b"") -> None:
        """Start it. `worker` is what it must not inherit. With a `sample` it makes that for nobody first.

        Whoever waits for a job has then its own copy of the memory that a letter writes to: that takes half the time.
        """
        self.number = 0
        self.answer = b""
        self._read = bytearray()
        self._deadline = time.monotonic() + PATIENCE
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(PATIENCE)
        press = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _print(theirs, render, press, worker, sample)
        theirs.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def give(self, number: int, data: bytes) -> None:
        """Its job. Once only."""
        self.number = number
        self._deadline = time.monotonic() + PATIENCE
        with suppress(OSError):  # if it is gone or stuck, `step` says why
            self._socket.sendall(data)
            self._socket.shutdown(socket.SHUT_WR)
        self._socket.setblocking(False)

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def step(self) -> bool:
        """Read what has come, without waiting. True once `answer` is there; what is left then is to `close`."""
        try:
            while chunk := self._socket.recv(1 << 16):
                self._read += chunk
                if len(self._read) >= 4:
                    length = int.from_bytes(self._read[:4])
                    if length > MAX_LETTER:
                        return self._fail(f"it is larger than {MAX_LETTER >> 20} MB")
                    if len(self._read) >= length + 4:
                        self.answer = bytes(self._read[4 : length + 4])
                        return True
        except BlockingIOError:
            return not self.seconds_left and self._fail(f"it took more than {PATIENCE:g} seconds")
        except ConnectionError:
            pass
        return self._fail("")

    def close(self) -> None:
        """Have nothing left of the process."""
        if self._pid:
            self._end()
        self._socket.close()

    def _fail(self, reason: str) -> bool:
        self.answer = FAILURE + (reason or self._end()).encode()
        return True

    def _end(self) -> str:
        """Kill and reap it, and say how it ended; one that was ending by itself keeps its own exit code."""
        os.kill(self._pid, signal.SIGKILL)
        _, status, used = os.wait4(self._pid, 0)
        self._pid = 0
        return _reason(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime)


def _reason(code: int, seconds: float) -> str:
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and seconds > CPU):
        return f"it took more than {CPU} seconds of processor time"
    if code == OUT_OF_MEMORY:
        return f"it needed more than {MEMORY} MB of memory"
    return f"it crashed (signal {-code})" if code < 0 else f"it ended without a letter (exit code {code})"


def _print(ours: socket.socket, render: Render, press: int, worker: socket.socket | None, sample: bytes) -> Never:
    """Make the letter and end. Nothing may leave here in any other way: two presses would answer one worker."""
    code = LOST
    try:
        die_with_parent(press)
        if worker is not None:
            worker.close()
        _be_modest()
        if sample:
            with suppress(Exception):  # the templates may have changed: the job itself will tell what is wrong
                _make(sample, render)
        try:
            answer = LETTER + _make(_read_all(ours), render)
        except MemoryError:
            raise
        except BaseException as error:  # noqa: BLE001  # Rust's panics and SystemExit are reasons like any other
            answer = FAILURE + explain(error).encode(errors="replace")
        # The socket stays open: its end means that of the process, however that comes.
        ours.sendall(len(answer).to_bytes(4) + answer)
        code = 0
    except MemoryError:
        code = OUT_OF_MEMORY
    finally:
        os._exit(code)


def _read_all(source: socket.socket) -> bytes:
    data = bytearray()
    while chunk := source.recv(1 << 16):
        data += chunk
    return bytes(data)


def _make(data: bytes, render: Render) -> bytes:
    job = unpack(data)
    return render(job.view, locale=job.locale, timezone=job.timezone, channel=job.channel).dumps()


def _be_modest() -> None:
    """Set the limits, and leave the worker's standard streams alone."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU + 1))
    statm = Path("/proc/self/statm")
    if statm.exists():  # elsewhere than on Linux the kernel does not keep to the limit either
        most = int(statm.read_text().split()[0]) * resource.getpagesize() + (MEMORY << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def explain(error: BaseException) -> str:
    """Why there is no letter, in one line that an editor can read, with the template and line if one is to blame."""
    if isinstance(error, DispatcherError):
        said = error.message.rstrip(".")
    else:
        said = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
    said = _UNPRINTABLE.sub(" ", said)
    place = _place(error)
    return (said if len(said) <= _MAX_REASON else f"{said[:_MAX_REASON]}…") + (f" ({place})" if place else "")


def _place(error: BaseException) -> str:
    """`update/body.txt, line 3`; for what is no template's fault, the file of ours that was called last."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, TemplateSyntaxError):
        frames.append((error.filename or "", error.lineno))
    for file, line in reversed(frames):
        if found := _TEMPLATE.fullmatch(file):
            return f"{found[1]}, line {line}"
    ours = [(file, line) for file, line in frames if file.startswith(_PACKAGE) and file != __file__]
    return f"{Path(ours[-1][0]).name}, line {ours[-1][1]}" if ours else ""


#: A template by the name that an editor knows: a mail's without `email/`.
_TEMPLATE = re.compile(r".*templates/(?:email/(?=.)|(?=push/))(.+)", re.DOTALL)
_PACKAGE = str(Path(__file__).parent.parent)


if __name__ == "__main__":
    main(*sys.argv[1:])
