"""The environments of the templates, and the checks that `make check` runs on them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from jinja2.exceptions import SecurityError

from dispatcher.errors import Invalid, Misconfigured
from dispatcher.model import Importance, Kind
from dispatcher.rendering import environment, template_dir
from dispatcher.rendering.letters import to_html
from dispatcher.rendering.lint import lint_html, lint_message, lint_mjml, lint_templates
from dispatcher.samples import read_draft, sample_story


def test_all_templates_are_in_order() -> None:
    assert lint_templates() == []


def test_the_command_says_so_and_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dispatcher.rendering", "--lint"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "in order" in done.stdout


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("<mjml>\n<mj-body>\n<mj-txet>x</mj-txet></mj-body></mjml>", "3: <mj-txet> is not an MJML tag"),
        ("<mjml>\n<mj-body>\n</mjml>", "3: </mjml> closes nothing while <mj-body> of line 2 is open"),
        ("{% if a\n %}<mj-text>\n", "2: <mj-text> is not closed"),
        ('<mj-text color="a" color="b"></mj-text>', "1: <mj-text> has color twice"),
    ],
)
def test_a_mistake_in_mjml_is_found_with_its_line(source: str, problem: str) -> None:
    assert problem in lint_mjml(source)


def test_html_that_is_not_closed_is_found() -> None:
    assert lint_html("<p>a<br><img src=x></p>") == []
    assert lint_html("<p>\n<b>a</p>") == [
        "2: </p> closes nothing while <b> of line 2 is open",
        "1: <p> is not closed",
        "2: <b> is not closed",
    ]


def test_a_name_that_does_not_exist_is_found_with_its_message(tmp_path: Path) -> None:
    folder = tmp_path / "update"
    shutil.copytree(template_dir() / "email" / "update", folder)
    assert lint_message(folder) == []
    (folder / "body.txt").unlink()

    assert lint_message(folder) == [f"{folder / 'body.txt'}:1: is missing"]


def test_mjml_that_is_not_well_formed_is_an_error_and_not_a_mail() -> None:
    with pytest.raises(Misconfigured, match="well-formed"):
        to_html("<mjml><mj-body><mj-section></mj-body></mjml>", {})


def test_a_template_cannot_reach_into_python() -> None:
    made = environment("email")
    for trick in ("{{ ''.__class__.__mro__ }}", "{{ x.append(1) }}", "{{ lipsum.__globals__ }}"):
        with pytest.raises((SecurityError, UndefinedError)):
            made.from_string(trick).render(x=[])


def test_a_name_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        environment("email").from_string("{{ nobody }}").render()


def test_everything_but_plain_text_is_escaped() -> None:
    made = environment("email")
    made_names = {name: made.autoescape(name) for name in ("a.html", "a.mjml", "a.xml", "a.txt", None)}  # type: ignore[operator]

    assert made_names == {"a.html": True, "a.mjml": True, "a.xml": True, "a.txt": False, None: True}


def test_an_environment_of_no_known_kind_is_refused() -> None:
    with pytest.raises(Misconfigured, match="kind"):
        environment("pigeon")


def test_the_templates_are_those_of_this_checkout() -> None:
    assert (template_dir() / "email" / "update" / "body.mjml").is_file()


def test_the_sample_story_is_a_night_of_four_updates() -> None:
    story = sample_story()

    assert story.slug == "karsholm-dam"
    assert [draft.importance for draft in story.updates] == [
        Importance.ROUTINE,
        Importance.MAJOR,
        Importance.MAJOR,
        Importance.BREAKING,
    ]
    assert all(0 < len(draft.headline) <= 200 and 0 < len(draft.summary) <= 500 for draft in story.updates)


def test_a_draft_is_read_from_a_file() -> None:
    draft = read_draft("headline: We: erred\nkind: correction\ncorrects: 3\n\nBody\n\nMore")

    assert (draft.headline, draft.kind, draft.corrects_seq) == ("We: erred", Kind.CORRECTION, 3)
    assert draft.body == "Body\n\nMore\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# A heading\n\nBody", "is not one of"),
        ("summary: x\n\nBody", "no headline"),
        ("headline: x\nimportance: huge\n\nBody", "importance is routine"),
        ("headline: x\ncorrects: two\n\nBody", "corrects is a number"),
    ],
)
def test_a_file_that_is_no_draft_is_refused_with_the_remedy(text: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        read_draft(text)
