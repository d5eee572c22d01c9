"""Limits against abuse: shared by all processes, deaf to made-up headers, and never in anybody's way for long."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from dispatcher import limiting
from dispatcher.config import Network
from dispatcher.embedded.valkey import Valkey
from dispatcher.limiting import CLIENT_ASKS, Limiter, Puzzle, client_address
from tests.support.directories import running, service_directory
from tests.support.newsroom import NO_BROKER, SECRET

CLIENT = "198.51.100.7"


@asynccontextmanager
async def limiters(broker_url: str, *, number: int = 1, brake: int = 600) -> AsyncIterator[list[Limiter]]:
    """The limits of so many processes."""
    opened = [Limiter(broker_url, brake=brake) for _ in range(number)]
    try:
        yield opened
    finally:
        for each in opened:
            await each.close()


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine take its time, but where patience is what the test is about."""
    if "says_nothing" not in request.node.name:
        monkeypatch.setattr(limiting, "PATIENCE", 10.0)


@pytest.fixture(params=["shared", "broker is RabbitMQ", "broker is away"])
def any_broker(request: pytest.FixtureRequest) -> str:
    """The URL of a broker on which limits must hold, in one process at least."""
    if request.param == "shared":
        return str(request.getfixturevalue("broker_url"))
    return "amqp://127.0.0.1:1//" if "RabbitMQ" in request.param else NO_BROKER


# --- clients


async def test_a_client_asks_20_times_an_hour(any_broker: str) -> None:
    """S2."""
    async with limiters(any_broker) as [limiter]:
        allowed = [await limiter.allow_client(CLIENT) for _ in range(CLIENT_ASKS + 5)]

        assert allowed == [True] * CLIENT_ASKS + [False] * 5
        assert await limiter.allow_client("198.51.100.8")


async def test_a_client_has_one_limit_over_all_processes(broker_url: str) -> None:
    async with limiters(broker_url, number=4) as opened:
        allowed = await asyncio.gather(*(each.allow_client(CLIENT) for each in opened for _ in range(250)))

    assert sum(allowed) == CLIENT_ASKS


async def test_ten_thousand_addresses_from_one_client_are_20_asks(any_broker: str) -> None:
    async with limiters(any_broker) as [limiter]:
        allowed = await asyncio.gather(*(limiter.allow_client(CLIENT) for _ in range(10_000)))

    assert sum(allowed) == CLIENT_ASKS


async def test_a_rush_of_many_clients_is_not_taken_for_a_broker_that_is_away(broker_url: str) -> None:
    with capture_logs() as logs:
        async with limiters(broker_url) as [limiter]:
            clients = [f"10.0.{number // 250}.{number % 250}" for number in range(3000)]
            assert all(await asyncio.gather(*map(limiter.allow_client, clients)))

    assert logs == []


async def test_an_hour_later_a_client_may_ask_again(any_broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "HOUR", 1)
    async with limiters(any_broker) as [limiter]:
        for _ in range(CLIENT_ASKS):
            await limiter.allow_client(CLIENT)
        assert not await limiter.allow_client(CLIENT)
        await asyncio.sleep(1.1)

        assert await limiter.allow_client(CLIENT)


async def test_a_network_of_ipv6_is_one_client_and_so_is_an_address_in_two_forms(any_broker: str) -> None:
    async with limiters(any_broker) as [limiter]:
        for number in range(CLIENT_ASKS // 2):
            assert await limiter.allow_client(f"2001:db8:1:2:{number:x}::1")
            assert await limiter.allow_client(f"2001:db8:1:2::{number:x}")
            assert await limiter.allow_client(CLIENT)
            assert await limiter.allow_client(f"::ffff:{CLIENT}")

        assert not await limiter.allow_client("2001:0db8:0001:0002:ffff:ffff:ffff:ffff")
        assert not await limiter.allow_client(CLIENT)
        assert await limiter.allow_client("2001:db8:1:3::1")


async def test_what_a_process_counts_by_itself_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "MOST_KEYS", 100)
    async with limiters("amqp://127.0.0.1:1//") as [limiter]:
        for number in range(1000):
            await limiter.allow_client(f"10.0.{number // 250}.{number % 250}")
            await limiter.allow_client(CLIENT)
            await limiter.first_time(str(number), 60)

        assert len(limiter._here._times) == len(limiter._here._until) == 100
        assert not await limiter.allow_client(CLIENT)  # whoever asks most is remembered longest


# --- the brake


