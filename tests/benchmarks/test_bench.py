"""`dispatcher bench` itself, small: it must keep running, and its sums must hold."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher import benchmarking, db
from dispatcher.errors import Invalid
from tests.benchmarks.installation import bench
from tests.benchmarks.programs import own_sink
from tests.support.newsroom import Newsroom, newsroom

TABLES = ("stories", "updates", "subscribers", "subscriptions", "blasts", "batches", "letters", "deliveries")


def test_a_small_benchmark_sends_every_mail_and_prints_one_object() -> None:
    with own_sink() as sink:
        result = bench(sink.port, 700, size_kb=4, lanes=8)
        taken = sink.taken()

    assert taken == result["messages"] == result["accepted"] == 700
    assert abs(result["bytes"] - 4096) <= 32
    assert 0 < result["first_ms"] <= result["p50_ms"] <= result["p99_ms"] <= result["last_ms"]
    assert 0 < result["cut_ms"] <= result["first_ms"]
    assert result["peak_rss_mb"] < 120
    assert result["cpu_us_per_message"] > 0
    assert result["database_cpu_us_per_message"] > 0
    assert result["wal_bytes_per_message"] > result["ledger_bytes_per_message"] > 0
    assert {"postgres", "valkey", "worker1"} <= {each["part"] for each in result["processes"]}


async def rows_of(room: Newsroom) -> dict[str, int]:
    return {table: (await room.run(f"SELECT count(*) AS n FROM {table}"))[0]["n"] for table in TABLES}


async def test_a_benchmark_in_an_installation_leaves_what_was_there_and_nothing_else(database: db.Database) -> None:
    with own_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story("dam", followers=3)
        before = await rows_of(room)
        async with room.sender() as sender:
            job = asyncio.create_task(benchmarking.run(room.settings, messages=40, size_kb=2, workers=1))
            while not job.done():
                # No broker tells of the blast here, so somebody has to look.
                await room.cut()
                sender.nudge()
                await asyncio.sleep(0.02)
            result = await job
        taken = sink.taken()

    assert (result.accepted, taken) == (40, 40)
    assert result.as_json()["cpu_us_per_message"] is None
    assert await rows_of(room) == before


@pytest.mark.parametrize("size_kb", [1, 1025])
async def test_a_size_that_no_letter_can_have_is_refused_before_anything_is_written(
    database: db.Database, size_kb: int
) -> None:
    room = newsroom(database)

    with pytest.raises(Invalid, match="size-kb"):
        await benchmarking.run(room.settings, messages=10, size_kb=size_kb, workers=1)

    assert not any((await rows_of(room)).values())
