"""A real site for tests: the application behind uvicorn, on a private port, with real Postgres and Valkey."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import secrets
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.headerregistry import Address
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import psycopg
import uvicorn
from psycopg import sql

from dispatcher import access, db, following, stories
from dispatcher.app import create_app, server_config
from dispatcher.config import Newsroom, Settings
from dispatcher.tokens import ConfirmTokens, leave_links, manage_links
from tests.support.databases import empty, tables_of

T = TypeVar("T")
SECRET = "a secret that only these tests know, long enough"
#: What machines leave that look after the installation.
OF_THE_INSTALLATION = ("alembic_version", "moments", "proofs")


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, also where a loop is running in this thread: a browser's tests have one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@dataclass
class Site:
    """A site that runs, with hands to fill it and eyes to look at it."""

    url: str
    settings: Settings
    _readers: int = field(default=0, init=False)

    @cached_property
    def token(self) -> str:
        """A bearer token by the name of `cms`."""
        return at_once(self._create_token())

    async def _create_token(self) -> str:
        async with db.Database(self.settings.database_url) as database:
            return await access.create_token(database, "cms")

    @contextmanager
    def browser(self, **headers: str) -> Iterator[httpx2.Client]:
        """A client without a token, which follows no redirects."""
        # Without TLS there is nothing to verify, and loading the certificates would take longer than most tests.
        with httpx2.Client(base_url=self.url, headers=headers, timeout=20, verify=False) as client:
            yield client

    @contextmanager
    def cms(self) -> Iterator[httpx2.Client]:
        """A client with a token."""
        with self.browser(Authorization=f"Bearer {self.token}") as client:
            yield client

    def follow(
        self, slug: str = "tarrow-flood", email: str = "ada@mail.example", *, client: str = "", **more: Any
    ) -> httpx2.Response:
        """Send the form of a story's page, each time from another place unless `client` is an address.

        `more` are fields; `headers` is a mapping of those.
        """
        headers = {"X-Forwarded-For": client or self.somewhere(), **more.pop("headers", {})}
        fields = {"email": email, "cadence": "every", "timezone": "Europe/London", **more}
        with self.browser(**headers) as browser:
            return browser.post(f"/s/{slug}/follow", data=fields)

    def somewhere(self) -> str:
        """An address that nobody has asked from before."""
        return f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"

    def confirm_path(self, email: str = "ada@mail.example") -> str:
        """Let a worker answer what was asked; the newest confirm link that it owes to an address."""

        async def answer() -> None:
            async with db.Database(self.settings.database_url) as database:
                while await following.answer(database, SECRET):
                    pass

        at_once(answer())
        rows = self.look(
            "SELECT id, address_hash, story_id FROM confirmations WHERE email = %s ORDER BY id DESC LIMIT 1", email
        )
        assert rows, f"no confirm mail is owed to {email}"
        return "/confirm/" + ConfirmTokens(SECRET).make(*rows[0])

    def mails_owed(self) -> list[tuple[str, str]]:
        """The kind and the address of every mail that is owed by now, the oldest first."""
        return [(kind, email) for kind, email in self.look("SELECT kind::text, email FROM notices ORDER BY id")]

    def add_device(self, reader: int, name: str = "Firefox on Android") -> int:
        """A browser of a reader's, on a push service that nobody calls."""
        endpoint = f"https://updates.push.services.mozilla.com/wpush/v2/{secrets.token_hex(8)}"
        rows = self.look(
            "INSERT INTO devices (subscriber_id, endpoint, endpoint_hash, public_key, auth_secret, name)"
            " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
            *(reader, endpoint, hashlib.sha256(endpoint.encode()).digest()),
            *(b"\4" + secrets.token_bytes(64), secrets.token_bytes(16), name),
        )
        return int(rows[0][0])

    def push(self, path: str, body: object, *, client: str = "", **headers: str) -> httpx2.Response:
        """Send JSON as our own script does, each time from another place unless `client` is an address."""
        with self.browser(**{"X-Forwarded-For": client or self.somewhere(), **headers}) as browser:
            return browser.post(path, json=body)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        with self.browser(**headers) as client:
            return client.get(path)

    def post(self, path: str, data: dict[str, str] | None = None, **headers: str) -> httpx2.Response:
        with self.browser(**headers) as client:
            return client.post(path, data=data or {})

    def create_story(self, slug: str = "tarrow-flood", headline: str = "Tarrow flood", **more: Any) -> str:
        with self.cms() as cms:
            answer = cms.post("/api/v1/stories", json={"slug": slug, "headline": headline, **more})
        assert answer.status_code == 201, answer.text
        return slug

    def publish(self, slug: str = "tarrow-flood", headline: str = "The levee gives way", **more: Any) -> dict[str, Any]:
        with self.cms() as cms:
            answer = cms.post(
                f"/api/v1/stories/{slug}/updates", json={"headline": headline, "body": "It gave way.", **more}
            )
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def close_story(self, slug: str, successor: str | None = None) -> None:
        async def close() -> None:
            async with db.Database(self.settings.database_url) as database:
                await stories.close(database, slug, successor=successor)

        at_once(close())

    def add_reader(self, *slugs: str) -> int:
        """A reader who follows these stories by mail already, without the way over two mails."""
        self._readers += 1
        email = f"reader{self._readers}@mail.example"
        digest = hashlib.blake2b(email.encode(), digest_size=16).digest()
        with psycopg.connect(self.settings.database_url) as connection:
            row = connection.execute(
                "INSERT INTO subscribers (email, address_hash) VALUES (%s, %s) RETURNING id", (email, digest)
            ).fetchone()
            assert row is not None
            for slug in slugs:
                connection.execute(
                    "INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at)"
                    " SELECT id, %s, clock_timestamp() FROM stories WHERE slug = %s",
                    (row[0], slug),
                )
        return int(row[0])

    def story_id(self, slug: str) -> int:
        return int(self.look("SELECT id FROM stories WHERE slug = %s", slug)[0][0])

    def leave_path(self, reader: int, slug: str | None = None) -> str:
        story = 0 if slug is None else self.story_id(slug)
        return "/u/" + leave_links(SECRET).make(story, reader)

    def manage_path(self, reader: int) -> str:
        return "/manage/" + manage_links(SECRET).make(0, reader)

    def follows(self, reader: int) -> set[str]:
        rows = self.look(
            "SELECT s.slug FROM subscriptions f JOIN stories s ON s.id = f.story_id"
            " WHERE f.subscriber_id = %s AND f.ended_at IS NULL",
            reader,
        )
        return {row[0] for row in rows}

    def look(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.settings.database_url, autocommit=True) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, but for what machines leave that look after the installation."""
        with psycopg.connect(self.settings.database_url, autocommit=True) as connection:
            query = sql.SQL("SELECT * FROM {} ORDER BY 1, 2")
            return {
                name: connection.execute(query.format(sql.Identifier(name))).fetchall()
                for name in tables_of(connection, but=OF_THE_INSTALLATION)
            }

    def empty(self) -> None:
        """Remove every row of every table."""
        with psycopg.connect(self.settings.database_url, autocommit=True) as connection:
            empty(connection, keep=OF_THE_INSTALLATION)


def settings_for(database_url: str, broker_url: str, **more: Any) -> Settings:
    """Settings of a site on this database; the port becomes known when it runs."""
    made = Settings(
        data_dir=Path("/nonexistent"),
        database_url=database_url,
        broker_url=broker_url,
        relays=(),
        public_url="http://127.0.0.1",
        mail_from=Address("The Ostermere Courier", "alerts", "courier.example"),
        secret_key=SECRET,
        newsroom=Newsroom(name="The Ostermere Courier", address="14 Chandler’s Row, Ostermere"),
        # So that a test can ask from many places; none of them is this machine itself.
        trusted_proxies=(ipaddress.ip_network("127.0.0.1"),),
        brake=1_000_000,  # tests of one minute share a broker
    )
    return replace(made, **more)


@contextmanager
def running(settings: Settings, *, watch_every: float = 3600) -> Iterator[Site]:
    """The application behind uvicorn in a thread of this process. It does not look round, unless that is asked for."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        if settings.public_url == "http://127.0.0.1":
            settings = replace(settings, public_url=url)
        server = uvicorn.Server(server_config(create_app(settings, watch_every=watch_every)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            deadline = time.monotonic() + 30
            while not server.started:
                assert thread.is_alive(), "the server ended while it started"
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.005)
            yield Site(url, settings)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive(), "the server did not end"
