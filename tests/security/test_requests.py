"""A request is bounded before anybody has read what it wants."""

from __future__ import annotations

import resource
import socket
from contextlib import suppress

import pytest

from tests.api.serving import Site

#: What no browser and no mail program comes near to.
TOO_MUCH = 20_000_000
CHUNKED = b"POST /lost HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def send(site: Site, head: bytes, filler: bytes) -> tuple[int, bytes]:
    """Send how a request begins, and then filler as long as the server takes it. How much it took, and its answer."""
    host, port = site.url.removeprefix("http://").split(":")
    taken, answer = 0, b""
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head)
        with suppress(ConnectionError):
            while taken < TOO_MUCH:
                taken += connection.send(filler)
        with suppress(ConnectionError, TimeoutError):
            connection.settimeout(0.5)
            answer = connection.recv(100)
    return taken, answer


@pytest.mark.parametrize(
    ("head", "filler"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", b"a" * 65_536),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-Many: a\r\n" * 5_000),
        (b"GET /", b"a" * 65_536),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX", b"a" * 65_536),
        (CHUNKED + b"0\r\n", b"X-Many: a\r\n" * 5_000),
        (CHUNKED + b"0\r\nX-Long: ", b"a" * 65_536),
        (CHUNKED + b"1", b";a=b" * 15_000),
    ],
    ids=["a header", "headers", "an address", "a name", "trailers", "a trailer", "a chunk's head"],
)
def test_the_head_of_a_request_is_bounded(server: Site, head: bytes, filler: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taken, answer = send(server, head, filler)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{taken} bytes taken, {grown:.0f} MB more, {answer[:40]!r}")

    assert taken < TOO_MUCH
    assert grown < 10
    assert server.get("/healthz").status_code == 200


def test_requests_of_every_usual_size_are_read(site: Site) -> None:
    """Also one after the other on one connection, in tiny chunks, and with as many cookies as a browser may hold."""
    site.create_story()
    with site.browser() as browser:
        for _ in range(50):
            assert browser.get("/s/tarrow-flood", headers={"Cookie": "a" * 4_000}).status_code == 200
        chunks = (bytes([each]) for each in b"email=" + b"a" * 9_000)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert browser.post("/lost", content=chunks, headers=form).status_code == 422
        manage = site.manage_path(site.add_reader("tarrow-flood"))
        assert browser.post(manage, data={"do": "save", "x": "y" * 900_000}).status_code == 303
        assert browser.get("/").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 50",
        b"Content-Length: +5",
        b"Content-Length: 0x5",
        b"Content-Length: -1",
        b"Content-Length : 5",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding:\x0bchunked",
        b"X: a\rContent-Length: 5",
        b"X: a\0b",
        b"X: a\r\n folded",
    ],
)
def test_nobody_can_disagree_with_us_about_where_a_request_ends(server: Site, headers: bytes) -> None:
    """RFC 9112 §6.3, §11.2: a request that a proxy before us might read in another way is refused or closes."""
    host, port = server.url.removeprefix("http://").split(":")
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"POST /lost HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\n0\r\n\r\n" + smuggled)
        answer = b""
        with suppress(TimeoutError, ConnectionError):
            connection.settimeout(0.3)
            while received := connection.recv(65_536):
                answer += received

    assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1
