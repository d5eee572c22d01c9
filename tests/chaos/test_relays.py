"""Relays, domains and readers that change their mind while a blast runs: nobody is lost, and nobody gets two."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from dispatcher import db, subscribing
from dispatcher.addresses import address_hash, parse_address
from dispatcher.model import BlastReport, BlastState, DeliveryState, InDoubt, Published
from tests.chaos.conftest import Scale
from tests.support.fleet import hold_the_sums
from tests.support.newsroom import SECRET, Newsroom
from tests.support.relays import finish_now, hurry, relay_at, room_with, slow, until
from tests.support.sink import HANG_UP, SILENCE, Session, a_sink

pytestmark = pytest.mark.chaos

State = DeliveryState
Leave = Callable[[Newsroom, int, str], Awaitable[object]]


async def unfollow(room: Newsroom, reader: int, email: str) -> None:
    await subscribing.leave(room.database, 1, reader)


async def suppress(room: Newsroom, reader: int, email: str) -> None:
    hashed = address_hash(SECRET, parse_address(email))
    await room.run("INSERT INTO suppressions (address_hash, reason) VALUES (%s, 'complaint')", hashed)


async def erase(room: Newsroom, reader: int, email: str) -> None:
    await room.run("DELETE FROM subscribers WHERE id = %s", reader)


def balanced(report: BlastReport) -> bool:
    return report.candidates == report.waiting + sum(report.states.values())


@pytest.mark.parametrize("leave", [unfollow, suppress, erase])
async def test_who_leaves_while_a_blast_runs_gets_nothing_a_second_later(
    database: db.Database, scale: Scale, leave: Leave
) -> None:
    """R19. Readers leave one after the other, from everywhere in the audience, while the relay takes its time."""
    audience, leavers = scale.times(6000, 700), scale.times(150, 25)
    left: dict[str, float] = {}
    began: dict[str, float] = {}

    def dated(step: str, argument: str, session: Session) -> str | None:
        if step == "BODY":
            began[argument] = time.monotonic()
        return slow(0.02)(step, argument, session)

    async with a_sink(dated) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=audience)
        rows = await room.run("SELECT id, email FROM subscribers")
        random.Random(scale.seed).shuffle(rows)
        published = await room.publish()
        await room.cut()
        async with room.sender() as sender:
            sender.nudge()
            await until(lambda: len(began) >= 20)
            for row in [row for row in rows if row["email"] not in began][:leavers]:
                await leave(room, row["id"], row["email"])
                left[row["email"]] = time.monotonic()
                await asyncio.sleep(0.02)
            report = await room.finish(sender, published, seconds=scale.seconds)

    late = {email: began[email] - left[email] for email in left if email in began and began[email] > left[email] + 1}
    gone = {State.WITHDRAWN, State.SUPPRESSED}
    assert not late
    assert len(left.keys() - began.keys()) > leavers // 2
    assert sum(count for state, count in report.states.items() if state in gone) == len(left.keys() - began.keys())
    assert balanced(report)
    assert set(sink.copies().values()) == {1}


async def test_whatever_a_relay_puts_off_at_whatever_step_arrives_later_once(
    database: db.Database, scale: Scale
) -> None:
    """R20. 421, 450, 451 and 452 at MAIL, RCPT, DATA and after the dot; the next try comes when it should."""
    audience = scale.times(2000, 480)
    codes = ("421 4.7.0 later", "450 4.2.1 busy", "451 4.3.0 local trouble", "452 4.2.2 full")
    cases = [(step, code) for step in ("RCPT", "DATA", "BODY") for code in codes]
    plan = {f"reader{n}@example.org": cases[n // 4 % len(cases)] for n in range(0, audience, 4)}
    refused: list[str] = []
    mails = 0

    def script(step: str, argument: str, session: Session) -> str | None:
        nonlocal mails
        if step == "MAIL":
            mails += 1
            return codes[mails // 40 % 4] if mails % 40 == 0 else None
        who = argument if step == "RCPT" else session._recipient
        if plan.get(who, ("", ""))[0] != step or who in refused:
            return None
        refused.append(who)
        return plan[who][1]

    async with a_sink(script) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=audience)
        published = await room.publish()
        async with room.sender() as sender:
            await room.settle(sender, published, seconds=scale.seconds)
            rows = await room.run(
                "SELECT extract(epoch FROM next_at - recorded_at)::float8 AS pause, attempts FROM deliveries "
                "WHERE state = 'deferred'"
            )
            await hold_the_sums(room, published)
            report = await finish_now(room, sender, published, seconds=scale.seconds)

    assert len(rows) >= 0.9 * len(plan)
    assert {row["attempts"] for row in rows} == {1}
    assert all(45 <= row["pause"] <= 75 for row in rows)
    assert max(row["pause"] for row in rows) - min(row["pause"] for row in rows) > 15
    assert report.states == {State.ACCEPTED: audience}
    assert set(sink.copies().values()) == {1}


async def test_an_address_that_is_none_is_tried_once_and_never_again(database: db.Database) -> None:
    """R21. And it is nobody else's trouble."""
    bad = {"reader7@example.org", "reader8@example.org"}
    asked: Counter[str] = Counter()

    def script(step: str, argument: str, session: Session) -> str | None:
        asked[argument] += step == "RCPT"
        return "550 5.1.1 No such user" if step == "RCPT" and argument in bad else None

    async with a_sink(script) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=200)
        async with room.sender() as sender:
            first = await finish_now(room, sender, await room.publish())
            second = await finish_now(room, sender, await room.publish())

    assert first.states == {State.ACCEPTED: 198, State.FAILED: 2}
    assert second.states == {State.ACCEPTED: 198, State.SUPPRESSED: 2}
    assert {asked[who] for who in bad} == {1}


