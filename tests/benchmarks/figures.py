"""What the suite finds: each figure beside its rival's, and whether it is as good as it has to be."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any


class Aim(StrEnum):
    """What a target is set for, and in which direction."""

    RATIO_AT_LEAST = "× at least"
    RATIO_AT_MOST = "× at most"
    AT_LEAST = "at least"
    AT_MOST = "at most"
    MORE_AT_MOST = "more at most"  #: than the rival's, in the figure's own unit


_AT_LEAST = (Aim.RATIO_AT_LEAST, Aim.AT_LEAST)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One row of the table: what we need or do, in one or more runs, and the rival in the same runs."""

    part: str
    name: str
    unit: str
    ours: Sequence[float]  #: one for each run
    rival: str = ""
    theirs: Sequence[float] = field(default_factory=tuple)  #: of the same runs, in the same order
    aim: Aim | None = None
    target: float | None = None

    @property
    def value(self) -> float:
        return statistics.median(self.ours)

    @property
    def rivals_value(self) -> float | None:
        return statistics.median(self.theirs) if self.theirs else None

    @property
    def ratio(self) -> float | None:
        """Ours by theirs: the median of the runs' own ratios, for the machine is not the same from run to run."""
        if not self.theirs:
            return None
        pairs = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True) if theirs]
        return statistics.median(pairs) if pairs else None

    @property
    def measure(self) -> float | None:
        """What the target is set for."""
        if self.aim in (Aim.RATIO_AT_LEAST, Aim.RATIO_AT_MOST):
            return self.ratio
        if self.aim in (Aim.AT_LEAST, Aim.AT_MOST):
            return self.value
        if self.aim is Aim.MORE_AT_MOST and self.theirs:
            return statistics.median(ours - theirs for ours, theirs in zip(self.ours, self.theirs, strict=True))
        return None

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.target is None or self.measure is None:
            return None
        return self.measure >= self.target if self.aim in _AT_LEAST else self.measure <= self.target

    @property
    def verdict(self) -> str:
        """In words: reached, or by how much not."""
        if self.reached is None or self.measure is None or self.target is None:
            return ""
        if self.reached:
            return "reached"
        if self.aim in _AT_LEAST:
            return f"{(1 - self.measure / self.target) * 100:.0f} % short"
        return f"{(self.measure / self.target - 1) * 100:.0f} % over"

    @property
    def goal(self) -> str:
        """The target in words."""
        if self.target is None or self.aim is None:
            return ""
        if self.aim is Aim.RATIO_AT_LEAST:
            return f"≥ {self.target:g} ×"
        if self.aim is Aim.RATIO_AT_MOST:
            return f"≤ {self.target:g} ×"
        more = "+ " if self.aim is Aim.MORE_AT_MOST else ""
        return f"{'≥' if self.aim is Aim.AT_LEAST else '≤'} {more}{readable(self.target)} {self.unit}"


@dataclass(frozen=True)
class Report:
    """All figures of one or several runs of the command, part by part, and where and when they were taken."""

    figures: tuple[Figure, ...] = ()
    costs: dict[str, float] = field(default_factory=dict)  #: for the simulation, see `costs.py`
    machine: str = ""
    taken: dict[str, str] = field(default_factory=dict)  #: the day of each part

    def with_part(self, part: str, figures: Iterable[Figure], costs: dict[str, float], machine: str) -> Report:
        """The same with this part's figures instead of older ones."""
        kept = tuple(each for each in self.figures if each.part != part)
        return Report(
            (*kept, *figures),
            {**self.costs, **costs},
            machine,
            {**self.taken, part: datetime.now(UTC).date().isoformat()},
        )

    def part(self, name: str) -> list[Figure]:
        return [each for each in self.figures if each.part == name]

    def save(self, path: Path) -> None:
        """As JSON, complete or not at all."""
        whole = {
            "machine": self.machine,
            "taken": self.taken,
            "costs": self.costs,
            "figures": [
                {**asdict(each), "ratio": each.ratio, "goal": each.goal, "verdict": each.verdict}
                for each in self.figures
            ],
        }
        half = path.with_suffix(".new")
        half.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
        half.rename(path)

    @classmethod
    def load(cls, path: Path) -> Report:
        """What `save` wrote; an empty report if there is nothing."""
        if not path.exists():
            return cls()
        whole: dict[str, Any] = json.loads(path.read_text())
        figures = [
            Figure(
                **{key: value for key, value in each.items() if key not in ("ratio", "goal", "verdict", "aim")},
                aim=Aim(each["aim"]) if each["aim"] else None,
            )
            for each in whole["figures"]
        ]
        return cls(tuple(figures), whole["costs"], whole["machine"], whole["taken"])


def readable(value: float) -> str:
    """A number as people write it: no more digits than mean something."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
