"""A later update takes the place of one that is going out, and a correction reaches exactly who has the wrong text."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from email import message_from_bytes, policy

import pytest

from dispatcher import db, publishing, steering, superseding, upkeep, withdrawing
from dispatcher.errors import Conflict, Invalid
from dispatcher.model import BlastReport, BlastState, DeliveryState, Draft, Importance, Kind, Published
from dispatcher.sending import Sender
from tests.support.newsroom import Newsroom
from tests.support.relays import finish_now, relay_at, room_with, slow, until
from tests.support.sink import HANG_UP, Session, Sink, a_sink

State = DeliveryState
WRONG, RIGHT, NEXT = "The hospital is being evacuated", "The hospital is open", "The crest has passed"


@dataclass
class Mail:
    """A mail as its reader sees it."""

    to: str
    subject: str
    text: str


def mails(sink: Sink) -> list[Mail]:
    """Every mail that the relay said yes to, or may have."""
    read = []
    for each in sink.taken:
        if not each.answered.startswith(("4", "5")):
            message = message_from_bytes(each.data, policy=policy.default)
            body = message.get_body(("plain",))
            assert body is not None
            text = re.sub(r"\s+", " ", body.get_content())
            read.append(Mail(each.recipient, str(message["Subject"]), text))
    return read


def to_each(sink: Sink) -> dict[str, list[Mail]]:
    """The mails of each reader, in the order in which they came."""
    found: dict[str, list[Mail]] = {}
    for mail in mails(sink):
        found.setdefault(mail.to, []).append(mail)
    return found


async def publish(room: Newsroom, headline: str, **more: object) -> Published:
    draft = Draft(headline=headline, body=f"{headline}, the crisis room says.", importance=Importance.MAJOR, **more)  # type: ignore[arg-type]
    return await publishing.publish(room.database, room.bell, "dam", draft, by="anna")


async def catch_up(room: Newsroom, count: int) -> None:
    """So many follow the dam late, and are owed a mail with its first update."""
    await room.follow("dam", *(f"late{number}@example.org" for number in range(count)))
    await room.run(
        "INSERT INTO notices (kind, email, address_hash, subscriber_id, story_id, update_id, locale, timezone,"
        " expires_at) SELECT 'catch_up', email, address_hash, id, 1, 1, 'en', 'UTC', now() + interval '1 day'"
        " FROM subscribers"
    )


async def finish(room: Newsroom, sender: Sender, published: Published, *, seconds: float = 20) -> BlastReport:
    """What a worker's engine does, until the blast is done."""
    async with asyncio.timeout(seconds):
        while True:
            await superseding.settle(room.database)
            await room.cut()
            sender.nudge()
            report = await room.report(published)
            if report.settled and not report.waiting:
                return report
            await asyncio.sleep(0.02)


async def test_who_was_not_reached_gets_only_the_new_update_with_what_they_missed(database: db.Database) -> None:
    async with a_sink(slow(0.02)) as sink:
        room = room_with(database, relay_at(sink.port, lanes=4))
        await room.story(followers=1200)
        first = await publish(room, WRONG)
        await room.cut()
        async with room.sender() as sender:
            sender.nudge()
            await until(lambda: len(sink.taken) >= 40)
            sink.script = lambda *_: None
            second = await publish(room, NEXT, replaces=True)
            done = await finish(room, sender, second)
            replaced = await room.report(first)

    assert replaced.state is BlastState.SUPERSEDED
    assert sum(replaced.states.values()) == replaced.candidates == 1200
    assert set(replaced.states) == {State.ACCEPTED, State.SUPERSEDED}
    assert done.states == {State.ACCEPTED: 1200}
    for reader, got in to_each(sink).items():
        assert [mail.subject for mail in got] in ([WRONG, NEXT], [NEXT]), reader
        assert ("ALSO SINCE YOUR LAST ALERT" in got[-1].text) == (len(got) == 1)
        assert WRONG in got[-1].text  # as missed, or as earlier


