"""Message encryption for web push (RFC 8291) in one record of the aes128gcm coding (RFC 8188)."""

from __future__ import annotations

import hmac
import os

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dispatcher.channels.webpush import MAX_BODY, MAX_PLAINTEXT
from dispatcher.errors import TooLarge

_CURVE = SECP256R1()
_ECDH = ECDH()
#: Record size, and the length of the key that follows it (RFC 8188 §2.1). It may be more than the record has.
_SIZES = MAX_BODY.to_bytes(4, "big") + b"\x41"
#: HKDF's one and last block of output has the number 1 (RFC 5869 §2.3).
_KEY_INFO = b"WebPush: info\x00"
_CONTENT_KEY = b"Content-Encoding: aes128gcm\x00\x01"
_NONCE = b"Content-Encoding: nonce\x00\x01"
#: The delimiter of the last record, and here the only one (RFC 8188 §2).
_LAST = b"\x02"


def encrypt(plaintext: bytes, public_key: bytes, auth_secret: bytes) -> bytes:
    """The whole body for one device, under a key pair made for this message alone (RFC 8291 §3.1).

    `public_key` is the device's, 65 bytes, `auth_secret` its 16 bytes. Raises `TooLarge` if the body would pass
    `MAX_BODY`, and ValueError if `public_key` is no point on P-256.
    """
    return _seal(plaintext, public_key, auth_secret, generate_private_key(_CURVE), os.urandom(16))


def _seal(plaintext: bytes, public_key: bytes, auth_secret: bytes, ours: EllipticCurvePrivateKey, salt: bytes) -> bytes:
    if len(plaintext) > MAX_PLAINTEXT:
        raise TooLarge(f"The push has {len(plaintext):,} bytes; {MAX_PLAINTEXT:,} is the most.", field="body")
    shared = ours.exchange(_ECDH, EllipticCurvePublicKey.from_encoded_point(_CURVE, public_key))
    sender = ours.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    # Two rounds of HKDF (RFC 5869), written out: each needs one block, and `HKDF` costs ten times as much.
    mixed = hmac.digest(hmac.digest(auth_secret, shared, "sha256"), _KEY_INFO + public_key + sender + b"\x01", "sha256")
    pseudorandom = hmac.digest(salt, mixed, "sha256")
    content_key = hmac.digest(pseudorandom, _CONTENT_KEY, "sha256")[:16]
    nonce = hmac.digest(pseudorandom, _NONCE, "sha256")[:12]
    return salt + _SIZES + sender + AESGCM(content_key).encrypt(nonce, plaintext + _LAST, None)
