"""A whole newsroom for hostile visitors: the site, a worker's engine, a relay and a push service, all of them real.

    house.ask("dam", "ada@mail.example")
    [mail] = house.mails("ada@mail.example")
    house.link(mail, "confirm")

Tests share a house. None empties it: each has stories and addresses of its own.
"""

from __future__ import annotations

import asyncio
import gc
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from dispatcher.config import RelaySettings, Settings
from tests.api.serving import Site, running, settings_for
from tests.support.boxes import eventually
from tests.support.push_service import Device, PushService, a_push_service
from tests.support.sink import Sink, Taken, a_sink
from workers.runtime import Engine

#: Where a mail leads to. Namespaces of HTML lead nowhere.
_LINK = re.compile(r'https?://(?!www\.w3\.org/)[^\s<>"\']+')


@dataclass
class House:
    """What goes in, and what comes out at the other end."""

    site: Site
    sink: Sink
    service: PushService

    def story(self, word: str = "dam", **more: Any) -> str:
        """A new story; its slug."""
        return self.site.create_story(f"{word}-{secrets.token_hex(4)}", **more)

    def address(self, name: str = "ada") -> str:
        """An address that nobody has had before."""
        return f"{name}-{secrets.token_hex(4)}@mail.example"

    def ask(self, slug: str, email: str, **fields: Any) -> None:
        """Send the form of a story."""
        answer = self.site.follow(slug, email, **fields)
        assert answer.status_code == 303, answer.text

    def taken(self, email: str) -> list[Taken]:
        """What the relay has been given for an address."""
        return [each for each in self.sink.taken if each.recipient == email]

    def mails(self, email: str, count: int = 1, *, seconds: float = 15) -> list[EmailMessage]:
        """Wait for so many mails to an address; all that have come."""
        assert eventually(lambda: len(self.taken(email)) >= count, seconds), self.taken(email)
        return [parsed(each) for each in self.taken(email)]

    def confirmed(self, slug: str, email: str, **fields: Any) -> str:
        """Follow by all the steps that a reader takes; the path of the reader's own page."""
        before = len(self.taken(email))
        self.ask(slug, email, **fields)
        mail = self.mails(email, before + 1)[-1]
        answer = self.site.post(self.path(mail, "confirm"))
        assert answer.status_code == 303, answer.text
        return answer.headers["location"].partition("?")[0]

    def path(self, mail: EmailMessage, kind: str) -> str:
        """The first address of a kind, such as `confirm` or `u`, that a mail leads to, as a path."""
        found = next(link for link in links(mail) if f"/{kind}/" in link)
        assert found.startswith(self.site.url), found
        return found.removeprefix(self.site.url)

    def publish(self, slug: str, **more: Any) -> None:
        """Publish an update, and wait until nobody waits for it."""
        blasts = [each["id"] for each in self.site.publish(slug, **more)["blasts"]]
        assert eventually(lambda: self.is_done(blasts), 15), self.site.look("SELECT * FROM blasts")

    def is_done(self, blasts: list[int]) -> bool:
        rows = self.site.look("SELECT state::text FROM blasts WHERE id = ANY (%s)", blasts)
        return {state for (state,) in rows} == {"done"}

    def settled(self, *, seconds: float = 15) -> None:
        """Wait until every ask is answered and every notice has its outcome."""
        left = "SELECT (SELECT count(*) FROM asks) + (SELECT count(*) FROM notices WHERE next_at IS NOT NULL)"
        assert eventually(lambda: self.site.look(left) == [(0,)], seconds), self.site.look("SELECT * FROM notices")

    def later(self, hours: float) -> None:
        """Let hours go by for all that was asked, owed and confirmed."""
        for table, columns in (
            ("confirmations", ("created_at", "expires_at")),
            ("notices", ("created_at",)),
            ("subscriptions", ("confirmed_at",)),
        ):
            changes = ", ".join(f"{column} = {column} - make_interval(secs => {3600 * hours})" for column in columns)
            self.site.look(f"UPDATE {table} SET {changes}")

    def device(self, slug: str, **body: Any) -> Device:
        """A browser that follows a story by itself, or joins a reader."""
        device = self.service.device()
        answer = self.site.push("/push/follow", {"story": slug, "subscription": device.subscription, **body})
        assert answer.status_code == 200, answer.text
        return device


def parsed(taken: Taken) -> EmailMessage:
    """A mail as its reader's program takes it apart."""
    raw = b"\r\n".join(line[1:] if line.startswith(b"..") else line for line in taken.data.split(b"\r\n"))
    found = message_from_bytes(raw, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def texts(mail: EmailMessage) -> list[str]:
    """The parts of a mail that its reader sees, as text."""
    return [str(part.get_content()) for part in mail.walk() if part.get_content_maintype() == "text"]


def links(mail: EmailMessage) -> list[str]:
    """Every address that a mail leads to, in its headers and its parts, each once."""
    everything = [*texts(mail), *(str(value) for value in mail.values())]
    found = [link.rstrip(".,)").replace("&amp;", "&") for text in everything for link in _LINK.findall(text)]
    return list(dict.fromkeys(found))


def median_ms(times: list[float]) -> float:
    """The median of some times, in milliseconds."""
    return 1000 * sorted(times)[len(times) // 2]


def timed(act: Callable[[], object]) -> float:
    """Seconds that something takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


@contextmanager
def a_house(database_url: str, broker_url: str, **settings: Any) -> Iterator[House]:
    """A house on this database and this broker."""
    with beside() as (sink, service):
        made = settings_for(
            *(database_url, broker_url),
            relays=(RelaySettings(host="127.0.0.1", port=sink.port, starttls="never", lanes=4),),
            push_services=(service.origin,),
            **settings,
        )
        with running(made) as site, working(site.settings):
            yield House(site, sink, service)


@contextmanager
def working(settings: Settings) -> Iterator[None]:
    """What a worker process does between its nudges, on a thread of this one."""
    engine = Engine(settings, urgent_only=False)
    thresholds = gc.get_threshold()
    try:
        engine.start()
        yield
    finally:
        engine.stop()
        # A worker process ends here; this one goes on.
        engine._loop.call_soon_threadsafe(engine._loop.stop)
        engine._thread.join(10)
        engine._loop.close()
        gc.unfreeze()
        gc.set_threshold(*thresholds)


@contextmanager
def beside() -> Iterator[tuple[Sink, PushService]]:
    """A relay and a push service on a thread of their own."""
    loop = asyncio.new_event_loop()
    made: list[tuple[Sink, PushService]] = []
    ready, over = threading.Event(), asyncio.Event()

    async def stand() -> None:
        async with AsyncExitStack() as stack:
            sink = await stack.enter_async_context(a_sink())
            made.append((sink, await stack.enter_async_context(a_push_service())))
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(stand(),), daemon=True)
    thread.start()
    try:
        assert ready.wait(10), "the servers did not start"
        yield made[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