async def test_a_blast_that_was_never_cut_is_replaced_too(database: db.Database) -> None:
    async with a_sink() as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=3)
        first = await publish(room, WRONG)
        second = await publish(room, NEXT, replaces=True)
        async with room.sender() as sender:
            done = await finish(room, sender, second)
            replaced = await room.report(first)

    assert (replaced.state, replaced.candidates, replaced.states) == (BlastState.SUPERSEDED, 0, {})
    assert done.states == {State.ACCEPTED: 3}
    assert all("ALSO SINCE YOUR LAST ALERT" in mail.text for mail in mails(sink))


async def test_an_update_that_does_not_replace_stops_nothing(database: db.Database) -> None:
    async with a_sink() as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=3)
        first, second = await publish(room, WRONG), await publish(room, NEXT)
        async with room.sender() as sender:
            reports = [await finish(room, sender, each) for each in (first, second)]
            before = len(sink.taken)  # of two that go out together, the second cannot know yet whom the first reached
            reports.append(await finish(room, sender, await publish(room, RIGHT)))

    assert [report.states for report in reports] == [{State.ACCEPTED: 3}] * 3
    assert not any("ALSO SINCE" in mail.text for mail in mails(sink)[before:])


async def test_a_correction_reaches_who_has_the_wrong_text_and_nobody_else_ever_sees_it(database: db.Database) -> None:
    async with a_sink(slow(0.02)) as sink:
        room = room_with(database, relay_at(sink.port, lanes=4))
        await room.story(followers=1200)
        first = await publish(room, WRONG)
        await room.cut()
        async with room.sender() as sender:
            sender.nudge()
            await until(lambda: len(sink.taken) >= 40)
            sink.script = lambda *_: None
            correction = await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1)
            done = await finish(room, sender, correction)
            corrected = await room.report(first)

    reached = corrected.states[State.ACCEPTED]
    assert corrected.state is BlastState.SUPERSEDED
    assert corrected.states == {State.ACCEPTED: reached, State.SUPERSEDED: 1200 - reached}
    assert done.states == {State.ACCEPTED: 1200}
    for got in to_each(sink).values():
        if len(got) == 2:
            assert [mail.subject for mail in got] == [WRONG, f"CORRECTION: {RIGHT}"]
        else:
            assert [mail.subject for mail in got] == [RIGHT]
            assert WRONG not in got[0].text
    assert sum(len(got) == 2 for got in to_each(sink).values()) == reached


async def test_who_is_in_doubt_counts_as_reached(database: db.Database) -> None:
    answers = [HANG_UP]

    def hang_up(step: str, argument: str, session: Session) -> str | None:
        return answers.pop() if step == "BODY" and answers else None

    async with a_sink(hang_up) as sink:
        room = room_with(database, relay_at(sink.port, lanes=1))
        await room.story(followers=1)
        first = await publish(room, WRONG)
        async with room.sender() as sender:
            await room.cut()
            sender.nudge()

            async def doubtful() -> bool:
                return State.IN_DOUBT in (await room.report(first)).states

            await until(doubtful)
            correction = await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1)
            done = await finish(room, sender, correction)
            corrected = await room.report(first)

    assert corrected.states == {State.IN_DOUBT: 1}
    assert done.states == {State.ACCEPTED: 1}
    assert [mail.subject for mail in mails(sink)] == [WRONG, f"CORRECTION: {RIGHT}"]


async def test_a_correction_of_a_blast_that_is_over_goes_to_those_whom_it_reached(database: db.Database) -> None:
    async with a_sink() as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=3)
        async with room.sender() as sender:
            await finish(room, sender, await publish(room, WRONG))
            await room.follow("dam", "late@example.org")
            await room.run(
                "UPDATE subscriptions SET ended_at = now(), ended_reason = 'reader' WHERE subscriber_id ="
                " (SELECT id FROM subscribers WHERE email = 'reader1@example.org')"
            )
            report = await finish(room, sender, await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1))

    assert report.states == {State.ACCEPTED: 2, State.WITHDRAWN: 1}
    assert "late@example.org" not in sink.copies()


