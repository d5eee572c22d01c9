"""How much is measured: quick or whole, how often, and telling people how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.benchmarks.figures import Figure


@dataclass
class Found:
    """What one part of the suite has found."""

    figures: list[Figure] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What was asked for."""

    quick: bool = False
    runs: int = 3
    began: float = field(default_factory=time.monotonic)

    def pick(self, whole: int, quick: int) -> int:
        return quick if self.quick else whole

    def each_run(self) -> Iterator[int]:
        """Counts the runs, from 1."""
        yield from range(1, self.runs + 1)

    def note(self, text: str) -> None:
        """Tell on standard error what is measured now; the table has standard output to itself."""
        print(f"{time.monotonic() - self.began:6.0f} s  {text}", file=sys.stderr, flush=True)
