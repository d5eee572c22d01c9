"""Whoever is alerted by push alone and has an address goes on by mail once no browser of theirs takes alerts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dispatcher import db, following, subscribing
from dispatcher.following import NewDevice
from dispatcher.model import Cadence, ChannelName, DeliveryState
from tests.actions.test_pushing import a_room, browser, finish_push, id_of
from tests.support.newsroom import Newsroom
from tests.support.push_service import Answer, Device
from tests.support.relays import until

ANA, BEN = "ana@example.org", "ben@example.org"


async def removed(room: Newsroom, ana: int, device: Device) -> None:
    [shown] = (await subscribing.reader(room.database, ana)).devices
    await subscribing.remove_device(room.database, ana, shown.id)


async def gone(room: Newsroom, ana: int, device: Device) -> None:
    device.answer(Answer(410))
    await finish_push(room, await room.publish())


async def handed_on(room: Newsroom, ana: int, device: Device) -> None:
    """The browser is shared, and its other reader opens their own page in it."""
    same = NewDevice(endpoint=device.endpoint, public_key=device.public_key, auth_secret=device.auth_secret)
    await following.follow_in_browser(
        *(room.database, "dam", same),
        cadence=Cadence.EVERY,
        locale="en",
        timezone="UTC",
        subscriber_id=await id_of(room, BEN),
    )


@pytest.mark.parametrize("how", [removed, gone, handed_on])
async def test_nobody_with_an_address_is_lost_with_their_last_browser(database: db.Database, how) -> None:  # type: ignore[no-untyped-def]
    async with a_room(database) as (room, service, sink):
        await room.follow("dam", ANA, BEN)
        ana = await id_of(room, ANA)
        device = await browser(room, service, reader=ana)
        for story in await subscribing.followed(database, ana):
            await subscribing.set_channels(database, story.story.id, ana, [ChannelName.WEBPUSH])
        await how(room, ana, device)
        sink.taken.clear()
        async with room.sender() as sender:
            await room.finish(sender, await room.publish())
        [shown] = await subscribing.followed(database, ana)

    assert {each.recipient for each in sink.taken} == {ANA, BEN}
    assert shown.channels == {ChannelName.EMAIL}


async def test_a_reader_who_has_another_browser_goes_on_by_push_alone(database: db.Database) -> None:
    async with a_room(database) as (room, service, sink):
        await room.follow("dam", ANA)
        ana = await id_of(room, ANA)
        device, other = [await browser(room, service, reader=ana) for _ in range(2)]
        [story] = await subscribing.followed(database, ana)
        await subscribing.set_channels(database, story.story.id, ana, [ChannelName.WEBPUSH])
        await gone(room, ana, device)
        await finish_push(room, await room.publish())

    assert len(other.received) == 2
    assert sink.taken == []


async def test_a_browser_that_has_another_endpoint_when_its_old_one_is_refused_is_kept(
    database: db.Database,
) -> None:
    """The push service says 410 for the endpoint that the browser has just left: the update goes to the new one."""
    async with a_room(database) as (room, service, _):
        old, new = await browser(room, service), service.device()
        await browser(room, service)
        old.answer(Answer(410, delay=0.5))
        published = await room.publish()
        async with room.sender() as sender:
            await room.cut()
            sender.nudge()
            await until(lambda: old.received)
            renewed = NewDevice(endpoint=new.endpoint, public_key=new.public_key, auth_secret=new.auth_secret)
            reader = await following.renew_device(database, old.endpoint, old.auth_secret, renewed)
            report = await room.finish(sender, replace(published, blast_ids=published.blast_ids[1:]))

    assert len(old.received) == len(new.received) == 1
    assert report.states == {DeliveryState.ACCEPTED: 2}
    assert [each.story.slug for each in await subscribing.followed(database, reader)] == ["dam"]