async def test_a_correction_before_anybody_was_reached_is_the_update_itself(database: db.Database) -> None:
    async with a_sink() as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=3)
        await publish(room, WRONG)
        correction = await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1)
        async with room.sender() as sender:
            report = await finish(room, sender, correction)

    assert report.states == {State.ACCEPTED: 3}
    assert [mail.subject for mail in mails(sink)] == [RIGHT] * 3
    assert not any(WRONG in mail.text for mail in mails(sink))


async def test_a_correction_that_is_wrong_itself_is_corrected_while_it_goes_out(database: db.Database) -> None:
    async with a_sink(slow(0.01)) as sink:
        room = room_with(database, relay_at(sink.port, lanes=2))
        await room.story(followers=600)
        async with room.sender() as sender:
            await publish(room, WRONG)
            await room.cut()
            sender.nudge()
            await until(lambda: len(sink.taken) >= 60)
            first = await publish(room, "The hospital is half open", kind=Kind.CORRECTION, corrects_seq=1)
            await superseding.settle(database, patience=5)
            await room.cut()
            sender.nudge()
            await until(lambda: sum(b"half open" in each.data for each in sink.taken) >= 30)
            sink.script = lambda *_: None
            second = await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=2)
            done = await finish(room, sender, second)
            superseded = await room.report(first)

    assert superseded.state is BlastState.SUPERSEDED
    assert done.states == {State.ACCEPTED: 600}
    for got in to_each(sink).values():
        subjects = [mail.subject for mail in got]
        saw_wrong_text = any(RIGHT not in subject for subject in subjects[:-1])
        assert subjects[-1] == (f"CORRECTION: {RIGHT}" if saw_wrong_text else RIGHT)


async def test_a_correction_that_was_corrected_before_it_went_out_leaves_nobody_with_the_wrong_text(
    database: db.Database,
) -> None:
    async with a_sink() as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=3)
        async with room.sender() as sender:
            await finish(room, sender, await publish(room, WRONG))
            await room.follow("dam", "late@example.org")
            await publish(room, "The hospital is half open", kind=Kind.CORRECTION, corrects_seq=1)
            report = await finish(room, sender, await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=2))

    assert report.states == {State.ACCEPTED: 3}
    assert [[mail.subject for mail in got] for got in to_each(sink).values()] == [[WRONG, f"CORRECTION: {RIGHT}"]] * 3


async def test_nobody_is_sent_what_was_corrected_by_resuming_or_trying_again(database: db.Database) -> None:
    room = room_with(database, relay_at(1))
    await room.story(followers=2)
    first = await publish(room, WRONG)
    await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1)
    blast = first.blast_ids[0]

    for forbidden in (
        steering.pause(database, blast, by="anna"),
        steering.resume(database, room.bell, blast, by="anna"),
        steering.cancel(database, blast, by="anna"),
        steering.retry(database, room.bell, blast, by="anna"),
    ):
        with pytest.raises(Conflict):
            await forbidden
    assert (await room.report(first)).state is BlastState.SUPERSEDED


async def test_readers_of_a_batch_whose_worker_died_are_in_doubt(database: db.Database) -> None:
    room = room_with(database, relay_at(1))
    await room.story(followers=4)
    first = await publish(room, WRONG)
    await room.cut()
    await room.run("UPDATE batches SET attempts = 1")
    await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1)
    await superseding.settle(database)

    assert (await room.report(first)).states == {State.IN_DOUBT: 4}


