"""What a browser gives us when it subscribes: an endpoint and two keys, all of them a stranger's words."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

from dispatcher.errors import Invalid

#: Characters of an endpoint; those of today's push services have 100 to 800.
MAX_ENDPOINT = 2000
PUBLIC_KEY = 65
AUTH_SECRET = 16
#: Scheme, host and perhaps a port, then a path and perhaps a query; no user, no fragment, nothing but printable ASCII.
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_ENDPOINT = re.compile(
    rf"(?P<origin>(?P<scheme>https?)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?P<port>:[0-9]{{1,5}})?)"
    r"/[A-Za-z0-9._~!$&'()*+,;=:@/?%\[\]-]*"
)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+={0,2}")


def check_endpoint(endpoint: str, services: Sequence[str]) -> str:
    """The origin of a push endpoint, if it belongs to one of the allowed services.

    `services` are hosts, `*.host` for one label or more before it, or whole origins `scheme://host[:port]`. Only a
    whole origin allows plain http or a port. Raises `Invalid` for everything else, naming `endpoint`, never quoting it.
    """
    found = _ENDPOINT.fullmatch(endpoint) if len(endpoint) <= MAX_ENDPOINT else None
    if found is None:
        raise Invalid("endpoint is not the address of a push service.", remedy=_ASK_AGAIN, field="endpoint")
    origin, host = found["origin"], found["host"]
    if origin in services:
        return origin
    if found["scheme"] == "https" and found["port"] is None and any(_covers(each, host) for each in services):
        return origin
    raise Invalid(
        "endpoint belongs to no push service that this newsroom sends to.",
        remedy="Follow by email instead, or ask the newsroom to add the service to DISPATCHER_PUSH_SERVICES.",
        field="endpoint",
    )


def origin_of(endpoint: str) -> str:
    """The origin of an endpoint that was checked before; of any other text, what stands before the third slash."""
    return "/".join(endpoint.split("/", 3)[:3])


def parse_keys(p256dh: str, auth: str) -> tuple[bytes, bytes]:
    """The device's public key (65 bytes, a point on P-256) and authentication secret (16 bytes), from base64url with
    or without padding (RFC 8291 §3.1, §3.2). Raises `Invalid`, naming the one that is wrong.
    """
    public_key = _decoded("p256dh", p256dh, PUBLIC_KEY)
    try:
        EllipticCurvePublicKey.from_encoded_point(SECP256R1(), public_key)
    except ValueError as error:
        raise Invalid("p256dh is not a point on the curve P-256.", remedy=_ASK_AGAIN, field="p256dh") from error
    return public_key, _decoded("auth", auth, AUTH_SECRET)


_ASK_AGAIN = "Subscribe once more in the browser, and send what it gives as it is."


def _covers(service: str, host: str) -> bool:
    return host.endswith(service[1:]) and len(host) >= len(service) if service.startswith("*.") else host == service


def _decoded(field: str, text: str, size: int) -> bytes:
    """Exactly `size` bytes. Padding is optional, but if it is there it has to be right."""
    wrong = Invalid(f"{field} is not base64url of {size} bytes.", remedy=_ASK_AGAIN, field=field)
    bare = text.rstrip("=")
    padded = bare + "=" * (-len(bare) % 4)
    if not _BASE64URL.fullmatch(text) or text not in (bare, padded):
        raise wrong
    try:
        raw = base64.urlsafe_b64decode(padded)
    except binascii.Error as error:
        raise wrong from error
    if len(raw) != size:
        raise wrong
    return raw
