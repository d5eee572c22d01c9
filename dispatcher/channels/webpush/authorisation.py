"""Who we are, to a push service: VAPID (RFC 8292), a token that our key signs for one origin and some hours."""

from __future__ import annotations

import base64
import json
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

#: Seconds for which a token is good. A push service refuses more than 24 hours (RFC 8292 §2).
GOOD_FOR = 12 * 3600
_CURVE = SECP256R1()
_HEADER = b'{"typ":"JWT","alg":"ES256"}'


class Signer:
    """The newsroom's key pair. Whoever subscribed with its public half takes pushes signed with the private one."""

    def __init__(self, key: EllipticCurvePrivateKey, subject: str) -> None:
        """`subject` is how a push service reaches a person: a `mailto:` or `https:` URL (RFC 8292 §2.1)."""
        self._key = key
        self._subject = subject
        self.public_key = _base64url(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))

    @classmethod
    def new(cls, subject: str) -> Self:
        return cls(generate_private_key(_CURVE), subject)

    @classmethod
    def from_secret(cls, secret: bytes, subject: str) -> Self:
        """From what `secret` gave. Raises ValueError if it is no key."""
        return cls(derive_private_key(int.from_bytes(secret, "big"), _CURVE), subject)

    @property
    def secret(self) -> bytes:
        """The private half, 32 bytes. For keeping under seal, never for showing."""
        return self._key.private_numbers().private_value.to_bytes(32, "big")

    def authorise(self, origin: str, now: int) -> str:
        """The Authorization header for one origin (RFC 8292 §3), good for `GOOD_FOR` seconds from `now` (Unix time)."""
        claims = {"aud": origin, "exp": now + GOOD_FOR, "sub": self._subject}
        signed = f"{_base64url(_HEADER)}.{_base64url(json.dumps(claims, separators=(',', ':')).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ECDSA(SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")  # ES256 wants both numbers bare (RFC 7518 §3.4)
        return f"vapid t={signed}.{_base64url(signature)}, k={self.public_key}"


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
