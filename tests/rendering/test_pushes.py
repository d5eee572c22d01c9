"""Pushes: what stands on a locked screen, and that it always fits."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.channels.webpush import MAX_PLAINTEXT
from dispatcher.config import LANGUAGES
from dispatcher.model import Importance, Kind
from dispatcher.rendering.letters import UpdateView
from dispatcher.rendering.pushes import MAX_BODY, MAX_TITLE, render_push, shorten
from dispatcher.rendering.samples import sample_views

VIEW = next(view for view in sample_views() if view.update.importance is Importance.BREAKING)
LEAVE = "https://ledger.example/u/leave-token"


def push(view: UpdateView, locale: str = "en") -> dict[str, Any]:
    read: dict[str, Any] = json.loads(render_push(view, locale=locale).splice(LEAVE))
    return read


def with_update(**changes: Any) -> UpdateView:
    return replace(VIEW, update=replace(VIEW.update, **changes))


def test_a_push_says_what_happened_and_leads_to_it() -> None:
    assert push(VIEW) == {
        "title": f"BREAKING: {VIEW.update.headline}",
        "body": VIEW.update.summary,
        "url": "https://ledger.example/s/karsholm-dam#u4",
        "tag": "story-karsholm-dam",
        "lang": "en",
        "dir": "auto",
        "at": 1_773_356_160_000,
        "story": "karsholm-dam",
        "seq": 4,
        "kind": "update",
        "importance": "breaking",
        "open": "Open",
        "stop": "Stop following",
        "leave": LEAVE,
    }


def test_a_push_speaks_the_language_of_its_reader() -> None:
    said = push(with_update(kind=Kind.CORRECTION), "uk-UA")

    assert said["title"] == f"ВИПРАВЛЕННЯ: {VIEW.update.headline}"
    assert (said["lang"], said["open"], said["stop"]) == ("uk", "Відкрити", "Не стежити")


def test_without_a_summary_the_first_words_of_the_text_stand_there() -> None:
    body = "# Gauges\n\nThe *water* is [over the wall](https://x.example).\n\n" + "More of it. " * 200
    said = push(with_update(summary="", body=body))["body"]

    assert said.startswith("Gauges The water is over the wall. More of it.")
    assert said.endswith("…")
    assert MAX_BODY * 2 // 3 < len(said) <= MAX_BODY


@pytest.mark.parametrize("character", ["ї", "水", "🛑", '"', "\\", "<", "👩‍👩‍👧", "ё", "ﷺ"])
@pytest.mark.parametrize("locale", LANGUAGES)
def test_the_longest_words_in_the_largest_letters_fit_with_room_for_the_link(character: str, locale: str) -> None:
    view = with_update(headline=character * 200, summary=character * 500, kind=Kind.FINAL)
    view = replace(view, story=replace(view.story, slug="s" * 80), public_url="https://" + "host." * 20 + "example")
    letter = render_push(view, locale=locale)

    assert len(letter.splice("https://ledger.example/u/" + "t" * 175)) <= MAX_PLAINTEXT
    assert len(json.loads(letter.splice(LEAVE))["title"]) <= MAX_TITLE


@given(headline=st.text(max_size=300), summary=st.text(max_size=600), body=st.text(max_size=600))
def test_any_words_make_a_push_that_can_be_read(headline: str, summary: str, body: str) -> None:
    said = push(with_update(headline=f"x{headline}", summary=summary, body=body))

    assert said["title"].startswith("BREAKING: x")
    assert len(said["title"]) <= MAX_TITLE
    assert len(said["body"]) <= MAX_BODY
    assert not any(character in said["title"] + said["body"] for character in "\n\r\x00\x1b")


@given(st.text(), st.integers(2, 60))
def test_what_is_shortened_is_a_beginning_and_never_too_long(text: str, longest: int) -> None:
    short = shorten(text, longest)

    assert len(short) <= longest
    assert text.startswith(short.removesuffix("…"))
    assert (short == text) is (len(text) <= longest)


@pytest.mark.parametrize(
    ("text", "longest", "short"),
    [
        ("Water is over the wall", 22, "Water is over the wall"),
        ("Water is over the wall", 21, "Water is over the…"),
        ("Water is over, the wall", 16, "Water is over…"),
        ("Waterisoverthewall", 6, "Water…"),
        ("Це й, можливо", 5, "Це й…"),
        ("cafe\u0301 open", 5, "caf…"),
        ("a👩\u200d👩\u200d👧 b", 5, "a…"),
    ],
)
def test_a_text_is_cut_between_words_and_never_within_a_sign(text: str, longest: int, short: str) -> None:
    assert shorten(text, longest) == short
