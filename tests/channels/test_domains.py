"""Limits of one recipient domain, as Postfix keeps them, and the parts of them that each process has."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispatcher import db
from dispatcher.channels.domains import FORGET_AFTER, MOST, ONE_COMPLAINT, START, Domains, domain_of
from dispatcher.channels.feed import MOST_PARKED, PARKED_WAIT, Backlog
from dispatcher.fleet import Fleet
from tests.channels.test_lanes import Letterbox, parcels


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def all_of_it(limit: int) -> int:
    return limit


def limited(clock: Clock, *, complaints: int = 1) -> Domains:
    """Limits after so many complaints of example.org, far enough from each other to count."""
    domains = Domains(clock, all_of_it)
    for _ in range(complaints):
        domains.complain("reader@example.org")
        clock.now += ONE_COMPLAINT
    return domains


def room(domains: Domains) -> int:
    """How many more messages to example.org are admitted."""
    count = 0
    while not domains.admit(f"reader{count}@example.org"):
        count += 1
    return count


def test_a_domain_that_never_complained_is_not_limited() -> None:
    domains = Domains(Clock(), all_of_it)

    assert not any(domains.admit(f"reader{n}@example.org") for n in range(1000))


def test_the_first_complaint_leaves_five_and_each_further_one_half_of_it() -> None:
    assert [room(limited(Clock(), complaints=n)) for n in (1, 2, 3, 4, 9)] == [START, 2, 1, 1, 1]


def test_only_the_domain_that_complained_is_limited_however_it_is_written() -> None:
    domains = limited(Clock())
    room(domains)

    assert domains.admit("x@EXAMPLE.ORG") == "example.org"
    assert not domains.admit("x@mail.example.org")
    assert domain_of('"a@b"@Example.ORG') == "example.org"


def test_complaints_of_one_moment_are_one() -> None:
    clock = Clock()
    domains = limited(clock)
    clock.now = ONE_COMPLAINT / 2

    for _ in range(20):
        domains.complain("reader@example.org")

    assert room(domains) == START


def test_each_round_of_successes_makes_room_for_one_more_up_to_twenty() -> None:
    domains = limited(Clock())
    limits = []
    for _ in range(1000):
        domains.admit("reader@example.org")
        domains.leave("reader@example.org", success=True)
        limits.append(domains.limited["example.org"].limit)

    assert limits[START - 2 : START] == [START, START + 1]
    assert limits[2 * START - 1 : 2 * START + 1] == [START + 1, START + 2]
    assert max(limits) == limits[-1] == MOST


def test_a_domain_is_free_again_after_ten_minutes_without_a_complaint() -> None:
    clock = Clock()
    domains = limited(clock)

    clock.now = FORGET_AFTER
    assert domains.forget() == []
    clock.now += 1
    assert domains.forget() == ["example.org"]
    assert not domains.limited


def test_messages_that_set_out_before_the_complaint_make_no_room_when_they_end() -> None:
    domains = limited(Clock())
    assert room(domains) == START

    for number in range(10):
        assert domains.leave(f"earlier{number}@example.org") == ("example.org", 0)

    assert room(domains) == 0


@given(st.lists(st.tuples(st.sampled_from(["admit", "yes", "no", "complain", "wait"]), st.integers(0, 30))))
def test_never_more_than_the_limit_are_on_their_way(deeds: list[tuple[str, int]]) -> None:
    clock = Clock()
    domains = limited(clock)
    on_the_way: list[str] = []
    for deed, number in deeds:
        match deed:
            case "admit":
                address = f"reader{number}@example.org"
                full = len(on_the_way) >= domains.limited["example.org"].limit
                admitted = not domains.admit(address)
                assert admitted is not full
                if admitted:
                    on_the_way.append(address)
            case "yes" | "no" if on_the_way:
                domains.leave(on_the_way.pop(number % len(on_the_way)), success=deed == "yes")
            case "complain":
                domains.complain("reader@example.org")
            case "wait":
                clock.now += number / 10
        domain = domains.limited["example.org"]
        assert domain.on_the_way == len(on_the_way) == domain.admitted.total()
        assert 1 <= domain.limit <= MOST
        assert dict(domains.room()).get("example.org", 0) == max(0, domain.limit - len(on_the_way))


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 1000))
def test_the_parts_of_all_processes_add_up_to_the_limit(peers: int, limit: int, turn: int) -> None:
    shares = []
    for rank in range(peers):
        fleet = Fleet(db.Database("postgresql://nowhere"), "amqp://nowhere", lambda: None, list)
        fleet._peers, fleet._rank = peers, (rank + turn) % peers
        shares.append(fleet.share(limit))

    assert sum(shares) == limit
    assert max(shares) - min(shares) <= 1


def test_what_has_to_wait_for_its_domain_lets_others_pass_and_is_first_when_its_turn_comes() -> None:
    backlog = Backlog(lambda: None, 0)
    domains = limited(Clock(), complaints=3)
    backlog.add(0, [*parcels(3), Letterbox("other@example.com")])

    first, second = backlog.take(domains.admit), backlog.take(domains.admit)
    nothing = backlog.take(domains.admit)
    assert domains.leave("reader0@example.org") == ("example.org", 1)
    backlog.add(0, [Letterbox("late@example.com")])
    backlog.unpark("example.org")
    third = backlog.take(domains.admit)

    assert [each.address for each in (first, second, third) if each] == [
        "reader0@example.org",
        "other@example.com",
        "reader1@example.org",
    ]
    assert nothing is None


async def test_what_waits_for_its_domain_beyond_reason_goes_back_to_the_queue_with_a_pause() -> None:
    backlog = Backlog(lambda: None, 0)
    domains = limited(Clock(), complaints=3)
    boxes = parcels(MOST_PARKED + 3)
    backlog.add(0, boxes)

    assert backlog.take(domains.admit) is boxes[0]
    assert backlog.take(domains.admit) is None

    settled = [box for box in boxes if box.outcomes]
    assert len(settled) == 2
    assert {box.outcomes[0].wait for box in settled} == {PARKED_WAIT[0]}


async def test_parcels_that_wait_for_their_domain_are_called_back_like_all_others() -> None:
    backlog = Backlog(lambda: None, 0)
    domains = limited(Clock(), complaints=3)
    boxes = parcels(4)
    backlog.add(0, boxes)
    backlog.take(domains.admit)
    backlog.take(domains.admit)

    boxes[2].is_wanted = False
    backlog.sweep()
    assert [len(box.outcomes) for box in boxes] == [0, 0, 1, 0]
    backlog.drop("the worker stops")
    assert [len(box.outcomes) for box in boxes] == [0, 1, 1, 1]
