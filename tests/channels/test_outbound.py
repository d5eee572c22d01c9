"""The guarded client: where it connects to and where it never does, and what becomes of strange answers."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import outbound
from dispatcher.outbound import MAX_ANSWER, Outbound, Refused, Resolve, Unreachable, check_address
from tests.support.certificates import authority
from tests.support.push_service import Answer, a_push_service

PUBLIC = "93.184.215.14"
WRONG = Path(__file__).parents[1] / "support/wrong_certificate.pem"
#: One of each kind of address that is not somebody's on the internet.
PRIVATE = (
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254"),
    *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1"),
    *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:93.184.215.14", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
    *("64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1"),
    *("3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1", "4000::1"),
)


class Canary:
    """A listener on this machine that nobody may ever connect to."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    found = Canary(0)

    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.connections += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")

    async with await asyncio.start_server(connected, "127.0.0.1") as server:
        found.port = server.sockets[0].getsockname()[1]
        yield found


def names(**hosts: Sequence[str] | Callable[[], Sequence[str]]) -> Resolve:
    """A resolver that knows these hosts, `_` for a dot, and nothing else."""
    known = {name.replace("_", "."): addresses for name, addresses in hosts.items()}

    async def resolve(host: str, port: int) -> Sequence[str]:
        if host.lower() not in known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        found = known[host.lower()]
        return found() if callable(found) else found

    return resolve


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that is connected to. Those elsewhere refuse: no test leaves this machine."""
    found: list[str] = []
    real = asyncio.SelectorEventLoop.sock_connect

    async def sock_connect(self: Any, sock: socket.socket, address: Any) -> None:
        found.append(address[0])
        if not ipaddress.ip_address(address[0]).is_loopback:
            raise ConnectionRefusedError(111, "Connection refused")
        await real(self, sock, address)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", sock_connect)
    return found


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:{port}/",
        "https://localhost:{port}/",
        "https://LOCALHOST:{port}/",
        "https://[::1]:{port}/",
        "https://[::ffff:127.0.0.1]:{port}/",
        "https://[::ffff:7f00:1]:{port}/",
        "https://[64:ff9b::7f00:1]:{port}/",
        "https://[64:ff9b::127.0.0.1]:{port}/",
        "https://[2002:7f00:1::]:{port}/",
        "https://[fe80::1%25lo]:{port}/",
        "https://2130706433:{port}/",
        "https://0x7f000001:{port}/",
        "https://0x7f.1:{port}/",
        "https://0X7F.0.0.1:{port}/",
        "https://017700000001:{port}/",
        "https://0177.0.0.1:{port}/",
        "https://127.1:{port}/",
        "https://127.0.1:{port}/",
        "https://127.000.000.001:{port}/",
        "https://0:{port}/",
        "https://0.0.0.0:{port}/",
        "https://127.0.0.1.:{port}/",
        "https://localhost.:{port}/",
        "https://１２７.0.0.1:{port}/",
        "https://127。0。0。1:{port}/",
        "https://ⓛocalhost:{port}/",
        "https://loc%61lhost:{port}/",
        "https://fcm.googleapis.com@127.0.0.1:{port}/",
        "https://fcm.googleapis.com:443@127.0.0.1:{port}/",
        "https://fcm.googleapis.com\\@127.0.0.1:{port}/",
        "https://127.0.0.1:{port}\\@fcm.googleapis.com/",
        "https://127.0.0.1:{port}#@fcm.googleapis.com/",
        "https://fcm.googleapis.com /@127.0.0.1:{port}/",
        "https://127.0.0.1:{port}\t/",
        "https://127.0.0.1:{port}/\r\nHost: fcm.googleapis.com",
        "\thttps://127.0.0.1:{port}/",
        "https:127.0.0.1:{port}/",
        "https:///127.0.0.1:{port}/",
        "//127.0.0.1:{port}/",
        "http://127.0.0.1:{port}/",
        "HTTP://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "ftp://127.0.0.1:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
        "https://169.254.169.254/latest/meta-data/",
        "https://evil.test:{port}/",
        "https://evil.test:99999/",
        "https://evil.test:0/",
        "https://-evil.test/",
        "https://evil..test/",
        "https://a_b.test/",
        "https://" + "a." * 200 + "test/",
        "https:///",
        "",
    ],
)
async def test_an_address_in_any_disguise_is_refused_and_never_connected_to(url: str, canary: Canary) -> None:
    resolve = names(localhost=["127.0.0.1"], evil_test=["127.0.0.1"])
    async with Outbound(resolve=resolve) as client:
        for call in (client.post, client.get):
            with pytest.raises(Refused) as refused:
                await call(url.format(port=canary.port))

    assert canary.connections == 0
    assert str(canary.port) not in str(refused.value)


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_name_that_means_a_private_address_is_refused(address: str, dialled: list[str]) -> None:
    async with Outbound(resolve=names(evil_test=[address], also_test=[PUBLIC, address])) as client:
        for host in ("evil.test", "also.test"):
            with pytest.raises(Refused, match="public internet"):
                await client.post(f"https://{host}/")

    assert dialled == []


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001:829::200a"])
def test_an_address_on_the_internet_is_allowed(address: str) -> None:
    check_address(address)


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_allowed(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if not address.is_global or address.is_multicast:
        with pytest.raises(Refused):
            check_address(str(address))


@given(st.ip_addresses(v=4, network="127.0.0.0/8"), st.sampled_from(["64:ff9b::", "64:ff9b:1::", "::ffff:0:0", "::"]))
def test_no_private_address_hides_in_another(inner: ipaddress.IPv4Address, prefix: str) -> None:
    with pytest.raises(Refused):
        check_address(str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(inner))))


async def test_a_name_is_asked_once_and_only_what_it_said_is_connected_to(dialled: list[str], canary: Canary) -> None:
    """S9: the second answer, which would lead here, comes too late."""
    answers = [[PUBLIC], ["127.0.0.1"]]
    async with Outbound(resolve=names(rebound_test=lambda: answers.pop(0))) as client:
        url = f"https://rebound.test:{canary.port}/"
        with pytest.raises(Unreachable):
            await client.post(url)
        assert dialled == [PUBLIC]
        assert len(answers) == 1
        with pytest.raises(Refused):
            await client.post(url)

    assert dialled == [PUBLIC]
    assert canary.connections == 0


async def test_the_socket_itself_is_guarded_should_a_name_slip_through(canary: Canary, dialled: list[str]) -> None:
    """A resolver that answers the check with one list and the connection with another gets nowhere."""

    class TwoFaced(list[str]):
        def __iter__(self) -> Any:
            faces = self.faces = getattr(self, "faces", 0) + 1
            return iter([PUBLIC] if faces == 1 else ["127.0.0.1"])

    async with Outbound(resolve=names(evil_test=TwoFaced([PUBLIC]))) as client:
        with pytest.raises(Refused):
            await client.post(f"https://evil.test:{canary.port}/")

    assert dialled == []
    assert canary.connections == 0


async def test_an_origin_that_was_written_out_may_be_anywhere_and_nothing_beside_it(canary: Canary) -> None:
    async with a_push_service() as service:
        device = service.device()
        async with Outbound([service.origin]) as client:
            assert (await client.post(device.endpoint, headers={"TTL": "1"}, data=b"x")).status == 201
            for url in (
                f"http://127.0.0.1:{canary.port}/",
                service.origin.replace("http:", "https:") + "/",
                service.origin.replace("127.0.0.1", "localhost") + "/",
                service.origin.replace("//", "//user@") + "/",
                f"{service.origin}0/",
            ):
                with pytest.raises(Refused):
                    await client.post(url)

    assert service.count == 1
    assert canary.connections == 0


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_a_redirect_is_refused_and_not_followed(status: int, canary: Canary) -> None:
    async with a_push_service() as service, Outbound([service.origin, f"http://127.0.0.1:{canary.port}"]) as client:
        device = service.device()
        device.answer(Answer(status, {"Location": f"http://127.0.0.1:{canary.port}/"}))
        with pytest.raises(Refused, match="redirect"):
            await client.post(device.endpoint)

    assert canary.connections == 0


async def test_a_proxy_in_the_environment_is_not_asked(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    async with a_push_service() as service, Outbound([service.origin]) as client:
        await client.post(service.device().endpoint)

    assert service.count == 1
    assert canary.connections == 0


async def test_connections_are_kept_and_cookies_are_not() -> None:
    async with a_push_service() as service, Outbound([service.origin]) as client:
        device = service.device()
        device.answer(Answer(headers={"Set-Cookie": "reader=1"}))
        for _ in range(5):
            await client.post(device.endpoint, headers={"TTL": "1"}, data=b"x")

    assert service.connections == 1
    assert not any("cookie" in push.headers for push in device.received)
    assert {push.headers["user-agent"] for push in device.received} == {"Dispatcher"}


async def test_of_a_long_answer_only_the_beginning_is_read() -> None:
    async with a_push_service() as service, Outbound([service.origin]) as client:
        device = service.device()
        device.answer(Answer(200, body=b"x" * (20 * MAX_ANSWER)), Answer(200, body=b"x" * MAX_ANSWER))
        long = await client.post(device.endpoint)
        just = await client.post(device.endpoint)

    assert (long.status, len(long.body), long.whole) == (200, MAX_ANSWER, False)
    assert (just.status, len(just.body), just.whole) == (200, MAX_ANSWER, True)


async def test_a_compressed_answer_is_left_as_it_is() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    async with a_push_service() as service, Outbound([service.origin]) as client:
        device = service.device()
        device.answer(Answer(200, {"Content-Encoding": "gzip"}, bomb))
        answer = await client.post(device.endpoint)

    assert answer.body == bomb
    assert "accept-encoding" not in device.received[0].headers


async def test_headers_of_an_answer_are_found_in_any_case() -> None:
    async with a_push_service() as service, Outbound([service.origin]) as client:
        device = service.device()
        device.answer(Answer(503, {"rEtry-aFter": "7"}, b"later"))
        answer = await client.post(device.endpoint)

    assert (answer.status, answer.headers["Retry-After"], answer.body) == (503, "7", b"later")


async def test_silence_ends_in_time() -> None:
    async with a_push_service() as service, Outbound([service.origin]) as client:
        device = service.device()
        device.answer(Answer(silent=True))
        with pytest.raises(Unreachable, match=r"No answer within 0\.2 seconds") as error:
            await client.post(device.endpoint, timeout=0.2)

    assert error.value.offered
    assert not error.value.lost


async def test_a_connection_that_ends_without_an_answer_is_told_from_none_at_all() -> None:
    async with a_push_service() as service, Outbound([service.origin]) as client:
        device = service.device()
        device.answer(Answer(drop=True))
        with pytest.raises(Unreachable) as dropped:
            await client.post(device.endpoint)
    async with Outbound([service.origin]) as client:
        with pytest.raises(Unreachable, match="refused") as away:
            await client.post(device.endpoint)

    assert dropped.value.lost
    assert dropped.value.offered
    assert not away.value.lost
    assert not away.value.offered
    for error in (dropped, away):
        assert device.endpoint not in str(error.value)


async def test_a_host_without_an_address_is_unreachable() -> None:
    async with Outbound(resolve=names(empty_test=[])) as client:
        for host in ("nowhere.test", "empty.test"):
            with pytest.raises(Unreachable, match="cannot be resolved"):
                await client.post(f"https://{host}/")


@asynccontextmanager
async def saying(*pieces: bytes) -> AsyncIterator[str]:
    """A server that says these pieces to whoever comes, and then nothing more. Its origin."""

    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    async with await asyncio.start_server(connected, "127.0.0.1") as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for each in writers:
            each.close()


async def test_a_status_counts_although_its_body_never_ends() -> None:
    async with saying(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\nyes") as origin, Outbound([origin]) as client:
        answer = await client.post(f"{origin}/", timeout=0.3)

    assert (answer.status, answer.body, answer.whole) == (201, b"yes", False)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"220 smtp.example.org ESMTP\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"\0" * 1000,
    ],
)
async def test_what_is_not_http_is_no_answer(nonsense: bytes) -> None:
    async with saying(nonsense) as origin, Outbound([origin]) as client:
        with pytest.raises(Unreachable):
            await client.post(f"{origin}/", timeout=0.5)


def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_certificate_is_checked_against_the_name_and_not_the_address(tmp_path: Path) -> None:
    trust, certificate = authority(tmp_path, "push.example.test")
    resolve = names(push_example_test=["127.0.0.1"], other_example_test=["127.0.0.1"])
    async with a_push_service(tls=server_tls(certificate), name="push.example.test") as service:
        device = service.device()
        other = service.origin.replace("push.", "other.")
        async with Outbound([service.origin, other], resolve=resolve, tls=trust) as client:
            assert (await client.post(device.endpoint, headers={"TTL": "1"})).status == 201
            with pytest.raises(Unreachable, match="certificate"):
                await client.post(f"{other}/push/x")
        async with Outbound([service.origin], resolve=resolve) as client:
            with pytest.raises(Unreachable, match="certificate"):
                await client.post(device.endpoint)

    assert service.count == 1


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_service_on_the_internet_is_reached_by_its_name(
    run: Callable[[Coroutine[Any, Any, None]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For this test loopback counts as the internet: the whole guarded way, with nothing trusted."""
    loopback = ipaddress.IPv4Network("127.0.0.0/8")
    monkeypatch.setattr(outbound, "_SPECIAL_V4", tuple(net for net in outbound._SPECIAL_V4 if net != loopback))
    trust, certificate = authority(tmp_path, "push.example.test")
    resolve = names(push_example_test=["127.0.0.1"])

    async def reach() -> None:
        async with (
            a_push_service(tls=server_tls(certificate), name="push.example.test") as service,
            Outbound(resolve=resolve, tls=trust) as client,
        ):
            device = service.device()
            for _ in range(3):
                assert (await client.post(device.endpoint, headers={"TTL": "1"}, data=b"x")).status == 201
        assert device.received[0].headers["host"] == service.origin.removeprefix("https://")
        assert service.connections == 1

    run(reach())


async def test_a_certificate_that_nobody_signed_is_not_trusted() -> None:
    async with a_push_service(tls=server_tls(WRONG)) as service, Outbound([service.origin]) as client:
        with pytest.raises(Unreachable, match="certificate"):
            await client.post(service.device().endpoint)

    assert service.count == 0


async def test_the_memory_of_origins_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "MOST_ORIGINS", 10)
    async with Outbound(resolve=names()) as client:
        for number in range(25):
            with pytest.raises(Unreachable):
                await client.get(f"https://n{number}.test/")
        assert len(client._origins) <= 10
