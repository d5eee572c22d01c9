"""Open a session with a relay: aiosmtplib connects, upgrades to TLS, signs in and says EHLO; a lane takes over."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import cast

import aiosmtplib

from dispatcher.channels import Feed
from dispatcher.channels.email.lanes import Lane
from dispatcher.channels.email.outcomes import one_line
from dispatcher.config import RelaySettings
from dispatcher.errors import RelayUnavailable

#: Seconds for each step of opening a session. Shorter than RFC 5321 asks for a greeting: another relay may answer.
CONNECT_TIMEOUT = 30.0
#: Seconds for all of them together: a relay that trickles its greeting holds nobody up for longer.
SESSION_TIMEOUT = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RelayProbe:
    """What `dispatcher doctor` learns about a relay."""

    reachable: bool
    detail: str
    remedy: str = ""
    tls: bool = False
    pipelining: bool = False
    eight_bit: bool = False
    utf8: bool = False


async def open_lane(relay: RelaySettings, feed: Feed, on_closed: Callable[[Lane, str], None]) -> Lane:
    """A new lane to `relay`, ready to take parcels. Raises `RelayUnavailable`, saying why in the relay's words."""
    client = await _session(relay)
    transport = cast("asyncio.Transport | None", client.transport)
    if transport is None or transport.is_closing():
        raise RelayUnavailable(f"The relay {relay.name} closed the connection after EHLO.")
    size = client.esmtp_extensions.get("size", "")
    lane = Lane(
        feed,
        relay.name,
        pipelining=client.supports_extension("pipelining"),
        eight_bit=client.supports_extension("8bitmime"),
        utf8=client.supports_extension("smtputf8"),
        size_limit=int(size) if size.isdecimal() else 0,
        on_closed=on_closed,
        most=relay.per_connection,
    )
    transport.set_protocol(lane)
    lane.connection_made(transport)
    return lane


async def probe(relay: RelaySettings) -> RelayProbe:
    """Connect, sign in, say goodbye, and tell what the relay offers. Sends nothing to anybody."""
    try:
        client = await _session(relay)
    except RelayUnavailable as error:
        return RelayProbe(reachable=False, detail=error.message, remedy=error.remedy)
    offers = {name: client.supports_extension(name) for name in ("pipelining", "8bitmime", "smtputf8")}
    tls = client.get_transport_info("sslcontext") is not None
    try:
        await client.quit()
    except aiosmtplib.SMTPException:
        client.close()  # it answered EHLO, which is all that was asked
    return RelayProbe(
        reachable=True,
        detail=f"offers {', '.join(name.upper() for name, offered in offers.items() if offered) or 'no extension'}",
        remedy="" if offers["pipelining"] else "Without PIPELINING each mail takes four round trips; ask for it.",
        tls=tls,
        pipelining=offers["pipelining"],
        eight_bit=offers["8bitmime"],
        utf8=offers["smtputf8"],
    )


async def _session(relay: RelaySettings) -> aiosmtplib.SMTP:
    client = aiosmtplib.SMTP(
        hostname=relay.host,
        port=relay.port,
        use_tls=relay.tls,
        start_tls=None if relay.starttls == "auto" else relay.starttls == "require",
        username=relay.username or None,
        password=relay.password or None,
        local_hostname=await asyncio.to_thread(local_name),
        timeout=CONNECT_TIMEOUT,
        tls_context=_tls_context(),
    )
    try:
        async with asyncio.timeout(SESSION_TIMEOUT):
            await client.connect()
            if client.is_ehlo_or_helo_needed:
                await _greet(client)
    except asyncio.CancelledError:
        client.close()
        raise
    except ssl.SSLError as error:
        raise _unavailable(relay, f"TLS failed: {error.reason or error}", "Check its certificate.") from error
    except aiosmtplib.SMTPAuthenticationError as error:
        raise _unavailable(relay, f"it refused the password: {error.code} {error.message}", "Correct it.") from error
    except aiosmtplib.SMTPResponseException as error:
        raise _unavailable(relay, f"it answered {error.code} {error.message}") from error
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        client.close()
        why = "it gave no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        raise _unavailable(relay, why) from error
    return client


async def _greet(client: aiosmtplib.SMTP) -> None:
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError:
        await client.helo()  # RFC 5321 §3.2: a server that does not know EHLO


def _unavailable(relay: RelaySettings, why: str, remedy: str | None = None) -> RelayUnavailable:
    return RelayUnavailable(f"The relay {relay.name} is not available: {one_line(why)}.", remedy=remedy)


def prepare() -> None:
    """Do once, ahead of time, what would make the first session slow."""
    local_name()
    _tls_context()


@cache
def local_name() -> str:
    """The name that we give in EHLO (RFC 5321 §4.1.1.1)."""
    name = socket.getfqdn()
    return name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() else "localhost"


@cache
def _tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()
