"""Browsers that follow by themselves, join a reader, are given another endpoint, and are taken away."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from dispatcher import db, following, stories, subscribing
from dispatcher.errors import Conflict, Invalid, NotFound
from dispatcher.following import NewDevice, StoryEnded
from dispatcher.model import Cadence
from tests.actions.test_following import ADA, Forms
from tests.support.newsroom import SECRET, newsroom


def browser(number: int = 1, *, keys: int | None = None, name: str = "Firefox on Linux") -> NewDevice:
    """A browser as it introduces itself; the same number is the same browser."""
    drawn = hashlib.sha512(str(keys or number).encode()).digest()
    return NewDevice(
        endpoint=f"https://push.example.org/{number}",
        public_key=b"\x04" + drawn,
        auth_secret=drawn[:16],
        name=name,
    )


@pytest.fixture
async def forms(database: db.Database) -> Forms:
    room = newsroom(database)
    await room.story()
    await stories.create(database, "strike", headline="School strike")
    return Forms(database, room)


async def follow(
    forms: Forms,
    device: NewDevice,
    slug: str = "dam",
    *,
    cadence: Cadence = Cadence.EVERY,
    subscriber_id: int | None = None,
) -> int:
    return await following.follow_in_browser(
        forms.database,
        slug,
        device,
        cadence=cadence,
        locale="uk",
        timezone="Europe/Kyiv",
        subscriber_id=subscriber_id,
    )


async def who(forms: Forms, device: NewDevice) -> int | None:
    return await following.browser_reader(forms.database, device.endpoint, device.auth_secret)


async def test_a_new_browser_follows_without_an_address(forms: Forms) -> None:
    reader = await follow(forms, browser(), cadence=Cadence.MAJOR)
    page = await subscribing.reader(forms.database, reader)

    assert await forms.follows(reader) == {"dam": ("major", "{webpush}")}
    assert (page.email, page.locale, page.timezone) == (None, "uk", "Europe/Kyiv")
    assert [device.name for device in page.devices] == ["Firefox on Linux"]
    assert await who(forms, browser()) == reader


async def test_the_same_browser_again_is_the_same_reader(forms: Forms) -> None:
    reader = await follow(forms, browser())

    assert await follow(forms, browser(), "strike") == reader
    assert await follow(forms, browser(), cadence=Cadence.MAJOR) == reader
    assert await forms.follows(reader) == {"dam": ("major", "{webpush}"), "strike": ("every", "{webpush}")}
    assert (await forms.count("devices"), await forms.count("subscribers")) == (1, 1)


async def test_a_double_click_is_one_reader(forms: Forms) -> None:
    readers = await asyncio.gather(*(follow(forms, browser(), slug) for slug in ("dam", "dam", "strike", "dam")))

    assert len(set(readers)) == 1
    assert (await forms.count("devices"), await forms.count("subscribers"), await forms.count("subscriptions")) == (
        1,
        1,
        2,
    )


async def test_a_browser_that_left_comes_back_with_a_click(forms: Forms) -> None:
    reader = await follow(forms, browser())
    await subscribing.leave(forms.database, subscribing.ALL_STORIES, reader)
    await follow(forms, browser())

    assert await forms.follows(reader) == {"dam": ("every", "{webpush}")}


@pytest.mark.parametrize("has_address", [True, False])
async def test_who_only_knows_an_endpoint_moves_and_learns_nothing(forms: Forms, has_address: bool) -> None:
    reader = await follow(forms, browser(), subscriber_id=await forms.confirmed() if has_address else None)
    thief = await forms.confirmed(email="eve@example.org")
    before = await forms.room.run("SELECT * FROM devices")
    for stranger in (
        browser(keys=2),
        replace(browser(), auth_secret=bytes(16)),
        replace(browser(), public_key=bytes(65)),
    ):
        for joins in (None, thief):
            with pytest.raises(Conflict):
                await follow(forms, stranger, subscriber_id=joins)

    assert await who(forms, browser(keys=2)) is None
    assert await forms.room.run("SELECT * FROM devices") == before
    assert await who(forms, browser()) == reader
    with pytest.raises(NotFound):
        await following.renew_device(forms.database, browser().endpoint, bytes(16), browser(3))


async def test_with_a_manage_link_a_browser_joins_its_reader(forms: Forms) -> None:
    alone = await follow(forms, browser(), "strike", cadence=Cadence.MAJOR)
    reader = await forms.confirmed()

    assert await follow(forms, browser(), subscriber_id=reader) == reader
    assert await forms.follows(reader) == {"dam": ("every", "{email,webpush}"), "strike": ("major", "{webpush}")}
    assert await who(forms, browser()) == reader
    with pytest.raises(NotFound):
        await subscribing.reader(forms.database, alone)


async def test_a_second_browser_joins_the_same_reader(forms: Forms) -> None:
    reader = await forms.confirmed()
    for number in (1, 2):
        assert await follow(forms, browser(number), subscriber_id=reader) == reader

    assert len((await subscribing.reader(forms.database, reader)).devices) == 2
    assert await forms.follows(reader) == {"dam": ("every", "{email,webpush}")}


async def test_a_browser_of_two_people_belongs_to_the_last_who_asked(forms: Forms) -> None:
    ada, bob = await forms.confirmed(), await forms.confirmed(email="bob@example.org")
    await follow(forms, browser(), subscriber_id=ada)
    await follow(forms, browser(), subscriber_id=bob)

    assert await who(forms, browser()) == bob
    assert (await subscribing.reader(forms.database, ada)).devices == []
    assert set(await forms.follows(ada)) == {"dam"}


async def test_the_browser_that_asked_joins_on_confirming(forms: Forms) -> None:
    alone = await follow(forms, browser(), "strike")
    await follow(forms, browser())
    await forms.ask(device_subscriber_id=alone)
    await forms.answer()
    shown = await following.pending(forms.database, await forms.token())
    done = await following.confirm(forms.database, SECRET, await forms.token(), with_browser=True)

    assert (shown.asked_by, shown.device_names) == (alone, ("Firefox on Linux",))
    assert await who(forms, browser()) == done.subscriber_id
    assert await forms.follows(done.subscriber_id) == {
        "dam": ("every", "{email,webpush}"),
        "strike": ("every", "{webpush}"),
    }
    assert await forms.count("subscribers") == 1


async def test_a_strangers_browser_is_not_let_in_by_typing_a_readers_address(forms: Forms) -> None:
    """Nobody confirms here: the reader is told by mail that they follow one more story, and that is all."""
    reader = await forms.confirmed()
    stranger = await follow(forms, browser(), "strike")
    await forms.ask("strike", device_subscriber_id=stranger)
    await forms.answer()

    assert await forms.notices() == ["confirm", "following"]
    assert await forms.follows(reader) == {"dam": ("every", "{email}"), "strike": ("every", "{email}")}
    assert await who(forms, browser()) == stranger
    assert (await subscribing.reader(forms.database, reader)).devices == []


async def test_a_strangers_browser_that_asked_first_stays_by_itself_unless_the_reader_says_otherwise(
    forms: Forms,
) -> None:
    stranger = await follow(forms, browser(), "strike")
    await forms.ask(device_subscriber_id=stranger)
    await forms.answer()
    done = await following.confirm(forms.database, SECRET, await forms.token())

    assert await who(forms, browser()) == stranger
    assert await forms.follows(stranger) == {"strike": ("every", "{webpush}")}
    assert await forms.follows(done.subscriber_id) == {"dam": ("every", "{email}")}


async def test_a_reader_with_an_address_is_never_merged_into_another(forms: Forms) -> None:
    victim = await forms.confirmed(email="victim@example.org")
    await follow(forms, browser(), subscriber_id=victim)
    await forms.ask("strike", device_subscriber_id=victim)
    await forms.answer()
    shown = await following.pending(forms.database, await forms.token())
    done = await following.confirm(forms.database, SECRET, await forms.token(), with_browser=True)

    assert (shown.asked_by, shown.device_names) == (None, ())
    assert done.subscriber_id != victim
    assert await who(forms, browser()) == victim
    assert await forms.follows(done.subscriber_id) == {"strike": ("every", "{email}")}


async def test_a_readers_own_browser_gets_the_next_story_too(forms: Forms) -> None:
    reader = await forms.confirmed()
    await follow(forms, browser(), subscriber_id=reader)
    await forms.ask("strike", device_subscriber_id=reader)
    await forms.answer()

    assert (await forms.follows(reader))["strike"] == ("every", "{email,webpush}")


async def test_joining_and_following_at_once_lose_no_browser(forms: Forms) -> None:
    for number in range(8):
        email = f"reader{number}@example.org"
        alone = await follow(forms, browser(number))
        await forms.ask("dam", email, device_subscriber_id=alone)
        await forms.answer()
        token = await forms.token(email)
        done, again = await asyncio.gather(
            following.confirm(forms.database, SECRET, token, with_browser=True),
            follow(forms, browser(number), "strike"),
        )

        assert again in (alone, done.subscriber_id)
        assert await who(forms, browser(number)) == done.subscriber_id
        assert set(await forms.follows(done.subscriber_id)) == {"dam", "strike"}


async def test_a_browser_keeps_its_place_under_a_new_endpoint(forms: Forms) -> None:
    reader = await follow(forms, browser())
    [before] = await forms.room.run("SELECT id FROM devices")
    for _ in range(2):
        assert (
            await following.renew_device(forms.database, browser().endpoint, browser().auth_secret, browser(2))
            == reader
        )

    assert await forms.room.run("SELECT id FROM devices") == [before]
    assert (await who(forms, browser()), await who(forms, browser(2))) == (None, reader)


async def test_a_browser_that_stands_there_twice_becomes_one(forms: Forms) -> None:
    """The page followed with the new endpoint before the service worker could say that it replaces the old one."""
    reader = await forms.confirmed()
    await follow(forms, browser(), subscriber_id=reader)
    await follow(forms, browser(2), "strike")
    renewed = await following.renew_device(forms.database, browser().endpoint, browser().auth_secret, browser(2))

    assert renewed == reader == await who(forms, browser(2))
    assert (await forms.count("devices"), await forms.count("subscribers")) == (1, 1)
    assert set(await forms.follows(reader)) == {"dam", "strike"}


async def test_a_browser_that_was_never_here_cannot_be_renewed(forms: Forms) -> None:
    with pytest.raises(NotFound):
        await following.renew_device(forms.database, browser().endpoint, browser().auth_secret, browser(2))
    assert await forms.count("devices") == 0


async def test_nothing_is_written_for_a_story_or_reader_that_is_not_there(forms: Forms) -> None:
    await stories.close(forms.database, "strike", successor="dam")
    with pytest.raises(StoryEnded):
        await follow(forms, browser(), "strike")
    for slug in ("none", "\x00", "../dam"):
        with pytest.raises(NotFound):
            await follow(forms, browser(), slug)
    with pytest.raises(NotFound):
        await follow(forms, browser(), subscriber_id=4711)
    with pytest.raises(Invalid):
        await follow(forms, browser(name="a\nb"))

    assert (await forms.count("devices"), await forms.count("subscribers")) == (0, 0)


async def test_a_browser_is_taken_away_by_its_reader_alone(forms: Forms) -> None:
    reader, other = await follow(forms, browser()), await follow(forms, browser(2))
    [device] = (await subscribing.reader(forms.database, reader)).devices
    await subscribing.remove_device(forms.database, other, device.id)
    assert await who(forms, browser()) == reader
    for _ in range(2):
        await subscribing.remove_device(forms.database, reader, device.id)

    assert await who(forms, browser()) is None
    assert (await forms.follows(reader), set(await forms.follows(other))) == ({}, {"dam"})


async def test_a_reader_with_an_address_goes_on_without_browsers(forms: Forms) -> None:
    reader = await forms.confirmed(email=ADA)
    await follow(forms, browser(), subscriber_id=reader)
    [device] = (await subscribing.reader(forms.database, reader)).devices
    await subscribing.remove_device(forms.database, reader, device.id)

    assert set(await forms.follows(reader)) == {"dam"}
