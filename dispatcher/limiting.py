"""Limits against abuse that all processes share: asks per client, a brake for all, and work that must be proven.

They live in the broker where that is Redis or Valkey. Where it is not, or while it is away, each process counts for
itself: limits are then as many times as wide as there are processes, and nobody is kept out by our own trouble.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import secrets
import struct
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dispatcher.config import DEFAULT_BRAKE, Network
from dispatcher.errors import Misconfigured
from dispatcher.tokens import derive

log = structlog.get_logger()

T = TypeVar("T")

#: Asks that one client may make within an hour.
CLIENT_ASKS = 20
HOUR = 3600
#: Seconds for which the brake is on once too many have asked within a minute.
BRAKE_SECONDS = 60
#: Seconds that a process takes the brake to be as it last saw it.
BRAKE_SEEN = 0.25
#: Seconds that a request waits for the broker at most, and for which a silent one is then left alone.
PATIENCE = 0.2
LEFT_ALONE = 5.0
#: Connections of one process, and how many requests may wait for an answer on them.
CONNECTIONS = 16
MOST_WAITING = 200
#: Keys that a process counts by itself at most; the oldest are forgotten first.
MOST_KEYS = 100_000
PREFIX = "dispatcher-limits"


class _Shared:
    """Counts in Redis or Valkey, for all processes."""

    def __init__(self, url: str) -> None:
        self._pool = BlockingConnectionPool.from_url(
            _redis_url(url),
            max_connections=CONNECTIONS,
            timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            socket_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
        )
        self._storage = RedisStorage(
            "redis://",
            implementation="redispy",
            key_prefix=PREFIX,
            connection_pool=self._pool,  # type: ignore[arg-type]  # its types forget what its words promise
        )
        self._exact = MovingWindowRateLimiter(self._storage)
        self._rough = SlidingWindowCounterRateLimiter(self._storage)

    async def within(self, key: str, most: int, seconds: int) -> bool:
        """As in `_Here`: exact by a list of times where that is short, else by two counters."""
        strategy = self._exact if most <= CLIENT_ASKS else self._rough
        return await strategy.hit(RateLimitItemPerSecond(most, seconds), key)

    async def first(self, key: str, seconds: int) -> bool:
        return await self._storage.incr(key, seconds) == 1

    async def seen(self, key: str) -> bool:
        return await self._storage.get(key) > 0

    async def close(self) -> None:
        await self._pool.aclose()


class _Here:
    """Counts in this process alone."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}
        self._until: dict[str, float] = {}

    def within(self, key: str, most: int, seconds: int) -> bool:
        """Count one more under `key`, unless there were `most` within the last `seconds`: then False."""
        now = time.monotonic()
        times = self._times.pop(key, deque())
        self._times[key] = times  # at the end: whoever asks least is forgotten first
        _forget_oldest(self._times)
        while times and times[0] <= now - seconds:
            times.popleft()
        if len(times) >= most:
            return False
        times.append(now)
        return True

    def take_back(self, key: str) -> None:
        """Count the last one under `key` no more."""
        if times := self._times.get(key):
            times.pop()

    def first(self, key: str, seconds: int) -> bool:
        """True the first time within `seconds`."""
        if self.seen(key):
            return False
        self._until.pop(key, None)
        self._until[key] = time.monotonic() + seconds
        _forget_oldest(self._until)
        return True

    def seen(self, key: str) -> bool:
        """Whether `first` was asked for `key`, and its seconds are not over."""
        return self._until.get(key, 0.0) > time.monotonic()


def _forget_oldest(kept: dict[str, T]) -> None:
    if len(kept) > MOST_KEYS:
        del kept[next(iter(kept))]


