"""What a browser gives us: endpoints of push services that we know, and keys that are keys. All else is refused."""

from __future__ import annotations

import base64
import re

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.channels.webpush.services import MAX_ENDPOINT, check_endpoint, origin_of, parse_keys
from dispatcher.config import PUSH_SERVICES
from dispatcher.errors import Invalid
from tests.support.push_service import base64url

SERVICES = (*PUSH_SERVICES, "push.example.org", "http://127.0.0.1:9000", "https://push.lan.example:8443")
#: Always the same, because tests that run side by side have to have the same names.
KEY = ec.derive_private_key(4_711, ec.SECP256R1()).public_key()
POINT = KEY.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
COMPRESSED = KEY.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
AUTH = bytes(range(100, 116))


@pytest.mark.parametrize(
    ("endpoint", "origin"),
    [
        ("https://fcm.googleapis.com/fcm/send/dQw4:APA91bE-x_Y", "https://fcm.googleapis.com"),
        ("https://updates.push.services.mozilla.com/wpush/v2/gAAAA", "https://updates.push.services.mozilla.com"),
        ("https://web.push.apple.com/QGd-x", "https://web.push.apple.com"),
        ("https://wns2-by3p.notify.windows.com/w/?token=BQYAA%2b%3d", "https://wns2-by3p.notify.windows.com"),
        ("https://a.b.notify.windows.com/", "https://a.b.notify.windows.com"),
        ("https://push.example.org/x", "https://push.example.org"),
        ("http://127.0.0.1:9000/push/x", "http://127.0.0.1:9000"),
        ("https://push.lan.example:8443/x?y=z@w", "https://push.lan.example:8443"),
        ("https://fcm.googleapis.com/" + "a" * (MAX_ENDPOINT - 27), "https://fcm.googleapis.com"),
    ],
)
def test_an_endpoint_of_a_known_service_is_taken(endpoint: str, origin: str) -> None:
    assert check_endpoint(endpoint, SERVICES) == origin == origin_of(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "x",
        "https://127.0.0.1/x",
        "https://127.0.0.1:9000/x",
        "http://127.0.0.1/x",
        "http://127.0.0.1:9001/x",
        "http://127.0.0.1:90000/x",
        "http://[::1]:9000/x",
        "http://localhost:9000/x",
        "https://[::1]/x",
        "https://[64:ff9b::7f00:1]/x",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/x",
        "http://2130706433:9000/x",
        "http://0x7f.1:9000/x",
        "https://fcm.googleapis.com.evil.test/x",
        "https://fcm.googleapis.com@evil.test/x",
        "https://user@fcm.googleapis.com/x",
        "https://user:word@fcm.googleapis.com/x",
        "https://push.example@evil",
        "https://push.example.org@evil/",
        "https://evil.test/https://fcm.googleapis.com/x",
        "https://evil.test?fcm.googleapis.com/",
        "https://evil.test#fcm.googleapis.com/",
        "https://evil.test\\.fcm.googleapis.com/x",
        "https://evil.testfcm.googleapis.com/x",
        "https://fcm-googleapis.com/x",
        "https://fcmxgoogleapis.com/x",
        "https://x.fcm.googleapis.com/x",
        "https://fcm.googleapis.com./x",
        "https://fcm.googleapis.com:443/x",
        "https://fcm.googleapis.com:8443/x",
        "https://fcm.googleapis.com:/x",
        "https://fcm.googleapis.com",
        "https://fcm.googleapis.com?x",
        "https://fcm.googleapis.com/x#y",
        "https://fcm.googleapis.com/x y",
        "https://fcm.googleapis.com/x\n",
        "https://fcm.googleapis.com/x\r\nHost: evil.test",
        "https://fcm.googleapis.com/\x00",
        "https://fcm.googleapis.com/ü",
        "https://fcm.googleapis.com/" + "a" * (MAX_ENDPOINT - 26),
        "https://fcm。googleapis。com/x",
        "https://fcm.googleapis.com\t/x",
        " https://fcm.googleapis.com/x",
        "HTTPS://fcm.googleapis.com/x",
        "https://FCM.googleapis.com/x",
        "http://fcm.googleapis.com/x",
        "ftp://fcm.googleapis.com/x",
        "javascript://fcm.googleapis.com/x",
        "//fcm.googleapis.com/x",
        "https:fcm.googleapis.com/x",
        "https:/fcm.googleapis.com/x",
        "https:///fcm.googleapis.com/x",
        "https://notify.windows.com/x",
        "https://.notify.windows.com/x",
        "https://a..notify.windows.com/x",
        "https://-.notify.windows.com/x",
        "https://evilnotify.windows.com/x",
        "https://a.notify.windows.com.evil.test/x",
        "https://*.notify.windows.com/x",
        "https://push.lan.example/x",
        "http://push.lan.example:8443/x",
        "https://push.lan.example:8443@evil.test/x",
        "https://push.lan.example:84430/x",
    ],
)
def test_every_other_endpoint_is_refused_and_not_repeated(endpoint: str) -> None:
    with pytest.raises(Invalid) as error:
        check_endpoint(endpoint, SERVICES)

    assert error.value.field == "endpoint"
    assert len(endpoint) < 2 or endpoint not in str(error.value)


