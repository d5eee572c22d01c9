"""Line breaks and dots in what strangers and editors write end no header, no command and no message (S11, S12)."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dispatcher import db, following, importing, publishing, stories
from dispatcher.errors import Invalid
from dispatcher.model import Cadence, Draft, Importance, Published
from tests.api.serving import Site
from tests.security.conftest import times
from tests.security.house import House, links, texts
from tests.support.newsroom import SECRET, Newsroom, newsroom
from tests.support.relays import until
from tests.support.sink import EXTENSIONS, Session, Sink, listening

#: What a relay may be told by us. Anything else was somebody else's idea.
COMMAND = re.compile(
    r"EHLO \S+|MAIL FROM:<[^\r\n<>]+>( (SIZE=\d+|BODY=8BITMIME|SMTPUTF8))*|RCPT TO:<[^\r\n<>]+>|DATA|RSET|NOOP|QUIT"
)
ENDS = (
    "\r\n",
    "\n",
    "\r",
    "\0",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x85",
    "\u2028",
    "\u2029",
    "%0d%0a",
    "\\r\\n",
    "\r\n ",
    "\r\n\t",
)
ORDERS = (
    "RCPT TO:<evil@evil.example>",
    "MAIL FROM:<evil@evil.example>",
    "Bcc: evil@evil.example",
    "Subject: taken",
    ".",
    "QUIT",
    ".\r\nMAIL FROM:<evil@evil.example>",
    "> SIZE=1",
    "<evil@evil.example>",
    ", evil@evil.example",
    "",
)
TRICKS = st.tuples(st.sampled_from(ENDS), st.sampled_from(ORDERS), st.sampled_from(ENDS)).map("".join)
PLAIN = st.text(st.sampled_from("abz.+-_'!#%&*/=?^`{|}~é水 \"(),:;<>@[]\\"), max_size=20)
#: A word with a trick somewhere in it, or none.
WORDS = st.one_of(st.tuples(PLAIN, TRICKS, PLAIN).map("".join), PLAIN, st.text(max_size=20))
NAME = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
ADDRESSES = st.one_of(
    st.tuples(WORDS, WORDS).map("@".join),
    st.tuples(NAME, TRICKS).map(lambda found: f"{found[0]}@mail.example{found[1]}"),
    st.tuples(NAME, TRICKS).map(lambda found: f"{found[0]}{found[1]}@mail.example"),
    NAME.map(lambda name: f"{name}@mail.example"),
)


@dataclass
class Crowd:
    """What one example wants of everybody at once."""

    rows: list[tuple[str, str]]  #: address and name, for an import
    asks: list[str]  #: addresses in a form
    story: str
    headline: str
    summary: str
    body: str


CROWDS = st.builds(
    Crowd,
    rows=st.lists(st.tuples(ADDRESSES, WORDS), min_size=40, max_size=40),
    asks=st.lists(ADDRESSES, min_size=10, max_size=10),
    story=WORDS,
    headline=WORDS,
    summary=WORDS,
    body=st.lists(WORDS, min_size=1, max_size=5).map("\n".join),
)


@dataclass
class Said:
    """How much was tried, and how much of it was taken."""

    tried: int = 0
    taken: int = 0
    mails: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    async def ask(self, where: str, what: Any) -> bool:
        """Whether something that a stranger wrote is taken."""
        self.tried += 1
        try:
            await what
        except Invalid:
            self.refused[where] = self.refused.get(where, 0) + 1
            return False
        self.taken += 1
        return True


@pytest.fixture
def said() -> Iterator[Said]:
    """The sum over all examples, which has to be enough."""
    total = Said()
    yield total
    print(f"S11: {total.tried} tried, {total.taken} taken, {total.mails} mails, refused {total.refused}")
    assert total.tried >= times(10_000, 150)
    assert 0 < total.taken < total.tried


@pytest.mark.chaos
@settings(
    max_examples=times(200, 4),
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # what fails is a whole crowd: a smaller one takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(crowd=CROWDS)
async def test_whatever_is_written_the_relay_hears_whole_mails_for_known_readers_alone(
    database: db.Database, tmp_path: Path, said: Said, crowd: Crowd
) -> None:
    """S11: refused, or harmless. No line more than ours, and nobody written to whom the database does not know.

    10,000 tries in the long run.
    """
    room = newsroom(database)
    await _empty(room)
    await _everybody_tries(room, tmp_path / "readers.csv", crowd, said)
    known = [row["email"] for row in await room.run("SELECT email FROM subscribers")]
    asked = [row["email"] for row in await room.run("SELECT email FROM notices")]
    sink = Sink(extensions=EXTENSIONS)
    async with listening(sink, Session):
        room.settings = newsroom(database, sink.port).settings
        async with room.sender() as sender:
            await _publish(room, await _headline(room), "It is over.")
            await until(lambda: _quiet(room, sender))
        updates = await room.run("SELECT u.id FROM updates u JOIN stories s ON s.id = u.story_id WHERE s.slug = 'dam'")
        states = await room.run("SELECT state FROM deliveries UNION SELECT state FROM notices")
    said.mails += len(sink.taken)

    assert [row["state"] for row in states] in (["accepted"], [])
    assert sorted(each.recipient for each in sink.taken) == sorted(known * len(updates) + asked)
    hear_nothing_but_mails(sink)


async def _empty(room: Newsroom) -> None:
    await room.run("TRUNCATE stories, subscribers, asks, notices, confirmations, batches, deliveries, blasts CASCADE")
    await stories.create(room.database, "dam", headline="The dam")


async def _everybody_tries(room: Newsroom, file: Path, crowd: Crowd, said: Said) -> None:
    """A CSV file, forms, and an editor's story and update, each as it comes; what is bad is refused at its door."""
    await said.ask("story", stories.create(room.database, "flood", headline=crowd.story or "-", summary=crowd.summary))
    await asyncio.to_thread(file.write_bytes, _csv([("email", "name"), *crowd.rows]).encode(errors="replace"))
    done = await importing.import_followers(room.database, "dam", file, secret_key=SECRET, confirmed=True)
    said.tried += done.read
    said.taken += done.added
    for email in crowd.asks:
        form: dict[str, Any] = {"email": email, "cadence": Cadence.EVERY, "locale": "en", "timezone": "UTC"}
        await said.ask("form", following.ask_to_follow(room.database, SECRET, "dam", **form))
    await following.answer(room.database, SECRET)
    for row in await room.run("SELECT slug FROM stories"):
        words = {"slug": row["slug"], "summary": crowd.summary}
        await said.ask("update", _publish(room, crowd.headline, crowd.body, **words))


