"""The one guarded client for every HTTP call to a place that somebody else has named.

A URL from outside may point anywhere: at this host, at a neighbour's metadata service, at a name that means another
address a moment later. So a host is resolved once, every address it has is checked, and the connection goes to an
address that was checked and to no other; certificates are checked against the name. Redirects are not followed,
answers are bounded, cookies and compression are not spoken.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from dispatcher.errors import Invalid, Unavailable

#: Seconds for one call, from the name to the last byte of the answer.
TIMEOUT = 15.0
#: Seconds for a connection to be made.
CONNECT_TIMEOUT = 5.0
#: Seconds for which a connection that nobody uses is kept.
KEEP_ALIVE = 60.0
#: Bytes of an answer that are read.
MAX_ANSWER = 65_536
#: Origins whose check is remembered.
MOST_ORIGINS = 1000

#: Everything that is not an address of somebody on the internet (IANA's registries of special purpose addresses).
_SPECIAL_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)
#: All of IPv6 that is given out is here. Outside lie loopback, mapped addresses, NAT64, local and multicast ones.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
#: Within it: protocols, Teredo and benchmarks (2001::/23), examples, and 6to4, which hides an IPv4 address.
_SPECIAL_V6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))

_URL = re.compile(r"(?P<origin>(?P<scheme>https?)://(?P<host>[^/?#@:\\\[\]]+|\[[^/?#@\\\]]+\])(?::(?P<port>[0-9]{1,5}))?)"
                  r"(?:[/?][!\"$-~]*)?")  # fmt: skip
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
#: What others read as a number, and so as an address, when it stands last: `2130706433`, `0x7f.1`, `017700000001`.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)

#: Finds the addresses of a host. Raises OSError if there are none.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Refused(Invalid):
    """This address may not be connected to."""

    remedy = "Use an https address that is reachable from the whole internet."


class Redirected(Refused):
    """The other side answers with a redirect, and those are not followed."""

    def __init__(self, status: int, location: str) -> None:
        super().__init__(f"The other side answers with a redirect ({status}), and those are not followed.")
        self.location = location  #: where it leads, as it came: a caller that follows is guarded again


class Unreachable(Unavailable):
    """The other side does not answer."""

    remedy = "Try again later."

    def __init__(self, message: str, *, offered: bool = False, lost: bool = False) -> None:
        super().__init__(message)
        self.offered = offered  #: the request may have arrived
        self.lost = lost  #: the connection ended before the answer; perhaps it was an old one that was closed just then


class Answer(NamedTuple):
    """What the other side said."""

    status: int
    headers: Mapping[str, str]  #: found in any case
    body: bytes  #: at most `MAX_ANSWER` bytes
    whole: bool = True  #: False if the body was longer, or did not come to its end


class Outbound:
    """Keeps connections alive from call to call. One for a process, on one event loop."""

    def __init__(
        self, trusted: Iterable[str] = (), *, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """`trusted` are whole origins that an operator wrote out: they may be plain http, and lie anywhere.

        `resolve` finds the addresses of hosts; the system's resolver does if it is None. `tls` says which certificates
        are good; the system's authorities do if it is None.
        """
        self._trusted = frozenset(trusted)
        self._resolve = resolve or _ask_the_system
        self._tls = tls
        self._origins: dict[str, bool] = {}  # that were checked, and whether they are trusted
        self._guarded: aiohttp.ClientSession | None = None
        self._free: aiohttp.ClientSession | None = None
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        for session in (self._guarded, self._free):
            if session is not None:
                await session.close()
        self._guarded = self._free = None

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes = b"",
        timeout: float = TIMEOUT,  # noqa: ASYNC109  # the client keeps it, and tells its error from the caller's own
    ) -> Answer:
        """POST `data`. Nothing is tried twice.

        Raises `Refused` if the guard says no, also to a redirect, and `Unreachable` if there is no answer within
        `timeout` seconds.
        """
        return await self._call("POST", url, headers, data, timeout)

    async def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,  # noqa: ASYNC109
    ) -> Answer:
        """GET. Raises as `post` does."""
        return await self._call("GET", url, headers, None, timeout)

    async def _call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        data: bytes | None,
        seconds: float,
    ) -> Answer:
        session = self._session(trusted=self._admit(url))
        try:
            response = await session.request(
                method,
                yarl.URL(url, encoded=True),
                headers=headers,
                data=data,
                allow_redirects=False,
                timeout=self._timeout(seconds),
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _sorted(error, seconds) from error
        if 300 <= response.status < 400:
            response.close()
            raise Redirected(response.status, response.headers.get("Location", ""))
        body, whole = await _read(response)
        return Answer(response.status, response.headers, body, whole)

    def _admit(self, url: str) -> bool:
        """Whether a URL is trusted. Raises `Refused` if it may not be called at all, as far as it tells by itself."""
        found = _URL.fullmatch(url)
        if found is None:
            raise Refused("This is not an address that can be called.")
        origin = found["origin"]
        trusted = self._origins.get(origin)
        if trusted is None:
            trusted = origin in self._trusted
            if not trusted:
                _check_origin(found["scheme"], found["host"], found["port"])
            if len(self._origins) >= MOST_ORIGINS:
                self._origins.clear()
            self._origins[origin] = trusted
        return trusted

    def _session(self, *, trusted: bool) -> aiohttp.ClientSession:
        if trusted:
            if self._free is None:
                self._free = self._open(_Resolver(self._resolve, check=None), None)
            return self._free
        if self._guarded is None:
            self._guarded = self._open(_Resolver(self._resolve, check=check_address), _checked_socket)
        return self._guarded

    def _open(
        self, resolver: AbstractResolver, socket_factory: Callable[[Any], socket.socket] | None
    ) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=resolver,
                socket_factory=socket_factory,
                ssl=self._tls or True,
                use_dns_cache=False,  # a name is looked up anew for each connection, and checked anew
                limit=0,
                keepalive_timeout=KEEP_ALIVE,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "Dispatcher"},
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type"),
            auto_decompress=False,
            trust_env=False,
        )

    def _timeout(self, seconds: float) -> aiohttp.ClientTimeout:
        if seconds not in self._timeouts:
            self._timeouts[seconds] = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, CONNECT_TIMEOUT))
        return self._timeouts[seconds]


def check_address(address: str) -> None:
    """Raises `Refused` unless an IP address is that of a host on the public internet."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError as error:
        raise Refused("This host has an address that nobody can read.") from error
    if isinstance(parsed, ipaddress.IPv4Address):
        public = not any(parsed in network for network in _SPECIAL_V4)
    else:
        public = parsed.scope_id is None and parsed in _GLOBAL_V6
        public = public and not any(parsed in network for network in _SPECIAL_V6)
    if not public:
        raise Refused("This host has an address that is not on the public internet.")


