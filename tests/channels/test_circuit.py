"""A relay's circuit breaker, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.channels import CircuitState
from dispatcher.channels.email.circuit import LEAST_ANSWERS, MOST_FAILURES, MOST_REFUSALS, PROBE_EVERY, WINDOW, Circuit

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


class Watched:
    """A circuit, its clock, and every state it has been in."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.states: list[CircuitState] = []
        self.circuit = Circuit(lambda: self.now, lambda: self.states.append(self.circuit.state))

    def after(self, seconds: float) -> Circuit:
        """The circuit so many seconds later, ticked as it would have been."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1)
            self.circuit.tick()
        return self.circuit

    def opened(self) -> Circuit:
        """Open it: the relay does not answer."""
        for _ in range(MOST_FAILURES):
            self.circuit.failed("refused")
        return self.circuit

    def on_trial(self) -> Circuit:
        """Half open, with the one message on its way."""
        circuit = self.opened()
        self.now += PROBE_EVERY
        circuit.probe()
        assert circuit.take()
        return circuit


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_five_failed_connections_in_a_row_open_it_and_not_one_less(watched: Watched) -> None:
    for _ in range(MOST_FAILURES - 1):
        watched.circuit.failed("connection refused")
        assert watched.circuit.state is CLOSED

    watched.circuit.failed("connection refused")

    assert watched.states == [OPEN]
    assert watched.circuit.reason == "connection refused"
    assert not watched.circuit.take()


def test_an_answer_between_failures_begins_the_count_anew(watched: Watched) -> None:
    for _ in range(3):
        for _ in range(MOST_FAILURES - 1):
            watched.circuit.failed("connection refused")
        watched.circuit.accepted()

    assert watched.states == []
    assert watched.circuit.reason == ""


def test_the_pauses_between_the_first_failures_grow_and_end_within_a_few_seconds(watched: Watched) -> None:
    pauses = []
    for _ in range(MOST_FAILURES - 1):
        watched.circuit.failed("connection refused")
        pauses.append(watched.circuit.pause)
        assert not watched.circuit.may_connect
        watched.now += watched.circuit.pause
        assert watched.circuit.may_connect

    assert pauses == sorted(pauses)
    assert sum(pauses) < 5


def test_a_relay_that_was_given_long_and_said_nothing_opens_it_at_once(watched: Watched) -> None:
    watched.circuit.failed("it gave no answer in time", silent=True)

    assert watched.circuit.state is OPEN


def test_it_may_be_probed_only_after_its_pause(watched: Watched) -> None:
    watched.opened()

    assert not watched.circuit.may_probe
    watched.now += PROBE_EVERY
    assert watched.circuit.may_probe
    assert not watched.circuit.may_connect


def test_half_open_lets_one_message_through(watched: Watched) -> None:
    circuit = watched.on_trial()

    assert circuit.may_connect
    assert not circuit.take()
    circuit.untake()
    assert circuit.take()
    assert not circuit.take()


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (lambda circuit: circuit.accepted(), CLOSED),
        (lambda circuit: circuit.failed_for_good(bad_address=True), CLOSED),
        (lambda circuit: circuit.deferred("4.3.2 later", "example.org"), OPEN),
        (lambda circuit: circuit.refused("5.7.1 no"), OPEN),
        (lambda circuit: circuit.lost(), OPEN),
        (lambda circuit: circuit.failed("connection refused"), OPEN),
    ],
    ids=["accepted", "no such address", "later", "policy", "lost", "no connection"],
)
def test_the_message_on_trial_decides(watched: Watched, answer: object, state: CircuitState) -> None:
    circuit = watched.on_trial()

    answer(circuit)  # type: ignore[operator]

    assert circuit.state is state
    assert circuit.may_probe is False


def test_news_that_the_relay_is_back_let_it_connect_without_waiting(watched: Watched) -> None:
    watched.opened().probe()

    assert watched.circuit.may_connect


def test_five_refusals_by_policy_in_a_row_open_it_and_an_acceptance_between_them_does_not(watched: Watched) -> None:
    for _ in range(3):
        for _ in range(MOST_REFUSALS - 1):
            watched.circuit.refused("5.7.1 not from you")
        watched.circuit.accepted()
    assert watched.states == []

    for _ in range(MOST_REFUSALS):
        watched.circuit.refused("5.7.1 not from you")

    assert watched.states == [OPEN]
    assert "5.7.1 not from you" in watched.circuit.reason


def answers(watched: Watched, accepted: int, deferred: int) -> Circuit:
    """Answers a few a second, the refusals spread over several domains."""
    for number in range(accepted):
        watched.circuit.accepted()
        if number % 5 == 0:
            watched.after(0.1)
    for number in range(deferred):
        watched.circuit.deferred("4.3.1 full", f"d{number}.example")
        if number % 5 == 0:
            watched.after(0.1)
    return watched.circuit


@pytest.mark.parametrize(
    ("accepted", "deferred", "state"),
    [(9, 11, OPEN), (10, 10, CLOSED), (0, 19, CLOSED), (0, 20, OPEN), (50, 50, CLOSED)],
)
def test_more_than_half_of_at_least_twenty_answers_open_it(
    watched: Watched, accepted: int, deferred: int, state: CircuitState
) -> None:
    assert answers(watched, accepted, deferred).state is state


def test_refusals_are_forgotten_after_half_a_minute(watched: Watched) -> None:
    answers(watched, 0, LEAST_ANSWERS - 1)
    watched.after(WINDOW + 2)

    assert answers(watched, 0, LEAST_ANSWERS - 1).state is CLOSED


def test_what_one_domain_refuses_does_not_stop_the_others(watched: Watched) -> None:
    for number in range(100):
        watched.circuit.deferred("4.7.28 too much", "storm.example")
        if number % 3 == 0:
            watched.circuit.accepted()

    assert watched.states == []


def test_a_domain_that_asks_for_less_stops_nobody_even_when_only_its_mail_is_left(watched: Watched) -> None:
    for _ in range(100):
        watched.circuit.accepted()
    watched.after(WINDOW + 2)
    for _ in range(100):
        watched.circuit.deferred("4.7.28 too much", "storm.example", too_much=True)

    assert watched.states == []


def test_a_relay_that_is_full_is_left_alone_even_if_all_readers_are_of_one_domain(watched: Watched) -> None:
    for _ in range(LEAST_ANSWERS):
        watched.circuit.deferred("4.3.1 full", "staff.example")

    assert watched.circuit.state is OPEN


def test_a_yes_that_was_on_its_way_does_not_end_a_storm_of_refusals(watched: Watched) -> None:
    circuit = answers(watched, 0, LEAST_ANSWERS)

    circuit.accepted()

    assert circuit.state is OPEN


def test_a_yes_from_a_lane_that_nobody_hoped_for_ends_a_silence(watched: Watched) -> None:
    watched.circuit.failed("has not answered for 20 seconds", silent=True)

    watched.circuit.accepted()

    assert watched.circuit.state is CLOSED
    assert watched.circuit.reason == ""


def test_bad_addresses_are_believed_unless_nearly_all_are(watched: Watched) -> None:
    for _ in range(LEAST_ANSWERS):
        watched.circuit.accepted()
    for _ in range(LEAST_ANSWERS):
        watched.circuit.failed_for_good(bad_address=True)
        assert watched.circuit.believes_bad_addresses

    watched.circuit.failed_for_good(bad_address=True)

    assert not watched.circuit.believes_bad_addresses


DEEDS: dict[str, Callable[[Watched], object]] = {
    "failed": lambda watched: watched.circuit.failed("refused"),
    "silent": lambda watched: watched.circuit.failed("silent", silent=True),
    "yes": lambda watched: watched.circuit.accepted(),
    "no": lambda watched: watched.circuit.failed_for_good(bad_address=False),
    "later": lambda watched: watched.circuit.deferred("4.3.2", "example.org"),
    "policy": lambda watched: watched.circuit.refused("5.7.1"),
    "lost": lambda watched: watched.circuit.lost(),
    "probe": lambda watched: watched.circuit.probe(),
    "wait": lambda watched: watched.after(PROBE_EVERY),
}


@given(st.lists(st.sampled_from(sorted(DEEDS))))
def test_whatever_happens_an_open_circuit_offers_nothing_and_a_half_open_one_message(deeds: list[str]) -> None:
    watched = Watched()
    circuit = watched.circuit
    for deed in deeds:
        DEEDS[deed](watched)
        state = circuit.state
        offered = [circuit.take() for _ in range(3)].count(True)
        assert offered == 3 if state is CLOSED else offered <= (state is HALF_OPEN)
        assert state is CLOSED or circuit.reason
        assert not (circuit.may_connect and circuit.may_probe)