async def _publish(room: Newsroom, headline: str, body: str, *, slug: str = "dam", summary: str = "") -> Published:
    draft = Draft(headline=headline, summary=summary, body=body, importance=Importance.MAJOR)
    return await publishing.publish(room.database, room.bell, slug, draft, by="test")


async def _headline(room: Newsroom) -> str:
    """What an editor has written before and was let through, so that it travels in a subject too."""
    rows = await room.run("SELECT headline FROM updates ORDER BY id DESC LIMIT 1")
    return str(rows[0]["headline"]) if rows else "Water is over the wall"


def _csv(rows: list[tuple[str, str]]) -> str:
    return "\r\n".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)


def hear_nothing_but_mails(sink: Sink) -> None:
    """What came over the wire: our commands, and whole messages, all of their lines ended by CRLF (RFC 5321 §2.3.8)."""
    strange = [line for line in sink.commands if not COMMAND.fullmatch(line)]
    assert strange == []
    envelopes = [line for line in sink.commands if line.startswith("MAIL")]
    assert len(sink.taken) == len(envelopes)
    for each in sink.taken:
        bare = each.data.replace(b"\r\n", b"")
        assert b"\r" not in bare
        assert b"\n" not in bare
        assert b"\0" not in bare
        assert b"\r\n.\r\n" not in each.data
        head = each.data.partition(b"\r\n\r\n")[0].lower()
        for name in (b"\r\nbcc:", b"\r\ncc:"):
            assert name not in head
        for name in (b"\nsubject:", b"\nto:", b"\nfrom:", b"\nmessage-id:"):
            assert head.count(name) == 1, name


#: Ends of a message that one relay of two along the way may take for one (CVE-2023-51764 and its kin).
SMUGGLED = ("\r\n.\r\n", "\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r.\r\n", "\r\n.\r", "\n..\n", "\n.\r\n.\r\n")
EVIL = "MAIL FROM:<evil@evil.example>\r\nRCPT TO:<evil@evil.example>\r\nDATA\r\nSubject: taken\r\n\r\ntaken"


