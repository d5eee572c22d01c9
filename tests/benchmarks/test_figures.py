"""Table, plot and verdicts say what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

import pytest

from tests.benchmarks.__main__ import run
from tests.benchmarks.figures import Aim, Figure, Report, readable
from tests.benchmarks.plan import Found, Plan
from tests.benchmarks.plot import WIDTH, svg
from tests.benchmarks.table import BEGIN, END, filled, for_documents, for_terminal

SPEED = Figure(
    part="throughput",
    name="20 KB, own sink",
    unit="mails/s",
    ours=[9000, 12000, 10000],
    rival="smtp-source",
    theirs=[10000, 10000, 10000],
    aim=Aim.RATIO_AT_LEAST,
    target=1.2,
)
MEMORY = Figure(part="readers", name="1,000 readers, memory", unit="MB", ours=[81.4], aim=Aim.AT_MOST, target=120)
LATER = Figure(
    part="overtaking",
    name="1,000 readers: last",
    unit="ms",
    ours=[900, 1400, 1000],
    rival="idle",
    theirs=[200, 300, 250],
    aim=Aim.MORE_AT_MOST,
    target=1000,
)
MORE_MEMORY = replace(MEMORY, name="10,000 readers, memory", ours=[82.0])
FIRST = Figure(part="latency", name="1,000 readers, idle: first", unit="ms", ours=[80.0, 90.0, 85.0])
REPORT = Report(figures=(SPEED, MEMORY, MORE_MEMORY, LATER, FIRST), machine="a machine")


def test_a_ratio_is_the_median_of_the_pairs_and_a_target_is_missed_by_so_much() -> None:
    assert SPEED.ratio == 1.0
    assert (SPEED.reached, SPEED.verdict, SPEED.goal) == (False, "17 % short", "≥ 1.2 ×")
    assert (MEMORY.reached, MEMORY.verdict, MEMORY.goal) == (True, "reached", "≤ 120 MB")
    assert (LATER.measure, LATER.reached, LATER.goal) == (750, True, "≤ + 1,000 ms")


def test_a_figure_that_is_too_large_is_over_its_target() -> None:
    slow = Figure(part="latency", name="last", unit="ms", ours=[750], aim=Aim.AT_MOST, target=500)

    assert (slow.reached, slow.verdict) == (False, "50 % over")


def test_the_table_shows_every_figure_beside_its_rivals() -> None:
    shown = for_terminal(REPORT.figures)

    assert "10,000 (9,000–12,000) mails/s  smtp-source  10,000" in shown
    assert "17 % short" in shown
    assert max(map(len, shown.splitlines())) < 200


def test_the_table_of_the_documents_is_put_between_its_marks_and_nowhere_else() -> None:
    before = f"# Speed\n\n{BEGIN}\nold\n{END}\nthe end\n"

    after = filled(before, for_documents(REPORT.figures))

    assert after.startswith("# Speed\n")
    assert after.endswith("the end\n")
    assert "old" not in after
    assert "| **17 % short** |" in after
    assert filled(after, for_documents(REPORT.figures)) == after
    with pytest.raises(ValueError, match="no place"):
        filled("nothing", "text")


def test_the_plot_is_well_formed_and_fits_a_telephone() -> None:
    picture = svg(REPORT)
    root = ElementTree.fromstring(picture)
    texts = [each for each in root.iter() if each.tag.endswith("}text")]
    bars = [each for each in root.iter() if each.tag.endswith("}rect") and each.get("rx")]

    assert "prefers-color-scheme: dark" in picture
    assert all(float(bar.get("x", "0")) + float(bar.get("width", "0")) <= WIDTH for bar in bars)
    assert {"Dispatcher", "smtp-source", "20 KB, own sink", "10,000 readers", "first"} <= {each.text for each in texts}
    assert len(bars) == 2 + 2 + 2 + 1
    # At eleven pixels a letter is six wide at most: what stands left and right on a line must not meet.
    lines: dict[str, list[str]] = {}
    for each in texts:
        lines.setdefault(cast("str", each.get("y")), []).append(each.text or "")
    assert all(sum(map(len, line)) * 6 < WIDTH - 24 for line in lines.values())


def test_a_report_survives_being_saved(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    report = REPORT.with_part("readers", [MEMORY], {"worker_us": 70.0}, "this machine")
    report.save(path)

    again = Report.load(path)

    assert for_terminal(again.figures) == for_terminal(report.figures)
    assert (again.costs, again.machine, again.taken) == (report.costs, report.machine, report.taken)
    assert Report.load(tmp_path / "nothing.json").figures == ()


def test_a_part_that_is_measured_again_replaces_its_figures_and_a_failure_costs_no_other(tmp_path: Path) -> None:
    def fails(plan: Plan) -> Found:
        raise RuntimeError("no relay")

    plan = Plan(quick=True, runs=1)
    measured: dict[str, Callable[[Plan], Found]] = {"throughput": lambda plan: Found([SPEED])}

    run(plan, measured, tmp_path)
    report, failed = run(plan, {"latency": fails, **measured}, tmp_path)

    assert failed == ["latency"]
    assert report.figures == (SPEED,)
    assert (tmp_path / "performance.svg").exists()


def test_numbers_have_no_more_digits_than_they_deserve() -> None:
    assert [readable(value) for value in (0.0, 1.234, 12.34, 123.4, 12345.6)] == ["0", "1.23", "12.3", "123", "12,346"]
