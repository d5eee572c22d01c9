"""The second factor: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for the day the phone is lost.

The secret is kept sealed (AES-GCM) under a key of the installation: whoever has a dump of the database has no codes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import struct
import time
from dataclasses import dataclass

import pyotp
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dispatcher.errors import Invalid
from dispatcher.tokens import derive

#: Seconds of a step (RFC 6238 §4.1), and steps before and after now whose codes are taken: clocks go wrong.
STEP = 30
DRIFT = 1
RECOVERY_CODES = 10
NONCE = 12
_CODE = re.compile(r"[0-9]{6}")
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True)
class Offer:
    """A secret that somebody may take into their app. Nothing is kept of it until a code of it comes back."""

    secret: str  #: base32, to be typed where nothing can be scanned
    uri: str  #: `otpauth://…`, for the picture to scan
    sealed: str  #: comes back with the first code


class Codes:
    """Makes and reads what belongs to the second factor, under the installation's secret."""

    def __init__(self, secret_key: str) -> None:
        self._sealing = AESGCM(derive(secret_key, "totp"))
        self._recovery = derive(secret_key, "recovery")

    def offer(self, person_id: int, email: str, issuer: str) -> Offer:
        """A new secret for a person."""
        secret = pyotp.random_base32()
        uri = pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=issuer)
        return Offer(secret, uri, base64.urlsafe_b64encode(self.seal(person_id, secret)).decode())

    def accept(self, person_id: int, sealed: str) -> str:
        """The secret of an offer to this person. Raises `Invalid` for anybody else's, and for what we never offered."""
        try:
            return self.open(person_id, base64.b64decode(sealed.encode("ascii"), altchars=b"-_", validate=True))
        except (UnicodeEncodeError, binascii.Error, InvalidTag, ValueError) as error:
            raise Invalid("This form is not ours.", remedy="Open the page again, and scan the new picture.") from error

    def seal(self, person_id: int, secret: str) -> bytes:
        nonce = secrets.token_bytes(NONCE)
        return nonce + self._sealing.encrypt(nonce, secret.encode(), struct.pack(">Q", person_id))

    def open(self, person_id: int, sealed: bytes) -> str:
        """The secret of a person. Raises `InvalidTag` if it was sealed for another one, or under another key."""
        return self._sealing.decrypt(sealed[:NONCE], sealed[NONCE:], struct.pack(">Q", person_id)).decode()

    def recovery_codes(self) -> tuple[list[str], list[bytes]]:
        """New recovery codes of 59 bits each, as they are shown once, and what is kept of them."""
        shown = [
            "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(3))
            for _ in range(RECOVERY_CODES)
        ]
        return shown, [self.recovery_hash(code) for code in shown]

    def recovery_hash(self, code: str) -> bytes:
        """What is kept of a recovery code, however it is typed. It has a key: a code alone could be guessed."""
        bare = re.sub(r"[\s-]", "", code).casefold()
        return hashlib.blake2b(bare.encode(errors="replace"), key=self._recovery, digest_size=32).digest()


def step_of(secret: str, typed: str, *, now: float | None = None) -> int | None:
    """The step whose code this is, of those that are taken now; None if it is none of them."""
    code = re.sub(r"\s", "", typed)
    if not _CODE.fullmatch(code):
        return None
    totp = pyotp.TOTP(secret)
    this = int(time.time() if now is None else now) // STEP
    found = None
    for step in range(this - DRIFT, this + DRIFT + 1):
        if hmac.compare_digest(totp.at(step * STEP), code):
            found = step
    return found
