"""The figures as a picture: bars in one column, legible on a telephone, in a light and a dark page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from tests.benchmarks.figures import Figure, Report, readable

WIDTH = 360
MARGIN = 12
LINE = 17  #: from one bar to the next
BAR = 5
STYLE = """
text { font: 11px system-ui, sans-serif; fill: #1b1f24; }
.title { font-weight: 600; font-size: 13px; }
.group { font-weight: 600; }
.quiet { fill: #57606a; }
.paper { fill: #ffffff; }
.ours { fill: #0b62c4; }
.theirs { fill: #a3abb5; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .quiet { fill: #9aa4af; }
  .paper { fill: #0d1117; }
  .ours { fill: #58a6ff; }
  .theirs { fill: #5b6570; }
}
"""


@dataclass(frozen=True)
class Bar:
    """One value. Bars of a group share a scale."""

    label: str
    value: float
    text: str
    ours: bool = True


Group = tuple[str, Sequence[Bar]]


def svg(report: Report) -> str:
    """The whole picture."""
    parts: list[str] = []
    y = MARGIN + 12
    for title, explanation, groups in _panels(report):
        parts.append(_text(MARGIN, y, title, "title"))
        parts.append(_text(MARGIN, y + 15, explanation, "quiet"))
        y += 34
        for name, bars in groups:
            if name:
                parts.append(_text(MARGIN, y, name, "group"))
                y += 14
            largest = max(bar.value for bar in bars) or 1.0
            for bar in bars:
                parts += _bar(y, bar, largest)
                y += LINE + BAR
            y += 6
        y += 14
    height = y
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH * 2}" role="img" '
        f'aria-label="Figures of the benchmark, ours beside the rivals\'">\n<style>{STYLE}</style>\n'
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _bar(y: float, bar: Bar, largest: float) -> Iterator[str]:
    length = max(bar.value / largest * (WIDTH - 2 * MARGIN), 1.0)
    yield _text(MARGIN, y, bar.label, "" if bar.ours else "quiet")
    yield _text(WIDTH - MARGIN, y, bar.text, "" if bar.ours else "quiet", end=True)
    kind = "ours" if bar.ours else "theirs"
    yield f'<rect class="{kind}" x="{MARGIN}" y="{y + 4}" width="{length:.1f}" height="{BAR}" rx="1.5"/>'


def _text(x: float, y: float, text: str, kind: str, *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text x="{x}" y="{y}" class="{kind}"{anchor}>{escape(text)}</text>'


def _panels(report: Report) -> Iterator[tuple[str, str, list[Group]]]:
    beside = {
        "throughput": ("Mails a second", "longer is better; each size has its own scale"),
        "distance": ("Mails a second to a relay far away", "10 lanes; longer is better"),
        "processes": ("Mails a second by worker processes", "20 KB; longer is better"),
        "pushes": ("Web pushes a second", "encrypted and recorded; longer is better"),
        "overtaking": ("Breaking news during a bulk blast", "last acceptance; shorter is better"),
    }
    for part, (title, explanation) in beside.items():
        if groups := list(_beside_rivals(report.part(part))):
            yield title, explanation, groups
    if groups := list(_by_measure(report.part("readers"))):
        yield "By audience", "20 KB; shorter is better", groups
    if groups := list(_by_audience(report.part("latency"))):
        yield "From the button to the readers", "on an idle machine; shorter is better", groups


def _beside_rivals(figures: Sequence[Figure]) -> Iterator[Group]:
    """A group for each name: ours once, and every rival."""
    names = dict.fromkeys(each.name for each in figures if each.rival)
    for name in names:
        rows = [each for each in figures if each.name == name and each.rival]
        bars = [Bar("Dispatcher", rows[0].value, f"{readable(rows[0].value)} {rows[0].unit}")]
        bars += [
            Bar(each.rival, each.rivals_value, f"{readable(each.rivals_value)} {each.unit}", ours=False)
            for each in rows
            if each.rivals_value is not None
        ]
        yield name, bars


def _by_measure(figures: Sequence[Figure]) -> Iterator[Group]:
    """A group for each measure, which is what stands behind the last comma of a name, and a bar for each audience."""
    for measure in dict.fromkeys(_halves(each)[1] for each in figures):
        rows = [each for each in figures if _halves(each)[1] == measure]
        if len(rows) > 1:
            yield measure, [Bar(_halves(each)[0], each.value, f"{readable(each.value)} {each.unit}") for each in rows]


def _by_audience(figures: Sequence[Figure]) -> Iterator[Group]:
    """A group for each audience that idle lanes served, and a bar for its first, middle and last reader."""
    idle = [each for each in figures if _halves(each)[1].startswith("idle: ")]
    for audience in dict.fromkeys(_halves(each)[0] for each in idle):
        yield (
            audience,
            [
                Bar(each.name.rpartition(": ")[2], each.value, f"{readable(each.value)} {each.unit}")
                for each in idle
                if _halves(each)[0] == audience
            ],
        )


def _halves(figure: Figure) -> tuple[str, str]:
    """What stands before the last comma of a name, and what behind it."""
    before, _, behind = figure.name.rpartition(", ")
    return before, behind
