"""The suite's sink counts what it takes exactly, however the bytes are cut up on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks import raw, rivals
from tests.benchmarks.programs import Sink, found, own_sink
from tests.benchmarks.sink import BUFFER, Counts, Session
from tests.support.smtp import Dialogue

ENVELOPE = b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n"
LINES = st.sampled_from(
    [b"a line\r\n", b"..stuffed\r\n", b"\r\n", b"..\r\n", b"no end.", b"x" * 300 + b"\r\n", b"\n.\n"]
)


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.said = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.said += data

    def close(self) -> None:
        self.closed = True


class Conversation:
    """A session with the sink, without any network."""

    def __init__(self) -> None:
        self.taken = 0
        self.wire = Wire()
        self.session = Session(bytearray(BUFFER), self._count)
        self.session.connection_made(cast("asyncio.Transport", self.wire))
        self.wire.said = b""

    def hear(self, data: bytes) -> None:
        view = self.session.get_buffer(len(data))
        view[: len(data)] = data
        self.session.buffer_updated(len(data))

    def _count(self) -> None:
        self.taken += 1


def pieces(data: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    for begin, end in pairwise(edges):
        if begin < end:
            yield data[begin:end]


@given(
    bodies=st.lists(st.lists(LINES, max_size=6).map(b"".join), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 4000), max_size=12),
)
def test_every_message_is_counted_once_wherever_the_packets_end(bodies: list[bytes], cuts: list[int]) -> None:
    talk = Conversation()
    bodies = [body if not body or body.endswith(b"\r\n") else body + b"\r\n" for body in bodies]
    # As a client must: the first envelope, then each message with the next envelope right behind it.
    flights = [ENVELOPE, *(body + b".\r\n" + ENVELOPE for body in bodies[:-1]), bodies[-1] + b".\r\nQUIT\r\n"]

    for number, flight in enumerate(flights):
        for piece in pieces(flight, cuts):
            talk.hear(piece)
        assert talk.taken == number

    codes = [line[:3] for line in talk.wire.said.splitlines()]
    assert codes == [b"250", b"250", b"354"] + [b"250", b"250", b"250", b"354"] * (len(bodies) - 1) + [b"250", b"221"]
    assert talk.wire.closed


def test_what_comes_in_one_packet_is_answered_in_one() -> None:
    talk = Conversation()
    talk.hear(ENVELOPE)

    assert talk.wire.said.count(b"\r\n") == 3


def test_a_command_that_does_not_end_is_refused() -> None:
    talk = Conversation()
    talk.hear(b"MAIL FROM:<" + b"a" * 5000)

    assert talk.wire.said.startswith(b"500")
    assert talk.wire.closed


def test_several_processes_count_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    path.touch()
    counts = Counts(path, 2)
    for number, times in ((0, 3), (1, 4)):
        count = counts.counter(number)
        for _ in range(times):
            count()

    assert counts.total() == 7
    counts.close()


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with own_sink(2) as running:
        yield running


def test_a_plain_client_is_served_too(sink: Sink) -> None:
    before = sink.taken()
    with Dialogue(sink.port) as client:
        assert "250-PIPELINING" in client.offers
        assert client.mail(b"Subject: one\r\n\r\nbody\r\n").startswith("250")
        assert client.mail(b"").startswith("250")
        assert client.ask("QUIT").startswith("221")

    assert sink.taken() == before + 2


@pytest.mark.parametrize("plain", [False, True])
def test_the_raw_client_sends_exactly_what_it_is_told(sink: Sink, plain: bool) -> None:
    before = sink.taken()

    result = raw.send(sink.port, 303, size_kb=20, lanes=7, processes=2, plain=plain)

    assert sink.taken() == before + 303
    assert result["messages"] == 303
    assert result["per_second"] > 0


@pytest.mark.skipif(found("smtp-source") is None, reason="Debian's postfix is not installed")
def test_postfixs_load_generator_is_served_and_counted(sink: Sink) -> None:
    before = sink.taken()

    assert rivals.smtp_source(sink.port, 200, 2) > 0
    assert sink.taken() == before + 200


def test_a_message_is_as_large_as_it_should_be() -> None:
    for size in (2, 20, 100):
        assert abs(len(raw.body_of(size)) - size * 1024) < 100
