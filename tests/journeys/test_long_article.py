"""A long article as editors write them, through the real programs into a real inbox, with nothing lost on the way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dispatcher.embedded.box import Box
from dispatcher.embedded.inbox import Inbox, InboxMail
from tests.support.directories import service_directory

ARTICLE = Path(__file__).with_name("long_article.md")
HEADLINE = "The wall has held: what the night brought, and what to do today"
SUMMARY = "Gate 2 is open and the level falls; tap water must be boiled."
READERS = "email,name,locale,timezone\nada@mail.example,Ada Winter,en,Europe/London\nzoe@mail.example,Zoë,de,UTC\n"


@pytest.fixture(scope="module")
def mail() -> Iterator[InboxMail]:
    """The article as it came to one of two readers, published with the real program in a real box."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("DISPATCHER_")}
    said: list[tuple[str, str]] = []
    with service_directory() as directory:
        readers = directory / "readers.csv"
        readers.write_text(READERS)
        box = Box(
            directory / "box",
            web=False,
            urgent=False,
            beat=False,
            concurrency=1,
            env=plain,
            log=lambda *line: said.append(line),
        )
        with box:
            _run(box, "story", "create", "karsholm-dam", "--headline", "Karsholm dam", "--json")
            _run(box, "subscribers", "import", str(readers), "--story", "karsholm-dam", "--confirmed", "--json")
            done = _run(
                *(box, "publish", "karsholm-dam", "--headline", HEADLINE, "--summary", SUMMARY),
                *("--body-file", str(ARTICLE), "--wait", "--json"),
            )
            assert [each["accepted"] for each in done["blasts"]] == [2], said
            assert box.inbox_dir is not None
            inbox = Inbox(box.inbox_dir)
            [entry] = inbox.page(query="ada@mail.example").entries
            yield inbox.entry(entry.name)


@pytest.fixture(scope="module")
def html(mail: InboxMail) -> Shown:
    shown = Shown()
    shown.feed(mail.html)
    return shown


def test_the_article_is_a_long_one() -> None:
    assert len(ARTICLE.read_text()) > 5500


def test_every_sentence_name_and_list_item_is_in_the_html_part(html: Shown) -> None:
    missing = [words for words in sentences() if words not in html.text]

    assert len(sentences()) > 60
    assert missing == []
    assert HEADLINE in html.text
    assert SUMMARY in html.text


def test_every_sentence_name_and_list_item_is_in_the_text_part(mail: InboxMail) -> None:
    text = _plain(mail.text)

    assert [words for words in sentences() if words not in text] == []
    assert HEADLINE in text
    assert SUMMARY in text


def test_every_link_is_in_both_parts(mail: InboxMail, html: Shown) -> None:
    assert len(links()) == 5

    for link in links():
        assert link in html.links
        assert link.removeprefix("mailto:") in mail.text


def test_the_picture_comes_with_its_words_and_they_stand_in_the_text_part_too(mail: InboxMail, html: Shown) -> None:
    [(words, address)] = re.findall(r"!\[([^]]+)\]\((\S+)\)", ARTICLE.read_text())

    assert (words, address) in html.pictures
    assert words in _one_line(mail.text)
    assert address in mail.text


def test_lists_quotes_and_the_table_keep_their_shape(mail: InboxMail, html: Shown) -> None:
    assert (html.tags["ol"], html.tags["ul"]) == (1, 2)
    assert html.tags["li"] == 9
    assert html.tags["blockquote"] == 1
    assert html.tags["s"] == 1
    assert html.tags["th"] == 6
    assert "\n> second gauge said the same" in mail.text.replace("\r\n", "\n")
    assert "Karsholm, wall | 6.02 m | 6.31 m | 6.44 m | 5.98 m | 5.50 m" in mail.text


def test_no_line_of_the_text_part_is_wider_than_a_mail_program_shows(mail: InboxMail) -> None:
    wide = [line for line in mail.text.splitlines() if len(line) > 72 and " " in line.strip()]

    assert wide == []


def test_the_mail_says_that_it_is_whole(mail: InboxMail) -> None:
    assert "Read it on the story page" in mail.text
    assert len(mail.raw) < 102_000  # Gmail hides what comes after


class Shown(HTMLParser):
    """What an HTML document shows: its words on one line, its links, its pictures, and how often each tag stands."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.links: set[str] = set()
        self.pictures: set[tuple[str, str]] = set()
        self.tags: dict[str, int] = dict.fromkeys(("ol", "ul", "li", "blockquote", "s", "th"), 0)
        self._hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._hidden = tag in ("style", "script", "title")
        if tag in self.tags:
            self.tags[tag] += 1
        if tag == "a":
            self.links.add(values.get("href", ""))
        if tag == "img":
            self.pictures.add((values.get("alt", ""), values.get("src", "")))

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        if tag in ("p", "li", "td", "th", "h3", "h4", "h5", "h6"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text = _one_line(self.text + data)


def sentences() -> list[str]:
    """Every sentence, heading, list item and cell of the article as a reader should see it, without any mark-up."""
    source = re.sub(r"!\[[^]]*\]\([^)]*\)", "", ARTICLE.read_text())
    source = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", source)
    source = re.sub(r"<(https?://[^>]+)>", r"\1", source)
    source = re.sub(r"[*`]|~~", "", source)
    found: list[str] = []
    for line in source.splitlines():
        if set(line) <= set("|:- "):
            continue
        line = re.sub(r"^\s*(?:#+|>|-|\d+\.)\s+", "", line)
        parts = line.strip("|").split("|") if line.startswith("|") else re.split(r"(?<=[.!?])\s+", line)
        found += [part.strip() for part in parts if part.strip() not in ("", ">")]
    return found


def links() -> set[str]:
    """Every address that the article links to; not its picture's."""
    found = re.findall(r"(?<!!)\[[^]]+\]\((\S+?)\)|<(https?://[^>]+)>", ARTICLE.read_text())
    return {named or bare for named, bare in found}


def _run(box: Box, *arguments: str) -> Any:
    """A run of the program against the box, as in another terminal; its answer."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("DISPATCHER_")}
    done = subprocess.run(
        [sys.executable, "-m", "dispatcher.cli", *arguments],
        env={**inherited, "DISPATCHER_DATA_DIR": str(box.data_dir)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def _plain(text: str) -> str:
    """The text part on one line, without quote signs, emphasis and the numbers of links."""
    text = re.sub(r"^> ?", "", text.replace("\r\n", "\n"), flags=re.MULTILINE)
    text = re.sub(r" \[\d+\]", "", _one_line(text))
    return re.sub(r"[*_~]", "", text)


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)
