"""Messages per second, shared by every process on every machine: a token bucket in Redis.

If Redis is away, or the broker is no Redis, each process keeps to its fair share. A lane never waits for Redis: tokens
are fetched ahead while they are wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from dispatcher.channels import Fleet

log = structlog.get_logger()

#: Seconds of a rate that may be spent at once, and that are fetched at once.
BURST = 1.0
FETCH = 0.25
#: Seconds that Redis gets to answer, and that it is left alone after it did not.
TIMEOUT = 0.25
LEFT_ALONE = 5.0
#: The key of a relay's bucket.
KEY = "dispatcher:rate:{}"

#: Takes up to ARGV[3] whole tokens from the bucket KEYS[1], which fills with ARGV[1] a second up to ARGV[2].
DRAW = """
local now = redis.call('TIME')
local at = now[1] + now[2] / 1000000
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(kept[1]) or tonumber(ARGV[2])
local since = tonumber(kept[2]) or at
tokens = math.min(tonumber(ARGV[2]), tokens + math.max(0, at - since) * tonumber(ARGV[1]))
local drawn = math.min(math.floor(tokens), tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens - drawn), 'at', tostring(at))
redis.call('EXPIRE', KEYS[1], 60)
return drawn
"""


class Buckets:
    """The shared buckets of one installation. One for a process, on one event loop."""

    def __init__(self, broker_url: str) -> None:
        self._redis = _connect(broker_url)
        self._script = None if self._redis is None else self._redis.register_script(DRAW)
        self._again_at = 0.0

    async def draw(self, name: str, rate: float, most: int) -> int | None:
        """Up to `most` tokens from the bucket `name` that fills with `rate` a second. None if Redis is not there."""
        now = asyncio.get_running_loop().time()
        if self._script is None or now < self._again_at:
            return None
        try:
            async with asyncio.timeout(TIMEOUT):
                return int(await self._script(keys=[KEY.format(name)], args=[rate, max(1.0, rate * BURST), most]))
        except (
            RedisError,
            OSError,
            TimeoutError,
            TypeError,
        ) as error:  # TypeError: the URL has an option for Celery alone
            self._again_at = now + LEFT_ALONE
            log.warning("rates are not shared", error=type(error).__name__, remedy="each process keeps to its share")
            return None

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()


class Purse:
    """The tokens that one process holds for one relay."""

    def __init__(self, fleet: Fleet, name: str, rate: float, refilled: Callable[[], None]) -> None:
        """`rate` is messages per second over all processes."""
        self._fleet = fleet
        self._name = name
        self._rate = rate
        self._refilled = refilled
        self._tokens = 0
        self._filling: asyncio.Task[None] | None = None
        self._own = 0.0  # without Redis: tokens of our share, and when they were counted
        self._counted_at = 0.0

    def take(self) -> bool:
        """Spend one token. False if there is none; then `refilled` is called once there is."""
        if self._tokens:
            self._tokens -= 1
            return True
        if self._filling is None:
            self._filling = asyncio.create_task(self._fill())
        return False

    def put_back(self) -> None:
        """The message was not sent after all."""
        self._tokens += 1

    def close(self) -> None:
        if self._filling is not None:
            self._filling.cancel()

    async def _fill(self) -> None:
        try:
            while not self._tokens:
                most = max(1, int(self._rate * FETCH))
                drawn = await self._fleet.draw(self._name, self._rate, most)
                self._tokens = self._of_our_own(most) if drawn is None else drawn
                if not self._tokens:
                    await asyncio.sleep(min(1.0, max(0.01, 1 / self._rate)))
        finally:
            self._filling = None
        self._refilled()

    def _of_our_own(self, most: int) -> int:
        now = asyncio.get_running_loop().time()
        rate = self._rate * self._fleet.part()
        self._own = min(max(1.0, rate * BURST), self._own + (now - self._counted_at) * rate)
        self._counted_at = now
        drawn = min(int(self._own), most)
        self._own -= drawn
        return drawn


def _connect(broker_url: str) -> redis.asyncio.Redis | None:
    if broker_url.startswith("redis+socket://"):
        broker_url = "unix://" + broker_url.removeprefix("redis+socket://").replace("virtual_host=", "db=")
    if not broker_url.startswith(("redis://", "rediss://", "unix://")):
        return None
    return redis.asyncio.Redis.from_url(broker_url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
