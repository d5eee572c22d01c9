"""The figures as a table: for a terminal, and for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.benchmarks.figures import Figure, readable

HEAD = ("what", "Dispatcher", "rival", "its figure", "ratio", "target", "verdict")
BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"
TITLES = {
    "throughput": "Throughput: two worker processes into our own sink, one into smtp-sink",
    "readers": "Cost and memory by audience, 20 KB",
    "latency": "From the button to the readers, 20 KB",
    "overtaking": "Breaking news during a bulk blast",
    "distance": "A relay that is far away, 10 lanes",
    "processes": "Worker processes, 20 KB",
    "pushes": "Web pushes: encrypted, two worker processes, a push service on the same machine",
    "following": "Following a story: the form posted while the whole installation runs",
    "pages": "The page of a story",
    "desk": "The desk, over the tables of a big newsroom",
}


def in_order(figures: Iterable[Figure]) -> list[Figure]:
    """Part by part as in `TITLES`, whatever was measured first."""
    order = {part: number for number, part in enumerate(TITLES)}
    return sorted(figures, key=lambda each: order.get(each.part, len(order)))


def cells(figure: Figure) -> tuple[str, ...]:
    """One figure's cells, in the order of `HEAD`."""
    spread = ""
    if len(figure.ours) > 1:
        spread = f" ({readable(min(figure.ours))}–{readable(max(figure.ours))})"
    return (
        figure.name,
        f"{readable(figure.value)}{spread} {figure.unit}",
        figure.rival,
        "" if figure.rivals_value is None else readable(figure.rivals_value),
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        figure.goal,
        figure.verdict,
    )


def for_terminal(figures: Iterable[Figure]) -> str:
    """In columns, part by part."""
    rows = in_order(figures)
    lines = [HEAD, *(cells(each) for each in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    shown = [_line(HEAD, widths)]
    part = ""
    for each in rows:
        if each.part != part:
            part = each.part
            shown += ["", TITLES.get(part, part)]
        shown.append(_line(cells(each), widths))
    return "\n".join(shown)


def for_documents(figures: Iterable[Figure]) -> str:
    """In Markdown, part by part."""
    shown: list[str] = []
    part = ""
    for each in in_order(figures):
        if each.part != part:
            part = each.part
            shown += ["", f"### {TITLES.get(part, part)}", "", _row(HEAD), _row(["---"] * len(HEAD))]
        row = list(cells(each))
        if each.reached is False:
            row[-1] = f"**{row[-1]}**"
        shown.append(_row(row))
    return "\n".join(shown).strip()


def filled(document: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """The document with `text` between its marks. Raises ValueError if it has none."""
    before, mark, rest = document.partition(begin)
    _, stop, after = rest.partition(end)
    if not mark or not stop:
        raise ValueError(f"the document has no place for this: {begin}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(row: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
