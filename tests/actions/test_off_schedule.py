"""What is scheduled and does not go out: nobody goes on believing that it did, and a mark stays until somebody acts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from typing import Any

import pytest

from dispatcher import db, drafting, people, stories
from dispatcher.drafting import NotYours, StillScheduled, Writing
from dispatcher.model import DraftState, Importance
from dispatcher.people import Person
from dispatcher.roles import Role
from tests.actions.test_scheduling import make_due
from tests.support.desk import TEXT, employ, log_of, set_rule, updates
from tests.support.newsroom import Newsroom, newsroom
from tests.support.sink import a_sink

TOMORROW = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
BREAKING = Importance.BREAKING


@pytest.fixture
async def room(database: db.Database) -> Newsroom:
    made = newsroom(database)
    await made.story(followers=2)
    return made


@pytest.fixture
async def desk(room: Newsroom) -> dict[str, Person]:
    """A reporter, two editors and two leads, one of whom left long ago."""
    roles = {"ann": Role.REPORTER, "ed": Role.EDITOR, "eve": Role.EDITOR, "lea": Role.LEAD, "leo": Role.LEAD}
    desk = {name: await employ(room, name, role) for name, role in roles.items()}
    await people.end(room.database, desk["leo"].id, by="test")
    return desk


async def scheduled(room: Newsroom, author: Person, by: Person, **more: Any) -> Writing:
    draft = await drafting.begin(room.database, "dam", by=author, text=replace(TEXT, **more))
    return await drafting.schedule(
        room.database, draft.id, version=1, by=by, at=TOMORROW, clock="newsroom", zone="Europe/Kyiv"
    )


async def come_due(room: Newsroom, writing: Writing) -> Writing:
    """Its time comes; what has become of it."""
    await make_due(room, writing)
    await drafting.publish_due(room.database, room.bell, room.settings)
    return await drafting.find(room.database, writing.id)


async def mails(room: Newsroom, kind: str) -> dict[str, dict[str, str]]:
    """What people of the desk are told, by the name before the @; each of them once."""
    rows = await room.run("SELECT email, detail FROM notices WHERE kind::text = %s ORDER BY id", kind)
    found = {row["email"].partition("@")[0]: row["detail"] for row in rows}
    assert len(found) == len(rows)
    return found


async def test_whoever_scheduled_what_does_not_go_out_is_told_at_once_and_so_are_its_author_and_the_leads(
    room: Newsroom, desk: dict[str, Person]
) -> None:
    await set_rule(room, breaking=True)
    draft = await scheduled(room, desk["ann"], desk["ed"], importance=BREAKING)

    back = await come_due(room, draft)

    assert (back.state, back.missed_at is not None, back.send_at) == (DraftState.DRAFT, True, None)
    told = await mails(room, "not_sent")
    assert set(told) == {"ed", "ann", "lea"}
    assert told["ann"] | {"at": ""} == {
        "who": "Ed",
        "headline": TEXT.headline,
        "story": "The dam above the city",
        "at": "",
        "local": "",
        "why": "A second person has to approve this before it goes out. It is breaking news. Nobody has in time.",
        "path": f"/desk/drafts/{draft.id}",
    }
    assert datetime.fromisoformat(told["ann"]["at"]) == back.missed_at
    assert await updates(room) == 0


async def test_without_breaking_news_the_leads_sleep_and_the_mark_stays_until_somebody_acts(
    room: Newsroom, desk: dict[str, Person]
) -> None:
    drafts = [await scheduled(room, desk["ann"], desk["ed"], headline=f"Draft {number}") for number in range(3)]
    await stories.close(room.database, "dam")
    for each in drafts:
        assert (await come_due(room, each)).missed_at is not None
    rows = await room.run("SELECT email FROM notices WHERE kind = 'not_sent'")
    assert sorted({row["email"] for row in rows}) == ["ann@courier.example", "ed@courier.example"]
    assert len(rows) == 6

    await room.run("UPDATE stories SET state = 'developing', closed_at = NULL")
    edited, again, sent = drafts
    await drafting.save(room.database, room.settings, edited.id, replace(TEXT, body="Other"), version=1, by=desk["ann"])
    await drafting.schedule(room.database, again.id, version=1, by=desk["ed"], at=TOMORROW, clock="newsroom")
    await drafting.send(room.database, room.bell, sent.id, version=1, by=desk["ed"])
    for each in drafts:
        assert (await drafting.find(room.database, each.id)).missed_at is None


async def test_an_address_that_is_none_keeps_no_draft_from_being_handed_back_and_nobody_else_from_being_told(
    room: Newsroom, desk: dict[str, Person]
) -> None:
    draft = await scheduled(room, desk["ann"], desk["ed"])
    await room.run("UPDATE people SET email = 'no address' WHERE id = %s", desk["ed"].id)
    await stories.close(room.database, "dam", by="test")

    after = await come_due(room, draft)

    assert (after.state, after.missed_at is None) == (DraftState.DRAFT, False)
    assert (await mails(room, "not_sent")).keys() == {"ann"}


@pytest.mark.parametrize("how", ["ended", "made a reporter"])
async def test_what_was_scheduled_by_somebody_who_may_send_no_more_does_not_go_out(
    room: Newsroom, desk: dict[str, Person], how: str
) -> None:
    draft = await scheduled(room, desk["ann"], desk["ed"])
    theirs = await scheduled(room, desk["ann"], desk["eve"], headline="Eve is still here")
    if how == "ended":
        await people.end(room.database, desk["ed"].id, by="test")
    else:
        await people.set_role(room.database, desk["ed"].id, Role.REPORTER, by="test")

    back = await come_due(room, draft)
    assert (await come_due(room, theirs)).update_seq == 1

    assert (back.state, back.scheduled_by) == (DraftState.DRAFT, None)
    assert "Ed, who scheduled it, " in (back.reason or "")
    assert (await log_of(room, draft.subject))[-1] == "did not send at the scheduled time"
    told = await mails(room, "not_sent")
    # Nobody else who is told may send: so the leads are, although it is no breaking news.
    assert set(told) == ({"ann", "lea"} if how == "ended" else {"ann", "ed", "lea"})
    assert ("does not work here any more" if how == "ended" else "with the role reporter") in told["ann"]["why"]


async def test_whoever_changes_what_is_scheduled_is_asked_and_whoever_scheduled_it_is_told(
    room: Newsroom, desk: dict[str, Person]
) -> None:
    draft = await scheduled(room, desk["ann"], desk["ed"])
    other = replace(TEXT, body="Other")

    with pytest.raises(StillScheduled):
        await drafting.save(room.database, room.settings, draft.id, other, version=1, by=desk["ann"])
    same = await drafting.save(room.database, room.settings, draft.id, TEXT, version=1, by=desk["ann"])
    assert (same.state, same.version) == (DraftState.SCHEDULED, 1)
    assert await mails(room, "unscheduled") == {}

    saved = await drafting.save(
        room.database, room.settings, draft.id, other, version=1, by=desk["ann"], unschedules=True
    )
    assert (saved.state, saved.missed_at) == (DraftState.DRAFT, None)
    told = await mails(room, "unscheduled")
    assert set(told) == {"ed"}
    assert (told["ed"]["who"], told["ed"]["how"], told["ed"]["path"]) == ("Ann", "changed", f"/desk/drafts/{draft.id}")


@pytest.mark.parametrize("how", ["cancelled", "discarded", "returned", "rejected"])
async def test_whoever_scheduled_it_is_told_however_somebody_else_takes_it_off(
    room: Newsroom, desk: dict[str, Person], how: str
) -> None:
    lea, settings = desk["lea"], room.settings

    async def take_off(by: Person, draft: Writing) -> None:
        if how == "cancelled":
            await drafting.unschedule(room.database, settings, draft.id, version=1, by=by)
        elif how == "discarded":
            await drafting.discard(room.database, settings, draft.id, by=by)
        else:
            back = drafting.return_ if how == "returned" else drafting.reject
            await back(room.database, settings, draft.id, version=1, by=by, reason="Not yet")

    await take_off(lea, await scheduled(room, desk["ann"], lea))
    assert await mails(room, "unscheduled") == {}, "lea knows"
    with pytest.raises(NotYours):
        await take_off(desk["ann"], await scheduled(room, desk["ed"], desk["ed"]))
    await take_off(lea, await scheduled(room, desk["ann"], desk["ed"]))

    told = await mails(room, "unscheduled")
    assert (set(told), told["ed"]["how"], told["ed"]["who"]) == ({"ed"}, how, "Lea")
    assert told["ed"]["reason"] == ("Not yet" if how in ("returned", "rejected") else "")


async def test_both_mails_reach_the_relay_with_the_way_to_the_draft(database: db.Database) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=1)
        ed, lea = await employ(room, "ed", Role.EDITOR), await employ(room, "lea", Role.LEAD)
        missed, off = await scheduled(room, ed, ed), await scheduled(room, ed, ed, headline="Off")
        await drafting.unschedule(room.database, room.settings, off.id, version=1, by=lea)
        await stories.close(room.database, "dam")
        await come_due(room, missed)
        async with room.sender() as sender, asyncio.timeout(20):
            sender.nudge()
            while len(sink.taken) < 2:
                await asyncio.sleep(0.02)

    read = [message_from_bytes(each.data, policy=policy.default) for each in sink.taken]
    subjects = sorted(str(each["Subject"]) for each in read)
    assert subjects[0].startswith("Not sent at ")
    assert subjects[1] == "Off the schedule: “Off”"
    assert {each.recipient for each in sink.taken} == {"ed@courier.example"}
    for each in read:
        text = each.get_body(("plain",))
        assert text is not None
        assert "https://alerts.example.org/desk/drafts/" in text.get_content()