@pytest.mark.parametrize("tampered", [False, True])
@pytest.mark.parametrize("pipelining", [True, False])
async def test_no_end_of_a_message_can_be_written_into_it(
    database: db.Database, pipelining: bool, tampered: bool
) -> None:
    """S12: in the body of an update, and, for whoever writes into the tables, in names and headlines too.

    One message for each DATA, and all of it CRLF. What the doors would have refused is not sent, or harmless.
    """
    sink = Sink(extensions=EXTENSIONS if pipelining else ("8BITMIME",))
    async with listening(sink, Session):
        room = newsroom(database, sink.port)
        await room.story()
        await room.follow("dam", "ada@example.org", "bob@example.org")
        async with room.sender() as sender:
            for number, end in enumerate(SMUGGLED):
                trick = f"x{end}{EVIL}{end}"
                await _publish(room, f"Update {number}", trick, summary=f". {number} .")
                await following.ask_to_follow(
                    *(database, SECRET, "dam"),
                    email=f"new{number}@example.org",
                    cadence=Cadence.EVERY,
                    locale="en",
                    timezone="UTC",
                )
                if tampered:
                    await room.run("UPDATE subscribers SET name = %s", trick[:200])
                    await room.run("UPDATE stories SET summary = %s, headline = %s", trick[:500], trick[:200])
                    await room.run("UPDATE updates SET headline = left(headline || %s, 200)", trick)
            await following.answer(database, SECRET)
            await until(lambda: _quiet(room, sender))
        sent = await room.run("SELECT state FROM deliveries UNION ALL SELECT state FROM notices")

    states = Counter(row["state"] for row in sent)
    assert states.total() == 3 * len(SMUGGLED)
    assert states.keys() <= ({"accepted", "failed", "deferred"} if tampered else {"accepted"})
    assert len(sink.taken) == states["accepted"]
    assert not [each for each in sink.taken if "evil" in each.recipient or "evil" in each.sender]
    hear_nothing_but_mails(sink)


async def _quiet(room: Newsroom, sender: Any) -> bool:
    await room.cut()
    sender.nudge()
    rows = await room.run(
        "SELECT (SELECT count(*) FROM blasts WHERE state <> 'done')"
        " + (SELECT count(*) FROM notices WHERE next_at IS NOT NULL) AS open"
    )
    await asyncio.sleep(0.02)
    return bool(rows[0]["open"] == 0)


HOSTILE = tuple(f"ada{end}{order}" for end in ("\r\n", "\n", "\r", "\0", "\u2028") for order in ORDERS if order)


def test_forms_and_the_api_refuse_line_breaks_in_every_field(site: Site) -> None:
    """S11, over HTTP: 422 with the field's name, and no row."""
    site.create_story()
    with site.cms() as cms:
        for hostile in HOSTILE:
            for email in (f"{hostile}@mail.example", f"ada@mail.example{hostile}"):
                assert site.follow(email=email).status_code == 422, email
                posted = site.post("/lost", {"email": email}, **{"X-Forwarded-For": site.somewhere()})
                assert posted.status_code == 422, email
            for body in ({"slug": "x", "headline": hostile}, {"slug": "x", "headline": "x", "summary": hostile}):
                assert cms.post("/api/v1/stories", json=body).status_code == 422, hostile
            update = {"headline": hostile, "body": "It gave way."}
            assert cms.post("/api/v1/stories/tarrow-flood/updates", json=update).status_code == 422, hostile

    for table in ("asks", "updates"):
        assert site.look(f"SELECT count(*) FROM {table}") == [(0,)]
    assert site.look("SELECT count(*) FROM stories") == [(1,)]


def test_what_is_written_between_the_lines_arrives_as_words(house: House) -> None:
    """S12: dots and look-alike commands in a body are read as what they are."""
    slug, email = house.story(headline=". MAIL FROM:<evil@evil.example>"), house.address()
    house.confirmed(slug, email)
    house.publish(slug, headline=".. RCPT TO:<x@y> .", body=".\n\n..\n\n. QUIT\n\n.DATA\n\nMAIL FROM:<a@b.example>")
    mail = house.mails(email, 2)[-1]

    assert ".. RCPT TO:<x@y> ." in str(mail["Subject"])
    plain = texts(mail)[0]
    for line in (".", "..", ". QUIT", ".DATA"):
        assert line in [each.strip() for each in plain.splitlines()], line
    assert all(link.startswith(house.site.url) for link in links(mail))
