"""One update, seen from both ends: what the ledger says became of each reader, and what really came to each."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from dispatcher.model import Published
from tests.support.newsroom import Newsroom
from tests.support.push_service import Answer, PushService
from tests.support.push_service import Push as RawPush
from tests.support.relays import slow
from tests.support.sink import HANG_UP, Script, Session, Sink

#: How mails and pushes begin the list of what a reader has missed.
MISSED = ("ALSO SINCE YOUR LAST ALERT", "Also since your last alert:")


@dataclass(frozen=True)
class Got:
    """A mail or a push that came to somebody, or may have."""

    title: str
    text: str  #: all of it, title and list of earlier updates among it
    slot: str  #: the thread or the topic

    def lists(self, headline: str) -> bool:
        """Whether it tells of an earlier update as missed."""
        return any(mark in self.text and headline in self.text.partition(mark)[2] for mark in MISSED)


@dataclass
class Reader:
    """A mail address or a device: the state of each of the updates in the ledger, and what came, in its order."""

    states: dict[int, str] = field(default_factory=dict)  #: by the number of the update
    got: list[Got] = field(default_factory=list)

    def was_reached(self, seq: int) -> bool:
        """Whether the ledger says that the reader has an update, or may have it."""
        return self.states.get(seq) in ("accepted", "in_doubt")

    def titles(self) -> set[str]:
        return {each.title for each in self.got}


async def mail_readers(room: Newsroom, slug: str, sink: Sink) -> dict[str, Reader]:
    """Everybody who was to get a mail of a story, by address."""
    readers = await _states(room, slug, "email", "SELECT id, email AS name FROM subscribers WHERE email IS NOT NULL")
    for each in sink.taken:
        if each.recipient in readers and not each.answered.startswith(("4", "5")):
            readers[each.recipient].got.append(_mail(each.data))
    return readers


async def push_readers(room: Newsroom, slug: str, service: PushService) -> dict[str, Reader]:
    """Every device that was to get a push of a story, by endpoint."""
    readers = await _states(room, slug, "webpush", "SELECT id, endpoint AS name FROM devices")
    for push in service.received:
        if push.device.endpoint in readers and not push.answered.status >= 400:
            readers[push.device.endpoint].got.append(_push(push))
    return readers


async def _states(room: Newsroom, slug: str, channel: str, names: str) -> dict[str, Reader]:
    rows = await room.run(
        f"SELECT n.name, u.seq, d.state::text AS state FROM stories s JOIN updates u ON u.story_id = s.id"
        f" JOIN blasts b ON b.update_id = u.id AND b.channel = %s JOIN deliveries d ON d.blast_id = b.id"
        f" JOIN ({names}) n ON n.id = d.subscriber_id WHERE s.slug = %s",
        *(channel, slug),
    )
    readers: dict[str, Reader] = defaultdict(Reader)
    for row in rows:
        readers[row["name"]].states[row["seq"]] = row["state"]
    return dict(readers)


def _mail(data: bytes) -> Got:
    head, _, _ = data.partition(b"\r\n\r\n")
    headers = head.replace(b"\r\n ", b" ").decode()
    lines = dict(line.partition(": ")[::2] for line in headers.split("\r\n"))
    text = " ".join(data.replace(b"=\r\n", b"").decode(errors="replace").split())
    return Got(lines["Subject"], text, lines["References"])


def _push(push: RawPush) -> Got:
    message = json.loads(push.payload)
    return Got(message["title"], f"{message['title']} {message['body']}", push.headers["topic"])


def ill_relay(delay: float, share: float, seed: int) -> Script:
    """Answers after a while; of some it takes nothing for now, of some it hangs up when it has read the whole mail."""
    chance = random.Random(seed)
    slowly = slow(delay)

    def script(step: str, argument: str, session: Session) -> str | None:
        if step == "RCPT" and chance.random() < share:
            return "451 4.7.1 later"
        if step == "BODY" and chance.random() < share / 4:
            return HANG_UP
        return slowly(step, argument, session)

    return script


def make_ill(service: PushService, delay: float, share: float, seed: int) -> None:
    """The same of a push service."""
    chance = random.Random(seed)

    def script(_: RawPush) -> Answer:
        if chance.random() < share:
            return Answer(503)
        return Answer(delay=delay, drop=chance.random() < share / 4)

    service.script = script


def make_well(sink: Sink, service: PushService) -> None:
    sink.script = lambda *_: None
    service.script = lambda _: Answer()


async def come_to_an_end(room: Newsroom, blasts: Iterable[int]) -> bool:
    """Have everybody tried again at once who waits for that; true once these blasts are through."""
    await room.run("UPDATE deliveries SET next_at = now() WHERE next_at > now()")
    rows = await room.run(
        "SELECT count(*) AS open FROM blasts WHERE id = ANY (%s) AND (state IN ('cutting', 'sending')"
        " OR (state = 'superseded' AND done_at IS NULL))",
        list(blasts),
    )
    return bool(rows[0]["open"] == 0)


def blasts_of(*published: Published) -> list[int]:
    return [blast_id for each in published for blast_id in each.blast_ids]
