"""Watching an update: one look for all who watch, bars that show everybody, and times that a person would say."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher import db, watching
from dispatcher.errors import NotFound
from dispatcher.model import BlastState, ChannelName, DeliveryState
from dispatcher.progress import Progress, Slot
from dispatcher.watching import WatchedBlast, Watchers, seconds
from dispatcher.watching.looking import Memory, look
from dispatcher.web.desk.live_drawing import LEAST, bar, line
from tests.support.newsroom import newsroom

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


def blast_with(
    states: dict[DeliveryState, int], *, waiting: int = 0, age: float = 41.0, **more: object
) -> WatchedBlast:
    found = {state: count for state, count in states.items() if count}
    values: dict[str, object] = {
        "id": 1,
        "channel": ChannelName.EMAIL,
        "state": BlastState.SENDING,
        "candidates": waiting + sum(found.values()),
        "progress": Progress(states=found),
        "states": found,
        "published_at": NOW - timedelta(seconds=age),
        "now": NOW,
        **more,
    }
    return WatchedBlast(**values)  # type: ignore[arg-type]


async def test_all_who_watch_an_update_share_one_look_and_the_last_ends_it(database: db.Database) -> None:
    room = newsroom(database)
    await room.story(followers=3)
    await room.publish()
    watchers = Watchers(database)
    async with watchers.watching("dam", 1) as first, watchers.watching("dam", 1) as second:
        seen = await first.next(0, 10)
        assert first is second
        assert len(watchers) == 1
        assert seen is await second.next(0, 10)
        assert seen is not None
        assert seen.blasts[0].candidates is None
    assert len(watchers) == 0


async def test_the_number_that_may_be_tried_again_is_never_that_of_an_earlier_look(database: db.Database) -> None:
    """Whoever asks may rest; meanwhile others fail, and nobody knows yet how many of them may be tried."""
    room = newsroom(database)
    await room.story(followers=3)
    published = await room.publish()
    await room.cut()
    fail = (
        "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, code, reply)"
        " SELECT %s, min(id) + %s, now(), 'failed', 550, '550 no' FROM subscribers RETURNING state"
    )
    memory = Memory()

    await room.run(fail, published.blast_ids[0], 0)
    assert (await look(database, "dam", 1, memory)).blasts[0].retriable == 1
    await room.run(fail, published.blast_ids[0], 1)
    memory.rests_until = math.inf
    assert (await look(database, "dam", 1, memory)).blasts[0].retriable is None
    memory.rests_until = 0.0
    assert (await look(database, "dam", 1, memory)).blasts[0].retriable == 2


async def test_who_watches_hears_that_nothing_is_seen_any_more(database: db.Database) -> None:
    watchers = Watchers(database)
    async with watchers.watching("dam", 1) as watcher:
        assert await watcher.next(0, 10) is None
        assert "There is no update 1" in watcher.trouble
    with pytest.raises(NotFound):
        await watching.exists(database, "dam", 1)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(list(DeliveryState)), st.integers(0, 2_000_000)),
    st.integers(0, 2_000_000),
)
def test_every_state_that_somebody_is_in_is_seen_in_the_bar(states: dict[DeliveryState, int], waiting: int) -> None:
    blast = blast_with(states, waiting=waiting)
    parts = bar(blast)

    assert len(parts) == len(blast.states)
    assert all(part.wide >= LEAST for part in parts)
    assert all(before.begins + before.wide <= after.begins + 0.02 for before, after in itertools.pairwise(parts))
    ends = parts[-1].begins + parts[-1].wide if parts else 0.0
    assert ends <= 100.05
    if waiting:
        assert ends <= 100 - LEAST + 0.05
    elif parts:
        assert ends == pytest.approx(100, abs=0.05)


def test_a_steady_run_is_a_straight_line_with_its_rate_and_the_time_that_is_left() -> None:
    slots = tuple(Slot(second * 1000, "relay", 200) for second in range(5, 41))
    states = {DeliveryState.ACCEPTED: 7200}
    progress = Progress(states=states, slots=slots, first_at=NOW - timedelta(seconds=36))
    blast = blast_with(states, waiting=1000, progress=progress)
    drawn = line(blast)

    assert blast.rate == pytest.approx(200, rel=0.05)
    assert blast.seconds_left == pytest.approx(5, rel=0.05)
    assert drawn is not None
    assert drawn.most == 200
    assert drawn.ends == pytest.approx(41, abs=1)
    assert blast.progress.percentile(0.5) == pytest.approx(23_000, abs=1000)


def test_no_percentile_lies_before_the_first_acceptance_or_after_the_last() -> None:
    slots = (Slot(6_000, "relay", 10),)  # one second wide: the ledger cannot tell 6.2 from 6.9
    states = {DeliveryState.ACCEPTED: 10}
    begun = NOW - timedelta(seconds=41)
    first, last = begun + timedelta(seconds=6.2), begun + timedelta(seconds=6.4)
    progress = Progress(states=states, slots=slots, first_at=first, last_at={DeliveryState.ACCEPTED: last})
    blast = blast_with(states, progress=progress)

    assert [blast.percentile(part) for part in (0.01, 0.5, 0.99)] == [6_200, 6_400, 6_400]
    assert blast_with({}).percentile(0.5) is None


def test_nobody_says_how_long_what_stands_will_take() -> None:
    states = {DeliveryState.ACCEPTED: 10}
    paused = blast_with(states, waiting=5, state=BlastState.PAUSED)
    later = blast_with(states, waiting=5, starts_at=NOW + timedelta(hours=1), before=(NOW - timedelta(seconds=5), 0))
    over = blast_with(states, state=BlastState.DONE)

    assert paused.seconds_left is later.seconds_left is over.seconds_left is None
    assert paused.rate == over.rate == 0
    assert (paused.left, over.left) == (5, 0)


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [
        (3, "under 0.01 s"),
        (94, "0.09 s"),
        (4_140, "4.1 s"),
        (41_400, "41 s"),
        (200_000, "3 min 20 s"),
        (1_200_000, "20 min"),
        (7_500_000, "2 h 5 min"),
    ],
)
def test_a_length_of_time_is_written_as_a_person_would_say_it(milliseconds: float, said: str) -> None:
    assert seconds(milliseconds) == said
