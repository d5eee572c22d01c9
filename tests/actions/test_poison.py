"""Letters that cannot be made: their readers are given up after three tries, with the reason; all others get theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dispatcher import db, upkeep
from dispatcher.channels.email.letter import Letter
from dispatcher.letters import MOST_FAILURES, Content, LetterFailed, Letters, forget_failures
from dispatcher.model import BlastState, DeliveryState, Published, Urgency
from dispatcher.rendering.press import Press, PressUnavailable
from dispatcher.sending import Sender
from tests.rendering.test_press import Template, copy_program
from tests.support import hostile
from tests.support.fleet import a_fleet
from tests.support.newsroom import NO_BROKER, Newsroom, newsroom
from tests.support.sink import a_sink

TOKYO = hostile.POISONED_ZONE
CRASHED = f"the letter for en/{TOKYO} cannot be made: it crashed (signal 11)"


@pytest.fixture
async def press() -> AsyncIterator[Press]:
    """A press that crashes on every letter for Tokyo."""
    made = Press(hostile.NAME)
    yield made
    await made.close()


async def hurry(room: Newsroom) -> None:
    """What waits for its next try need not wait for the clock."""
    await room.run("UPDATE letter_failures SET failed_at = failed_at - interval '1 minute'")
    await room.run("UPDATE batches SET not_before = '-infinity' WHERE state = 'waiting'")


async def failures(room: Newsroom) -> list[db.Row]:
    return await room.run("SELECT variant, failures, reason FROM letter_failures")


class TestLetters:
    """One variant of one blast, as several workers try to make it."""

    @pytest.fixture
    async def published(self, database: db.Database) -> Published:
        room = newsroom(database)
        await room.story()
        return await room.publish()

    async def attempt(self, letters: Letters, published: Published, timezone: str = TOKYO) -> Letter:
        (blast,) = published.blast_ids
        content: Content = await letters.content(blast)
        return await letters.letter(blast, content, "en", timezone)

    async def test_a_failure_is_kept_with_its_reason_and_tried_by_nobody_for_a_while(
        self, database: db.Database, published: Published, press: Press
    ) -> None:
        room = newsroom(database)
        first, second = (Letters(room.settings, database, press) for _ in range(2))
        with pytest.raises(LetterFailed) as caught:
            await self.attempt(first, published)
        await press.close()  # whoever asks it now does not get the old reason
        for letters in (first, second):
            with pytest.raises(LetterFailed, match="crashed"):
                await self.attempt(letters, published)

        assert (caught.value.reason, caught.value.final) == (CRASHED, False)
        assert await failures(room) == [{"variant": f"en/{TOKYO}", "failures": 1, "reason": "it crashed (signal 11)"}]

    async def test_workers_that_fail_at_the_same_time_count_as_one(
        self, database: db.Database, published: Published, press: Press
    ) -> None:
        room = newsroom(database)
        workers = [Letters(room.settings, database, press) for _ in range(4)]
        ends = await asyncio.gather(*(self.attempt(each, published) for each in workers), return_exceptions=True)

        assert all(isinstance(each, LetterFailed) and not each.final for each in ends)
        assert [row["failures"] for row in await failures(room)] == [1]

    async def test_after_three_failures_nobody_tries_until_they_are_forgotten(
        self, database: db.Database, published: Published, press: Press
    ) -> None:
        room = newsroom(database)
        letters = Letters(room.settings, database, press)
        finals = []
        for _ in range(MOST_FAILURES + 1):
            with pytest.raises(LetterFailed) as caught:
                await self.attempt(letters, published)
            finals.append(caught.value.final)
            await hurry(room)
        mended = Letters(room.settings, database)
        with pytest.raises(LetterFailed, match="crashed"):
            await self.attempt(mended, published)
        async with database.transaction() as tx:
            await forget_failures(tx, published.blast_ids[0])
        made = await self.attempt(mended, published)

        assert finals == [False, False, True, True]
        assert await failures(room) == []
        assert made == await self.attempt(letters, published)

    async def test_a_letter_that_is_made_at_last_is_forgiven(
        self, database: db.Database, published: Published, press: Press
    ) -> None:
        room = newsroom(database)
        with pytest.raises(LetterFailed):
            await self.attempt(Letters(room.settings, database, press), published)
        await hurry(room)
        await self.attempt(Letters(room.settings, database), published)

        assert await failures(room) == []
        assert [row["variant"] for row in await room.run("SELECT variant FROM letters")] == [f"en/{TOKYO}"]

    async def test_without_a_press_a_letter_fails_with_the_same_words(
        self, database: db.Database, published: Published
    ) -> None:
        letters = Letters(newsroom(database).settings, database)
        content = await letters.content(published.blast_ids[0])
        broken: Any = None
        with pytest.raises(LetterFailed, match="cannot be made: AttributeError: 'NoneType'"):
            await letters.letter(
                published.blast_ids[0],
                Content(content.story_id, content.update, broken, content.expires_at),
                "en",
                "UTC",
            )

    async def test_a_press_that_cannot_be_had_is_no_failure_of_the_letter(
        self, database: db.Database, published: Published, press: Press
    ) -> None:
        await press.close()
        with pytest.raises(PressUnavailable):
            await self.attempt(Letters(newsroom(database).settings, database, press), published, "UTC")

        assert await failures(newsroom(database)) == []


@pytest.mark.chaos
async def test_poisoned_readers_wait_with_the_reason_and_fail_with_it_while_all_others_get_their_mail(
    database: db.Database, press: Press
) -> None:
    """R27. A letter that crashes whatever makes it, for one reader in each of two batches of three."""
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=1200)
        await room.run("UPDATE subscribers SET timezone = %s WHERE id IN (7, 600)", TOKYO)
        published = await room.publish()
        sender = Sender(room.settings, database, urgency=max(Urgency), press=press)
        sender.start()
        try:
            async with asyncio.timeout(30):
                while (waits := await room.report(published)).waiting != 2 or not waits.holding:
                    await room.cut()
                    sender.nudge()
                    await asyncio.sleep(0.02)
                while (done := await room.report(published)).state is not BlastState.DONE:
                    await hurry(room)
                    await upkeep.tick(database)
                    sender.nudge()
                    await asyncio.sleep(0.05)
        finally:
            await sender.close(5)

    assert waits.states == {DeliveryState.ACCEPTED: 1198}
    assert waits.holding == CRASHED
    assert done.states == {DeliveryState.ACCEPTED: 1198, DeliveryState.FAILED: 2}
    assert dict(done.reasons) == {CRASHED: 2}
    assert set(sink.copies().values()) == {1}


@pytest.mark.chaos
async def test_a_template_that_explodes_costs_no_worker_and_nobody_else_their_mail(
    database: db.Database, database_url: str, tmp_path: Path
) -> None:
    """R27 and S14 with a real worker, whose template eats all memory for readers in Tokyo."""
    copy_program(tmp_path)
    template = Template(tmp_path / "templates/email/update/body.txt")
    template.write("{% if 'JST' in update.time %}{{ 'a'.ljust(3000000000) }}{% endif %}" + template.whole)
    async with a_sink() as sink:
        room = newsroom(database, sink.port)
        await room.story(followers=1200)
        await room.run("UPDATE subscribers SET timezone = %s WHERE id = 600", TOKYO)
        with a_fleet(database_url, NO_BROKER, sink, tmp_path, workers=0, gently=False) as fleet:
            fleet.root = tmp_path
            worker = fleet.start_worker()
            await fleet.up(room)
            family = {each.pid for each in worker.children}
            published = await room.publish()
            async with asyncio.timeout(90):
                while (report := await room.report(published)).state is not BlastState.DONE:
                    await hurry(room)
                    await asyncio.sleep(0.2)
            assert {each.pid for each in worker.children} == family

    assert report.states == {DeliveryState.ACCEPTED: 1199, DeliveryState.FAILED: 1}
    assert dict(report.reasons) == {
        f"the letter for en/{TOKYO} cannot be made: it needed more than 256 MB of memory": 1
    }
    assert set(sink.copies().values()) == {1}
