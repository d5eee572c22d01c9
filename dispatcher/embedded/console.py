"""Lines of many programs on one terminal: each behind the name of the program that wrote it."""

from __future__ import annotations

import os
import sys
import threading
from typing import TextIO

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95)  # ANSI: cyan, yellow, magenta, green, blue, and bright ones


class Console:
    """Writes prefixed lines; in colour on a terminal, unless NO_COLOR is set (see no-color.org)."""

    def __init__(self, stream: TextIO | None = None, *, width: int = 9) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._width = width
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}
        self._colour = self._stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def __call__(self, name: str, line: str) -> None:
        """Write one line of the part `name`."""
        with self._lock:
            colour = _COLOURS[self._seen.setdefault(name, len(self._seen)) % len(_COLOURS)]
            label = f"{name:<{self._width}} |"
            text = f"\x1b[{colour}m{label}\x1b[0m {line}" if self._colour else f"{label} {line}"
            self._stream.write(text + "\n")
            self._stream.flush()