@given(st.from_regex(re.compile(r"https?://[a-z0-9@:./\\#?*%-]{1,60}/"), fullmatch=True))
def test_what_is_taken_begins_with_an_allowed_origin(endpoint: str) -> None:
    services = ("a.b", "*.c.d", "http://e:1")
    try:
        origin = check_endpoint(endpoint, services)
    except Invalid:
        return
    assert endpoint.startswith(origin + "/")
    assert origin in ("https://a.b", "http://e:1") or origin.endswith(".c.d")


@given(st.text(max_size=100))
def test_nothing_that_a_person_may_type_breaks_the_check(text: str) -> None:
    with pytest.raises(Invalid):
        check_endpoint(text, SERVICES)
    with pytest.raises(Invalid):
        check_endpoint(f"https://{text}.evil.test/", SERVICES)


@pytest.mark.parametrize("pad", [False, True])
def test_keys_are_read_with_and_without_padding(pad: bool) -> None:
    write = (lambda value: base64.urlsafe_b64encode(value).decode()) if pad else base64url

    assert parse_keys(write(POINT), write(AUTH)) == (POINT, AUTH)


@pytest.mark.parametrize(
    ("p256dh", "why"),
    [
        ("", "65 bytes"),
        ("=", "65 bytes"),
        ("AAAA", "65 bytes"),
        (base64url(POINT)[:-1], "65 bytes"),
        (base64url(POINT) + "A", "65 bytes"),
        (base64url(POINT) + "==", "65 bytes"),
        (base64url(POINT) + "\n", "65 bytes"),
        (base64url(POINT[:-1]) + "+", "65 bytes"),
        (" " + base64url(POINT), "65 bytes"),
        ("ü" * 87, "65 bytes"),
        ("A" * 1_000_000, "65 bytes"),
        (base64url(COMPRESSED), "65 bytes"),
        (base64url(COMPRESSED + bytes(32)), "P-256"),
        (base64url(b"\x04" + bytes(64)), "P-256"),
        (base64url(b"\x04" + b"\xff" * 64), "P-256"),
        (base64url(POINT[:-1] + bytes([POINT[-1] ^ 1])), "P-256"),
        (base64url(b"\x06" + POINT[1:]), "P-256"),
        (base64url(bytes(65)), "P-256"),
    ],
)
def test_what_is_no_point_on_the_curve_is_refused(p256dh: str, why: str) -> None:
    with pytest.raises(Invalid, match=why) as error:
        parse_keys(p256dh, base64url(AUTH))

    assert error.value.field == "p256dh"


@pytest.mark.parametrize(
    "auth", ["", "AA", base64url(AUTH[:-1]), base64url(AUTH + b"x"), base64url(AUTH) + "=", "!" * 22]
)
def test_what_is_no_secret_of_16_bytes_is_refused(auth: str) -> None:
    with pytest.raises(Invalid, match="16 bytes") as error:
        parse_keys(base64url(POINT), auth)

    assert error.value.field == "auth"


@given(st.binary(min_size=64, max_size=64))
def test_a_point_is_taken_only_if_it_is_on_the_curve(coordinates: bytes) -> None:
    x, y = int.from_bytes(coordinates[:32], "big"), int.from_bytes(coordinates[32:], "big")
    p = 2**256 - 2**224 + 2**192 + 2**96 - 1
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    on_curve = x < p and y < p and (y * y - (x**3 - 3 * x + b)) % p == 0

    if on_curve:
        assert parse_keys(base64url(b"\x04" + coordinates), base64url(AUTH))[0][1:] == coordinates
    else:
        with pytest.raises(Invalid):
            parse_keys(base64url(b"\x04" + coordinates), base64url(AUTH))
