"""Checks of the templates that nothing else makes: MJML takes an unknown tag for text and says nothing.

`python -m dispatcher.rendering --lint` runs them all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from dispatcher.channels.email.letter import Marks
from dispatcher.config import LANGUAGES
from dispatcher.errors import DispatcherError
from dispatcher.rendering import environment, template_dir
from dispatcher.rendering.letters import Rendered, render, update_context
from dispatcher.rendering.notices import notice_context
from dispatcher.rendering.pushes import push_context
from dispatcher.rendering.samples import sample_notices, sample_views
from dispatcher.rendering.wording import wording, zone

_MJML = frozenset(
    [
        "mjml",
        "mj-head",
        "mj-body",
        "mj-attributes",
        "mj-all",
        "mj-class",
        "mj-breakpoint",
        "mj-font",
        "mj-preview",
        "mj-style",
        "mj-title",
        "mj-raw",
        "mj-accordion",
        "mj-accordion-element",
        "mj-accordion-title",
        "mj-accordion-text",
        "mj-button",
        "mj-carousel",
        "mj-carousel-image",
        "mj-column",
        "mj-divider",
        "mj-group",
        "mj-hero",
        "mj-image",
        "mj-navbar",
        "mj-navbar-link",
        "mj-section",
        "mj-social",
        "mj-social-element",
        "mj-spacer",
        "mj-table",
        "mj-text",
        "mj-wrapper",
    ]
)
_VOID = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"]
)
_JINJA = re.compile(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)


def lint_templates() -> list[str]:
    """Everything that is wrong with the templates, as `path:line: problem`. Empty if all is well."""
    root = template_dir()
    found: list[str] = []
    for path in sorted(each for each in root.rglob("*") if each.suffix in (".mjml", ".txt", ".html", ".xml", ".css")):
        source = path.read_text("utf-8")
        problems = _parse(path.relative_to(root).parts[0], source) or (
            lint_mjml(source) if path.suffix == ".mjml" else []
        )
        found += [f"{path}:{problem}" for problem in problems]
    for folder in _folders(root / "email"):
        found += lint_message(folder)
    for folder in _folders(root / "push"):
        found += lint_push(folder)
    return found


def _folders(root: Path) -> list[Path]:
    return sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("_"))


def _parse(kind: str, source: str) -> list[str]:
    try:
        environment(kind).parse(source)
    except TemplateError as error:
        return [f"{getattr(error, 'lineno', 1)}: {error}"]
    return []


def lint_mjml(source: str) -> list[str]:
    """Problems in one MJML template, as `line: problem`: unknown mj-* tags, and tags that are not closed."""
    # Jinja's own marks leave, their lines stay, so that the numbers are right.
    plain = _JINJA.sub(lambda match: "\n" * match.group().count("\n"), source)
    return _check_tags(plain, mjml=True)


def lint_html(source: str) -> list[str]:
    """Problems in an HTML document, as `line: problem`: tags that are not closed or not opened."""
    return _check_tags(source, mjml=False)


def lint_message(folder: Path) -> list[str]:
    """Render a mail with samples in every language: every variable must exist, and the HTML must be whole.

    The samples of a message other than an update and the notices are in its `sample.json`: a list of contexts.
    """
    missing = _missing(folder, "subject.txt", "body.txt", "body.mjml")
    found: list[str] = []
    for language in () if missing else LANGUAGES:
        try:
            for context in _contexts(folder, language):
                found += _check_rendered(folder, render(folder.name, context, locale=language))
        except TemplateError as error:
            found.append(f"{folder}:{getattr(error, 'lineno', None) or 1}: {error}")
        except (DispatcherError, OSError, ValueError) as error:
            found.append(f"{folder}:1: {error}")
    return missing or found


def lint_push(folder: Path) -> list[str]:
    """Render a push with samples in every language: every variable must exist, and both texts say something."""
    missing = _missing(folder, "title.txt", "body.txt")
    found: list[str] = []
    for language in () if missing else LANGUAGES:
        for name in ("title.txt", "body.txt"):
            template = f"{folder.name}/{name}"
            try:
                said = [
                    environment("push", language).get_template(template).render(push_context(view, wording(language)))
                    for view in sample_views()
                ]
            except TemplateError as error:
                found.append(f"{folder / name}:{getattr(error, 'lineno', None) or 1}: {error}")
            else:
                found += [] if all(each.strip() for each in said) else [f"{folder / name}:1: is empty"]
    return missing or found


def _missing(folder: Path, *names: str) -> list[str]:
    return [f"{folder / name}:1: is missing" for name in names if not (folder / name).is_file()]


def _contexts(folder: Path, language: str) -> Iterator[dict[str, Any]]:
    words = wording(language)
    common = {"reader": Marks.fresh(""), "t": words}
    notices = {str(view.kind): view for view in sample_notices()}
    if folder.name == "update":
        for view in sample_views():
            yield {**update_context(view, words, "Europe/Copenhagen"), **common}
    elif folder.name in notices:
        stamp = datetime.now(UTC).astimezone(zone("Europe/Copenhagen"))
        yield {**notice_context(notices[folder.name], words, stamp), **common}
    else:
        for context in json.loads((folder / "sample.json").read_text("utf-8")):
            yield {**context, **common}


def _check_rendered(folder: Path, rendered: Rendered) -> list[str]:
    found = [f"{folder / 'body.mjml'}:{problem} (in its HTML)" for problem in lint_html(rendered.html)]
    if not rendered.subject:
        found.append(f"{folder / 'subject.txt'}:1: is empty")
    found += [
        f"{folder / 'body.mjml'}:1: an image has no alt text"
        for image in _IMAGES.findall(rendered.html)
        if "alt=" not in image
    ]
    if re.search(r"<mj-", rendered.html):
        found.append(f"{folder / 'body.mjml'}:1: MJML was left in the HTML")
    return found


_IMAGES = re.compile(r"<img\b[^>]*>")


class _Tags(HTMLParser):
    """Keeps the open tags and notes what does not fit."""

    def __init__(self, *, mjml: bool) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.open: list[tuple[str, int]] = []
        self._mjml = mjml

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID:
            self.open.append((tag, self.getpos()[0]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        line = self.getpos()[0]
        if self._mjml and tag.startswith("mj") and tag not in _MJML:
            self.problems.append(f"{line}: <{tag}> is not an MJML tag")
        names = [name for name, _ in attrs]
        self.problems += [f"{line}: <{tag}> has {name} twice" for name in set(names) if names.count(name) > 1]

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        if self.open and self.open[-1][0] == tag:
            self.open.pop()
            return
        where = f" while <{self.open[-1][0]}> of line {self.open[-1][1]} is open" if self.open else ""
        self.problems.append(f"{self.getpos()[0]}: </{tag}> closes nothing{where}")


def _check_tags(source: str, *, mjml: bool) -> list[str]:
    tags = _Tags(mjml=mjml)
    tags.feed(source)
    tags.close()
    return tags.problems + [f"{line}: <{tag}> is not closed" for tag, line in tags.open]
