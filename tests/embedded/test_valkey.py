"""The embedded Valkey: the broker on a Unix socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu.connection import Connection

from dispatcher.embedded.places import MAX_SOCKET_PATH
from dispatcher.embedded.valkey import Valkey
from dispatcher.errors import Conflict
from tests.support.directories import service_directory


@pytest.fixture
def directory() -> Iterator[Path]:
    with service_directory() as parent:
        yield parent / "valkey"


def ask(server: Valkey, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.socket))
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(65_536).decode()


def test_what_it_was_told_survives_a_restart(directory: Path) -> None:
    server = Valkey(directory)
    server.start()
    ask(server, "SET bell rung")
    server.stop()
    server.start()
    try:
        assert ask(server, "GET bell") == "$4\r\nrung\r\n"
    finally:
        server.stop()


def test_a_full_broker_refuses_rather_than_forgets(valkey: Valkey) -> None:
    assert "noeviction" in ask(valkey, "CONFIG GET maxmemory-policy")
    assert "\r\neverysec\r\n" in ask(valkey, "CONFIG GET appendfsync")


def test_celery_reaches_it_by_its_url(broker_url: str) -> None:
    with Connection(broker_url) as connection:  # type: ignore[no-untyped-call]
        queue = connection.SimpleQueue("bell")
        queue.put({"ring": 1})
        message = queue.get(timeout=20)
        message.ack()
        queue.close()

        assert message.payload == {"ring": 1}


def test_two_servers_cannot_have_one_directory(valkey: Valkey) -> None:
    with pytest.raises(Conflict, match="already running"):
        Valkey(valkey.directory).start()


def test_a_path_too_long_for_a_socket_gets_a_short_one_that_is_removed_again(directory: Path) -> None:
    directory.mkdir()
    server = Valkey(directory / ("d" * MAX_SOCKET_PATH))
    server.start()
    path = server.socket
    try:
        assert ask(server, "PING") == "+PONG\r\n"
    finally:
        server.stop()

    assert not path.parent.exists()
