"""What the desk shows of a draft is, byte for byte, what a worker would send; nothing that is typed stops the desk."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest

from dispatcher import db, previewing, publishing
from dispatcher.letters import Letters
from dispatcher.model import Draft, Importance, Kind
from dispatcher.previewing import Previews
from dispatcher.rendering.press import LetterImpossible, Press
from tests.support import hostile
from tests.support.injections import EXECUTED, SECRETS, TEMPLATE_BOMBS, TEMPLATE_INJECTIONS
from tests.support.newsroom import Newsroom, newsroom
from tests.support.relays import relay_at, room_with
from tests.support.sink import a_sink

ADA = "ada@courier.example"
DRAFT = Draft(
    headline="Millgate levee gives way",
    summary="Walk uphill now.",
    body="- The levee gave way at 02:44.\n- Buses leave **Corn Square**.",
    importance=Importance.BREAKING,
)


@pytest.fixture
async def room(database: db.Database) -> Newsroom:
    made = newsroom(database)
    await made.story(followers=1)
    return made


@pytest.fixture
async def previews(room: Newsroom) -> AsyncIterator[Previews]:
    made = Previews(room.settings)
    yield made
    await made.close()


async def test_a_preview_is_the_letter_that_is_sent(room: Newsroom, previews: Previews) -> None:
    now = datetime.now(UTC)
    await room.publish()
    async with room.database.connection() as connection:
        view = await previewing.view_of(connection, room.settings, 1, DRAFT, now=now)
    mail = await previews.mail(view, address=ADA, locale="en", timezone="Europe/London")
    push = await previews.push(view, locale="en")

    published = await publishing.publish(room.database, room.bell, "dam", DRAFT, by="anna")
    await room.run("UPDATE updates SET published_at = %s WHERE seq = 2", view.update.published_at)
    letters = Letters(room.settings, room.database)
    content = await letters.content(published.blast_ids[0])
    sent = await letters.letter(published.blast_ids[0], content, "en", "Europe/London")
    assert view.update.seq == published.update.seq == 2
    assert mail.subject == "BREAKING: Millgate levee gives way"
    assert mail.preview == "Walk uphill now."
    assert "02:44" in mail.text
    assert mail.size > mail.html_size > 5_000
    assert "\n.sheet" in mail.html  # not with the second dot that such a line has on its way
    literals = [each for each in sent.eight_bit.literals if b"\r\n" not in each and each.isascii()]
    assert literals
    assert all(each.decode() in mail.html.replace("\n", "\r\n") + mail.text for each in literals if len(each) > 200)
    assert (push.title, push.body) == (mail.subject, "Walk uphill now.")


async def test_each_language_zone_and_aspect_has_its_own(room: Newsroom, previews: Previews) -> None:
    await room.publish()
    await room.publish()
    correction = Draft(headline="It did not", body="Right.", kind=Kind.CORRECTION, corrects_seq=2)
    async with room.database.connection() as connection:
        usual = await previewing.view_of(connection, room.settings, 1, DRAFT)
        corrected = await previewing.view_of(connection, room.settings, 1, correction)
    found = dict(previewing.aspects(usual))
    mail = await previews.mail(usual, address=ADA, locale="uk", timezone="Europe/Kyiv", aspect=found["missed"])
    plain = dict(previewing.aspects(corrected))["plain"]

    assert "ТЕРМІНОВО" in mail.subject.upper()
    assert (await previews.mail(corrected, address=ADA, locale="en", timezone="UTC")).subject.startswith("CORRECTION")
    assert (
        await previews.mail(corrected, address=ADA, locale="en", timezone="UTC", aspect=plain)
    ).subject == "It did not"


async def test_what_looks_like_a_template_is_text_and_what_is_not_written_yet_has_a_preview_too(
    room: Newsroom, previews: Previews
) -> None:
    async with room.database.connection() as connection:
        view = await previewing.view_of(connection, room.settings, 1, Draft(headline="", body=""))
    assert (await previews.mail(view, address=ADA, locale="en", timezone="UTC")).subject == previewing.NO_HEADLINE
    assert (await previews.push(view, locale="en")).title == previewing.NO_HEADLINE
    assert len(TEMPLATE_INJECTIONS) == 60
    for payload in (*TEMPLATE_INJECTIONS, *TEMPLATE_BOMBS):
        async with room.database.connection() as connection:
            draft = Draft(headline=payload[:200], summary=payload, body=f"```\n{payload}\n```")
            view = await previewing.view_of(connection, room.settings, 1, draft)
        mail, push = await asyncio.gather(
            previews.mail(view, address=ADA, locale="en", timezone="UTC"), previews.push(view, locale="en")
        )
        assert mail.subject == " ".join(payload.split())
        assert payload in mail.text
        for said in (mail.subject, mail.html, mail.text, push.title, push.body):
            assert not any(word in said.replace(payload, "") for word in (EXECUTED, *SECRETS)), payload


async def test_a_text_that_takes_too_long_is_given_up_and_the_desk_goes_on(room: Newsroom) -> None:
    previews = Previews(room.settings, Press(hostile.NAME))
    async with room.database.connection() as connection:
        bomb, usual = [
            await previewing.view_of(connection, room.settings, 1, Draft(headline=headline, body="It gave way."))
            for headline in ("loops", "The levee gives way")
        ]
    try:
        with pytest.raises(LetterImpossible, match="it took more than"):
            await previews.mail(bomb, address=ADA, locale="en", timezone="UTC")
        assert (await previews.mail(usual, address=ADA, locale="en", timezone="UTC")).subject == "The levee gives way"
    finally:
        await previews.close()


async def test_a_test_mail_is_the_letter_itself_to_one_address_and_leaves_nothing_behind(database: db.Database) -> None:
    async with a_sink() as sink:
        room = room_with(database, relay_at(sink.port, lanes=1))
        await room.story(followers=3)
        async with database.transaction() as tx:
            view = await previewing.view_of(tx, room.settings, 1, DRAFT)
            await previewing.owe_test(tx, room.settings, view, email=ADA, locale="en", timezone="UTC")
        async with room.sender() as sender:
            sender.nudge()
            end = time.monotonic() + 10
            while not (rows := await room.run("SELECT email, detail FROM notices WHERE state = 'accepted'")):
                assert time.monotonic() < end
        [mail] = sink.taken
        message = message_from_bytes(mail.data, policy=policy.default)
        assert mail.recipient == ADA
        assert message["Subject"] == "[Test] BREAKING: Millgate levee gives way"
        assert message["References"] == "<story.dam@courier.example>"
        assert (rows[0]["email"], rows[0]["detail"]) == (None, {})
        assert await room.run("SELECT seq FROM updates") == []


async def test_a_test_mail_that_another_version_asked_for_is_not_sent_and_says_why(database: db.Database) -> None:
    async with a_sink() as sink:
        room = room_with(database, relay_at(sink.port, lanes=1))
        await room.story()
        async with database.transaction() as tx:
            view = await previewing.view_of(tx, room.settings, 1, DRAFT)
            await previewing.owe_test(tx, room.settings, view, email=ADA, locale="en", timezone="UTC")
        await room.run("UPDATE notices SET detail = %s::jsonb", json.dumps({"job": '{"about": "update"}'}))
        async with room.sender() as sender:
            sender.nudge()
            end = time.monotonic() + 10
            while not (rows := await room.run("SELECT reply FROM notices WHERE state IS NOT NULL")):
                assert time.monotonic() < end
        assert "another version" in rows[0]["reply"]
        assert sink.taken == []
