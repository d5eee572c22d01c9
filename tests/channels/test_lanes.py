"""Lanes speak SMTP to a sink that misbehaves at every step; every parcel gets exactly one outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.channels import Fate, Outcome, Parcel
from dispatcher.channels.email.lanes import Lane
from dispatcher.channels.email.relay import open_lane, probe
from dispatcher.channels.feed import Backlog
from dispatcher.config import RelaySettings
from dispatcher.errors import RelayUnavailable
from tests.support.sink import EXTENSIONS, HANG_UP, SILENCE, Script, Session, Sink, a_sink


@dataclass
class Letterbox:
    """A parcel that remembers what became of it."""

    address: str
    body: bytes = b"Subject: x\r\n\r\nhello\r\n"
    needs_utf8: bool = False
    urgency: int = 0
    returns: int = 0
    return_path: str = "desk@example.org"
    is_wanted: bool = True
    record_at_once: bool = True
    outcomes: list[Outcome] = field(default_factory=list)
    overdue_for: float | None = None
    recorded: Callable[[], None] = lambda: None

    def wanted(self) -> bool:
        return self.is_wanted

    def message(self, *, eight_bit: bool) -> bytes:
        return self.body

    def overdue(self, patience: float) -> None:
        self.overdue_for = patience

    def settle(self, outcome: Outcome, recorded: Callable[[], None]) -> None:
        self.outcomes.append(outcome)
        self.recorded = recorded
        if self.record_at_once:
            asyncio.get_running_loop().call_soon(recorded)

    @property
    def fate(self) -> Fate | None:
        return self.outcomes[0].fate if self.outcomes else None


class Poison(Letterbox):
    """A parcel whose letter cannot be made."""

    def message(self, *, eight_bit: bool) -> bytes:
        raise ZeroDivisionError("reader@example.org")


class Boxes(Backlog):
    """A backlog that lanes take from directly, without a relay's limits between them."""

    def judge(self, parcel: Parcel, outcome: Outcome) -> Outcome:
        return outcome


def parcels(count: int) -> list[Letterbox]:
    return [Letterbox(f"reader{number}@example.org") for number in range(count)]


@dataclass
class Road:
    """A sink, a backlog and a lane between them."""

    sink: Sink
    backlog: Boxes
    lane: Lane
    closed: list[str]


@asynccontextmanager
async def a_road(
    boxes: list[Letterbox], script: Script | None = None, *, extensions: tuple[str, ...] = EXTENSIONS
) -> AsyncIterator[Road]:
    backlog = Boxes(lambda: None, 0)
    backlog.add(0, boxes)
    closed: list[str] = []
    async with a_sink(script, extensions=extensions) as sink:
        relay = RelaySettings(host="127.0.0.1", port=sink.port, starttls="never")
        lane = await open_lane(relay, backlog, lambda _, reason: closed.append(reason))
        yield Road(sink, backlog, lane, closed)
        if not lane.closed:
            lane.expire()


