"""What an outcome means for a reader, and when they are tried again."""

from __future__ import annotations

from datetime import time
from math import inf

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dispatcher import policy
from dispatcher.channels import Fate, Outcome
from dispatcher.channels.email.outcomes import from_reply, is_about_recipient, is_too_much
from dispatcher.model import DeliveryState, InDoubt
from dispatcher.policy import JITTER, MOST_DOUBTS, MOST_REFUSALS, RETRY_AFTER, Settlement, settle

State = DeliveryState


def settled(fate: Fate, attempts: int = 0, doubts: int = 0, expires_in: float = inf, **more: object) -> Settlement:
    return settle(Outcome(fate), attempts=attempts, in_doubt_count=doubts, expires_in=expires_in, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("attempts", range(10))
def test_each_try_waits_longer_than_the_one_before_give_or_take_a_quarter(attempts: int) -> None:
    minutes = [1, 5, 15, 30, 60, 120, 240, 240, 240, 240][attempts]

    soonest, latest = (settled(Fate.DEFERRED, attempts, chance=chance).retry_in for chance in (0.0, 1.0))

    assert soonest == pytest.approx(minutes * 60 * (1 - JITTER))
    assert latest == pytest.approx(minutes * 60 * (1 + JITTER))


@given(
    st.sampled_from([each for each in Fate if each is not Fate.UNSENT]),
    st.integers(0, 50),
    st.integers(0, 5),
    st.floats(-10, 30_000),
    st.sampled_from(list(InDoubt)),
)
def test_nobody_is_tried_again_after_the_update_has_expired_or_after_an_end(
    fate: Fate, attempts: int, doubts: int, expires_in: float, in_doubt: InDoubt
) -> None:
    found = settled(fate, attempts, doubts, expires_in, in_doubt=in_doubt)

    assert found.attempts == attempts + 1
    assert found.in_doubt_count >= doubts
    if found.state in (State.ACCEPTED, State.FAILED):
        assert found.retry_in is None
    if found.retry_in is not None:
        assert 0 <= found.retry_in <= max(0.0, expires_in)
        assert found.retry_in <= RETRY_AFTER[-1] * (1 + JITTER)
    if found.state is State.DEFERRED:
        assert found.retry_in is not None
        assert doubts == 0


def test_a_doubt_is_resent_twice_and_held_if_so_wished() -> None:
    again = [settled(Fate.IN_DOUBT, doubts, doubts).retry_in is not None for doubts in range(4)]

    assert again == [doubts < MOST_DOUBTS for doubts in range(4)]
    assert settled(Fate.IN_DOUBT, in_doubt=InDoubt.HOLD).retry_in is None


def test_who_may_have_the_message_stays_in_doubt_whatever_is_said_later_but_yes_or_no() -> None:
    assert settled(Fate.DEFERRED, 1, 1).state is State.IN_DOUBT
    assert settled(Fate.REFUSED, 9, 1).state is State.IN_DOUBT
    assert settled(Fate.ACCEPTED, 1, 1).state is State.ACCEPTED
    assert settled(Fate.FAILED, 1, 1).state is State.FAILED


def test_a_refusal_by_policy_is_final_only_the_third_time() -> None:
    states = [settled(Fate.REFUSED, attempts).state for attempts in range(MOST_REFUSALS)]

    assert states == [State.DEFERRED, State.DEFERRED, State.FAILED]


@pytest.mark.parametrize(
    ("code", "text", "fate", "bad_address", "too_much"),
    [
        (250, b"2.0.0 Ok", Fate.ACCEPTED, False, False),
        (550, b"5.1.1 No such user", Fate.FAILED, True, False),
        (550, b"5.1.10 No mail here", Fate.FAILED, True, False),
        (550, b"5.1.7 Bad sender", Fate.REFUSED, False, False),
        (550, b"5.1.8 Bad sender domain", Fate.REFUSED, False, False),
        (552, b"5.2.2 Full", Fate.FAILED, False, False),
        (550, b"5.7.1 Not from you", Fate.REFUSED, False, False),
        (550, b"No such user", Fate.FAILED, False, False),
        (421, b"Closing", Fate.DEFERRED, False, True),
        (451, b"4.7.1 Greylisted", Fate.DEFERRED, False, True),
        (452, b"4.2.2 Full", Fate.DEFERRED, False, False),
        (450, b"4.7 Later", Fate.DEFERRED, False, False),
    ],
)
def test_a_reply_is_sorted_by_its_first_digit_and_its_enhanced_status(
    code: int, text: bytes, fate: Fate, bad_address: bool, too_much: bool
) -> None:
    outcome = from_reply(code, text, "relay:25")

    assert outcome == Outcome(fate, code, text.decode(), "relay:25", bad_address)
    assert is_too_much(outcome) is too_much


@pytest.mark.parametrize(
    ("text", "about_recipient"),
    [
        (b"4.7.0 later", True),
        (b"4.2.1 busy", True),
        (b"later", True),
        (b"4.3.2 stopping", False),
        (b"4.4.2 idle", False),
    ],
)
def test_a_session_is_closed_because_of_a_recipient_or_because_of_the_relay(text: bytes, about_recipient: bool) -> None:
    assert is_about_recipient(text) is about_recipient


@given(at=st.times(), quiet_from=st.times(), quiet_to=st.times())
def test_quiet_hours_and_the_hours_between_them_make_the_whole_day(at: time, quiet_from: time, quiet_to: time) -> None:
    assume(quiet_from != quiet_to)

    assert policy.is_quiet(at, quiet_from, quiet_to) != policy.is_quiet(at, quiet_to, quiet_from)
    assert policy.is_quiet(quiet_from, quiet_from, quiet_to)
    assert not policy.is_quiet(quiet_to, quiet_from, quiet_to)


def test_a_refusal_that_names_a_time_is_not_tried_sooner_but_never_beyond_the_end() -> None:
    told = Outcome(Fate.DEFERRED, 429, "later", wait=500.0)

    assert settle(told, attempts=0, in_doubt_count=0, expires_in=3600, chance=0).retry_in == 500.0
    assert settle(told, attempts=0, in_doubt_count=0, expires_in=100, chance=0).retry_in == 100.0
    assert settle(told, attempts=5, in_doubt_count=0, expires_in=86400, chance=0).retry_in == 7200 * 0.75
