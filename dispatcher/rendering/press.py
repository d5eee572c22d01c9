"""The press: a program beside the worker that makes its letters, so that no template can take the worker along.

A letter that loops, raises, eats memory or crashes ends in a process of its own (`pressroom.py`) and comes back as a
reason. The press itself is only a helper: if it is gone, the next letter starts another.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys

import structlog

from dispatcher.embedded.process import how_it_ended
from dispatcher.errors import Unavailable
from dispatcher.model import ChannelName
from dispatcher.rendering.making import View
from dispatcher.rendering.pressroom import FRAME, LETTER
from dispatcher.rendering.wire import pack

log = structlog.get_logger()

#: Seconds for one letter with all that wait before it. A press that takes longer has come to a standstill.
PATIENCE = 60.0
#: A letter during which the press died is given to another press, so often.
TRIES = 2
USUAL = "dispatcher.rendering.making:make"


class LetterImpossible(Exception):
    """This letter cannot be made; `reason` says why, as the end of a sentence."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class PressUnavailable(Unavailable):
    """The press does not answer."""

    remedy = "The worker's log tells more; the readers wait, and their letters are tried again."


class Press:
    """One worker process's press, on one event loop. Close it."""

    def __init__(self, render: str = USUAL) -> None:
        """`render` names what makes a letter, as `module:function`; it is called as `make` is."""
        self._render = render
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listener: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._closed = False
        self._number = 0
        self._jobs: dict[int, asyncio.Future[bytes]] = {}

    @property
    def pid(self) -> int | None:
        """The process id of the program, if it runs."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Have the program run; it warms up by itself. The thread that calls this first must live as long as the press.

        Raises `PressUnavailable` if no program can be started.
        """
        async with self._starting:
            if self._process is not None:
                return
            if self._closed:
                raise PressUnavailable("The press is closed.", remedy="")
            ours, theirs = socket.socketpair()
            try:
                with theirs:
                    self._process = _spawn(theirs, self._render)
                reader, self._writer = await asyncio.open_unix_connection(sock=ours)
            except BaseException as error:
                ours.close()
                self._end()
                if isinstance(error, OSError):
                    raise PressUnavailable(f"The press cannot be started: {error}.") from error
                raise
            self._listener = asyncio.create_task(self._listen(reader))

    async def render(
        self, view: View, *, locale: str, timezone: str, channel: ChannelName = ChannelName.EMAIL
    ) -> bytes:
        """The letter or push that `make` makes of a view, as its `dumps` writes it.

        Raises `LetterImpossible` if it cannot be made within the limits, and `PressUnavailable` if there is no press:
        that says nothing about the letter.
        """
        job = pack(view, locale=locale, timezone=timezone, channel=channel)
        for _ in range(TRIES):
            await self.start()
            process, listener = self._process, self._listener
            try:
                async with asyncio.timeout(PATIENCE):
                    answer = await self._send(job)
            except TimeoutError:
                log.error("the press stands still")
                if process is not None and listener is not None:
                    process.kill()
                    await asyncio.wait([listener])
            except ConnectionError:
                continue
            else:
                if answer.startswith(LETTER):
                    return answer[1:]
                raise LetterImpossible(answer[1:].decode())
        raise PressUnavailable

    async def close(self) -> None:
        """End the program, whatever it is doing. Letters that it was making are `PressUnavailable`."""
        self._closed = True
        async with self._starting:
            if self._listener is not None:
                self._listener.cancel()
                await asyncio.wait([self._listener])
            self._end()

    async def _send(self, job: bytes) -> bytes:
        if self._writer is None:
            raise ConnectionResetError
        self._number = number = (self._number + 1) % (1 << 32)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._jobs[number] = answer
        try:
            self._writer.write(FRAME.pack(number, len(job)) + job)
            return await answer
        finally:
            self._jobs.pop(number, None)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                number, length = FRAME.unpack(await reader.readexactly(FRAME.size))
                answer = await reader.readexactly(length)
                if (waiting := self._jobs.get(number)) is not None and not waiting.done():
                    waiting.set_result(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            log.warning("the press is gone", ended=how_it_ended(self._end()))

    def _end(self) -> int:
        """Forget the program and the jobs that it has. It keeps nothing, so there is nothing to wait for.

        Returns its exit code.
        """
        code = 0
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            self._process.kill()
            code = self._process.wait()
        self._writer = self._process = self._listener = None
        for waiting in self._jobs.values():
            if not waiting.done():
                waiting.set_exception(ConnectionResetError())
        return code


def _spawn(theirs: socket.socket, render: str) -> subprocess.Popen[bytes]:
    """Start the program. Our settings stay here: what templates can reach should know no secret."""
    fd = theirs.fileno()
    return subprocess.Popen(
        [sys.executable, "-m", "dispatcher.rendering.pressroom", str(fd), str(os.getpid()), render],
        pass_fds=(fd,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")},
    )
