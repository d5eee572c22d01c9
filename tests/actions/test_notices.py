"""Notices: mails that one reader waits for go out ahead of everything, once, whatever happens to relay and worker."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta
from email import message_from_bytes, policy
from typing import Any

import pytest

from dispatcher import db, notices, people, upkeep
from dispatcher.addresses import address_hash, parse_address
from dispatcher.roles import Role
from dispatcher.sending import Sender
from dispatcher.tokens import ConfirmTokens, confirm_token_hash
from tests.support.newsroom import SECRET, Newsroom, newsroom
from tests.support.relays import hurry, relay_at, room_with, slow, until
from tests.support.sink import HANG_UP, SILENCE, Script, Session, a_sink

ANA = "ana@example.org"


def answering(step: str, reply: str, *, times: int = 1) -> Script:
    """A relay that answers one step with something else, so often."""
    left = times

    def script(at: str, argument: str, session: Session) -> str | None:
        nonlocal left
        if at != step or not left:
            return None
        left -= 1
        return reply

    return script


async def confirm_notice(room: Newsroom, email: str = ANA, *, slug: str = "dam", **more: Any) -> int:
    """Somebody has asked to follow: what the action behind the form leaves for the workers. Returns the notice's id."""
    hashed = address_hash(SECRET, parse_address(email))
    story = (await room.run("SELECT id FROM stories WHERE slug = %s", slug))[0]["id"]
    number = (await room.run("SELECT nextval('confirmations_id_seq') AS id"))[0]["id"]
    token = ConfirmTokens(SECRET).make(number, hashed, story)
    await room.run(
        "INSERT INTO confirmations (id, token_hash, email, address_hash, story_id, cadence, catch_up, locale, timezone,"
        " expires_at) VALUES (%s, %s, %s, %s, %s, 'major', false, 'en', 'UTC', now() + interval '48 hours')",
        *(number, confirm_token_hash(token), email, hashed, story),
    )
    return await notice(room, "confirm", email, story=story, confirmation=number, **more)


async def notice(
    room: Newsroom,
    kind: str,
    email: str = ANA,
    *,
    story: int | None = None,
    confirmation: int | None = None,
    subscriber: int | None = None,
    update: int | None = None,
    expires_in: timedelta = timedelta(hours=48),
) -> int:
    rows = await room.run(
        "INSERT INTO notices (kind, email, address_hash, subscriber_id, story_id, confirmation_id, update_id, locale,"
        " timezone, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, 'en', 'UTC', now() + %s) RETURNING id",
        *(kind, email, address_hash(SECRET, parse_address(email)), subscriber, story, confirmation, update, expires_in),
    )
    return int(rows[0]["id"])


async def row(room: Newsroom, number: int) -> dict[str, Any]:
    return (await room.run("SELECT * FROM notices WHERE id = %s", number))[0]


async def settled(room: Newsroom, number: int, *, seconds: float = 10, nudged: Sender | None = None) -> dict[str, Any]:
    """The row, once nothing more is tried. `nudged`: again and again, as the reconciler does, for it may rest."""

    async def is_settled() -> bool:
        if nudged is not None:
            nudged.nudge()
        return await _is_settled(room, number)

    await until(is_settled, seconds)
    return await row(room, number)


async def _is_settled(room: Newsroom, number: int) -> bool:
    return bool((await row(room, number))["next_at"] is None)


async def in_state(room: Newsroom, number: int, state: str) -> dict[str, Any]:
    async def reached() -> bool:
        return bool((await row(room, number))["state"] == state)

    await until(reached)
    return await row(room, number)


