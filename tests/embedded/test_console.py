"""Lines of many programs on one terminal."""

from __future__ import annotations

import io

import pytest

from dispatcher.embedded.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_each_line_stands_behind_the_name_of_who_wrote_it() -> None:
    output = io.StringIO()
    console = Console(output)

    console("web", "first")
    console("postgres", "second")

    assert output.getvalue() == "web       | first\npostgres  | second\n"


def test_a_terminal_gets_a_colour_for_each_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    output = Terminal()
    console = Console(output)

    for name in ("web", "beat", "web"):
        console(name, "line")

    first, second, third = output.getvalue().splitlines()
    assert first == third == "\x1b[36mweb       |\x1b[0m line"
    assert second.startswith("\x1b[33mbeat")


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    output = Terminal()

    Console(output)("web", "line")

    assert output.getvalue() == "web       | line\n"
