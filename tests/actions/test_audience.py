"""The audience that the desk shows before the button is the one that the update then has."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher import audience, db, publishing, steering
from dispatcher.audience import Audience, Group
from dispatcher.model import DeliveryState, Draft, Importance, Kind
from tests.actions.test_replacing import finish, mails, publish
from tests.support.newsroom import Newsroom
from tests.support.relays import relay_at, room_with, slow, until
from tests.support.sink import a_sink

#: Readers of every kind that there is, in numbers that share no factor: what is paused may be suppressed and quiet too.
#: Nobody's quiet hours begin or end within half an hour of now.
CROWD = """
INSERT INTO subscribers (email, address_hash, timezone, paused_until, quiet_from, quiet_to, quiet_breaking)
SELECT CASE WHEN n % 23 > 0 THEN 'reader' || n || '@example.org' END,
       CASE WHEN n % 23 > 0 THEN sha224(int8send(n)) END,
       (ARRAY['UTC', 'Asia/Tokyo', 'America/New_York', 'Nowhere/At_All'])[1 + n % 4],
       CASE WHEN n % 17 = 0 THEN now() + interval '1 day' WHEN n % 17 = 1 THEN now() - interval '1 day' END,
       CASE WHEN n % 5 < 2 THEN edge + make_interval(hours => n * 7) END,
       CASE WHEN n % 5 < 2 THEN edge + make_interval(hours => n * 7 + 9) END, n % 2 = 0
FROM generate_series(1, 900) AS n, (SELECT (now() AT TIME ZONE 'UTC' + interval '30 minutes')::time AS edge) AS clock;
INSERT INTO subscriptions (story_id, subscriber_id, cadence, channels, confirmed_at, ended_at, ended_reason)
SELECT s.id, r.id, (ARRAY['every', 'every', 'every', 'major', 'daily', 'weekly'])[1 + r.id % 6]::cadence,
       (CASE WHEN r.email IS NULL THEN '{webpush}' WHEN r.id % 7 < 3 THEN '{email,webpush}' WHEN r.id % 71 = 3 THEN '{}'
             ELSE '{email}' END)::channel[],
       CASE WHEN r.id % 19 > 0 THEN now() END, CASE WHEN r.id % 29 = 0 THEN now() END,
       CASE WHEN r.id % 29 = 0 THEN 'reader' END
FROM stories s, subscribers r WHERE s.slug = 'dam';
INSERT INTO devices (subscriber_id, endpoint, endpoint_hash, public_key, auth_secret)
SELECT id, 'https://push.example/' || id || '/' || n, sha224(int8send(id * 10 + n)), sha512('a') || '1',
       substr(sha512('b'), 1, 16)
FROM subscribers, generate_series(1, 2) AS n WHERE id % 3 > 0 AND (n = 1 OR id % 11 = 0);
INSERT INTO suppressions (address_hash, reason)
SELECT address_hash, 'no such address' FROM subscribers WHERE id % 13 = 0 AND address_hash IS NOT NULL;
INSERT INTO confirmations (token_hash, email, address_hash, story_id, cadence, catch_up, locale, timezone, expires_at)
SELECT sha224(int8send(n)), 'new' || n || '@example.org', sha224(int8send(-(n % 5))), 1, 'every', true, 'en', 'UTC',
       now() + interval '1 day' FROM generate_series(1, 12) AS n
