"""A push endpoint is a stranger's word for where to connect to. No word of theirs leads to this machine (S8, S10)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from dispatcher import db
from dispatcher.model import DeliveryState
from tests.actions.test_pushing import a_room, browser, finish_push
from tests.api.serving import Site
from tests.security.house import House
from tests.support.push_service import CREATED, Device

ENDPOINTS = (
    "http://127.0.0.1:{port}/",
    "https://127.0.0.1:{port}/",
    "https://127.0.0.1/",
    "https://localhost:{port}/",
    "https://[::1]:{port}/",
    "https://[::ffff:127.0.0.1]:{port}/",
    "https://[64:ff9b::7f00:1]:{port}/",
    "https://[64:ff9b::10.0.0.1]/",
    "https://169.254.169.254/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "https://10.0.0.1/",
    "https://192.168.0.1/",
    "https://172.16.0.1/",
    "http://2130706433:{port}/",
    "https://2130706433:{port}/",
    "https://0x7f000001:{port}/",
    "https://017700000001:{port}/",
    "https://127.1:{port}/",
    "https://0:{port}/",
    "https://fcm.googleapis.com.evil.test/fcm/send/x",
    "https://fcm.googleapis.com@evil.test/fcm/send/x",
    "https://fcm.googleapis.com@127.0.0.1:{port}/",
    "https://fcm.googleapis.com:443@127.0.0.1:{port}/",
    "https://fcm.googleapis.com:{port}/fcm/send/x",
    "https://fcm.googleapis.com\\@127.0.0.1:{port}/",
    "https://fcm.googleapis.com#@127.0.0.1:{port}/",
    "https://fcm.googleapis.com?@127.0.0.1:{port}/",
    "https://evilfcm.googleapis.com.evil.test/",
    "https://xfcm.googleapis.com/",
    "https://FCM.GOOGLEAPIS.COM@evil.test/",
    "https://fcm.googleapis.com./x",
    "https://fcm.googleapis.com%2eevil.test/x",
    "https://fcm。googleapis。com/x",
    "http://fcm.googleapis.com/fcm/send/x",
    "ftp://fcm.googleapis.com/x",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "//fcm.googleapis.com/x",
    "https:fcm.googleapis.com/x",
    "https://fcm.googleapis.com/x\r\nHost: evil.test",
    "https://fcm.googleapis.com/x y",
    "https://fcm.googleapis.com",
    "",
)


@contextmanager
def a_canary() -> Iterator[tuple[int, list[str]]]:
    """A listener on this machine that no push service is, and who has connected to it."""
    caught: list[str] = []
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.02)

        def listen() -> None:
            while not over.is_set():
                try:
                    connection, address = listening.accept()
                except TimeoutError:
                    continue
                caught.append(str(address))
                connection.close()

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield listening.getsockname()[1], caught
        finally:
            over.set()
            thread.join()


def test_no_browser_follows_from_a_place_that_is_no_push_service(site: Site) -> None:
    """S8, at the door: refused in words that do not repeat the endpoint, and nothing is written."""
    site.create_story()
    device = Device("", lambda _: CREATED)
    with a_canary() as (port, caught):
        for endpoint in ENDPOINTS:
            evil = endpoint.format(port=port)
            subscription = {**device.subscription, "endpoint": evil}
            for path, body in (
                ("/push/follow", {"story": "tarrow-flood", "subscription": subscription}),
                (
                    "/push/renew",
                    {
                        "old": device.subscription | {"endpoint": "https://fcm.googleapis.com/x"},
                        "subscription": subscription,
                    },
                ),
            ):
                answer = site.push(path, body)
                assert answer.status_code == 422, (path, evil)
                assert not evil or evil not in answer.text

    assert caught == []
    assert site.look("SELECT (SELECT count(*) FROM devices) + (SELECT count(*) FROM subscribers)") == [(0,)]


def test_what_stands_in_the_table_all_the_same_is_not_connected_to(house: House) -> None:
    """S8, at the worker: one reader on a real push service gets the update, and the others fail by name."""
    slug = house.story()
    good = house.device(slug)
    [(id_,)] = house.site.look("SELECT id FROM devices WHERE endpoint = %s", good.endpoint)
    with a_canary() as (port, caught):
        for number, evil in enumerate(ENDPOINTS):
            house.site.look(
                "WITH reader AS (INSERT INTO subscribers DEFAULT VALUES RETURNING id), follows AS ("
                " INSERT INTO subscriptions (story_id, subscriber_id, channels, confirmed_at)"
                " SELECT s.id, r.id, '{webpush}', now() FROM reader r, stories s WHERE s.slug = %s)"
                " INSERT INTO devices (subscriber_id, endpoint, endpoint_hash, public_key, auth_secret)"
                " SELECT r.id, %s, %s, public_key, auth_secret FROM reader r, devices d WHERE d.id = %s",
                *(slug, evil.format(port=port), number.to_bytes(32, "big"), id_),
            )
        house.publish(slug)
    sent = house.site.look(
        "SELECT d.state::text, d.reply FROM deliveries d JOIN blasts b ON b.id = d.blast_id AND b.channel = 'webpush'"
        " JOIN updates u ON u.id = b.update_id WHERE u.story_id = %s",
        house.site.story_id(slug),
    )
    states = Counter(state for state, _ in sent)

    assert caught == []
    assert states == {"accepted": 1, "failed": len(ENDPOINTS)}
    assert len(good.received) == 1
    assert str(port) not in " ".join(reply for _, reply in sent)


async def test_a_worker_connects_to_its_relay_and_to_push_services_and_to_nobody_else(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S10: every connection that a worker's event loop makes, while mails and pushes go out."""
    dialled: set[tuple[str, int]] = set()
    real = asyncio.SelectorEventLoop.sock_connect

    async def sock_connect(self: Any, sock: socket.socket, address: Any) -> None:
        dialled.add((address[0], address[1]))
        await real(self, sock, address)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", sock_connect)
    async with a_room(database) as (room, service, sink):
        await room.follow("dam", "ana@example.org")
        for _ in range(3):
            await browser(room, service)
        await room.run(
            "UPDATE devices SET endpoint = 'https://fcm.googleapis.com.evil.test/' WHERE id ="
            " (SELECT min(id) FROM devices)"
        )
        published = await room.publish()
        pushed = await finish_push(room, published)
        async with room.sender() as sender:
            mailed = await room.finish(sender, replace(published, blast_ids=published.blast_ids[:1]))
        port = int(service.origin.rpartition(":")[2])

    assert (mailed.states, pushed.states[DeliveryState.ACCEPTED]) == ({DeliveryState.ACCEPTED: 1}, 2)
    assert dialled == {("127.0.0.1", sink.port), ("127.0.0.1", port)}
    assert all(ipaddress.ip_address(host).is_loopback for host, _ in dialled)
