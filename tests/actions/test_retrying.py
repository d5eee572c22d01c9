"""Who is tried again for one reason: exactly as many as the button says, and nobody with another reason."""

from __future__ import annotations

import pytest

from dispatcher import db, steering
from dispatcher.errors import NotFound
from dispatcher.model import DeliveryState as State
from dispatcher.watching import ReasonLine, answers
from dispatcher.watching.looking import Memory, look
from tests.support.newsroom import Newsroom, newsroom

FAILED = [
    *[("failed", 550, "5.7.1 not today, reader 1"), ("failed", 550, "5.7.1 not today, reader 2")],
    *[("failed", 550, "5.7.1 left since"), ("failed", 550, "5.1.1 no such user")],
    *[("in_doubt", None, "the relay gave no answer"), ("deferred", 452, "4.2.2 full"), ("accepted", 250, "")],
]


async def failed(database: db.Database) -> tuple[Newsroom, int]:
    """A story with a reader for each of these outcomes: reader 3 has left, reader 4 is suppressed."""
    room = newsroom(database)
    await room.story(followers=len(FAILED))
    blast_id = (await room.publish()).blast_ids[0]
    await room.cut()
    for number, (state, code, reply) in enumerate(FAILED, 1):
        await room.run(
            "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, code, reply, next_at, in_doubt_count)"
            " SELECT %s, id, now(), %s::delivery_state, %s, %s, CASE WHEN %s = 'deferred' THEN now() END,"
            " CASE WHEN %s = 'in_doubt' THEN 1 ELSE 0 END"
            " FROM subscribers WHERE email = %s",
            *(blast_id, state, code, reply, state, state, f"reader{number}@example.org"),
        )
    await room.run("UPDATE batches SET state = 'done'")
    await room.run(
        "UPDATE subscriptions SET ended_at = now(), ended_reason = 'reader' FROM subscribers r"
        " WHERE r.id = subscriber_id AND r.email = 'reader3@example.org'"
    )
    await room.run(
        "INSERT INTO suppressions (address_hash, reason)"
        " SELECT address_hash, 'no such address' FROM subscribers WHERE email = 'reader4@example.org'"
    )
    return room, blast_id


async def lines(room: Newsroom) -> dict[str, ReasonLine]:
    return {line.reason.key: line for line in (await look(room.database, "dam", 1, Memory())).reasons}


async def test_each_reason_says_how_many_may_be_tried_again_and_so_many_are(database: db.Database) -> None:
    room, blast_id = await failed(database)
    found = await lines(room)
    assert {key: (line.readers, line.retriable, line.offers_retry) for key, line in found.items()} == {
        "policy": (3, 2, True),
        "no-mailbox": (1, 0, False),
        "no-answer": (1, 1, True),
        "full": (1, None, False),
    }
    assert found["no-mailbox"].why_no_retry == "Nobody to try again: they are never written to now."
    assert found["full"].why_no_retry == ""

    for key, state in (("policy", State.FAILED), ("no-answer", State.IN_DOUBT), ("no-mailbox", State.FAILED)):
        given, meaning = await answers(database, "dam", 1, blast_id, state, key)
        tried = await steering.retry(
            database, room.bell, blast_id, by="ada", states=[state], answers=given, meaning=meaning
        )
        assert (tried.count, meaning) == (found[key].retriable, found[key].reason.words)
        again = await answers(database, "dam", 1, blast_id, state, key)
        retried = await steering.retry(database, room.bell, blast_id, by="ada", states=[state], answers=again[0])
        assert retried.count == 0

    states = await room.run("SELECT state::text, count(*) AS n FROM deliveries GROUP BY 1 ORDER BY 1")
    assert {row["state"]: row["n"] for row in states} == {"accepted": 1, "deferred": 3, "failed": 2, "in_doubt": 1}
    log = await room.run("SELECT detail FROM audit WHERE action = 'retried' ORDER BY id")
    assert [(row["detail"]["count"], row["detail"]["reason"]) for row in log] == [
        (2, "Refused by the receiver’s rules"),
        (1, "Line broke after the last byte"),
    ]


async def test_a_reason_of_another_update_tries_nobody(database: db.Database) -> None:
    room, blast_id = await failed(database)
    await room.publish()

    with pytest.raises(NotFound):
        await answers(database, "dam", 2, blast_id, State.FAILED, "policy")
    assert await answers(database, "dam", 1, blast_id, State.FAILED, "no-such-reason") == ([], "")
    tried = await steering.retry(database, room.bell, blast_id, by="ada", answers=[])
    assert tried.count == 0


async def test_after_it_expired_or_was_corrected_no_reason_offers_anything(database: db.Database) -> None:
    room, _ = await failed(database)
    await room.run("UPDATE updates SET published_at = now() - interval '2 days'")

    assert not any(line.offers_retry or line.why_no_retry for line in (await lines(room)).values())