async def until(condition: Callable[[], object], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


def all_settled(boxes: list[Letterbox]) -> Callable[[], bool]:
    return lambda: all(box.outcomes for box in boxes)


def answers(step: str, reply: str, *, to: str = "") -> Script:
    """Answer one step, for one recipient or for all, in a way of our own."""

    def script(at: str, argument: str, session: Session) -> str | None:
        return reply if at == step and to in argument else None

    return script


@pytest.mark.parametrize("extensions", [EXTENSIONS, ("8BITMIME",), ()], ids=["pipelining", "plain", "bare"])
async def test_every_message_arrives_as_it_was_written(extensions: tuple[str, ...]) -> None:
    boxes = [Letterbox(f"reader{n}@example.org", b"Subject: x\r\n\r\nline %d\r\n" % n) for n in range(50)]

    async with a_road(boxes, extensions=extensions) as road:
        road.lane.wake()
        await until(all_settled(boxes))

    assert [box.fate for box in boxes] == [Fate.ACCEPTED] * 50
    assert [(each.recipient, each.data) for each in road.sink.taken] == [(box.address, box.body) for box in boxes]


async def test_the_relays_own_words_are_kept() -> None:
    boxes = parcels(1)

    async with a_road(boxes) as road:
        road.lane.wake()
        await until(all_settled(boxes))

    assert boxes[0].outcomes == [Outcome(Fate.ACCEPTED, 250, "2.0.0 Ok: taken", f"127.0.0.1:{road.sink.port}")]


async def test_the_next_envelope_rides_behind_the_final_dot() -> None:
    boxes = parcels(3)

    async with a_road(boxes) as road:
        road.lane.wake()
        await until(all_settled(boxes))

    with_dot = [read for read in road.sink.reads if read.endswith(b"DATA\r\n") and b"\r\n.\r\nMAIL FROM" in read]
    assert len(with_dot) == 2


async def test_without_pipelining_each_command_waits_for_its_answer() -> None:
    boxes = parcels(2)

    async with a_road(boxes, extensions=()) as road:
        road.lane.wake()
        await until(all_settled(boxes))

    commands = [read for read in road.sink.reads if not read.startswith((b"EHLO", b"Subject"))]
    assert all(read.count(b"\r\n") == 1 for read in commands)


async def test_no_message_starts_before_the_last_answer_is_recorded() -> None:
    boxes = parcels(2)
    boxes[0].record_at_once = False

    async with a_road(boxes) as road:
        road.lane.wake()
        await until(lambda: boxes[0].outcomes and road.sink.commands.count("DATA") == 2)
        await asyncio.sleep(0.05)
        before = len(road.sink.taken)
        boxes[0].recorded()
        await until(all_settled(boxes))

    assert before == 1
    assert len(road.sink.taken) == 2


@pytest.mark.parametrize("extensions", [EXTENSIONS, ()], ids=["pipelining", "plain"])
@pytest.mark.parametrize(
    ("reply", "fate"),
    [("550 5.1.1 No such user", Fate.FAILED), ("450 4.2.1 Mailbox busy", Fate.DEFERRED), ("421 4.7.0 Later", None)],
)
@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "BODY"])
async def test_a_refusal_at_any_step_touches_only_its_own_reader(
    step: str, reply: str, fate: Fate | None, extensions: tuple[str, ...]
) -> None:
    boxes = parcels(5)
    refused = 0

    def once(at: str, argument: str, session: Session) -> str | None:
        nonlocal refused
        if at != step:
            return None
        refused += 1
        return reply if refused == 3 else None

    async with a_road(boxes, once, extensions=extensions) as road:
        road.lane.wake()
        if fate is None:
            await until(lambda: road.closed)
        else:
            await until(all_settled(boxes))
        left = len(road.backlog)

    fates = [box.fate for box in boxes]
    if fate is not None:
        assert fates == [Fate.ACCEPTED, Fate.ACCEPTED, fate, Fate.ACCEPTED, Fate.ACCEPTED]
    elif step == "BODY":
        assert fates == [Fate.ACCEPTED, Fate.ACCEPTED, Fate.DEFERRED, None, None]
        assert left == 2
    elif step != "MAIL":
        # It closes the session because of this reader's domain, which is to be asked less often.
        assert fates == [Fate.ACCEPTED, Fate.ACCEPTED, Fate.DEFERRED, None, None]
    else:
        # The relay closed the session before anything was offered: nobody is worse off, another lane takes them.
        assert fates == [Fate.ACCEPTED, Fate.ACCEPTED, None, None, None]
        assert left == 3
    assert all(len(box.outcomes) <= 1 for box in boxes)


async def test_a_relay_that_opens_data_for_nobody_gets_an_empty_one() -> None:
    boxes = parcels(3)

    def script(step: str, argument: str, session: Session) -> str | None:
        return "550 5.1.1 No such user" if step == "RCPT" and "reader1" in argument else None

    async with a_road(boxes, script) as road:
        road.lane.wake()
        await until(all_settled(boxes))

    assert [box.fate for box in boxes] == [Fate.ACCEPTED, Fate.FAILED, Fate.ACCEPTED]
    assert [each.recipient for each in road.sink.taken] == ["reader0@example.org", "reader2@example.org"]


async def test_a_connection_lost_after_the_last_byte_leaves_one_reader_in_doubt() -> None:
    boxes = parcels(4)

    async with a_road(boxes, answers("BODY", HANG_UP, to="reader1")) as road:
        road.lane.wake()
        await until(lambda: road.closed)
        left = len(road.backlog)

    assert [box.fate for box in boxes] == [Fate.ACCEPTED, Fate.IN_DOUBT, None, None]
    assert left == 2


async def test_a_relay_that_is_silent_after_the_last_byte_leaves_one_reader_in_doubt() -> None:
    boxes = parcels(2)

    async with a_road(boxes, answers("BODY", SILENCE)) as road:
        road.lane.wake()
        await until(lambda: road.sink.taken)
        waits = road.lane.deadline - asyncio.get_running_loop().time()
        road.lane.expire()

    assert [box.fate for box in boxes] == [Fate.IN_DOUBT, None]
    assert 590 < waits <= 600  # RFC 5321 §4.5.3.2.6


