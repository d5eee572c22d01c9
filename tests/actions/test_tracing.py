"""Why did she not get it? Every update of a reader's stories, with what became of it, in words that are true."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatcher import db, suppressing, tracing
from dispatcher.errors import Conflict, Invalid, NotFound
from dispatcher.model import Importance
from dispatcher.parcels import PAUSED, QUIET
from dispatcher.tracing import explain
from tests.support.newsroom import SECRET, Newsroom, newsroom
from tests.support.sink import a_sink

ANA = "ana@example.org"
NOON = datetime(2026, 3, 12, 12, 0, tzinfo=UTC)
#: A reader who follows everything by mail, and was in the audience of a blast that is done, without an outcome.
ROW: dict[str, Any] = {
    "channel": "email",
    "state": None,
    "batch": False,
    "starts_at": None,
    "blast_state": "done",
    "frozen_at": NOON,
    "published_at": NOON,
    "confirmed_at": NOON - timedelta(days=1),
    "ended_at": None,
    "ended_reason": None,
    "channels": ["email"],
    "cadence": "every",
    "importance": "routine",
    "kind": "update",
    "target": 1,
    "device_since": None,
    "is_correcting": False,
    "superseded_by": None,
    "relay": "mx1:25",
    "reply": "",
    "code": None,
    "attempts": 1,
    "next_at": None,
}
LATER = NOON + timedelta(hours=1)


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ({"confirmed_at": None}, "not_in", "has not confirmed"),
        ({"confirmed_at": LATER}, "not_in", "confirmed later, at 13:00 on 12 March 2026 UTC"),
        ({"ended_at": NOON, "ended_reason": "reader"}, "not_in", "At 12:00 on 12 March 2026 UTC the reader had left"),
        ({"ended_at": NOON, "ended_reason": "story closed"}, "not_in", "the story had ended"),
        ({"channels": ["webpush"]}, "not_in", "wants this story by push alone"),
        ({"cadence": "major"}, "not_in", "major and breaking updates alone"),
        ({"cadence": "daily"}, "not_in", "a digest once a day"),
        ({"channel": "webpush", "channels": ["webpush"], "target": None}, "not_in", "no browser that takes pushes"),
        ({"channel": "webpush", "channels": ["webpush"], "device_since": LATER}, "not_in", "browser was added later"),
        ({"is_correcting": True, "kind": "correction"}, "not_in", "corrects what this reader had not received"),
        ({"blast_state": "cancelled"}, "not_in", "stopped before anybody was counted"),
        ({"cadence": "major", "importance": "major"}, "not_in", "wishes were others at that time"),
        ({"blast_state": "cutting", "frozen_at": None}, "waiting", "audience is not counted yet"),
        ({"blast_state": "sending", "batch": True}, "waiting", "waits for its turn"),
        ({"blast_state": "paused", "batch": True}, "waiting", "has paused it"),
        ({"blast_state": "cancelled", "batch": True}, "not_in", "Cancelled by the desk"),
        (
            {"blast_state": "sending", "batch": True, "starts_at": datetime(2090, 1, 1, 7, tzinfo=UTC)},
            "waiting",
            "at 07:00 on 1 January 2090 UTC, by the reader’s own clock",
        ),
        ({"state": "accepted"}, "accepted", "Accepted by mx1:25."),
        ({"state": "failed", "code": 550, "reply": "550 5.1.1 no such user"}, "failed", "for good: No such mailbox"),
        (
            {"state": "deferred", "code": 452, "reply": "452 4.2.2 full", "next_at": LATER, "attempts": 2},
            "deferred",
            "Mailbox is full. Tried 2 times, and again at 13:00",
        ),
        ({"state": "in_doubt", "reply": "the relay gave no answer"}, "in_doubt", "It may have arrived or not"),
        ({"state": "suppressed", "reply": "complaint"}, "suppressed", "Has complained about our mail"),
        ({"state": "capped", "reply": PAUSED}, "capped", "Has paused everything"),
        ({"state": "capped", "reply": QUIET}, "capped", "Quiet hours"),
        ({"state": "expired", "reply": "the update expired before a relay took it"}, "expired", "Expired before"),
        ({"state": "superseded", "superseded_by": 7}, "superseded", "Update 7 took its place"),
        ({"state": "withdrawn", "reply": "left after the audience was frozen"}, "withdrawn", "Left the story before"),
    ],
)
def test_every_fate_is_told_in_a_sentence(change: dict[str, Any], state: str, words: str) -> None:
    told = explain({**ROW, **change})

    assert told.state == state
    assert words in told.words
    assert told.words.endswith(".")


async def a_reader(room: Newsroom, email: str = ANA) -> int:
    return int((await room.run("SELECT id FROM subscribers WHERE email = %s", email))[0]["id"])


async def test_the_history_has_what_was_sent_what_was_not_and_the_mails_to_the_reader_alone(
    database: db.Database,
) -> None:
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=3)
        before = await room.publish()
        await room.follow("dam", ANA, cadence="major")
        reader = await a_reader(room)
        async with room.sender() as sender:
            await room.finish(sender, before)
            routine = await room.publish(importance=Importance.ROUTINE)
            major = await room.publish(importance=Importance.MAJOR)
            for each in (routine, major):
                await room.finish(sender, each)
        waiting = await room.publish(importance=Importance.BREAKING)
        await room.cut()
        await room.run(
            "INSERT INTO notices (kind, email, address_hash, subscriber_id, story_id, locale, timezone, expires_at)"
            " SELECT 'following', email, address_hash, id, 1, 'en', 'UTC', now() + interval '1 day'"
            " FROM subscribers WHERE id = %s",
            reader,
        )
        found = await tracing.history(database, reader)

    assert [(each.seq, [one.told.state for one in each.outcomes]) for each in found.entries] == [
        (None, ["waiting"]),
        (waiting.update.seq, ["waiting"]),
        (major.update.seq, ["accepted"]),
        (routine.update.seq, ["not_in"]),
    ]
    assert found.entries[3].outcomes[0].told.words == "The reader wants major and breaking updates alone."
    assert found.before == ""


async def test_the_history_turns_its_pages_without_losing_or_repeating_anything(database: db.Database) -> None:
    room = newsroom(database)
    await room.story()
    await room.follow("dam", ANA)
    reader = await a_reader(room)
    await room.run(
        "INSERT INTO updates (story_id, seq, kind, importance, headline, body, content_hash, published_by,"
        " published_at) SELECT 1, n, 'update', 'routine', 'x', 'x', '', 'test', now() + n / 3 * interval '1 minute'"
        " FROM generate_series(1, 40) n"
    )
    await room.run("INSERT INTO blasts (update_id, channel, urgency, candidates, state) "
                   "SELECT id, 'email', 30, 0, 'done' FROM updates")  # fmt: skip
    await room.run(
        "INSERT INTO notices (kind, email, address_hash, locale, timezone, expires_at, created_at)"
        " SELECT 'link', email, address_hash, 'en', 'UTC', now(), now() + n / 2 * interval '1 minute'"
        " FROM subscribers, generate_series(1, 20) n"
    )
    seen, before = [], ""
    for _ in range(30):
        page = await tracing.history(database, reader, before=before, limit=7)
        seen += page.entries
        before = page.before
        if not before:
            break

    assert len(seen) == 60
    assert sorted(each.seq for each in seen if each.seq) == list(range(1, 41))
    assert [each.at for each in seen] == sorted((each.at for each in seen), reverse=True)
    assert (await tracing.history(database, reader, before="no; place")).entries[0] == seen[0]


async def test_devices_have_each_their_own_outcome_and_a_correction_tells_whom_it_was_for(
    database: db.Database,
) -> None:
    room = newsroom(database)
    await room.story()
    await room.follow("dam", ANA)
    reader = await a_reader(room)
    await room.run("UPDATE subscriptions SET channels = '{email,webpush}', created_at = now() - interval '1 day'")
    await room.run(
        "INSERT INTO devices (subscriber_id, endpoint, endpoint_hash, public_key, auth_secret, name, created_at)"
        " SELECT %s, 'https://p.example/' || n, int4send(n), decode(repeat('04', 65), 'hex'),"
        " decode(repeat('00', 16), 'hex'), 'Browser ' || n, now() - interval '1 hour' FROM generate_series(1, 2) n",
        reader,
    )
    wrong = await room.publish()
    await room.cut()
    await room.cut()
    await room.run(
        "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, code, reply)"
        " SELECT b.id, v.id, now(), 'failed', 410, '410 gone' FROM blasts b, devices v"
        " WHERE b.channel = 'webpush' AND v.name = 'Browser 1'"
    )
    entry = (await tracing.history(database, reader)).entries[0]
    told = {(str(one.channel), one.device): one.told for one in entry.outcomes}

    assert entry.seq == wrong.update.seq
    assert {key: each.state for key, each in told.items()} == {
        ("email", ""): "waiting",
        ("webpush", "Browser 1"): "failed",
        ("webpush", "Browser 2"): "waiting",
    }
    assert "Browser no longer subscribed" in told["webpush", "Browser 1"].words


async def test_a_reader_is_found_by_the_whole_address_and_by_its_beginning(database: db.Database) -> None:
    room = newsroom(database)
    await room.story()
    await room.follow("dam", "Ana.Lund@Example.org", "ana%b@example.org", "ana_b@example.org", "zoë@example.org")

    assert await tracing.find(database, SECRET, " ANA.lund@example.ORG ") is not None
    assert await tracing.find(database, SECRET, "nobody@example.org") is None
    assert await tracing.find(database, SECRET, "ana") is None
    found = [each.email for each in await tracing.search(database, " ANA")]
    assert found == ["ana%b@example.org", "Ana.Lund@Example.org", "ana_b@example.org"]
    assert [each.email for each in await tracing.search(database, "ana%")] == ["ana%b@example.org"]
    assert [each.email for each in await tracing.search(database, "zoë")] == ["zoë@example.org"]
    for short in ("an", " a ", "\0\0\0", ""):
        with pytest.raises(Invalid, match="at least 3 characters"):
            await tracing.search(database, short)


async def test_suppressions_are_added_and_lifted_with_a_reason_and_the_log_names_no_address(
    database: db.Database,
) -> None:
    room = newsroom(database)
    await room.story()
    await room.follow("dam", ANA)
    reader = await a_reader(room)
    await suppressing.add(database, SECRET, ANA, reason=f"wrote to us: {ANA} is not hers", by="ada")
    await suppressing.add(database, SECRET, "stranger@example.org", reason="a trap", by="ada")
    with pytest.raises(Conflict, match="suppressed already"):
        await suppressing.add(database, SECRET, ANA, reason="again", by="ada")
    with pytest.raises(Invalid, match="reason is empty"):
        await suppressing.add(database, SECRET, "x@example.org", reason=" ", by="ada")
    page = await suppressing.listing(database)
    stranger, ana = page.entries
    assert (ana.email, ana.reason, ana.subscriber_id) == (ANA, "wrote to us: [address] is not hers", reader)
    assert (stranger.email, stranger.reason) == (None, "a trap")
    with pytest.raises(Invalid, match="reason"):
        await suppressing.lift(database, ana.address_hash.hex(), reason="", by="ada")
    await suppressing.lift(database, ana.address_hash.hex(), reason="she asked for it", by="ada")
    with pytest.raises(NotFound):
        await suppressing.lift(database, ana.address_hash.hex(), reason="she asked for it", by="ada")
    with pytest.raises(NotFound):
        await suppressing.lift(database, "zz", reason="x", by="ada")
    log = await room.run("SELECT action, subject, detail FROM audit WHERE actor = 'ada' ORDER BY id")

    assert [each["action"] for each in log] == ["suppressed an address"] * 2 + ["lifted a suppression"]
    assert log[0]["subject"] == log[2]["subject"] == f"subscriber:{reader}"
    assert "@" not in json.dumps([[each["subject"], each["detail"]] for each in log])


async def test_what_a_reader_erased_the_desk_cannot_bring_back(database: db.Database) -> None:
    room = newsroom(database)
    await room.story()
    await room.follow("dam", ANA)
    await room.run("INSERT INTO suppressions SELECT address_hash, %s FROM subscribers", suppressing.ERASED)
    (entry,) = (await suppressing.listing(database)).entries
    with pytest.raises(Conflict, match="erased everything"):
        await suppressing.lift(database, entry.address_hash.hex(), reason="please", by="ada")

    assert not entry.can_be_lifted
    assert len(await room.run("SELECT reason FROM suppressions")) == 1
    assert await room.run("SELECT action FROM audit WHERE actor = 'ada'") == []


async def test_the_list_of_suppressions_turns_its_pages(database: db.Database) -> None:
    room = newsroom(database)
    await room.run("INSERT INTO suppressions SELECT int4send(n), 'x', now() FROM generate_series(1, 120) n")
    first = await suppressing.listing(database)
    second = await suppressing.listing(database, before=first.before)
    third = await suppressing.listing(database, before=second.before)
    seen = [each.address_hash for page in (first, second, third) for each in page.entries]

    assert len(seen) == len(set(seen)) == 120
    assert third.before == ""


async def test_the_desk_ends_a_subscription_for_good_and_says_so_in_the_history(database: db.Database) -> None:
    room = newsroom(database)
    await room.story()
    await room.follow("dam", ANA)
    reader = await a_reader(room)
    with pytest.raises(Invalid, match="reason"):
        await tracing.end(database, reader, "dam", by="ada", reason="")
    await tracing.end(database, reader, "dam", by="ada", reason="asked by phone")
    with pytest.raises(NotFound):
        await tracing.end(database, reader, "dam", by="ada", reason="asked by phone")
    await room.publish()
    await room.cut()
    entry = (await tracing.history(database, reader)).entries[0]

    assert entry.outcomes[0].told.words.endswith("the desk had ended the subscription.")
    assert [each["detail"] for each in await room.run("SELECT detail FROM audit WHERE actor = 'ada'")] == [
        {"story": "dam", "reason": "asked by phone"}
    ]
