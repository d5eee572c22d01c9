"""Messages per second over several processes: a bucket in a real Valkey, and a fair share without one."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dispatcher.channels.rates import BURST, FETCH, KEY, Buckets, Purse
from tests.support.sink import SILENCE, a_sink

NOBODY = "redis://127.0.0.1:1/0"


class Member:
    """One of so many processes, with its own line to the buckets."""

    def __init__(self, url: str, peers: int = 1) -> None:
        self.buckets = Buckets(url)
        self.peers = peers

    def share(self, limit: int) -> int:
        return limit

    def part(self) -> float:
        return 1 / self.peers

    async def may_probe(self, relay: str) -> bool:
        return False

    def relay_is_back(self, relay: str) -> None: ...

    async def draw(self, name: str, rate: float, most: int) -> int | None:
        return await self.buckets.draw(name, rate, most)


@asynccontextmanager
async def purses(url: str, count: int, rate: float, *, name: str = "") -> AsyncIterator[list[Purse]]:
    members = [Member(url, count) for _ in range(count)]
    name = name or secrets.token_hex(4)
    made = [Purse(member, name, rate, lambda: None) for member in members]
    try:
        yield made
    finally:
        for purse in made:
            purse.close()
        for member in members:
            await member.buckets.close()


async def spend(purses: list[Purse], seconds: float) -> list[int]:
    """Take whatever can be taken from each for so long; says how much that was."""
    spent = [0] * len(purses)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for number, purse in enumerate(purses):
            while purse.take():
                spent[number] += 1
        await asyncio.sleep(0.005)
    return spent


async def test_two_processes_together_never_exceed_the_rate(broker_url: str) -> None:
    rate = 100.0
    async with purses(broker_url, 2, rate) as pair:
        began = time.monotonic()
        spent = await spend(pair, 1.5)
        took = time.monotonic() - began

    assert sum(spent) <= rate * took + rate * BURST
    assert sum(spent) >= rate * 1.5 * 0.4
    assert min(spent) > 5


async def test_the_tokens_that_a_process_keeps_are_few(broker_url: str) -> None:
    async with purses(broker_url, 1, 400.0) as (purse,):
        await spend([purse], 0.3)
        await asyncio.sleep(0.3)

        assert purse._tokens <= 400 * FETCH


async def test_a_slow_rate_is_kept_too(broker_url: str) -> None:
    async with purses(broker_url, 2, 2.0) as pair:
        began = time.monotonic()
        spent = await spend(pair, 1.2)
        took = time.monotonic() - began

    assert 2 <= sum(spent) <= 2 * (took + 0.3) + 2 * BURST


async def test_a_token_that_was_put_back_is_not_lost(broker_url: str) -> None:
    async with purses(broker_url, 1, 0.01) as (purse,):
        assert sum(await spend([purse], 0.2)) == 1
        purse.put_back()

        assert purse.take()
        assert not purse.take()


@pytest.mark.parametrize("url", [NOBODY, f"{NOBODY}?option=1", "amqp://guest@127.0.0.1:1//"])
async def test_without_redis_each_process_keeps_to_its_fair_share(url: str) -> None:
    rate = 100.0
    async with purses(url, 4, rate) as all_four:
        began = time.monotonic()
        spent = await spend(all_four, 1.0)
        took = time.monotonic() - began

    assert sum(spent) <= rate * took + rate * BURST
    assert min(spent) >= 8
    assert max(spent) <= 2 * min(spent)


async def test_a_redis_that_does_not_answer_costs_no_more_than_a_moment() -> None:
    async with a_sink(lambda *_: SILENCE) as silent, purses(f"redis://127.0.0.1:{silent.port}/0", 1, 100.0) as (purse,):
        assert sum(await spend([purse], 1.0)) > 20


async def test_a_bucket_is_named_after_its_relay_and_goes_by_itself(broker_url: str) -> None:
    buckets = Buckets(broker_url)
    try:
        assert await buckets.draw("relay:25", 10.0, 3) == 3
        assert await buckets.draw("other:25", 10.0, 99) == 10
        assert await buckets.draw("relay:25", 10.0, 99) in (7, 8)
        assert buckets._redis is not None
        assert 0 < await buckets._redis.ttl(KEY.format("relay:25")) <= 60
    finally:
        await buckets.close()
