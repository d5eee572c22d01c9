"""Pushes as a test wants them: real letters for devices of a push service, and a channel that carries them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from dispatcher.channels import Fate, Outcome
from dispatcher.channels.webpush import PushBacklog
from dispatcher.channels.webpush.authorisation import Signer
from dispatcher.channels.webpush.channel import WebPushChannel
from dispatcher.outbound import Outbound
from tests.support.push_service import Device, PushService

SIGNER = Signer.new("mailto:desk@courier.example")


async def sign(origin: str) -> str:
    return SIGNER.authorise(origin, 1_800_000_000)


class Parcel:
    """A `PushParcel` that remembers what became of it. The ledger holds its outcome at once, or when a test says so."""

    def __init__(self, device: Device, text: str = "Water is over the wall", *, urgency: int = 1) -> None:
        self.urgency = urgency
        self.returns = 0
        self.address = device.endpoint
        self.public_key = device.public_key
        self.auth_secret = device.auth_secret
        self.topic = "story-1"
        self.push_urgency = "high"
        self.ttl = 3600
        self.text = text
        self.is_wanted = True
        self.at_once = True
        self.outcomes: list[Outcome] = []
        self.done = asyncio.Event()
        self.recorded: Callable[[], None] = lambda: None

    def wanted(self) -> bool:
        return self.is_wanted

    def payload(self) -> bytes:
        return json.dumps({"title": self.text}).encode()

    def settle(self, outcome: Outcome, recorded: Callable[[], None]) -> None:
        self.outcomes.append(outcome)
        self.recorded = recorded
        self.done.set()
        if self.at_once or outcome.fate is Fate.UNSENT:
            recorded()

    @property
    def outcome(self) -> Outcome:
        (only,) = self.outcomes  # settled once
        return only


class Post:
    """A channel with its backlog, and what it told its owner."""

    def __init__(
        self, outbound: Outbound, authorise: Callable[[str], Awaitable[str]], lanes: int, services: list[str] | None
    ) -> None:
        self.unavailable: list[str] = []
        self.changes = 0
        self.backlog = PushBacklog(lambda: None, 0)
        self.channel = WebPushChannel(
            self.backlog,
            outbound,
            authorise,
            lanes=lanes,
            services=services,
            on_unavailable=self.unavailable.append,
            on_change=self._changed,
        )

    def hand_in(self, *parcels: Parcel) -> None:
        for parcel in parcels:
            self.backlog.add(parcel.urgency, [parcel])
        self.channel.wake()

    async def send(self, *parcels: Parcel, seconds: float = 10) -> list[Outcome]:
        """Hand parcels in, and wait until each has its outcome."""
        self.hand_in(*parcels)
        return await outcomes(parcels, seconds=seconds)

    def _changed(self) -> None:
        self.changes += 1


async def outcomes(parcels: Iterable[Parcel], *, seconds: float = 10) -> list[Outcome]:
    """Wait until each of these parcels has its outcome."""
    waiting = list(parcels)
    async with asyncio.timeout(seconds):
        for parcel in waiting:
            await parcel.done.wait()
    return [parcel.outcome for parcel in waiting]


@asynccontextmanager
async def a_post(
    *services: PushService | str,
    authorise: Callable[[str], Awaitable[str]] = sign,
    lanes: int = 8,
    allowed: list[str] | None = None,
) -> AsyncIterator[Post]:
    """A channel that may send to these services, and to whatever is on the internet."""
    origins = [each if isinstance(each, str) else each.origin for each in services]
    async with Outbound(origins) as outbound:
        post = Post(outbound, authorise, lanes, allowed)
        post.channel.start()
        try:
            yield post
        finally:
            await post.channel.close(0)