def _check_origin(scheme: str, host: str, port: str | None) -> None:
    if scheme != "https":
        raise Refused("Only https addresses are called.")
    if port is not None and not 0 < int(port) < 65536:
        raise Refused("This is not an address that can be called.")
    labels = host.split(".")
    if host.startswith("["):
        check_address(host[1:-1])
    elif _NUMBER.fullmatch(labels[-1]):
        check_address(host)  # takes four plain decimal numbers and no other notation
    elif len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise Refused("This is not the name of a host.")


class _Resolver(AbstractResolver):
    """Says which addresses a connection may be made to. The connector asks once for each connection."""

    def __init__(self, resolve: Resolve, check: Callable[[str], None] | None) -> None:
        self._resolve = resolve
        self._check = check

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002  # whatever there is will do
    ) -> list[ResolveResult]:
        addresses = await self._resolve(host, port)
        if not addresses:
            raise OSError("the host has no address")
        if self._check is not None:
            for address in addresses:
                self._check(address)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        return


async def _ask_the_system(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def _checked_socket(addr_info: Any) -> socket.socket:
    """The last look, at the very address that is connected to, whichever way it came there."""
    family, kind, proto, _, sockaddr = addr_info
    try:
        check_address(sockaddr[0])
    except Refused as error:
        raise PermissionError(error.message) from error
    return socket.socket(family=family, type=kind, proto=proto)


async def _read(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The body as far as it is read, and whether that is all. The status counts, whatever becomes of the body."""
    if response.content.at_eof():
        response.release()
        return b"", True
    body = bytearray()
    try:
        while len(body) <= MAX_ANSWER and (chunk := await response.content.readany()):
            body += chunk
    except (aiohttp.ClientError, TimeoutError, OSError):
        response.close()
        return bytes(body[:MAX_ANSWER]), False
    whole = len(body) <= MAX_ANSWER
    if whole:
        response.release()
    else:
        response.close()
    return bytes(body[:MAX_ANSWER]), whole


def _sorted(error: Exception, timeout: float) -> Refused | Unreachable:
    """What went wrong, in words that hold nothing of the URL."""
    reason: BaseException | None = error
    while reason is not None:
        if isinstance(reason, PermissionError) and isinstance(reason.__cause__, Refused):
            return reason.__cause__
        reason = reason.__cause__ or reason.__context__
    match error:
        case aiohttp.ConnectionTimeoutError():
            return Unreachable("No connection within the time for it.")
        case TimeoutError():
            return Unreachable(f"No answer within {timeout:g} seconds.", offered=True)
        case aiohttp.ClientConnectorDNSError():
            return Unreachable("The name of the host cannot be resolved.")
        case aiohttp.ClientConnectorCertificateError():
            return Unreachable("The certificate is not one for this host that we trust.")
        case aiohttp.ClientSSLError():
            return Unreachable("No secure connection can be made.")
        case aiohttp.ClientConnectorError(os_error=cause):
            return Unreachable(f"No connection: {os.strerror(cause.errno) if cause.errno else type(cause).__name__}.")
        case aiohttp.InvalidURL():
            return Refused("This is not an address that can be called.")
        case _:
            return Unreachable("The connection was lost before an answer came.", offered=True, lost=True)
