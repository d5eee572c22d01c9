"""What lies in the project, and what it may name."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOP = {
    *("dispatcher", "workers", "templates", "tests", "docs", ".ci"),
    *("docker-compose.yml", "Dockerfile", "Makefile", "pyproject.toml", "uv.lock"),
    *("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", ".dockerignore", ".gitignore"),
}
#: Paths that only exist on one machine, and hosts that only some can reach.
ELSEWHERE = re.compile(
    "|".join(
        (
            "/" + r"work/",
            "/" + r"home/\w",
            "/" + r"Users/\w",
            "/" + r"root/",
            r"\.(?:intranet|corp)\b",
            "arti" + "factory",
        )
    )
)


def project_files() -> list[Path]:
    """Every file that is, or would be, part of the project: all but what `.gitignore` names."""
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()} | {".git"}
    found: list[Path] = []
    for directory, names, files in os.walk(ROOT):
        names[:] = [name for name in names if name not in ignored]
        found += [Path(directory) / name for name in files if name not in ignored and not name.endswith(".pyc")]
    return found


def test_the_top_level_holds_what_it_should_and_nothing_else() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in project_files()} <= TOP


def test_no_file_names_a_place_outside_the_project() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in project_files()
        if path.suffix not in {".png", ".woff2", ".eml"}
        for match in ELSEWHERE.finditer(path.read_text(errors="replace"))
    ]

    assert found == []


def test_the_lock_file_points_to_the_public_index_alone() -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text()))

    assert hosts <= {"pypi.org", "files.pythonhosted.org"}


def test_files_are_short_enough_to_read() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in project_files()
        if path.suffix == ".py"
        and (lines := len(path.read_text().splitlines())) > (500 if "tests" in path.parts else 420)
    }

    assert long == {}


def test_nothing_is_left_unfinished() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|NotImplemented" + r"Error")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in project_files()
        if path.suffix in {".py", ".sql", ".html", ".mjml", ".js", ".css", ".md", ".yml"}
        for match in marks.finditer(path.read_text())
    ]

    assert found == []


def test_the_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text()

    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert len(text) > 11_000
