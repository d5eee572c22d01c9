"""A push service's words: how long to wait, and nothing of the endpoint in what is written down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.channels.webpush.outcomes import LONGEST_REPLY, MOST_WAIT, from_answer, retry_after, words
from dispatcher.outbound import Answer

NOW = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
TOKEN = "dQw4w9WgXcQ:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx_kLx"
ENDPOINT = f"https://fcm.googleapis.com/fcm/send/{TOKEN}"


def saying(value: str) -> Answer:
    return Answer(429, {"Retry-After": value}, b"")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("3600", 3600),
        ("3601", 3600),
        ("9" * 40, 3600),
        ("Fri, 27 Nov 2026 03:02:00 GMT", 120),
        ("Friday, 27-Nov-26 03:02:00 GMT", 120),
        ("Fri Nov 27 03:02:00 2026", 120),
        ("Fri, 27 Nov 2026 02:00:00 GMT", 0),
        ("Fri, 27 Nov 2099 03:02:00 GMT", 3600),
        ("", 0),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("１２", 0),
        ("Fri, 99 Nov 2026 03:02:00 GMT", 0),
        ("Fri, 27 Nov 99999 03:02:00 GMT", 0),
    ],
)
def test_a_time_is_read_in_both_forms_and_nonsense_is_none(value: str, seconds: float) -> None:
    assert retry_after(saying(value), NOW) == seconds


@given(st.integers(0, 10**6))
def test_both_forms_say_the_same(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)

    assert retry_after(saying(date), NOW) == retry_after(saying(str(seconds)), NOW) == min(seconds, MOST_WAIT)


@given(st.text(max_size=60))
def test_nothing_that_a_service_may_say_breaks_it(value: str) -> None:
    assert 0 <= retry_after(saying(value), NOW) <= MOST_WAIT


@pytest.mark.parametrize(
    "body",
    [
        f"no such subscription: {ENDPOINT}",
        f"token {TOKEN} is gone",
        f"path /fcm/send/{TOKEN}",
        f'{{"url":"https:\\/\\/fcm.googleapis.com\\/fcm\\/send\\/{TOKEN}"}}',
        f"{TOKEN[:40]} was cut",
        f"see {ENDPOINT.upper()}",
    ],
)
def test_the_endpoint_is_cut_out_of_an_answer(body: str) -> None:
    said = words(body.encode(), ENDPOINT)

    assert TOKEN[:20].lower() not in said.lower()
    assert said


@given(st.binary(max_size=2000), st.text("abcdefgh0123456789-_", min_size=8, max_size=200), st.binary(max_size=50))
def test_words_are_one_short_line_without_the_devices_token(before: bytes, token: str, after: bytes) -> None:
    endpoint = f"https://push.example.org/v2/{token}?k={token}"
    said = from_answer(Answer(410, {}, before + endpoint.encode() + after), endpoint, "push.example.org", NOW).reply

    assert token not in said
    assert len(said) <= LONGEST_REPLY
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in said)


def test_an_answer_without_words_is_named_by_its_number() -> None:
    assert from_answer(Answer(502, {}, b"\0\0"), ENDPOINT, "x", NOW).reply == "HTTP 502"
