"""Our encryption and our signatures against other people's: the vectors of the RFC, `http-ece` and `py-vapid`."""

from __future__ import annotations

import base64
import json
import os
import time

import http_ece
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from py_vapid import Vapid02

from dispatcher.channels.webpush import MAX_BODY, MAX_PLAINTEXT, encryption
from dispatcher.channels.webpush.authorisation import GOOD_FOR, Signer
from dispatcher.channels.webpush.encryption import encrypt
from dispatcher.errors import TooLarge

CURVE = ec.SECP256R1()
DEVICE = ec.generate_private_key(CURVE)
SUBJECT = "mailto:desk@courier.example"


def raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def key_of(secret: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(raw(secret), "big"), CURVE)


def opened(body: bytes, auth: bytes, device: ec.EllipticCurvePrivateKey = DEVICE) -> bytes:
    found: bytes = http_ece.decrypt(body, private_key=device, auth_secret=auth, version="aes128gcm")
    return found


def verified(header: str) -> bool:
    """What `py-vapid` says to an Authorization header. It reads no space behind the comma, which the RFC's own has."""
    found: bool = Vapid02.verify(header.replace(", ", ","))
    return found


def test_the_example_of_rfc_8291_comes_out_byte_for_byte() -> None:
    """RFC 8291, section 5 and appendix A."""
    body = encryption._seal(
        b"When I grow up, I want to be a watermelon",
        raw("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"),
        raw("BTBZMqHH6r4Tts7J_aSIgg"),
        key_of("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"),
        raw("DGv6ra1nlYgDCS1FRnbzlw"),
    )

    assert body == raw(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK"
        "6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )
    assert opened(body, raw("BTBZMqHH6r4Tts7J_aSIgg"), key_of("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94")) == (
        b"When I grow up, I want to be a watermelon"
    )


@given(st.binary(max_size=MAX_PLAINTEXT), st.binary(min_size=16, max_size=16))
def test_a_device_reads_what_was_encrypted_for_it(plaintext: bytes, auth: bytes) -> None:
    body = encrypt(plaintext, point(DEVICE), auth)

    assert opened(body, auth) == plaintext
    assert len(body) == len(plaintext) + MAX_BODY - MAX_PLAINTEXT


def test_the_longest_push_fits_and_one_byte_more_is_refused() -> None:
    auth = os.urandom(16)
    longest = encrypt(b"x" * MAX_PLAINTEXT, point(DEVICE), auth)

    assert len(longest) == MAX_BODY == 4096
    assert opened(longest, auth) == b"x" * MAX_PLAINTEXT
    with pytest.raises(TooLarge, match="3,993 is the most"):
        encrypt(b"x" * (MAX_PLAINTEXT + 1), point(DEVICE), auth)


def test_nobody_else_reads_it_and_nobody_changes_it() -> None:
    auth = os.urandom(16)
    body = encrypt(b"water is over the wall", point(DEVICE), auth)
    stranger = ec.generate_private_key(CURVE)

    with pytest.raises(http_ece.ECEException):
        opened(body, auth, stranger)
    with pytest.raises(http_ece.ECEException):
        opened(body, os.urandom(16))
    with pytest.raises(http_ece.ECEException):
        opened(body[:-1] + bytes([body[-1] ^ 1]), auth)


def test_every_message_has_a_key_and_a_salt_of_its_own() -> None:
    bodies = [encrypt(b"x", point(DEVICE), b"a" * 16) for _ in range(20)]

    assert len({body[:16] for body in bodies}) == len({body[21:86] for body in bodies}) == 20


@pytest.mark.parametrize("key", [b"", b"\x04" * 65, b"\x04" + b"\0" * 64, b"\0"])
def test_a_key_that_is_no_point_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError):
        encrypt(b"x", key, b"a" * 16)


def test_others_accept_our_signature() -> None:
    signer = Signer.new(SUBJECT)
    now = int(time.time())
    header = signer.authorise("https://push.example.org", now)
    token = header.partition("t=")[2].partition(",")[0]

    assert verified(header)
    assert header == f"vapid t={token}, k={signer.public_key}"
    head, claims = (raw(part) for part in token.split(".")[:2])
    assert json.loads(head) == {"typ": "JWT", "alg": "ES256"}
    assert json.loads(claims) == {"aud": "https://push.example.org", "exp": now + GOOD_FOR, "sub": SUBJECT}
    assert GOOD_FOR <= 12 * 3600
    assert len(raw(signer.public_key)) == 65
    assert raw(signer.public_key)[0] == 4


@given(st.integers(0, 2**32), st.text("abcdefghij.-", min_size=1, max_size=60))
def test_every_signature_is_valid_and_every_change_is_not(now: int, host: str) -> None:
    header = SIGNER.authorise(f"https://{host}", now)
    start, _, rest = header.partition(".")
    claims, _, signature = rest.partition(".")
    forged = base64.urlsafe_b64encode(raw(claims).replace(b"https://", b"https:/.")).rstrip(b"=").decode()

    assert verified(header)
    assert not verified(f"{start}.{forged}.{signature}")
    assert not verified(header.replace(SIGNER.public_key, Signer.new(SUBJECT).public_key))


SIGNER = Signer.new(SUBJECT)


def test_a_key_comes_back_from_its_secret() -> None:
    again = Signer.from_secret(SIGNER.secret, SUBJECT)

    assert len(SIGNER.secret) == 32
    assert again.public_key == SIGNER.public_key
    assert verified(again.authorise("https://push.example.org", 1))


@pytest.mark.parametrize("secret", [b"", b"\0" * 32, b"\xff" * 32])
def test_what_is_no_key_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError):
        Signer.from_secret(secret, SUBJECT)
