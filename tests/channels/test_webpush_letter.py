"""A push is compiled once and spliced for each reader, and is whole JSON whatever stands in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.channels.webpush import MAX_PLAINTEXT
from dispatcher.channels.webpush.letter import LEAVE_ROOM, PushLetter, compile_push
from dispatcher.errors import Invalid, TooLarge

CONTENT: dict[str, Any] = {
    "title": "Вода перелилася через дамбу",
    "body": 'The gauge reads "6.12 m" \\ rising.\nLeave now.',
    "url": "https://alerts.example.org/s/dam#3",
    "tag": "story-1",
    "lang": "uk",
    "dir": "ltr",
    "at": 1_764_000_000_000,
    "story": "dam",
    "seq": 3,
    "kind": "update",
    "importance": "breaking",
    "open": "Відкрити",
    "stop": "Не стежити",
}
LEAVE = "https://alerts.example.org/u/" + "x" * 32
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=6,
)


def test_each_reader_gets_the_same_push_and_a_leave_link_of_their_own() -> None:
    letter = compile_push(CONTENT)

    assert json.loads(letter.splice(LEAVE)) == {**CONTENT, "leave": LEAVE}
    assert json.loads(letter.splice("https://other.example")) == {**CONTENT, "leave": "https://other.example"}
    assert "дамбу".encode() in letter.splice(LEAVE)  # as UTF-8, which takes a third of the room of escapes


def test_a_letter_comes_back_from_the_database_as_it_went_in() -> None:
    letter = compile_push(CONTENT)

    assert PushLetter.loads(letter.dumps()) == letter
    assert PushLetter.loads(letter.dumps()).splice(LEAVE) == letter.splice(LEAVE)


@given(st.dictionaries(st.text("abcdefgh", min_size=1, max_size=6), VALUES, max_size=8), st.text(max_size=100))
def test_any_push_is_whole_json_with_any_link(content: dict[str, Any], leave: str) -> None:
    letter = compile_push(content)

    assert json.loads(letter.splice(leave)) == {**content, "leave": leave}
    assert PushLetter.loads(letter.dumps()) == letter
    assert len(letter.dumps().split(b"\0")) == 3


def test_nobody_says_the_leave_link_for_all() -> None:
    with pytest.raises(Invalid, match="each reader's own"):
        compile_push({**CONTENT, "leave": "https://evil.test"})


@pytest.mark.parametrize("value", [b"bytes", {1}, float("nan"), "\ud800", object()])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(Invalid):
        compile_push({**CONTENT, "body": value})


@given(st.integers(-3, 3), st.sampled_from(["x", "д", "💥"]))
def test_what_would_not_fit_with_a_long_link_is_refused(beyond: int, letter: str) -> None:
    room = MAX_PLAINTEXT - LEAVE_ROOM - len(compile_push({"body": ""}).splice(""))
    size = len(letter.encode())
    body = letter * ((room + beyond * size) // size)
    if len(body.encode()) <= room:
        assert len(compile_push({"body": body}).splice("x" * LEAVE_ROOM)) <= MAX_PLAINTEXT
    else:
        with pytest.raises(TooLarge, match="too long") as error:
            compile_push({"body": body})
        assert error.value.field == "body"


@pytest.mark.parametrize("kept", [b"", b"{}", b"push 2\0{\0}", b"push 1\0{", b"push 1\0a\0b\0c"])
def test_what_this_version_did_not_keep_is_not_read(kept: bytes) -> None:
    with pytest.raises(Invalid, match="cannot read"):
        PushLetter.loads(kept)
