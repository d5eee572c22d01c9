"""The key pair that push services know this newsroom by: made once, kept under seal, shared by every process.

A browser subscribes to one public key for good, so the pair must never change by itself: whoever starts first makes
it, and everybody else reads what that one kept.
"""

from __future__ import annotations

import asyncio
import os
import time

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dispatcher import db
from dispatcher.channels.webpush.authorisation import GOOD_FOR, Signer
from dispatcher.errors import Misconfigured
from dispatcher.tokens import derive

log = structlog.get_logger()

NAME = "vapid"
#: Seconds before its end at which a token is made anew: our clock and a push service's may differ.
RENEW_BEFORE = 3600
#: Push services whose token is remembered.
MOST_ORIGINS = 1000
_NONCE_SIZE = 12


class Vapid:
    """Our key pair and the tokens it has signed. One for a process."""

    def __init__(self, database: db.Database, secret_key: str, subject: str) -> None:
        """`subject` is how a push service reaches a person: a `mailto:` or `https:` URL (RFC 8292 §2.1)."""
        self._database = database
        self._seal = AESGCM(derive(secret_key, f"key:{NAME}"))
        self._subject = subject
        self._signer: Signer | None = None
        self._reading = asyncio.Lock()
        self._tokens: dict[str, tuple[str, float]] = {}  # by origin: the header's value, and until when it is used

    async def public_key(self) -> str:
        """The public key in base64url, for a browser's `applicationServerKey`.

        Raises `Misconfigured` if the key is there and cannot be opened.
        """
        return (await self._key()).public_key

    async def authorise(self, origin: str) -> str:
        """The Authorization header's value for a push service's origin. Raises as `public_key` does."""
        now = time.time()
        token, good_until = self._tokens.get(origin, ("", 0.0))
        if now < good_until:
            return token
        token = (await self._key()).authorise(origin, int(now))
        if len(self._tokens) >= MOST_ORIGINS:
            self._tokens.clear()  # whoever may name subdomains of a service may name many
        self._tokens[origin] = token, now + GOOD_FOR - RENEW_BEFORE
        return token

    async def _key(self) -> Signer:
        if self._signer is None:
            async with self._reading:
                self._signer = self._signer or await self._find_or_make()
        return self._signer

    async def _find_or_make(self) -> Signer:
        async with self._database.connection() as connection:
            sealed = await connection.value("find_key", name=NAME)
            if sealed is None:
                ours = self._sealed(Signer.new(self._subject).secret)
                if await connection.execute("keep_key", name=NAME, sealed=ours):
                    log.info("key pair for web push made")
                sealed = await connection.value("find_key", name=NAME)
        return self._opened(bytes(sealed))

    def _sealed(self, secret: bytes) -> bytes:
        nonce = os.urandom(_NONCE_SIZE)
        return nonce + self._seal.encrypt(nonce, secret, NAME.encode())

    def _opened(self, sealed: bytes) -> Signer:
        try:
            secret = self._seal.decrypt(sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], NAME.encode())
            return Signer.from_secret(secret, self._subject)
        except (InvalidTag, ValueError) as error:
            raise Misconfigured(
                "The key pair for web push was sealed with another DISPATCHER_SECRET_KEY.",
                remedy="Set the former DISPATCHER_SECRET_KEY again. If it is lost, delete the row 'vapid' from the "
                "table keys: browsers that follow now will then have to follow once more.",
                field="SECRET_KEY",
            ) from error
