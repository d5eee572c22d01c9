"""What readers decide for themselves: channels, pauses, quiet hours, language; only what makes sense is taken."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import db, subscribing
from dispatcher.errors import Invalid, NotFound
from dispatcher.model import Cadence, ChannelName
from tests.actions.test_browsers import browser, follow
from tests.actions.test_following import Forms
from tests.support.newsroom import newsroom

NOBODY = 4711


@pytest.fixture
async def forms(database: db.Database) -> Forms:
    room = newsroom(database)
    await room.story()
    return Forms(database, room)


@pytest.fixture
async def reader(forms: Forms) -> int:
    return await forms.confirmed()


async def dam(forms: Forms) -> int:
    [row] = await forms.room.run("SELECT id FROM stories WHERE slug = 'dam'")
    return int(row["id"])


@pytest.mark.parametrize("cadence", list(Cadence))
async def test_every_cadence_is_kept_and_only_some_mean_now(forms: Forms, reader: int, cadence: Cadence) -> None:
    await subscribing.set_cadence(forms.database, await dam(forms), reader, cadence)
    published = await forms.room.publish()
    await forms.room.cut()

    [shown] = await subscribing.followed(forms.database, reader)
    assert shown.cadence == cadence
    assert (await forms.room.report(published)).candidates == (cadence in (Cadence.EVERY, Cadence.MAJOR))


async def test_channels_are_kept(forms: Forms, reader: int) -> None:
    await follow(forms, browser(), subscriber_id=reader)
    for channels in ({ChannelName.WEBPUSH}, {ChannelName.EMAIL}, {ChannelName.WEBPUSH, ChannelName.EMAIL}):
        await subscribing.set_channels(forms.database, await dam(forms), reader, channels)
        [shown] = await subscribing.followed(forms.database, reader)
        assert shown.channels == channels
    assert await forms.follows(reader) == {"dam": ("every", "{email,webpush}")}


async def test_a_channel_on_which_nobody_could_be_reached_is_refused(forms: Forms, reader: int) -> None:
    alone = await follow(forms, browser())
    for who, channels in ((reader, {ChannelName.WEBPUSH}), (alone, {ChannelName.EMAIL}), (reader, set())):
        with pytest.raises(Invalid) as caught:
            await subscribing.set_channels(forms.database, await dam(forms), who, channels)
        assert caught.value.field == "channels"
    await subscribing.leave(forms.database, await dam(forms), reader)
    for who in (reader, NOBODY):
        with pytest.raises(NotFound):
            await subscribing.set_channels(forms.database, await dam(forms), who, {ChannelName.EMAIL})


async def test_a_pause_lasts_to_the_end_of_its_day_where_the_reader_lives(forms: Forms, reader: int) -> None:
    zone = ZoneInfo("Pacific/Kiritimati")  # 14 hours ahead: tomorrow begins there when UTC has not had its noon
    await subscribing.set_quiet(forms.database, reader, None, None, True, zone.key)
    until = datetime.now(zone).date() + timedelta(days=2)
    await subscribing.pause(forms.database, reader, until)
    page = await subscribing.reader(forms.database, reader)

    assert page.paused_through == until
    assert page.paused_until == datetime.combine(until + timedelta(days=1), time.min, tzinfo=zone)

    await subscribing.pause(forms.database, reader, None)
    assert (await subscribing.reader(forms.database, reader)).paused_until is None


async def test_a_pause_that_is_over_is_none(forms: Forms, reader: int) -> None:
    await forms.room.run("UPDATE subscribers SET paused_until = now() - interval '1 second'")
    page = await subscribing.reader(forms.database, reader)

    assert (page.paused_until, page.paused_through) == (None, None)


@given(
    day=st.dates(date(2024, 1, 1), date(2032, 12, 31)),
    zone=st.sampled_from(sorted(available_timezones())).map(ZoneInfo),
)
def test_a_day_ends_when_the_next_begins_also_where_clocks_change_at_midnight(day: date, zone: ZoneInfo) -> None:
    ends = subscribing.day_after(day, zone)

    assert ends.tzinfo is UTC
    assert ends.astimezone(zone).date() > day
    assert (ends - timedelta(seconds=1)).astimezone(zone).date() <= day


@pytest.mark.parametrize(
    ("zone", "day", "ends"),
    [
        ("Europe/Kyiv", date(2027, 3, 27), "2027-03-27T22:00:00"),  # the day before summer time begins
        ("Europe/Kyiv", date(2027, 3, 28), "2027-03-28T21:00:00"),  # a day of 23 hours
        ("Europe/Kyiv", date(2027, 10, 31), "2027-10-31T22:00:00"),  # a day of 25 hours
        ("Africa/Cairo", date(2025, 4, 24), "2025-04-24T22:00:00"),  # the next day begins at one
    ],
)
def test_the_days_on_which_clocks_change(zone: str, day: date, ends: str) -> None:
    assert subscribing.day_after(day, ZoneInfo(zone)).isoformat() == f"{ends}+00:00"


async def test_only_days_within_a_year_can_be_chosen(forms: Forms, reader: int) -> None:
    today = datetime.now(ZoneInfo("Europe/Kyiv")).date()
    for days in (-1, subscribing.LONGEST_PAUSE + 1, 300_000):
        with pytest.raises(Invalid) as caught:
            await subscribing.pause(forms.database, reader, today + timedelta(days=days))
        assert caught.value.field == "until"
    with pytest.raises(Invalid):
        await subscribing.pause(forms.database, reader, date.max)
    assert (await subscribing.reader(forms.database, reader)).paused_until is None
    for days in (0, subscribing.LONGEST_PAUSE):
        await subscribing.pause(forms.database, reader, today + timedelta(days=days))
        assert (await subscribing.reader(forms.database, reader)).paused_through == today + timedelta(days=days)


async def test_quiet_hours_are_kept_and_given_up(forms: Forms, reader: int) -> None:
    await subscribing.set_quiet(forms.database, reader, time(22), time(6, 30), False, "America/New_York")
    page = await subscribing.reader(forms.database, reader)
    assert (page.quiet_from, page.quiet_to, page.quiet_breaking) == (time(22), time(6, 30), False)
    assert page.timezone == "America/New_York"

    await subscribing.set_quiet(forms.database, reader, None, None, True, "UTC")
    page = await subscribing.reader(forms.database, reader)
    assert (page.quiet_from, page.quiet_to, page.quiet_breaking, page.timezone) == (None, None, True, "UTC")


@pytest.mark.parametrize(
    ("quiet_from", "quiet_to", "timezone", "field"),
    [
        (time(22), None, "UTC", "quiet_to"),
        (None, time(6), "UTC", "quiet_from"),
        (time(6), time(6), "UTC", "quiet_to"),
        (time(22), time(6), "Mars/Olympus", "timezone"),
        (None, None, "../../etc/passwd", "timezone"),
        (None, None, "UTC\x00", "timezone"),
        (None, None, "", "timezone"),
    ],
)
async def test_quiet_hours_that_make_no_sense_change_nothing(
    forms: Forms, reader: int, quiet_from: time | None, quiet_to: time | None, timezone: str, field: str
) -> None:
    before = await subscribing.reader(forms.database, reader)
    with pytest.raises(Invalid) as caught:
        await subscribing.set_quiet(forms.database, reader, quiet_from, quiet_to, True, timezone)

    assert caught.value.field == field
    assert caught.value.remedy
    assert await subscribing.reader(forms.database, reader) == before


async def test_a_language_that_is_spoken_is_kept(forms: Forms, reader: int) -> None:
    await subscribing.set_language(forms.database, reader, "uk")
    assert (await subscribing.reader(forms.database, reader)).locale == "uk"
    for locale in ("xx", "", "en\x00"):
        with pytest.raises(Invalid) as caught:
            await subscribing.set_language(forms.database, reader, locale)
        assert caught.value.field == "locale"


async def test_nobody_has_nothing_to_manage(forms: Forms) -> None:
    for attempt in (
        subscribing.reader(forms.database, NOBODY),
        subscribing.pause(forms.database, NOBODY, None),
        subscribing.set_quiet(forms.database, NOBODY, None, None, True, "UTC"),
        subscribing.set_language(forms.database, NOBODY, "en"),
    ):
        with pytest.raises(NotFound):
            await attempt
    await subscribing.remove_device(forms.database, NOBODY, 1)
    assert await subscribing.followed(forms.database, NOBODY) == []
