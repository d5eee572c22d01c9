"""The catalogues say everything that templates and code say, and nothing else; and what checks that notices."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

from dispatcher.config import LANGUAGES
from dispatcher.rendering.catalogues import SOURCE, catalogue_path, read_catalogue
from dispatcher.rendering.translating import extract, lint_catalogue, lint_catalogues
from tests.support.boxes import ROOT


def test_every_language_says_everything_and_nothing_else() -> None:
    assert lint_catalogues() == []


def test_there_is_a_catalogue_for_every_language_but_the_one_of_the_templates() -> None:
    assert {path.parent.name for path in catalogue_path("en").parent.parent.glob("*/*.po")} == set(LANGUAGES) - {SOURCE}
    for language in LANGUAGES[1:]:
        assert str(read_catalogue(language).locale) == language


def test_messages_are_found_in_mails_pushes_pages_and_code() -> None:
    found = {file.split("/")[0] + "/" + file.split("/")[1] for each in extract() for file, _ in each.locations}

    assert {"templates/email", "templates/web", "dispatcher/rendering"} <= found


MESSAGES = """
msgid "Hello, %(name)s"
msgstr ""

msgid "%(count)s mail"
msgid_plural "%(count)s mails"
msgstr[0] ""
msgstr[1] ""
"""


def catalogue(words: str) -> Catalog:
    head = 'msgid ""\nmsgstr "Language: uk\\nPlural-Forms: nplurals=3; plural=0;\\n"\n\n'
    return read_po(io.BytesIO((head + words).encode()), locale="uk")


GOOD_HELLO = 'msgid "Hello, %(name)s"\nmsgstr "Вітаю, %(name)s"\n\n'
GOOD_COUNT = (
    'msgid "%(count)s mail"\nmsgid_plural "%(count)s mails"\n'
    'msgstr[0] "%(count)s лист"\nmsgstr[1] "%(count)s листи"\nmsgstr[2] "%(count)s листів"\n'
)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (GOOD_HELLO, "'%(count)s mail' of "),
        (GOOD_COUNT + 'msgid "Hello, %(name)s"\nmsgstr ""\n', "'Hello, %(name)s' is not translated"),
        (GOOD_COUNT + GOOD_HELLO.replace('ю, %(name)s', 'ю, %(nmae)s'), "other placeholders in 'Вітаю, %(nmae)s'"),
        (GOOD_COUNT + GOOD_HELLO.replace("Вітаю, %(name)s", "Вітаю"), "other placeholders in 'Вітаю'"),
        (GOOD_COUNT + GOOD_HELLO.replace("Вітаю, ", "100% "), "other placeholders in '100% %(name)s'"),
        (GOOD_HELLO + GOOD_COUNT.replace('"%(count)s лист"', '"Один лист"'), "other placeholders in 'Один лист'"),
        (GOOD_HELLO + GOOD_COUNT.replace('"%(count)s листів"', '""'), "'%(count)s mail' is not translated"),
        (GOOD_COUNT + "#, fuzzy\n" + GOOD_HELLO, "'Hello, %(name)s' is marked as fuzzy"),
        (GOOD_COUNT + GOOD_HELLO + 'msgid "Bye"\nmsgstr "Бувай"\n', "nobody says 'Bye' any more"),
        (GOOD_COUNT + GOOD_HELLO + '#~ msgid "Bye"\n#~ msgstr "Бувай"\n', "'Bye' is obsolete"),
    ],
)  # fmt: skip
def test_what_a_catalogue_lacks_or_has_wrong_is_found(words: str, problem: str) -> None:
    messages = read_po(io.BytesIO(MESSAGES.encode()))
    for message in messages:
        message.locations = [("templates/x.html", 3)]

    assert list(lint_catalogue(catalogue(GOOD_HELLO + GOOD_COUNT), messages)) == []
    found = list(lint_catalogue(catalogue(words), messages))
    assert len(found) == 1
    assert problem in found[0]


class TestCommand:
    """`python -m dispatcher.rendering` in a copy of the program."""

    @pytest.fixture
    def copy(self, tmp_path: Path) -> Path:
        for name in ("dispatcher", "templates"):
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        return tmp_path

    def run(self, copy: Path, option: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "dispatcher.rendering", option],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    def test_the_catalogues_are_as_the_command_writes_them(self, copy: Path) -> None:
        path = copy / catalogue_path("uk").relative_to(ROOT)
        before = path.read_bytes()

        assert self.run(copy, "--catalogues") == (0, "")
        assert path.read_bytes() == before

    def test_a_new_sentence_is_missed_until_it_is_translated_and_an_old_one_leaves(self, copy: Path) -> None:
        template, path = copy / "templates/email/link/subject.txt", copy / catalogue_path("uk").relative_to(ROOT)
        template.write_text('{{ _("Here is %(what)s", what=newsroom.name) }}\n')

        code, said = self.run(copy, "--lint")
        assert code == 1
        assert "'Here is %(what)s' of templates/email/link/subject.txt, line 1, is missing" in said

        code, said = self.run(copy, "--catalogues")
        assert code == 1
        assert said.count("\n") == said.count("'Here is %(what)s' is not translated") == 1
        assert "Here is" in path.read_text()

        path.write_text(
            path.read_text().replace('"Here is %(what)s"\nmsgstr ""', '"Here is %(what)s"\nmsgstr "Ось %(what)s"')
        )
        assert self.run(copy, "--lint") == (0, "")

        template.write_text("{{ newsroom.name }}\n")
        assert self.run(copy, "--catalogues") == (0, "")
        assert "Here is" not in path.read_text()