@pytest.mark.parametrize("in_doubt", [InDoubt.RESEND, InDoubt.HOLD])
async def test_who_is_in_doubt_is_written_to_again_or_held_for_a_person(
    database: db.Database, scale: Scale, in_doubt: InDoubt
) -> None:
    """R22. The relay drops the connection after the final dot of one message in a hundred."""
    audience = scale.times(scale.readers, 800)
    victims = {f"reader{n}@example.org" for n in random.Random(scale.seed).sample(range(1, audience), audience // 100)}
    dropped: list[str] = []

    def drop(step: str, argument: str, session: Session) -> str | None:
        if step == "BODY" and argument in victims and argument not in dropped:
            dropped.append(argument)
            return HANG_UP
        return None

    async with a_sink(drop) as sink:
        room = room_with(database, relay_at(sink.port), in_doubt=in_doubt)
        await room.story(followers=audience)
        published = await room.publish()
        async with room.sender() as sender:
            first = await room.settle(sender, published, seconds=scale.seconds)
            listed = await room.run(
                "SELECT email FROM deliveries d JOIN subscribers s ON s.id = d.subscriber_id WHERE d.state = 'in_doubt'"
            )
            last = await finish_now(room, sender, published, seconds=scale.seconds)

    copies = sink.copies()
    assert len(dropped) == len(victims)
    assert {row["email"] for row in listed} == victims
    assert first.states == {State.ACCEPTED: audience - len(victims), State.IN_DOUBT: len(victims)}
    assert len(copies) == audience
    if in_doubt is InDoubt.HOLD:
        assert last.states == first.states
        assert set(copies.values()) == {1}
    else:
        assert last.states == {State.ACCEPTED: audience}
        assert {who for who, count in copies.items() if count > 1} == victims
        assert copies.total() == audience + len(victims)
        assert all(len({each.message_id for each in sink.taken if each.recipient == who}) == 1 for who in victims)


async def test_an_answer_that_comes_late_is_heard_and_nobody_has_waited_for_it(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R23. The batch is done long before; the reader is in doubt, and then is not, and gets one copy."""
    hurry(monkeypatch)
    silent: list[Session] = []
    patient = {f"reader{n}@example.org" for n in (3, 30, 99)}

    def late(step: str, argument: str, session: Session) -> str | None:
        if step == "BODY" and argument in patient:
            silent.append(session)
            return SILENCE
        return None

    async with a_sink(late) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=300)
        published = await room.publish()
        async with room.sender() as sender:
            meanwhile = await room.settle(sender, published)
            batches = await room.run("SELECT DISTINCT state FROM batches")
            due = await room.run(
                "SELECT extract(epoch FROM next_at - recorded_at)::float8 AS pause FROM deliveries "
                "WHERE state = 'in_doubt'"
            )
            for session in silent:
                session.speak("250 2.0.0 Ok, at last")
            report = await room.finish(sender, published)
            await until(lambda: noted(room))

    assert meanwhile.states == {State.ACCEPTED: 297, State.IN_DOUBT: 3}
    assert {row["state"] for row in batches} == {"done"}
    assert all(row["pause"] > 600 for row in due)  # when nobody can be waiting for the first copy's answer any more
    assert report.states == {State.ACCEPTED: 300}
    assert report.state is BlastState.DONE
    assert set(sink.copies().values()) == {1}


async def noted(room: Newsroom) -> bool:
    """Whether everybody's newest update is the first."""
    rows = await room.run("SELECT count(*) AS n FROM subscriptions WHERE last_seq <> 1")
    return bool(rows[0]["n"] == 0)


@pytest.mark.parametrize("how", ["says nothing", "greets at a byte a second", "answers at a byte a second"])
async def test_a_slow_relay_does_not_slow_another(database: db.Database, scale: Scale, how: str) -> None:
    """R24. With the time-outs of earnest: what lies on the slow one's lanes waits, and nothing else does."""

    def crawl(step: str, argument: str, session: Session) -> str | None:
        if how == "says nothing":
            return SILENCE
        if step != ("BANNER" if how.startswith("greets") else "MAIL"):
            return None
        words = list("250 2.0.0 Ok\r\n")

        def one_more() -> None:
            if session._transport is not None and words:
                session._transport.write(words.pop(0).encode())
                asyncio.get_running_loop().call_later(1, one_more)

        one_more()
        return SILENCE

    audience = scale.times(scale.readers, 1500)
    async with a_sink(slow(0.002)) as well, a_sink(crawl) as ill:
        room = room_with(database, relay_at(well.port))
        await room.story(followers=audience)
        async with room.sender() as sender:
            began = time.monotonic()
            await room.settle(sender, await room.publish(), seconds=scale.seconds)
            alone = time.monotonic() - began
        room = room_with(database, relay_at(ill.port), relay_at(well.port))
        published = await room.publish()
        async with room.sender() as sender:
            began = time.monotonic()
            await room.cut()
            sender.nudge()
            await until(lambda: len(well.taken) >= 2 * audience - 8, scale.seconds)
            beside = time.monotonic() - began
            for session in list(ill.sessions):
                session.hang_up()
            ill.script = lambda *_: None
            report = await finish_now(room, sender, published, seconds=scale.seconds)

    assert beside < alone * 1.5 + 1
    assert report.states == {State.ACCEPTED: audience}
    assert balanced(report)


async def waits_for_relay(room: Newsroom, published: Published) -> bool:
    return "is not available" in (await room.report(published)).holding


async def test_a_relay_that_is_dead_costs_probes_and_no_attempts(
    database: db.Database, monkeypatch: pytest.MonkeyPatch, scale: Scale
) -> None:
    """R25. Two workers: five failures each, then one probe at a time for both; afterwards all goes on by itself."""
    every, dead_for = (15.0, 600.0) if scale.long else (0.5, 3.0)
    hurry(monkeypatch, probe_every=every)
    async with a_sink(lambda step, *_: HANG_UP if step == "BANNER" else None) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=1000)
        published = await room.publish()
        async with room.sender() as one, room.sender() as two:
            await room.cut()
            async with asyncio.timeout(20):
                while any(each._channel.reports()[0].circuit != "open" for each in (one, two)):
                    one.nudge()
                    two.nudge()
                    await asyncio.sleep(0.02)
            tried = sink.connections
            await until(lambda: waits_for_relay(room, published))
            next_one = await room.publish()  # nobody claims anything now, and it says all the same why it waits
            await room.cut()
            await until(lambda: waits_for_relay(room, next_one))
            died = time.monotonic()
            await asyncio.sleep(dead_for)
            probes = sink.connections - tried
            dead = time.monotonic() - died
            spent = await room.run(
                "SELECT (SELECT count(*) FROM deliveries) AS rows, "
                "(SELECT max(attempts) FROM batches WHERE state = 'waiting') AS claims"  # a trial may be on its way
            )
            sink.script = slow(0.005)
            back = time.monotonic()
            await room.finish(one, next_one, seconds=every + 60)
            report = await room.finish(one, published, seconds=every + 60)
            took = time.monotonic() - back
            circuits = [each._channel.reports()[0].circuit for each in (one, two)]

    print(f"{tried} connections until both knew, {probes} probes in {dead:.0f} s, all done {took:.1f} s after")
    assert tried <= 2 * 6  # five in a row, and one that was on its way
    assert 1 <= probes <= dead / every + 1
    assert dict(spent[0]) == {"rows": 0, "claims": 0}
    assert report.states == {State.ACCEPTED: 1000}
    assert circuits == ["closed", "closed"]
    assert took < every + 20
    assert set(sink.copies().values()) == {2}  # one of each update


@pytest.mark.parametrize(("step", "code"), [("RCPT", 421), ("BODY", 451)])
async def test_a_storm_at_one_domain_is_that_domains(database: db.Database, scale: Scale, step: str, code: int) -> None:
    """R26. Everybody there is put off with 4.7.x: soon five at most are on their way, and the others go on."""
    others, there = scale.times(4000, 800), scale.times(1000, 200)
    on_the_way: set[str] = set()
    storm: list[int] = []

    def script(at: str, argument: str, session: Session) -> str | None:
        who = argument if at == "RCPT" else session._recipient
        if not who.endswith("@storm.example"):
            return None
        if at == "RCPT":
            on_the_way.add(who)
        if at != step:
            return None
        storm.append(len(on_the_way))
        asyncio.get_running_loop().call_later(0.02, refuse, session, who)
        return SILENCE

    def refuse(session: Session, who: str) -> None:
        on_the_way.discard(who)
        session.speak(f"{code} 4.7.28 you send too much")

    async with a_sink(script) as sink:
        room = room_with(database, relay_at(sink.port, lanes=10))
        await room.story()
        mixed = [f"r{n}@{'storm' if n % 5 == 0 else f'd{n % 7}'}.example" for n in range(others + there)]
        await room.follow("dam", *mixed)
        published = await room.publish()
        async with room.sender() as sender:
            report = await room.settle(sender, published, seconds=scale.seconds)
            await hold_the_sums(room, published)
            sink.script = lambda *_: None
            last = await finish_now(room, sender, published, seconds=scale.seconds)

    assert report.states == {State.ACCEPTED: others, State.DEFERRED: there}
    assert max(storm[25:]) <= 5  # the first were on their way already
    assert len(storm) == there  # one try each
    assert last.states == {State.ACCEPTED: others + there}
    assert set(Counter(each.recipient for each in sink.accepted).values()) == {1}


async def test_a_reader_whose_mail_cannot_be_made_fails_alone(database: db.Database) -> None:
    """R28. With a reason, without a try at the relay; the rest of the batch is sent."""
    async with a_sink() as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=500)
        await room.run("UPDATE subscribers SET name = E'two\\nlines' WHERE id = 250")
        published = await room.publish()
        async with room.sender() as sender:
            report = await room.finish(sender, published)

    assert report.states == {State.ACCEPTED: 499, State.FAILED: 1}
    assert "could not be made for this reader" in report.reasons[0][0]
    assert "reader250@example.org" not in sink.copies()
    assert set(sink.copies().values()) == {1}


async def test_an_update_that_expires_is_not_sent_and_says_so(database: db.Database) -> None:
    """R36. Some were never reached, some were put off: their next try is set for the end, and it does not come."""
    refused: list[str] = []

    def later(step: str, argument: str, session: Session) -> str | None:
        if step == "RCPT":
            refused.append(argument)
            return "452 4.2.2 full"
        return None

    async with a_sink(later) as sink:
        room = room_with(database, relay_at(sink.port))
        await room.story(followers=10)
        published = await room.publish()
        await room.run("UPDATE updates SET expires_at = clock_timestamp() + interval '3 s'")
        async with room.sender() as sender:
            await room.settle(sender, published)
            (next_tries,) = await room.run(
                "SELECT max(next_at) - max(expires_at) < interval '1 s' AS in_time FROM deliveries, updates"
            )
            sink.script = lambda *_: None
            report = await room.finish(sender, published, seconds=20)

    assert next_tries["in_time"]
    assert len(refused) == 10
    assert not sink.taken
    assert report.states == {State.EXPIRED: 10}
    assert "expired" in report.reasons[0][0]