async def test_readers_whom_a_worker_was_trying_again_when_it_died_are_in_doubt(database: db.Database) -> None:
    """One who only waited to be tried again was certainly not reached."""
    room = room_with(database, relay_at(1))
    await room.story(followers=2)
    first = await publish(room, WRONG)
    await room.cut()
    await room.run(
        "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state)"
        " SELECT b.blast_id, unnest(b.subscriber_ids), now(), 'deferred' FROM batches b"
    )
    await room.run("UPDATE batches SET state = 'done'")
    await room.run("UPDATE deliveries SET next_at = now() WHERE subscriber_id = (SELECT min(id) FROM subscribers)")
    await upkeep.tick(database)
    await room.run("UPDATE deliveries SET next_at = now() WHERE subscriber_id = (SELECT max(id) FROM subscribers)")
    await room.run("UPDATE batches SET attempts = 1 WHERE retry")
    await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1)
    await superseding.settle(database)

    assert (await room.report(first)).states == {State.IN_DOUBT: 1, State.SUPERSEDED: 1}


async def test_who_never_saw_the_wrong_text_gets_no_correction_by_being_tried_again_or_by_a_crash(
    database: db.Database,
) -> None:
    refused: list[str] = []

    def refuse_once(step: str, argument: str, session: Session) -> str | None:
        if step == "RCPT" and argument not in refused:
            refused.append(argument)
            return "451 4.7.1 later"
        return None

    async with a_sink(refuse_once) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=6)
        await publish(room, WRONG)
        correction = await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1)
        await superseding.settle(database)
        await room.cut()
        await room.run("UPDATE batches SET attempts = 3")
        await upkeep.tick(database)
        halves = await room.run("SELECT plain FROM batches WHERE cardinality(subscriber_ids) = 3")
        await room.run("UPDATE batches SET attempts = 0")
        async with room.sender() as sender:
            done = await finish_now(room, sender, correction)

    assert [each["plain"] for each in halves] == [True, True]
    assert len(refused) == 6
    assert done.states == {State.ACCEPTED: 6}
    assert [mail.subject for mail in mails(sink)] == [RIGHT] * 6


async def test_who_was_in_doubt_before_they_were_refused_for_good_may_have_the_wrong_text(
    database: db.Database,
) -> None:
    async with a_sink() as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=3)
        async with room.sender() as sender:
            await finish(room, sender, await publish(room, WRONG))
            await room.run("UPDATE deliveries SET state = 'failed', in_doubt_count = mod(subscriber_id, 2)")
            done = await finish(room, sender, await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1))
        (doubtful,) = await room.run("SELECT count(*) AS count FROM subscribers WHERE mod(id, 2) = 1")

    assert done.states == {State.ACCEPTED: doubtful["count"]}
    assert 0 < doubtful["count"] < 3


async def test_who_is_refused_now_may_have_been_reached_by_the_worker_that_died(database: db.Database) -> None:
    def refuse(step: str, argument: str, session: Session) -> str | None:
        return "451 4.7.1 later" if step == "RCPT" else None

    async with a_sink(refuse) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=3)
        first = await publish(room, WRONG)
        await room.cut()
        await room.run("UPDATE batches SET attempts = 1")
        async with room.sender() as sender:
            await room.settle(sender, first)
        await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1)
        await superseding.settle(database)

    assert (await room.report(first)).states == {State.IN_DOUBT: 3}


async def test_whoever_had_it_on_its_way_when_a_blast_was_cancelled_is_sent_the_correction(
    database: db.Database,
) -> None:
    """A cancelled blast is not over while a message of it may be on its way; who then got it is known later."""
    room = room_with(database, relay_at(1))
    await room.story(followers=4)
    first = await publish(room, WRONG)
    await room.cut()
    await room.run("UPDATE batches SET subscriber_ids = ARRAY(SELECT id FROM subscribers ORDER BY id LIMIT 2)")
    await room.run(
        "INSERT INTO batches (blast_id, urgency, subscriber_ids)"
        " SELECT blast_id, urgency, ARRAY(SELECT id FROM subscribers ORDER BY id OFFSET 2) FROM batches"
    )
    await room.run(
        "UPDATE batches SET state = 'leased', attempts = 1, lease_token = 1, worker = 1,"
        " lease_until = clock_timestamp() + interval '1 minute' WHERE id = 1"
    )
    await steering.cancel(database, first.blast_ids[0], by="anna")
    correction = await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1)

    assert await room.cut() == 0, "a worker may have sent some of it"
    await upkeep.tick(database)  # the worker is gone: nobody knows whom it reached
    await room.cut()

    assert (await room.report(first)).states == {State.IN_DOUBT: 2}
    assert (await room.report(correction)).candidates == 2