async def test_a_confirmation_is_accepted_at_once_and_its_address_is_given_up(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story()
        async with room.sender():
            await asyncio.sleep(0.3)
            number = await confirm_notice(room)
            await until(lambda: sink.accepted)
            found = await settled(room, number)

    assert (found["state"], found["attempts"], found["email"]) == ("accepted", 1, None)
    mail = message_from_bytes(sink.taken[0].data, policy=policy.default)
    assert sink.taken[0].recipient == ANA
    assert "List-Unsubscribe" not in mail
    text = mail.get_body(("plain",))
    assert text is not None
    link = re.search(r"https://alerts\.example\.org/confirm/(\S+)", text.get_content())
    assert link is not None
    kept = await room.run("SELECT token_hash FROM confirmations")
    assert bytes(kept[0]["token_hash"]) == confirm_token_hash(link[1])


async def test_a_notice_overtakes_a_blast_that_is_running(database: db.Database) -> None:
    async with a_sink(slow(0.02)) as sink:
        room = room_with(database, relay_at(sink.port, lanes=2))
        await room.story(followers=1000)
        published = await room.publish()
        await room.cut()
        async with room.sender() as sender:
            sender.nudge()
            await until(lambda: len(sink.taken) >= 20)
            before = len(sink.taken)
            await confirm_notice(room)
            await until(lambda: any(each.recipient == ANA for each in sink.taken))
            place = next(at for at, each in enumerate(sink.taken) if each.recipient == ANA)
            sink.script = lambda *_: None
            report = await room.finish(sender, published)

    assert place - before < 20
    assert report.states == {"accepted": 1000}


async def test_two_workers_send_each_notice_once(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story()
        async with room.sender(), room.sender():
            numbers = [await confirm_notice(room, f"reader{n}@example.org") for n in range(40)]
            for number in numbers:
                await settled(room, number)

    assert sink.copies() == {f"reader{n}@example.org": 1 for n in range(40)}


async def test_a_notice_refused_for_now_is_tried_again_with_the_same_message_id(database: db.Database) -> None:
    async with a_sink(answering("RCPT", "451 4.7.1 greylisted")) as sink:
        room = newsroom(database, sink.port)
        await room.story()
        async with room.sender() as sender:
            number = await confirm_notice(room)
            deferred = await in_state(room, number, "deferred")
            await room.run("UPDATE notices SET next_at = now()")
            sender.nudge()
            found = await settled(room, number)

    assert deferred["email"] == ANA
    assert deferred["next_at"] > deferred["recorded_at"] + timedelta(seconds=40)
    assert (found["state"], found["attempts"]) == ("accepted", 2)


async def test_an_address_that_is_none_is_never_written_to_again(database: db.Database) -> None:
    def knowing(step: str, argument: str, session: Session) -> str | None:
        return "550 5.1.1 no such user" if step == "RCPT" and ANA in argument else None

    async with a_sink(knowing) as sink:
        room = newsroom(database, sink.port)
        await room.story()
        async with room.sender():
            first = await settled(room, await confirm_notice(room))
            await until(lambda: room.run("SELECT reason FROM suppressions"))
            second = await settled(room, await confirm_notice(room))

    assert (first["state"], first["code"]) == ("failed", 550)
    assert (second["state"], second["attempts"]) == ("suppressed", 0)
    assert len([each for each in sink.commands if each.startswith("RCPT") and ANA in each]) == 1


async def test_a_notice_without_an_answer_is_in_doubt_and_sent_again(database: db.Database) -> None:
    async with a_sink(answering("BODY", HANG_UP)) as sink:
        room = newsroom(database, sink.port)
        await room.story()
        async with room.sender() as sender:
            number = await confirm_notice(room)
            await in_state(room, number, "in_doubt")
            await room.run("UPDATE notices SET next_at = now()")
            sender.nudge()
            found = await settled(room, number)

    assert (found["state"], found["in_doubt_count"]) == ("accepted", 1)
    assert len({each.message_id for each in sink.taken}) == 1
    assert len(sink.taken) == 2


async def test_a_relay_that_answers_late_is_believed(database: db.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch, overdue=0.2)
    sessions: list[Session] = []

    def mute(step: str, argument: str, session: Session) -> str | None:
        if step == "BODY":
            sessions.append(session)
            return SILENCE
        return None

    async with a_sink(mute) as sink:
        room = room_with(database, relay_at(sink.port, lanes=1))
        await room.story()
        async with room.sender():
            number = await confirm_notice(room)
            doubtful = await in_state(room, number, "in_doubt")
            sessions[0].speak("250 2.0.0 Ok")
            found = await settled(room, number)

    assert doubtful["lease_token"] is None
    assert found["state"] == "accepted"
    assert len(sink.taken) == 1


async def test_notices_wait_for_a_relay_that_is_away_and_cost_no_attempt(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(notices, "LEAST_PAUSE", 0.1)
    async with a_sink() as sink:
        room = room_with(database, relay_at(1))
        await room.story()
        async with room.sender():
            number = await confirm_notice(room)
            await asyncio.sleep(1)
            waiting = await row(room, number)
        room.settings = room_with(database, relay_at(sink.port)).settings
        async with room.sender() as sender:
            found = await settled(room, number, nudged=sender)

    assert (waiting["state"], waiting["attempts"]) == (None, 0)
    assert (found["state"], found["attempts"]) == ("accepted", 1)


async def test_a_worker_that_stops_gives_its_notices_back_unharmed(database: db.Database) -> None:
    async with a_sink(slow(0.3)) as sink:
        room = room_with(database, relay_at(sink.port, lanes=1))
        await room.story()
        async with room.sender():
            numbers = [await confirm_notice(room, f"reader{n}@example.org") for n in range(5)]
            await until(lambda: sink.taken)
        left = await room.run("SELECT * FROM notices WHERE next_at IS NOT NULL")
        accepted = await room.run("SELECT * FROM notices WHERE state = 'accepted'")
        sink.script = lambda *_: None
        async with room.sender():
            for number in numbers:
                await settled(room, number)

    assert len(left) + len(accepted) == 5
    assert {(each["lease_token"], each["claims"], each["attempts"]) for each in left} == {(None, 0, 0)}
    assert set(sink.copies().values()) == {1}


async def test_a_notice_whose_worker_died_is_free_again_and_given_up_after_five_deaths(database: db.Database) -> None:
    room = newsroom(database)
    await room.story()
    number = await confirm_notice(room)
    for _ in range(5):
        await room.run(
            "UPDATE notices SET claims = claims + 1, worker = 4711, lease_token = 1,"
            " lease_until = now() + interval '1 hour'"
        )
        before = await row(room, number)
        await upkeep.tick(database)

    found = await row(room, number)
    assert before["state"] is None
    assert (found["state"], found["next_at"], found["email"]) == ("in_doubt", None, None)
    assert found["reply"] == upkeep.GIVEN_UP


async def test_a_notice_that_is_about_nothing_any_more_is_not_sent(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story()
        used = await confirm_notice(room)
        await room.run("UPDATE confirmations SET used_at = now()")
        late = await confirm_notice(room, "late@example.org", expires_in=timedelta(seconds=-1))
        gone = await notice(room, "link", "gone@example.org", subscriber=999_999)
        async with room.sender():
            states = [(await settled(room, number))["state"] for number in (used, late, gone)]

    assert states == ["withdrawn", "expired", "withdrawn"]
    assert sink.taken == []


async def test_catching_up_is_the_update_itself_and_counts_as_received(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=1)
        published = await room.publish()
        async with room.sender() as sender:
            await room.finish(sender, published)
            await room.follow("dam", ANA)
            reader = (await room.run("SELECT id FROM subscribers WHERE email = %s", ANA))[0]["id"]
            number = await notice(
                room, "catch_up", subscriber=reader, story=published.story.id, update=published.update.id
            )
            await settled(room, number)
            report = await room.report(published)
            last = await room.run("SELECT last_seq FROM subscriptions WHERE subscriber_id = %s", reader)

    first, second = (message_from_bytes(each.data, policy=policy.default) for each in sink.taken)
    assert second["To"] == ANA
    assert second["Subject"] == first["Subject"]
    assert second["References"] == first["References"]
    assert second["List-Unsubscribe"] != first["List-Unsubscribe"]
    assert report.candidates == 1
    assert last[0]["last_seq"] == 1


async def test_old_confirmations_and_notices_are_forgotten(database: db.Database) -> None:
    room = newsroom(database)
    await room.story()
    await confirm_notice(room)
    await confirm_notice(room, "old@example.org")
    await room.run("UPDATE confirmations SET expires_at = now() - interval '3 days' WHERE email = 'old@example.org'")
    await room.run(
        "UPDATE notices SET next_at = NULL, created_at = now() - interval '91 days' WHERE email = 'old@example.org'"
    )
    await upkeep.tick(database)

    assert [each["email"] for each in await room.run("SELECT email FROM confirmations")] == [ANA]
    assert [each["email"] for each in await room.run("SELECT email FROM notices")] == [ANA]


async def test_an_invitation_is_mailed_and_its_link_stands_nowhere_in_the_database(database: db.Database) -> None:
    post = people.Post(secret_key=SECRET, language="en")
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        token = await people.invite(database, ANA, Role.EDITOR, by="ada@courier.example", post=post)
        owed = (await room.run("SELECT * FROM notices"))[0]
        async with room.sender() as sender:
            sender.nudge()
            found = await settled(room, owed["id"])

    assert token not in repr(owed)
    assert (found["state"], found["email"], found["detail"]) == ("accepted", None, {})
    text = message_from_bytes(sink.taken[0].data, policy=policy.default).get_body(("plain",))
    assert text is not None
    assert f"https://alerts.example.org/desk/invitation/{token}" in text.get_content()
    assert "ada@courier.example invites you" in text.get_content()


async def test_a_mail_to_the_desk_that_is_over_or_cannot_be_opened_is_not_sent_and_one_of_an_erased_reader_is(
    database: db.Database,
) -> None:
    post = people.Post(secret_key=SECRET, language="en")
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await people.invite(database, "void@example.org", Role.EDITOR, by="ada", post=post)
        await people.withdraw(database, "void@example.org", by="ada")
        other = people.Post(secret_key="another secret, which this installation never had", language="en")
        await people.invite(database, "shut@example.org", Role.EDITOR, by="ada", post=other)
        await room.run(
            "INSERT INTO suppressions SELECT %s, 'erased by the reader'", address_hash(SECRET, parse_address(ANA))
        )
        await people.invite(database, ANA, Role.EDITOR, by="ada", post=post)
        numbers = [each["id"] for each in await room.run("SELECT id FROM notices ORDER BY id")]
        async with room.sender() as sender:
            sender.nudge()
            void, again = await settled(room, numbers[0]), await settled(room, numbers[2])
            shut = await in_state(room, numbers[1], "deferred")

    assert (void["state"], again["state"]) == ("withdrawn", "accepted")
    assert shut["reply"] == "This was sealed with another DISPATCHER_SECRET_KEY."
    assert [each.recipient for each in sink.taken] == [ANA]


async def test_every_lead_is_told_of_an_override(database: db.Database) -> None:
    detail = {"who": "Ada", "headline": "<b>Over", "story": "The dam", "why": "breaking", "reason": "3 a.m."}
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        number = await notice(room, "override", expires_in=timedelta(hours=1))
        await room.run(
            "UPDATE notices SET detail = %s::jsonb", json.dumps({**detail, "path": "/desk/stories/dam/updates/3"})
        )
        async with room.sender() as sender:
            sender.nudge()
            assert (await settled(room, number))["state"] == "accepted"

    mail = message_from_bytes(sink.taken[0].data, policy=policy.default)
    text = mail.get_body(("plain",))
    assert text is not None
    assert mail["Subject"] == "Sent without approval: “<b>Over”"
    assert "https://alerts.example.org/desk/stories/dam/updates/3" in text.get_content()
