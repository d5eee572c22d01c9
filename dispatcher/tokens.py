"""Signed links and API tokens. A token is bound to one purpose: none can be used for another.

A link token is `base64url(story: 4 bytes, subscriber: 8 bytes, mac: 12 bytes)`, 32 characters. The MAC is keyed
BLAKE2b (RFC 7693) under a key derived from the secret and the purpose.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dispatcher.errors import Invalid, NotFound

LINK = struct.Struct(">IQ")
MAC_SIZE = 12
API_PREFIX = "dsp_"
_URLSAFE = bytes.maketrans(b"+/", b"-_")


class BadLink(NotFound):
    """This link is not valid."""

    remedy = "It may have been cut off on its way: copy it whole from the mail."


class Links:
    """Makes and reads the links of one purpose."""

    def __init__(self, secret_key: str, purpose: str) -> None:
        self._keyed = hashlib.blake2b(key=_derive(secret_key, f"link:{purpose}"), digest_size=MAC_SIZE)

    def make(self, story_id: int, subscriber_id: int) -> str:
        """The token for one story and subscriber; story 0 means all of the subscriber's stories."""
        payload = LINK.pack(story_id, subscriber_id)
        return binascii.b2a_base64(payload + self._mac(payload), newline=False).translate(_URLSAFE).decode()

    def read(self, token: str) -> tuple[int, int]:
        """The story and subscriber of a token. Raises `BadLink` for anything that we did not make ourselves."""
        try:
            raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error) as error:
            raise BadLink from error
        payload, mac = raw[: LINK.size], raw[LINK.size :]
        if len(payload) != LINK.size or not hmac.compare_digest(mac, self._mac(payload)):
            raise BadLink
        story_id, subscriber_id = LINK.unpack(payload)
        return story_id, subscriber_id

    def _mac(self, payload: bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(payload)
        return keyed.digest()


def leave_links(secret_key: str) -> Links:
    """Links that end one subscription: `/u/{token}`."""
    return Links(secret_key, "leave")


def manage_links(secret_key: str) -> Links:
    """Links to a subscriber's own page: `/manage/{token}`; always made for story 0."""
    return Links(secret_key, "manage")


class MessageIds:
    """Deterministic Message-IDs (RFC 5322 §3.6.4): the same blast and subscriber always get the same one.

    So a message that is sent twice can be recognised as one, in tests, in logs and by mail systems that look.
    """

    def __init__(self, secret_key: str, domain: str) -> None:
        self._keyed = hashlib.blake2b(key=_derive(secret_key, "message-id"), digest_size=12)
        self._domain = domain

    def make(self, blast_id: int, subscriber_id: int) -> str:
        """The Message-ID with its angle brackets."""
        keyed = self._keyed.copy()
        keyed.update(struct.pack(">QQ", blast_id, subscriber_id))
        return f"<{blast_id}.{keyed.hexdigest()}@{self._domain}>"


class ConfirmTokens:
    """Tokens that confirm an address: `/confirm/{token}`, 32 characters for 192 bits.

    They are derived and not drawn, so that any worker can write the mail from the row that stands for the token. The
    database holds only `confirm_token_hash` of it: nobody who reads the database can confirm for a reader.
    """

    SIZE = 24

    def __init__(self, secret_key: str) -> None:
        self._keyed = hashlib.blake2b(key=_derive(secret_key, "confirm"), digest_size=self.SIZE)

    def make(self, confirmation_id: int, address_hash: bytes, story_id: int) -> str:
        """The token of one confirmation, bound to its address and story."""
        keyed = self._keyed.copy()
        keyed.update(struct.pack(">QQ", confirmation_id, story_id) + address_hash)
        return base64.urlsafe_b64encode(keyed.digest()).decode()


def confirm_token_hash(token: str) -> bytes:
    """What is kept of a confirm token, and what it is found by: looking it up tells nothing about its characters."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


class Seal:
    """Seals what has to wait in the database and is for nobody there to read: AES-GCM under a key of one purpose."""

    NONCE = 12

    def __init__(self, secret_key: str, purpose: str) -> None:
        self._cipher = AESGCM(derive(secret_key, f"seal:{purpose}"))

    def close(self, text: str, bound_to: bytes = b"") -> str:
        """The text under seal, in base64. It opens only together with the bytes that it is bound to."""
        nonce = secrets.token_bytes(self.NONCE)
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, text.encode(), bound_to)).decode()

    def open(self, sealed: str, bound_to: bytes = b"") -> str:
        """What `close` was given. Raises `Invalid` for what another secret sealed, or other bytes bind."""
        try:
            raw = base64.b64decode(sealed.encode("ascii"), altchars=b"-_", validate=True)
            return self._cipher.decrypt(raw[: self.NONCE], raw[self.NONCE :], bound_to).decode()
        except (UnicodeEncodeError, binascii.Error, InvalidTag, ValueError) as error:
            raise Invalid(
                "This was sealed with another DISPATCHER_SECRET_KEY.", remedy="Use the secret that it was sealed with."
            ) from error


def invitation_seal(secret_key: str) -> Seal:
    """Seals the token of an invitation until its mail is written; bound to the hash of the address."""
    return Seal(secret_key, "invitation")


def new_api_token() -> tuple[str, bytes]:
    """A new API token of 256 random bits, and the hash of it that is kept."""
    token = API_PREFIX + secrets.token_urlsafe(32)
    return token, api_token_hash(token)


def api_token_hash(token: str) -> bytes:
    """What is kept of an API token. A plain hash will do: the token has 256 bits of its own."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


def derive(secret_key: str, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose that no other has."""
    return _derive(secret_key, purpose)


def _derive(secret_key: str, purpose: str) -> bytes:
    return hashlib.blake2b(purpose.encode(), key=hashlib.sha512(secret_key.encode()).digest(), digest_size=32).digest()