async def test_who_may_have_a_mail_that_caught_them_up_is_sent_the_correction(database: db.Database) -> None:
    room = room_with(database, relay_at(1))
    await room.story()
    await publish(room, WRONG)
    await room.cut()
    await catch_up(room, 4)
    doubtful, sent, waiting, going = await room.run("SELECT id FROM notices ORDER BY id")
    await room.run("UPDATE notices SET state = 'in_doubt', in_doubt_count = 1 WHERE id = %s", doubtful["id"])
    await room.run("UPDATE notices SET state = 'accepted', next_at = NULL WHERE id = %s", sent["id"])
    await room.run(
        "UPDATE notices SET lease_token = 1, worker = 1, lease_until = clock_timestamp() + interval '1 minute'"
        " WHERE id = %s",
        going["id"],
    )
    correction = await publish(room, RIGHT, kind=Kind.CORRECTION, corrects_seq=1)

    assert await room.cut() == 0, "a worker may be sending one of them"
    # It was sent; and of the others it is known by now that they must not be.
    await room.run(
        "UPDATE notices SET state = 'accepted', next_at = NULL, lease_token = NULL, worker = NULL, lease_until = NULL"
        " WHERE id = %s",
        going["id"],
    )
    await room.run("UPDATE notices SET state = 'withdrawn', next_at = NULL WHERE id = ANY (%s)",
                   [doubtful["id"], waiting["id"]])  # fmt: skip
    await room.cut()

    assert (await room.report(correction)).candidates == 3


async def test_what_takes_the_place_of_a_major_update_is_not_routine(database: db.Database) -> None:
    """Whoever wants only what is major, and was not reached, would get neither."""
    room = room_with(database, relay_at(1))
    await room.story(followers=2, cadence="major")
    await publish(room, WRONG)
    routine = Draft(headline=NEXT, body=NEXT, importance=Importance.ROUTINE, replaces=True)

    with pytest.raises(Invalid) as caught:
        await publishing.publish(database, room.bell, "dam", routine, by="anna")
    assert (caught.value.field, "major" in caught.value.remedy) == ("importance", True)

    await publish(room, NEXT, replaces=True)
    await room.run("UPDATE blasts SET state = 'done', candidates = 0, done_at = now()")
    sent = await publishing.publish(database, room.bell, "dam", routine, by="anna")
    assert sent.update.seq == 3, "nothing is going out any more whose place it could take"


async def test_whoever_gets_a_later_update_does_not_read_in_it_what_was_taken_back_meanwhile(
    database: db.Database,
) -> None:
    async with a_sink() as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=1)
        await publish(room, WRONG)
        second = await publish(room, NEXT, replaces=True)
        async with room.sender() as sender:
            await finish(room, sender, second)
            await withdrawing.withdraw(database, room.bell, "dam", 1, by="anna", reason="The caller was mistaken")
            await room.run("INSERT INTO subscribers (email, address_hash) VALUES ('later@example.org', 'x')")
            await room.run(
                "INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at) SELECT 1, max(id),"
                " (SELECT min(confirmed_at) FROM subscriptions) FROM subscribers"
            )
            await room.run(  # the blast has another batch, whose turn comes now
                "INSERT INTO batches (blast_id, urgency, subscriber_ids)"
                " SELECT blast_id, urgency, ARRAY[(SELECT max(id) FROM subscribers)] FROM batches"
            )
            await room.run("UPDATE blasts SET state = 'sending', done_at = NULL, candidates = 2 WHERE id = 2")
            await finish(room, sender, second)

    got = to_each(sink)
    assert WRONG in got["reader1@example.org"][0].text
    (later,) = got["later@example.org"]
    assert (later.subject, WRONG in later.text, "SINCE YOUR LAST ALERT" in later.text) == (NEXT, False, False)