async def test_a_flood_turns_the_brake_on_in_every_process(broker_url: str) -> None:
    """S2: a thousand clients, each within its own limit."""
    async with limiters(broker_url, number=2, brake=50) as [one, other]:
        for number in range(50):
            await (one if number % 2 else other).count_ask()
        assert not await one.braked()
        with capture_logs() as logs:
            for _ in range(10):
                await one.count_ask()
        await asyncio.sleep(limiting.BRAKE_SEEN)

        assert await one.braked()
        assert await other.braked()
        assert [each["event"] for each in logs] == ["brake on"]


async def test_the_brake_is_let_go_after_its_time(any_broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "BRAKE_SECONDS", 1)
    async with limiters(any_broker, brake=5) as [limiter]:
        for _ in range(6):
            await limiter.count_ask()
        assert await limiter.braked()
        await asyncio.sleep(1.3)
        assert not await limiter.braked()
        await limiter.count_ask()  # the minute is still full

        assert await limiter.braked()


# --- a broker in trouble


async def test_a_broker_that_comes_and_goes_is_noticed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "LEFT_ALONE", 0.3)
    with service_directory() as directory:
        server = Valkey(directory / "valkey")
        with running(server), capture_logs() as logs:
            async with limiters(server.url) as [limiter]:
                assert await limiter.allow_client(CLIENT)
                server.stop()
                away = [await limiter.allow_client(CLIENT) for _ in range(CLIENT_ASKS + 3)]
                server.start()
                await asyncio.sleep(0.4)
                assert await limiter.allow_client("198.51.100.8")

    assert away == [True] * (CLIENT_ASKS - 1) + [False] * 4, "what was asked before the broker went still counts"
    assert [each["event"] for each in logs if each["event"].startswith("limits")] == [
        "limits are counted in each process alone",
        "limits are shared by all processes again",
    ]


async def test_a_broker_that_says_nothing_holds_no_request_for_long() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    took = []
    async with limiters(f"redis://127.0.0.1:{port}/0") as [limiter]:

        async def ask(number: int) -> bool:
            began = time.perf_counter()
            allowed = await limiter.allow_client(f"10.0.0.{number}")
            took.append(time.perf_counter() - began)
            return allowed

        assert all(await asyncio.gather(*(ask(number) for number in range(60))))
        assert all([await ask(number) for number in range(60)])
    server.close()
    await server.wait_closed()

    assert max(took) < 5
    assert sum(took[60:]) < 5, "a silent broker is asked again and again"


async def test_a_call_is_cheap(broker_url: str) -> None:
    async with limiters(broker_url) as [limiter]:
        await limiter.allow_client(CLIENT)
        began = time.process_time()
        for number in range(500):
            await limiter.allow_client(f"10.0.{number // 250}.{number % 250}")
        used = (time.process_time() - began) / 500

    assert used < 0.0005


@pytest.mark.parametrize(
    ("broker_url", "expected"),
    [
        ("redis+socket:///run/valkey.sock", "unix:///run/valkey.sock?db=0"),
        ("redis+socket:///run/valkey.sock?virtual_host=3", "unix:///run/valkey.sock?db=3"),
        ("redis+socket://:s%40fe@/run/valkey.sock", "unix://:s%40fe@/run/valkey.sock?db=0"),
        ("redis://:pass@cache.example:6380/2", "redis://:pass@cache.example:6380/2"),
    ],
)
def test_a_broker_is_found_where_celery_finds_it(broker_url: str, expected: str) -> None:
    assert limiting._redis_url(broker_url) == expected


# --- who a request came from

TRUSTED: tuple[Network, ...] = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8:ffff::/48"))
ADDRESSES = st.ip_addresses().map(str)
STRANGERS = ADDRESSES.filter(lambda text: not any(ipaddress.ip_address(text) in network for network in TRUSTED))
PROXIES = st.sampled_from(["10.0.0.5", "10.255.1.2", "2001:db8:ffff::1"])
GARBAGE = st.text(alphabet="abc0123456789.:[]%_- \t\x00é", max_size=20)


def is_no_address(text: str) -> bool:
    return limiting._address(text) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(peer=STRANGERS, header=st.lists(ADDRESSES | GARBAGE, max_size=6).map(", ".join))
def test_a_header_of_a_stranger_is_not_believed(peer: str, header: str) -> None:
    """S3."""
    told_nothing = client_address(peer, None, TRUSTED)

    assert client_address(peer, header, TRUSTED) == told_nothing
    assert client_address(peer, header, ()) == told_nothing


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    made_up=st.lists(ADDRESSES | GARBAGE, max_size=5),
    client=STRANGERS,
    proxies=st.lists(PROXIES, max_size=3),
    peer=PROXIES,
)
def test_the_last_that_no_trusted_proxy_wrote_for_itself_is_the_client(
    made_up: list[str], client: str, proxies: list[str], peer: str
) -> None:
    header = ",".join([*made_up, client, *proxies])

    assert client_address(peer, header, TRUSTED) == client_address(client, None, ())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spoofed=STRANGERS, garbage=GARBAGE.filter(lambda text: "," not in text and is_no_address(text)), peer=PROXIES)
