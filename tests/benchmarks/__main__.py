"""Every figure of the documentation again, each beside its rival in the same run.

    make bench                                       about twenty-five minutes
    make bench ARGS="--quick"                        five minutes, for a first look
    make bench ARGS="--only throughput,latency"      the other figures stay as they were measured before
    make bench ARGS="--write-docs"                   puts the table into docs/performance.md as well

The table goes to standard output, progress to standard error; docs/performance.svg and docs/performance.json are
written after every part, so a run that is interrupted can be completed with --only. A quick run writes them to a
temporary directory instead.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.benchmarks.audiences import readers
from tests.benchmarks.desk import desk
from tests.benchmarks.distance import distance
from tests.benchmarks.figures import Report
from tests.benchmarks.following import following
from tests.benchmarks.latency import latency, overtaking
from tests.benchmarks.pages import pages
from tests.benchmarks.plan import Found, Plan
from tests.benchmarks.plot import svg
from tests.benchmarks.programs import ROOT, found
from tests.benchmarks.pushing import pushes
from tests.benchmarks.table import filled, for_documents, for_terminal
from tests.benchmarks.throughput import processes, throughput

PARTS: dict[str, Callable[[Plan], Found]] = {
    "throughput": throughput,
    "readers": readers,
    "latency": latency,
    "overtaking": overtaking,
    "distance": distance,
    "processes": processes,
    "pushes": pushes,
    "following": following,
    "pages": pages,
    "desk": desk,
}
DOCUMENT = ROOT / "docs" / "performance.md"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few messages, one run, no audience of a million")
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--runs", type=int, help="runs of each figure (3, or 1 with --quick)")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--out", type=Path, help="where the plot and the JSON go (docs)")
    arguments = parser.parse_args()
    plan = Plan(quick=arguments.quick, runs=arguments.runs or (1 if arguments.quick else 3))
    out = arguments.out or (Path(tempfile.gettempdir()) / "dispatcher-bench" if plan.quick else DOCUMENT.parent)
    out.mkdir(parents=True, exist_ok=True)
    if not (found("smtp-source") and found("smtp-sink")):
        plan.note("smtp-source and smtp-sink are not here, so their rows are missing: apt-get install postfix")
    report, failed = run(plan, {name: PARTS[name] for name in arguments.only}, out)
    print(for_terminal(report.figures))
    if arguments.write_docs:
        DOCUMENT.write_text(filled(DOCUMENT.read_text(), _for_the_document(report)))
    plan.note(f"written: {out / 'performance.svg'}, {out / 'performance.json'}")
    return 1 if failed else 0


def run(plan: Plan, parts: Mapping[str, Callable[[Plan], Found]], out: Path) -> tuple[Report, list[str]]:
    """Measure these parts, writing plot and JSON after each. Returns the report, and which parts failed."""
    kept = out / "performance.json"
    report, failed = Report.load(kept), []
    for name, measure in parts.items():
        plan.note(f"— {name}")
        try:
            result = measure(plan)
        except Exception:  # noqa: BLE001  # one part that fails does not cost the others, which take their time
            plan.note(f"{name} failed:\n{traceback.format_exc()}")
            failed.append(name)
            continue
        report = report.with_part(name, result.figures, result.costs, machine())
        report.save(kept)
        (out / "performance.svg").write_text(svg(report))
    return report, failed


def machine() -> str:
    """What the figures were taken on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} processors, {memory:.0f} GB, {platform.system()}, Python {platform.python_version()}"


def _for_the_document(report: Report) -> str:
    days = sorted(set(report.taken.values()))
    return f"{report.machine}; {' to '.join(days[:: max(len(days) - 1, 1)])}.\n\n{for_documents(report.figures)}"


def _parts(text: str) -> list[str]:
    names = [each.strip() for each in text.split(",")]
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there is only {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