class Limiter:
    """The limits of one process, on its event loop. Never raises for a broker that is away, and never waits long.

    Whatever is asked is counted here first. What this process alone would refuse is refused without asking the broker,
    so that a flood does not become the broker's; and what it would not, goes by the broker while that answers.
    """

    def __init__(self, broker_url: str, *, brake: int = DEFAULT_BRAKE) -> None:
        """`brake`: asks a minute, over all processes, beyond which work must be proven. Raises `Misconfigured`."""
        self._shared = None if broker_url.startswith("amqp") else _Shared(broker_url)
        self._here = _Here()
        self._brake = brake
        self._away = False
        self._try_at = 0.0
        self._heard_at = 0.0
        self._silences = 0
        self._waiting = 0
        self._late: set[asyncio.Task[bool]] = set()
        self._brake_seen = (False, -1.0)

    async def allow_client(self, address: str) -> bool:
        """Count an ask of one client, and say whether it is within its `CLIENT_ASKS` an hour.

        `address` is what `client_address` says. A network of IPv6 (/64) is one client: it has one line.
        """
        return await self._within(f"client/{_line(address)}", CLIENT_ASKS, HOUR)

    async def count_ask(self) -> None:
        """Count an ask, of whomever, for the brake."""
        if not await self._within("asks", self._brake, 60):
            here = self._here.first("brake", BRAKE_SECONDS)
            everywhere = await self._ask(lambda shared: shared.first("brake", BRAKE_SECONDS)) if here else None
            if everywhere or (here and everywhere is None):
                log.warning("brake on", asks_a_minute=self._brake, seconds=BRAKE_SECONDS)
            self._brake_seen = (True, time.monotonic())

    async def braked(self) -> bool:
        """Whether forms want a proof of work just now."""
        braked, seen_at = self._brake_seen
        if time.monotonic() - seen_at > BRAKE_SEEN:
            braked = self._here.seen("brake") or bool(await self._ask(lambda shared: shared.seen("brake")))
            self._brake_seen = (braked, time.monotonic())
        return braked

    async def first_time(self, key: str, seconds: int) -> bool:
        """True for the first call with this key within `seconds`, in any process."""
        key = f"once/{key}"
        return self._here.first(key, seconds) and await self._ask(lambda each: each.first(key, seconds)) is not False

    async def close(self) -> None:
        """Give the connections up."""
        await asyncio.gather(*self._late, return_exceptions=True)
        if self._shared is not None:
            await self._shared.close()

    async def _within(self, key: str, most: int, seconds: int) -> bool:
        if not self._here.within(key, most, seconds):
            return False
        if await self._ask(lambda shared: shared.within(key, most, seconds)) is not False:
            return True
        self._here.take_back(key)
        return False

    async def _ask(self, question: Callable[[_Shared], Coroutine[Any, Any, bool]]) -> bool | None:
        """What the broker says; None if it is away, or in a rush. One request at a time finds out if it is back."""
        began = time.monotonic()
        if self._shared is None or self._waiting >= MOST_WAITING or (self._away and began < self._try_at):
            return None
        if self._away:
            self._try_at = began + LEFT_ALONE
        self._waiting += 1
        try:
            answer = await self._within_patience(question(self._shared))
        except (RedisError, OSError, TimeoutError) as error:
            if self._heard_at <= began:  # else it is our own rush that made this one wait
                self._miss(error)
            return None
        finally:
            self._waiting -= 1
        self._heard_at = time.monotonic()
        self._silences = 0
        if self._away:
            self._away = False
            log.info("limits are shared by all processes again")
        return answer

    async def _within_patience(self, asking: Coroutine[Any, Any, bool]) -> bool:
        """Wait so long and no longer. The client closes its connections politely, and may take its time over that."""
        task = asyncio.create_task(asking)
        try:
            await asyncio.wait({task}, timeout=PATIENCE)
        finally:
            if not task.done():
                self._late.add(task)
                task.add_done_callback(self._forget)
                task.cancel()
        if not task.done():
            raise TimeoutError
        return task.result()

    def _forget(self, task: asyncio.Task[bool]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked has gone on without it

    def _miss(self, error: Exception) -> None:
        """The broker did not answer. A single silence may have been this process's own."""
        self._silences += 1
        if isinstance(error, TimeoutError | RedisTimeoutError) and self._silences < 2:
            return
        if not self._away:
            log.warning("limits are counted in each process alone", reason=type(error).__name__)
        self._away = True
        self._try_at = time.monotonic() + LEFT_ALONE


def _redis_url(broker_url: str) -> str:
    """A broker's URL as Celery has it, in the form that redis-py takes."""
    if not broker_url.startswith("redis+socket://"):
        return broker_url
    parts = urlsplit(broker_url)
    number = parse_qs(parts.query).get("virtual_host", ["0"])[-1].strip("/")
    if not number.isdecimal():
        raise Misconfigured("DISPATCHER_BROKER_URL: virtual_host is a number.", field="BROKER_URL")
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return f"unix://{login}{parts.path}?db={number}"


def client_address(peer: str, forwarded_for: str | None, trusted: tuple[Network, ...]) -> str:
    """The address that a request came from, as far as it can be believed.

    `X-Forwarded-For` is read from its end, and only as long as whoever wrote an entry is one of the `trusted` proxies.
    What is no address ends the walk: behind it, anything may have been written by the client.
    """
    believed = _address(peer)
    if believed is None:
        return peer  # a socket of this machine has no address
    for entry in reversed((forwarded_for or "").split(",")):
        if not any(believed.version == network.version and believed in network for network in trusted):
            break
        named = _address(entry)
        if named is None:
            break
        believed = named
    return str(believed)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address, perhaps with a port; one of IPv4 written as IPv6 is the same. None for anything else."""
    text = text.strip()
    with_port = re.fullmatch(r"\[([^\]]+)\](?::\d{1,5})?|([\d.]+):\d{1,5}", text)
    if with_port:
        text = with_port[1] or with_port[2]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _line(address: str) -> str:
    """What counts as one client: an address, or a whole /64 of IPv6."""
    found = _address(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((found, 64), strict=False).network_address)
    return str(found or address)


class Puzzle:
    """Work that a browser does in about a second and a flood of forms cannot afford.

    A challenge is good for one form, for `SECONDS`, and once. The answer is a nonce with which the SHA-256 of
    `challenge:nonce` begins with `BITS` zero bits.
    """

    SECONDS = 600
    BITS = 16
    HEAD = struct.Struct(">Q8s")
    MAC_SIZE = 17  #: so that 33 bytes fill base64 without a spare bit: no challenge can be written in two ways
    LONGEST_NONCE = 32

    def __init__(self, secret_key: str, limiter: Limiter) -> None:
        self._key = derive(secret_key, "puzzle")
        self._limiter = limiter

    def make(self, purpose: str) -> str:
        """A new challenge for one form, such as a story's slug."""
        head = self.HEAD.pack(int(time.time()), secrets.token_bytes(8))
        return base64.urlsafe_b64encode(head + self._mac(purpose, head)).decode()

    async def check(self, purpose: str, challenge: str, nonce: str) -> bool:
        """Whether this is the work for a challenge that we made for this form, and that was not handed in before."""
        if not self._is_ours(purpose, challenge) or not _is_work(challenge, nonce):
            return False
        digest = hashlib.sha256(challenge.encode()).hexdigest()
        return await self._limiter.first_time(f"puzzle/{digest}", self.SECONDS)

    def _is_ours(self, purpose: str, challenge: str) -> bool:
        try:
            raw = base64.b64decode(challenge.encode("ascii"), b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            return False
        head, mac = raw[: self.HEAD.size], raw[self.HEAD.size :]
        if len(head) != self.HEAD.size or not hmac.compare_digest(mac, self._mac(purpose, head)):
            return False
        made_at: int = self.HEAD.unpack(head)[0]
        return abs(time.time() - made_at) < self.SECONDS  # another machine's clock may be ahead of ours

    def _mac(self, purpose: str, head: bytes) -> bytes:
        return hashlib.blake2b(
            head + purpose.encode(errors="replace"), key=self._key, digest_size=self.MAC_SIZE
        ).digest()


def _is_work(challenge: str, nonce: str) -> bool:
    if len(nonce) > Puzzle.LONGEST_NONCE or not nonce.isascii():
        return False
    digest = hashlib.sha256(f"{challenge}:{nonce}".encode()).digest()
    return int.from_bytes(digest, "big") >> (256 - Puzzle.BITS) == 0
