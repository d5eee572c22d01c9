"""The rush of readers is real, and only answers that tell them to look into their mail count."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import uvloop

from tests.benchmarks import following, form_load, pages
from tests.benchmarks.installation import Installation
from tests.benchmarks.programs import Sink, own_sink


async def answering(answer: bytes) -> dict[str, object]:
    """What five asks come to at a server that always says this."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"device="):
            writer.write(answer)

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        return await form_load.run(server.sockets[0].getsockname()[1], "dam", asks=5, connections=2)


@pytest.mark.parametrize(
    ("answer", "others"),
    [
        (b"HTTP/1.1 303 See Other\r\nLocation: /s/dam/asked\r\nContent-Length: 0\r\n\r\n", {}),
        (b"HTTP/1.1 303 See Other\r\nlocation: /s/other/asked\r\ncontent-length: 0\r\n\r\n", {"status 303": 5}),
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 3\r\n\r\nno!", {"status 429": 5}),
    ],
)
def test_an_ask_went_well_if_it_leads_to_the_page_that_says_so(answer: bytes, others: dict[str, int]) -> None:
    found = uvloop.run(answering(answer))

    assert found["others"] == others
    assert found["well"] == 5 - sum(others.values())


def test_every_ask_has_an_address_and_a_client_of_its_own() -> None:
    requests = [form_load.form_request("localhost", "dam", number) for number in (0, 1, 255, 256, 70_000)]

    assert len({request.split(b"email=")[1] for request in requests}) == 5
    assert len({request.split(b"X-Forwarded-For: ")[1].split(b"\r\n")[0] for request in requests}) == 5


@pytest.fixture(scope="module")
def rush() -> Iterator[tuple[Installation, Sink]]:
    with own_sink() as sink, following.site(sink) as box:
        asyncio.run(following.story(box))
        yield box, sink


def test_in_a_small_rush_everybody_is_answered_and_everybody_gets_a_mail(rush: tuple[Installation, Sink]) -> None:
    box, sink = rush
    crowd = following.Crowd(box, sink)

    at_once = crowd.rush(40, "--connections", "4", "--pages")
    steady = crowd.rush(30, "--rate", "200", "--connections", "8")
    asyncio.run(following.check_mails(box, 70))

    assert sink.taken() == 70
    for each in (at_once, steady):
        assert 0 < each.told["p50_ms"] <= each.told["p99_ms"] <= each.told["max_ms"]
    assert steady.told["per_second"] < 210
    assert at_once.cpu_us("web") > 0


def test_the_page_of_a_story_is_measured_with_all_that_it_needs(rush: tuple[Installation, Sink]) -> None:
    box, _ = rush
    page = pages.fetch(box.port, asyncio.run(pages.publish(box)), 5)

    assert page.html > 10_000
    assert page.parts > 10_000
    assert len(page.times) == 5