async def test_a_message_that_did_not_leave_whole_is_deferred() -> None:
    boxes = [Letterbox("reader@example.org", b"x" * 60 + b"\r\n" + b"y" * 64_000_000 + b"\r\n")]

    def script(step: str, argument: str, session: Session) -> str | None:
        if step == "DATA":
            assert session._transport is not None
            session._transport.pause_reading()
            asyncio.get_running_loop().call_later(0.3, session.hang_up)
        return None

    async with a_road(boxes, script) as road:
        road.lane.wake()
        await until(all_settled(boxes))

    assert boxes[0].fate is Fate.DEFERRED


async def test_a_parcel_that_comes_back_too_often_is_deferred() -> None:
    boxes = parcels(1)
    backlog = Boxes(lambda: None, 0)
    backlog.add(0, boxes)

    async with a_sink(answers("MAIL", HANG_UP)) as sink:
        relay = RelaySettings(host="127.0.0.1", port=sink.port, starttls="never")
        while not boxes[0].outcomes:
            closed: list[str] = []
            lane = await open_lane(relay, backlog, lambda _, reason, closed=closed: closed.append(reason))  # type: ignore[misc]
            lane.wake()
            await until(lambda closed=closed: closed)  # type: ignore[misc]

    assert boxes[0].fate is Fate.DEFERRED
    assert sink.connections == 4


@pytest.mark.parametrize(
    "nonsense",
    ["hello there", "25", "999", "250 2.1.0 Ok\r\n250 and one more\r\n250 and another\r\n250 x\r\n250 y\r\n250 z"],
)
async def test_nonsense_closes_the_lane_and_loses_nobody(nonsense: str) -> None:
    boxes = parcels(3)

    async with a_road(boxes, answers("MAIL", nonsense, to="desk")) as road:
        road.lane.wake()
        await until(lambda: road.closed or all_settled(boxes)())
        left = len(road.backlog)

    settled = [box for box in boxes if box.outcomes]
    assert len(settled) + left == 3
    assert all(len(box.outcomes) == 1 for box in settled)
    assert not road.sink.accepted


async def test_an_answer_without_an_end_closes_the_lane() -> None:
    boxes = parcels(1)

    async with a_road(boxes, answers("MAIL", "250 " + "x" * 10_000 + "\\")) as road:
        road.lane.wake()
        await until(lambda: road.closed)

    assert road.closed[0].startswith(("the relay sends a line that does not end", "the relay does not speak SMTP"))
    assert len(road.backlog) == 1


async def test_an_answer_of_endless_lines_closes_the_lane() -> None:
    boxes = parcels(1)

    async with a_road(boxes, answers("MAIL", "250-\r\n" * 2000 + "\\")) as road:
        road.lane.wake()
        await until(lambda: road.closed)

    assert road.closed == ["the relay's answer does not end"]
    assert len(road.backlog) == 1


async def test_an_address_that_needs_utf8_fails_with_a_reason_where_the_relay_has_none() -> None:
    boxes = [Letterbox("олена@example.org", needs_utf8=True), Letterbox("ann@example.org")]

    async with a_road(boxes, extensions=("PIPELINING", "8BITMIME")) as road:
        road.lane.wake()
        await until(all_settled(boxes))

    assert [box.fate for box in boxes] == [Fate.FAILED, Fate.ACCEPTED]
    assert "SMTPUTF8" in boxes[0].outcomes[0].reply


async def test_an_address_that_needs_utf8_travels_where_the_relay_offers_it() -> None:
    boxes = [Letterbox("олена@example.org", needs_utf8=True)]

    async with a_road(boxes) as road:
        road.lane.wake()
        await until(all_settled(boxes))

    assert road.sink.taken[0].recipient == "олена@example.org"
    assert "MAIL FROM:<desk@example.org> BODY=8BITMIME SMTPUTF8" in road.sink.commands


async def test_a_message_larger_than_the_relay_takes_fails_before_it_is_offered() -> None:
    boxes = [Letterbox("a@example.org", b"x" * 2000 + b"\r\n"), Letterbox("b@example.org")]

    async with a_road(boxes, extensions=(*EXTENSIONS, "SIZE 1000")) as road:
        road.lane.wake()
        await until(all_settled(boxes))

    assert [box.fate for box in boxes] == [Fate.FAILED, Fate.ACCEPTED]
    assert len(road.sink.taken) == 1


