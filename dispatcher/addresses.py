"""Mail addresses: checked and normalised at the door, hashed with a key for everything that outlives them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email

from dispatcher.errors import Invalid

#: RFC 5321 §4.5.3.1.3: a path is at most 256 octets with its angle brackets.
MAX_ADDRESS = 254
#: Where dots in front of the @ say nothing.
GMAIL = ("gmail.com", "googlemail.com")


@dataclass(frozen=True, slots=True)
class MailAddress:
    """An address that may be written to."""

    email: str  #: as it goes into envelope and header; its domain in ASCII (A-labels) wherever the local part is ASCII
    key: str  #: the same mailbox always has the same key: lower case, domain in ASCII


def parse_address(raw: str) -> MailAddress:
    """Check and normalise one address (RFC 5321, RFC 6531), without asking any name server.

    Raises `Invalid`, in words for the person who typed it.
    """
    text = raw.strip(" ")
    # aiosmtplib would cut such an address short and write to whoever is left.
    if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text):
        raise Invalid("The address has a line break or another control character.", field="email")
    if len(text.encode(errors="surrogatepass")) > MAX_ADDRESS:
        raise Invalid(f"The address is longer than {MAX_ADDRESS} characters.", field="email")
    try:
        found = validate_email(text, check_deliverability=False, test_environment=True)
    except (EmailNotValidError, UnicodeError) as error:
        raise Invalid(f"The address is not valid: {str(error).rstrip('.')}.", field="email") from error
    email = found.ascii_email or found.normalized
    return MailAddress(email=email, key=f"{found.local_part}@{found.ascii_domain}".lower())


def masked(email: str) -> str:
    """An address as its reader still knows it, and as nobody learns it from a page passed on: `a…@example.org`."""
    local, _, domain = email.rpartition("@")
    return f"{local[:1]}…@{domain}"


def needs_utf8(email: str) -> bool:
    """True if the address can only travel with SMTPUTF8 (RFC 6531)."""
    return not email.isascii()


def address_hash(secret_key: str, address: MailAddress) -> bytes:
    """The 16-byte keyed hash under which an address is unique, and suppressed even after it is erased."""
    key = hashlib.blake2b(b"address", key=secret_key.encode()[:64], digest_size=32).digest()
    return hashlib.blake2b(address.key.encode(), key=key, digest_size=16).digest()


def mailbox_hash(secret_key: str, email: str) -> bytes:
    """The same 16 bytes for every sub-address of a mailbox (RFC 5233), and at Gmail however its dots are set.

    Good for counting what one inbox is sent, and for nothing else: it does not say that two addresses are one reader's.
    """
    local, _, domain = email.lower().rpartition("@")
    local = local.partition("+")[0] or local
    if domain in GMAIL:
        local, domain = local.replace(".", ""), GMAIL[0]
    key = hashlib.blake2b(b"mailbox", key=secret_key.encode()[:64], digest_size=32).digest()
    return hashlib.blake2b(f"{local}@{domain}".encode(), key=key, digest_size=16).digest()
