"""The push service counts exactly, and what is compared with us pushes as we do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks import pushing, pywebpush_program
from tests.benchmarks.programs import Sink, push_sink
from tests.benchmarks.push_sink import LONGEST, sessions
from tests.benchmarks.test_sink import Wire, pieces


class Conversation:
    """A session with the push service, without any network."""

    def __init__(self) -> None:
        self.taken = 0
        self.wire = Wire()
        self.session = sessions(self._count)()
        self.session.connection_made(cast("asyncio.Transport", self.wire))

    def _count(self) -> None:
        self.taken += 1


def request(body: bytes, length: str = "Content-Length") -> bytes:
    return b"POST /push/1 HTTP/1.1\r\nTTL: 60\r\n%s: %d\r\n\r\n%s" % (length.encode(), len(body), body)


@given(
    bodies=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 4000), max_size=12),
    length=st.sampled_from(["Content-Length", "content-length"]),
)
def test_every_push_is_counted_once_wherever_the_packets_end(bodies: list[bytes], cuts: list[int], length: str) -> None:
    talk = Conversation()
    for piece in pieces(b"".join(request(body, length) for body in bodies), cuts):
        talk.session.data_received(piece)

    assert talk.taken == len(bodies)
    assert talk.wire.said.count(b"HTTP/1.1 201 ") == len(bodies)
    assert not talk.wire.closed


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\n\r\n", request(b""), request(b"x" * LONGEST), b"POST /push/1 HTTP/1.1\r\n" + b"x" * LONGEST],
)
def test_what_is_no_push_is_refused_and_not_counted(sent: bytes) -> None:
    talk = Conversation()
    talk.session.data_received(sent)

    assert talk.taken == 0
    assert talk.wire.said.startswith(b"HTTP/1.1 400 ")
    assert talk.wire.closed


@pytest.fixture(scope="module")
def service() -> Iterator[Sink]:
    with push_sink() as running:
        yield running


def test_a_small_blast_reaches_every_device_and_the_devices_can_read_it(service: Sink) -> None:
    before = service.taken()

    pushed = pushing.blast(service, 600)

    assert pushed.result.accepted == service.taken() - before == 600
    assert len(pushing.samples(service.port)) >= 2
    assert 0 < pushed.payload_bytes < pushed.body_bytes <= 4096
    assert (pushed.result.cpu_us("worker") or 0) > 0
    assert (pushed.result.peak_rss_mb or 0) > 0


@pytest.mark.parametrize("keep", [False, True])
def test_the_library_in_a_loop_is_served_and_counted(service: Sink, keep: bool) -> None:
    before = service.taken()

    result = pywebpush_program.push(service.port, 20, 459, keep=keep)

    assert service.taken() - before == 20
    assert result["per_second"] > 0
    assert result["cpu_us_per_push"] > 0