def test_behind_garbage_nothing_is_believed(spoofed: str, garbage: str, peer: str) -> None:
    assert client_address(peer, f"{spoofed}, {garbage}", TRUSTED) == peer


@pytest.mark.parametrize(
    ("peer", "header", "expected"),
    [
        ("10.0.0.5", None, "10.0.0.5"),
        ("10.0.0.5", "", "10.0.0.5"),
        ("::ffff:10.0.0.5", "192.0.2.1", "192.0.2.1"),
        ("10.0.0.5", "192.0.2.1:4711", "192.0.2.1"),
        ("10.0.0.5", "[2001:db8::1]:4711, 10.1.1.1", "2001:db8::1"),
        ("10.0.0.5", "10.9.9.9, 10.1.1.1", "10.9.9.9"),
        ("10.0.0.5", "1.2.3.4, 192.0.2.1, 10.1.1.1", "192.0.2.1"),
        ("10.0.0.5", "unknown", "10.0.0.5"),
        ("fe80::1%eth0", "192.0.2.1", "fe80::1"),
        ("", "192.0.2.1", ""),
    ],
)
def test_forms_that_proxies_write(peer: str, header: str | None, expected: str) -> None:
    assert client_address(peer, header, TRUSTED) == expected


# --- proof of work


def solve(challenge: str) -> str:
    """The work that a page does."""
    return next(
        str(nonce)
        for nonce in count()
        if hashlib.sha256(f"{challenge}:{nonce}".encode()).digest().startswith(b"\x00\x00")
    )


async def test_work_is_good_once_and_for_its_own_form(any_broker: str) -> None:
    async with limiters(any_broker) as [limiter]:
        puzzle = Puzzle(SECRET, limiter)
        challenge = puzzle.make("dam")
        nonce = solve(challenge)
        for _ in range(2):
            assert not await puzzle.check("strike", challenge, nonce)
            assert not await Puzzle("another secret", limiter).check("dam", challenge, nonce)

        assert await puzzle.check("dam", challenge, nonce)
        assert not await puzzle.check("dam", challenge, nonce)
        assert puzzle.make("dam") != puzzle.make("dam")


async def test_work_is_handed_in_once_over_all_processes(broker_url: str) -> None:
    async with limiters(broker_url, number=2) as opened:
        puzzles = [Puzzle(SECRET, each) for each in opened]
        challenge = puzzles[0].make("dam")
        nonce = solve(challenge)
        taken = await asyncio.gather(*(each.check("dam", challenge, nonce) for each in puzzles * 10))

    assert sum(taken) == 1


async def test_work_that_was_not_done_is_refused() -> None:
    async with limiters("amqp://127.0.0.1:1//") as [limiter]:
        puzzle = Puzzle(SECRET, limiter)
        challenge = puzzle.make("dam")
        nonce = solve(challenge)
        padded = f"{nonce}{'x' * 40}"
        for wrong in (str(int(nonce) + 1) if solve(challenge) else "", "", padded, "é", "\x00", "\ud800"):
            assert not await puzzle.check("dam", challenge, wrong)
        for forged in (
            "",
            "x",
            challenge[:-1],
            challenge + "A",
            challenge + "=",
            "é" * 44,
            "\ud800",
            "A" * 44,
            "A" * 9000,
        ):
            assert not await puzzle.check("dam", forged, nonce)

        assert await puzzle.check("dam", challenge, nonce)


@pytest.mark.parametrize(("age", "good"), [(0, True), (590, True), (610, False), (-590, True), (-610, False)])
async def test_a_challenge_is_good_for_ten_minutes(age: int, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with limiters("amqp://127.0.0.1:1//") as [limiter]:
        puzzle = Puzzle(SECRET, limiter)
        now = time.time()
        at(monkeypatch, lambda: now - age)
        challenge = puzzle.make("dam")
        at(monkeypatch, lambda: now)

        assert await puzzle.check("dam", challenge, solve(challenge)) is good


def at(monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float]) -> None:
    monkeypatch.setattr("dispatcher.limiting.time.time", clock)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 43), bit=st.integers(0, 6))
async def test_one_altered_bit_makes_a_challenge_worthless(at: int, bit: int) -> None:
    async with limiters("amqp://127.0.0.1:1//") as [limiter]:
        puzzle = Puzzle(SECRET, limiter)
        challenge = puzzle.make("dam")
        altered = challenge[:at] + chr(ord(challenge[at]) ^ (1 << bit)) + challenge[at + 1 :]

        assert puzzle._is_ours("dam", challenge)
        assert not puzzle._is_ours("dam", altered)
