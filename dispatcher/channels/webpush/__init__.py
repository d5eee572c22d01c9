"""The web push channel: letters, encryption, what push services answer. `channel.WebPushChannel` puts it together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dispatcher.channels import Outcome
from dispatcher.channels.feed import BacklogOf

#: The whole encrypted body, in bytes: what a push service must take (RFC 8030 §7.2), and most take no more.
MAX_BODY = 4096
#: What encryption adds: the header of RFC 8188 §2.1 with a 65-byte key, one delimiter byte, and the tag.
OVERHEAD = 86 + 1 + 16
MAX_PLAINTEXT = MAX_BODY - OVERHEAD


class PushParcel(Protocol):
    """One device's push on its way, as a lane sees it."""

    urgency: int
    returns: int  #: how often it came back from a lane without being offered; starts at 0
    address: str  #: the endpoint: where the push service takes messages for this device (RFC 8030 §5)
    public_key: bytes  #: the device's, 65 bytes, an uncompressed point on P-256
    auth_secret: bytes  #: 16 bytes that the device shares with us (RFC 8291 §3.2)
    topic: (
        str  #: a later push replaces a waiting one of the same topic (RFC 8030 §5.4); base64url, at most 32 characters
    )
    push_urgency: str  #: `very-low`, `low`, `normal` or `high` (RFC 8030 §5.3)

    @property
    def ttl(self) -> int:
        """Seconds for which the push service may keep it for a device that is away (RFC 8030 §5.2)."""

    def wanted(self) -> bool:
        """False once nobody wants this parcel sent any more (lease lost, shutdown). Asked before its first byte."""

    def payload(self) -> bytes:
        """What the device is to read, not yet encrypted; at most `MAX_PLAINTEXT` bytes."""

    def settle(self, outcome: Outcome, recorded: Callable[[], None]) -> None:
        """Report the outcome, once. `recorded` is called when it is safe for the lane to start its next push."""


class PushBacklog(BacklogOf[PushParcel]):
    """The pushes of one process that wait for a lane, the most urgent first."""