"""


async def crowded(room: Newsroom) -> int:
    """A story with every kind of reader; its number."""
    await room.story()
    for statement in CROWD.split(";\n"):
        await room.run(statement.replace("%", "%%"))
    return int((await room.run("SELECT id FROM stories"))[0]["id"])


async def counted(database: db.Database, story_id: int, draft: Draft) -> Audience:
    async with database.connection() as connection:
        return await audience.count(
            connection, story_id, kind=draft.kind, importance=draft.importance, corrects_seq=draft.corrects_seq
        )


def adds_up(found: Audience) -> bool:
    """Whether each column ends in what is shown below it."""
    columns = zip(found.everybody, found.now, *(each.count for each in found.left_out), strict=True)
    return all(everybody - sum(left_out) == now for everybody, now, *left_out in columns)


@pytest.mark.parametrize("importance", list(Importance))
async def test_the_figures_before_the_button_are_those_that_the_ledger_ends_with(
    database: db.Database, importance: Importance
) -> None:
    async with a_sink() as sink:
        room = room_with(database, relay_at(sink.port, lanes=4))
        story_id = await crowded(room)
        draft = Draft(headline="Water is over the wall", body="6.12 m.", importance=importance)

        found = await counted(database, story_id, draft)

        assert adds_up(found)
        assert all(found.now)
        assert found.now.readers == found.now.mail + found.now.push - found.both
        reasons = {each.reason: each.count for each in found.left_out}
        assert reasons["unconfirmed"].readers > 5
        assert ("minor" in reasons) == (importance is Importance.ROUTINE)
        published = await publishing.publish(database, room.bell, "dam", draft, by="anna")
        async with room.sender() as sender:
            report = await room.finish(sender, published)
        held = [reasons[name].mail for name in ("paused", "quiet")]
        assert report.states.get(DeliveryState.ACCEPTED, 0) == len(sink.taken) == found.now.mail
        assert report.states.get(DeliveryState.CAPPED, 0) == sum(held)
        assert report.states.get(DeliveryState.SUPPRESSED, 0) == reasons["suppressed"].mail
        rows = await room.run(
            "SELECT count(DISTINCT subscriber_id) AS n FROM push_audience(%s, now(), %s)",
            *(story_id, importance is Importance.ROUTINE),
        )
        assert rows[0]["n"] == found.now.push + sum(reasons[name].push for name in ("paused", "quiet"))


async def test_a_correction_counts_who_was_reached_who_may_have_been_and_who_was_not(database: db.Database) -> None:
    async with a_sink(slow(0.02)) as sink:
        room = room_with(database, relay_at(sink.port, lanes=4))
        story_id = await crowded(room)
        wrong = await publish(room, "The hospital is being evacuated")
        await room.cut()
        async with room.sender() as sender:
            sender.nudge()
            await until(lambda: len(sink.taken) >= 60)
            await steering.pause(database, wrong.blast_ids[0], by="anna")
            await asyncio.sleep(0.2)  # what is on its way comes to its end
            right = Draft(
                headline="The hospital is open",
                body="It is.",
                kind=Kind.CORRECTION,
                importance=Importance.MAJOR,
                corrects_seq=1,
            )

            found = await counted(database, story_id, right)
            async with database.connection() as connection:
                [going] = await audience.going_out(connection, story_id)

            assert adds_up(found)
            told = dict(found.told)
            before = len(sink.taken)
            assert told["reached"].mail == before
            assert going.mails == told["unreached"].mail
            corrected = await publishing.publish(database, room.bell, "dam", right, by="anna")
            await finish(room, sender, corrected)
        later = [mail.subject.startswith("CORRECTION") for mail in mails(sink)[before:]]
        assert later.count(True) == told["reached"].mail
        assert len(later) == found.now.mail
        assert found.now.push == 0 or told["unreached"].push


async def test_a_correction_before_anything_was_cut_goes_to_all_followers_as_a_plain_update(
    database: db.Database,
) -> None:
    room = room_with(database, relay_at(1))
    await room.story(followers=7)
    await publish(room, "The hospital is being evacuated")
    right = Draft(headline="It is open", body="It is.", kind=Kind.CORRECTION, corrects_seq=1)

    found = await counted(database, 1, right)

    assert (found.now, dict(found.told)["unreached"]) == (Group(7, 7, 0), Group(7, 7, 0))
    async with database.connection() as connection:
        [going] = await audience.going_out(connection, 1)
    assert not going.is_known
