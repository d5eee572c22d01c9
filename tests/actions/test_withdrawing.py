"""An update is taken back: what is left of it never goes out, and exactly the screens that show it are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dispatcher import db, publishing, stories, superseding, withdrawing
from dispatcher.errors import Conflict, Invalid, NotFound
from dispatcher.model import BlastReport, BlastState, DeliveryState, Draft, Importance, Kind, Published
from dispatcher.sending import Sender
from tests.actions.test_pushing import a_room, browser
from tests.support.newsroom import Newsroom, newsroom
from tests.support.push_service import Answer, Device, PushService
from tests.support.relays import until

State = DeliveryState
WHY = "The gauge was read wrongly. The dam holds."


async def withdraw(room: Newsroom, seq: int = 1, *, reason: str = WHY) -> Published:
    return await withdrawing.withdraw(room.database, room.bell, "dam", seq, by="anna", reason=reason)


async def correct(room: Newsroom, seq: int, headline: str) -> Published:
    draft = Draft(headline=headline, body=headline, kind=Kind.CORRECTION, corrects_seq=seq, importance=Importance.MAJOR)
    return await publishing.publish(room.database, room.bell, "dam", draft, by="anna")


async def finish(room: Newsroom, sender: Sender, *published: Published) -> list[BlastReport]:
    """Send until each of these blasts is through; a report for each blast."""
    blasts = [replace(each, blast_ids=(blast_id,)) for each in published for blast_id in each.blast_ids]
    return [await room.finish(sender, blast, seconds=20) for blast in blasts]


def titles(device: Device) -> list[str]:
    return [push.message["title"] for push in device.accepted]


async def pushed_to_some(room: Newsroom, service: PushService, sender: Sender, devices: list[Device]) -> Published:
    """An update that is still going out: some devices have it, and for the others the service is slow."""
    service.script = lambda push: Answer(delay=0.0 if service.count <= len(devices) // 4 else 0.4)
    published = await room.publish()
    await room.cut()
    sender.nudge()
    await until(lambda: service.count > len(devices) // 4)
    return published


async def test_exactly_the_screens_that_may_show_it_are_told_and_nobody_else_is_reached(database: db.Database) -> None:
    """Not the devices that it had not reached, and nobody by mail."""
    async with a_room(database) as (room, service, sink):
        await room.follow("dam", *(f"reader{n}@example.org" for n in range(30)))
        devices = [await browser(room, service) for _ in range(120)]
        async with room.sender() as sender:
            published = await pushed_to_some(room, service, sender, devices)
            withdrawn = await withdraw(room)
            await superseding.settle(database, patience=5)
            mails = len(sink.taken)
            (told,) = await finish(room, sender, withdrawn)
            wrong = [await room.report(replace(published, blast_ids=(each,))) for each in published.blast_ids]
            later = await room.publish(summary="The crest has passed.")
            await finish(room, sender, later)

    reached = wrong[1].states[State.ACCEPTED]
    assert wrong[1].states == {State.ACCEPTED: reached, State.SUPERSEDED: 120 - reached}
    assert told.states == {State.ACCEPTED: reached}
    assert told.candidates == reached
    for device in devices:
        had_it = device.accepted[0].message["seq"] == 1
        assert titles(device)[:-1] == (["Water is over the wall", f"WITHDRAWN: {WHY}"] if had_it else [])
        if had_it:
            assert "We take back our alert “Water is over the wall”." in device.accepted[1].message["body"]
            assert len({push.headers["topic"] for push in device.accepted}) == 1  # in the same slot
    assert mails <= wrong[0].states.get(State.ACCEPTED, 0)
    assert not any(b"WITHDRAWN" in mail.data for mail in sink.taken)
    assert all(b"Withdrawn: The gauge was read wrongly" in _joined(mail.data) for mail in sink.taken[mails:])
    assert len(sink.taken) == mails + 30


def _joined(data: bytes) -> bytes:
    return b" ".join(data.replace(b"=\r\n", b"").split())


async def test_a_screen_that_shows_something_later_keeps_it(database: db.Database) -> None:
    """Unless that was taken back as well, or nobody knows whether it arrived."""
    async with a_room(database) as (room, service, _):
        devices = [await browser(room, service) for _ in range(3)]
        async with room.sender() as sender:
            await finish(room, sender, await room.publish())
            devices[0].answer(Answer(403), Answer())
            later = await room.publish(summary="The crest has passed.")
            await finish(room, sender, later)
            await room.run(
                "UPDATE deliveries SET state = 'in_doubt' WHERE blast_id = %s"
                " AND subscriber_id = (SELECT max(id) FROM devices)",
                later.blast_ids[1],
            )
            (told,) = await finish(room, sender, await withdraw(room, 1))
            (also,) = await finish(room, sender, await withdraw(room, 2))

    assert told.candidates == 2
    assert also.candidates == 2
    assert [[push.message["seq"] for push in device.accepted] for device in devices] == [
        [1, 3],
        [1, 2, 4],
        [1, 2, 3, 4],
    ]


async def test_who_is_in_doubt_may_have_it_on_a_screen(database: db.Database) -> None:
    async with a_room(database) as (room, service, _):
        devices = [await browser(room, service) for _ in range(3)]
        async with room.sender() as sender:
            published = await room.publish()
            await finish(room, sender, replace(published, blast_ids=published.blast_ids[1:]))
            await room.run(
                "UPDATE deliveries SET state = 'in_doubt' WHERE subscriber_id = (SELECT min(id) FROM devices)"
            )
            await room.run("UPDATE deliveries SET state = 'failed' WHERE subscriber_id = (SELECT max(id) FROM devices)")
            (told,) = await finish(room, sender, await withdraw(room))

    assert told.states == {State.ACCEPTED: 2}
    assert sorted(len(device.accepted) for device in devices) == [1, 2, 2]


async def test_what_nobody_was_sent_yet_is_withdrawn_without_a_word(database: db.Database) -> None:
    async with a_room(database) as (room, service, sink):
        await room.follow("dam", "reader@example.org")
        device = await browser(room, service)
        published = await room.publish()
        withdrawn = await withdraw(room)
        async with room.sender() as sender:
            await room.cut()
            sender.nudge()
            await finish(room, sender, await room.publish(summary="Another."))
        states = {(await room.report(replace(published, blast_ids=(each,)))).state for each in published.blast_ids}

    assert withdrawn.blast_ids == ()
    assert states == {BlastState.SUPERSEDED}
    assert [push.message["seq"] for push in device.accepted] == [3]
    assert len(sink.taken) == 1


async def test_what_cannot_be_withdrawn_says_so_and_changes_nothing(database: db.Database) -> None:
    room = newsroom(database)
    await room.story(followers=1)
    await room.publish()
    for error, seq, reason in ((Invalid, 1, "  "), (Invalid, 1, "x" * 201), (NotFound, 2, WHY), (NotFound, -1, WHY)):
        with pytest.raises(error):
            await withdraw(room, seq, reason=reason)
    assert [each["state"] for each in await room.run("SELECT state FROM blasts")] == ["cutting"]

    await withdraw(room)
    for seq in (1, 2):  # twice, and the withdrawal itself
        with pytest.raises(Conflict):
            await withdraw(room, seq)
    with pytest.raises(Invalid):
        await correct(room, 2, "There is nothing to correct in a withdrawal")
    with pytest.raises(Invalid):
        await room.publish(kind=Kind.WITHDRAWAL)
    assert [each["seq"] for each in await room.run("SELECT seq FROM updates ORDER BY seq")] == [1, 2]


async def test_a_withdrawal_is_logged_marks_the_update_and_works_in_a_closed_story(database: db.Database) -> None:
    room = newsroom(database)
    await room.story(followers=1)
    await room.publish()
    await stories.close(database, "dam")
    withdrawn = await withdraw(room)
    updates = await stories.timeline(database, withdrawn.story)
    entries = await room.run("SELECT actor, action, subject, content_hash FROM audit WHERE action = 'withdrew'")

    assert (updates[0].seq, updates[0].kind, updates[0].headline) == (2, Kind.WITHDRAWAL, WHY)
    assert (updates[1].withdrawn_because, updates[1].withdrawn_by) == (WHY, 2)
    assert updates[1].withdrawn_at == updates[0].published_at
    assert [(each["actor"], each["subject"]) for each in entries] == [("anna", "story:dam")]
    assert entries[0]["content_hash"] is not None


async def test_a_correction_may_follow_a_withdrawal_and_be_withdrawn_itself(database: db.Database) -> None:
    """Who has the wrong mail gets the right one; the screen that showed the wrong push shows the last word."""
    async with a_room(database) as (room, service, sink):
        await room.follow("dam", "reader@example.org")
        device = await browser(room, service)
        async with room.sender() as sender:
            await finish(room, sender, await room.publish())
            await finish(room, sender, await withdraw(room))
            mailed, pushed = await finish(room, sender, await correct(room, 1, "The dam leaks"))
            (told,) = await finish(room, sender, await withdraw(room, 3, reason="It does not leak either."))

    assert (mailed.states, pushed.states, told.states) == ({State.ACCEPTED: 1},) * 3
    assert len(sink.taken) == 2
    assert titles(device) == [
        "Water is over the wall",
        f"WITHDRAWN: {WHY}",
        "CORRECTION: The dam leaks",
        "WITHDRAWN: It does not leak either.",
    ]


async def test_a_reader_who_asks_to_be_caught_up_is_not_told_what_was_taken_back(database: db.Database) -> None:
    room = newsroom(database)
    await room.story(followers=1)
    for _ in range(2):
        await room.publish()
    await withdraw(room, 2)
    (story,) = await room.run("SELECT id FROM stories")
    async with database.connection() as connection:
        (asked,) = await connection.all("asked_stories", stories=[story["id"]])
    (first,) = await room.run("SELECT id FROM updates WHERE seq = 1")

    assert asked["update_id"] == first["id"]