async def test_a_letter_that_cannot_be_made_fails_alone_and_names_nobody() -> None:
    boxes = [Letterbox("a@example.org"), Poison("b@example.org"), Letterbox("c@example.org")]

    async with a_road(boxes) as road:
        road.lane.wake()
        await until(all_settled(boxes))

    assert [box.fate for box in boxes] == [Fate.ACCEPTED, Fate.FAILED, Fate.ACCEPTED]
    assert boxes[1].outcomes[0].reply == "the letter could not be made for this reader (ZeroDivisionError)"


async def test_a_message_that_is_called_back_is_never_started() -> None:
    boxes = parcels(3)
    boxes[0].record_at_once = False

    async with a_road(boxes) as road:
        road.lane.wake()
        await until(lambda: boxes[0].outcomes and road.sink.commands.count("DATA") == 2)
        boxes[1].is_wanted = boxes[2].is_wanted = False
        boxes[0].recorded()
        await until(lambda: road.closed)
        assert road.backlog.take() is None

    assert [each.recipient for each in road.sink.taken] == ["reader0@example.org"]
    assert [box.fate for box in boxes] == [Fate.ACCEPTED, Fate.UNSENT, Fate.UNSENT]


async def test_quit_finishes_the_message_that_is_on_its_way() -> None:
    boxes = parcels(3)

    def slow(step: str, argument: str, session: Session) -> str | None:
        if step == "BODY":
            asyncio.get_running_loop().call_later(0.1, session.speak, "250 2.0.0 Ok")
            return SILENCE
        return None

    async with a_road(boxes, slow) as road:
        road.lane.wake()
        await until(lambda: road.sink.taken)
        road.lane.quit()
        await until(lambda: road.closed)
        left = len(road.backlog)

    assert [box.fate for box in boxes] == [Fate.ACCEPTED, None, None]
    assert left == 2
    assert len(road.sink.taken) == 1


async def test_an_idle_lane_says_goodbye() -> None:
    async with a_road(parcels(1)) as road:
        road.lane.wake()
        await until(lambda: road.sink.accepted and not road.lane.busy)
        road.lane.quit()
        await until(lambda: road.closed)

    assert road.sink.commands[-1] == "QUIT"
    assert road.closed == [""]


async def test_a_relay_that_refuses_the_greeting_is_named_with_its_words() -> None:
    async with a_sink(answers("BANNER", "554 5.7.1 Go away")) as sink:
        relay = RelaySettings(host="127.0.0.1", port=sink.port, starttls="never")
        with pytest.raises(RelayUnavailable, match="554 5.7.1 Go away"):
            await open_lane(relay, Boxes(lambda: None, 0), lambda *_: None)
        found = await probe(relay)

    assert not found.reachable
    assert "554" in found.detail


async def test_a_probe_says_what_the_relay_offers_and_sends_nothing() -> None:
    async with a_sink(extensions=("PIPELINING", "SMTPUTF8")) as sink:
        found = await probe(RelaySettings(host="127.0.0.1", port=sink.port))

    assert (found.reachable, found.pipelining, found.eight_bit, found.utf8) == (True, True, False, True)
    assert not any(command.startswith("MAIL") for command in sink.commands)


REPLIES = st.sampled_from(
    [None] * 12
    + [
        "250 Ok",
        "450 later",
        "550 no",
        "421 bye",
        "354 go",
        "354 go\r\n250 twice",
        "220-a\r\n220 b",
        "rubbish",
        "",
        HANG_UP,
    ]
)


@settings(max_examples=150, deadline=None)
@given(script=st.lists(REPLIES, min_size=1, max_size=40), pipelining=st.booleans())
def test_whatever_the_relay_does_every_parcel_has_one_outcome_or_still_waits(
    script: list[str | None], pipelining: bool
) -> None:
    async def run() -> None:
        boxes = parcels(8)
        replies = iter(script)

        def scripted(step: str, argument: str, session: Session) -> str | None:
            return None if step in ("BANNER", "EHLO") else next(replies, None)

        async with a_road(boxes, scripted, extensions=EXTENSIONS if pipelining else ()) as road:
            road.lane.wake()
            for _ in range(100):
                await asyncio.sleep(0.001)
                if road.closed or all_settled(boxes)():
                    break
            if not road.lane.closed:
                road.lane.expire()
            waiting = len(road.backlog)
            await asyncio.sleep(0)

        settled = [box for box in boxes if box.outcomes]
        assert len(settled) + waiting == 8
        assert all(len(box.outcomes) == 1 for box in settled)
        # Whom the sink has a message for is either settled as accepted or in doubt, or was refused in its own words.
        silent = {each.recipient for each in road.sink.taken if each.answered == HANG_UP}
        assert all(box.fate is Fate.IN_DOUBT for box in boxes if box.address in silent and box.outcomes)

    asyncio.run(run())
