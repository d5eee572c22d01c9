"""Starts the parts of a box in order, starts again what dies, and ends everything in time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from dispatcher.embedded.process import Child, Log, Part, how_it_ended, until_ready

TICK = 0.05  #: seconds between two looks at the parts
DEATHS = 5  #: so many deaths …
WINDOW = 30.0  #: … within so many seconds end the box
#: Seconds from the wish to end until parts are killed, for the highest stage and for all together.
#: Five seconds are promised; the rest is for the killing.
FIRST_STAGE_WITHIN = 3.3
ALL_WITHIN = 4.3


@dataclass
class _Watched:
    part: Part
    child: Child | None = None
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=DEATHS))
    again_at: float | None = None  #: monotonic time of the next start, while it is down


class Supervisor:
    """Keeps parts running, from `start` to `stop`.

    One thread of its own starts every part and lives until all have ended: the kernel ends a child with the *thread*
    that started it, so neither the caller's thread nor the length of its life may matter.
    """

    def __init__(self, parts: Sequence[Part], log: Log) -> None:
        self.failure: BaseException | None = None  #: why it ended, if nobody asked for it
        self._watched = [_Watched(part) for part in sorted(parts, key=lambda part: part.stage)]
        self._log = log
        self._ending = threading.Event()
        self._settled = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start all parts, stage by stage, and return once they are ready.

        Raises what the first part that fails says; everything has ended again then.
        """
        self._thread.start()
        try:
            self._settled.wait()
        except BaseException:
            self.stop()
            raise
        if self.failure is not None:
            self.stop()
            raise self.failure

    def stop(self) -> None:
        """End all parts, within 5 s. Does nothing the second time."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything has ended, for whatever reason. False if `timeout` seconds passed first."""
        return self._ended.wait(timeout)

    def pids(self) -> dict[str, int]:
        """The process id of every part that runs, by name."""
        return {each.part.name: each.child.pid for each in self._watched if each.child is not None}

    def _run(self) -> None:
        try:
            self._bring_up()
            self._settled.set()
            while not self._ending.wait(TICK):
                for each in self._watched:
                    self._look_after(each)
        except BaseException as error:  # noqa: BLE001  (handed to the caller's thread, which raises it)
            self.failure = error
        finally:
            try:
                self._take_down()
            finally:
                self._settled.set()
                self._ended.set()

    def _bring_up(self) -> None:
        for stage in sorted({each.part.stage for each in self._watched}):
            members = [each for each in self._watched if each.part.stage == stage]
            for each in members:
                if self._ending.is_set():
                    return
                each.part.before()
                each.child = Child(each.part, self._log)
            for each in members:
                if each.child is not None:
                    until_ready(each.child, give_up=self._ending.is_set)
                    if each.part.once and not self._ending.is_set():
                        each.child.close()
                        each.child = None

    def _look_after(self, each: _Watched) -> None:
        """Start a part again that has died: at once the first time, then after ever longer waits."""
        now = time.monotonic()
        if each.child is not None:
            code = each.child.exit_code()
            if code is None:
                return
            each.deaths.append(now)
            recent = sum(1 for death in each.deaths if now - death < WINDOW)
            if recent >= DEATHS:
                raise each.child.failure(
                    f"{each.part.name} ended {DEATHS} times within {WINDOW:g} s, the last time with "
                    f"{how_it_ended(code)}."
                )
            wait = 0.1 * 2 ** (recent - 1)
            self._log("box", f"{each.part.name} has ended ({how_it_ended(code)}); it is started again")
            each.child.close()
            each.child, each.again_at = None, now + wait
        elif each.again_at is not None and now >= each.again_at:
            each.again_at = None
            self._start_again(each)

    def _start_again(self, each: _Watched) -> None:
        each.part.before()
        each.child = Child(each.part, self._log)

    def _take_down(self) -> None:
        """End the highest stage first; within a stage everything at once."""
        began = time.monotonic()
        stages = sorted({each.part.stage for each in self._watched}, reverse=True)
        for number, stage in enumerate(stages):
            members = [each for each in reversed(self._watched) if each.part.stage == stage and each.child is not None]
            _end_all(
                [each.child for each in members if each.child], began + (ALL_WITHIN if number else FIRST_STAGE_WITHIN)
            )
            for each in members:
                each.child = None


def _end_all(children: Sequence[Child], deadline: float) -> None:
    for child in children:
        child.signal(child.part.stop_signal)
    late = [child for child in children if not child.wait(deadline)]
    for child in late:
        if child.part.hurry_signal is not None:
            child.signal(child.part.hurry_signal)
            child.wait(deadline + 0.3)
    for child in children:
        child.close()
