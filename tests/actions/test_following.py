"""Following: the answer goes to the address alone, within limits; one button confirms; a browser follows by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher import db, following, stories, subscribing
from dispatcher.addresses import address_hash, parse_address
from dispatcher.errors import Invalid, NotFound
from dispatcher.following import BadConfirmLink, StoryEnded, answering
from dispatcher.model import Cadence
from dispatcher.tokens import ConfirmTokens, confirm_token_hash
from tests.support.newsroom import SECRET, Newsroom, newsroom

ADA = "ada@example.org"


@dataclass
class Forms:
    """Everything that a reader can do to follow, and what came of it."""

    database: db.Database
    room: Newsroom

    async def ask(self, slug: str = "dam", email: str = ADA, **wishes: Any) -> None:
        values: dict[str, Any] = {"cadence": Cadence.EVERY, "locale": "en", "timezone": "Europe/Kyiv", **wishes}
        await following.ask_to_follow(self.database, SECRET, slug, email=email, **values)

    async def ask_for_link(self, email: str = ADA) -> None:
        await following.ask_for_link(self.database, SECRET, email=email, locale="en", timezone="UTC")

    async def answer(self) -> int:
        return await following.answer(self.database, SECRET)

    async def notices(self, email: str | None = None) -> list[str]:
        rows = await self.room.run(
            "SELECT kind FROM notices WHERE email = %s OR %s::text IS NULL ORDER BY id", email, email
        )
        return [row["kind"] for row in rows]

    async def token(self, email: str = ADA) -> str:
        """The token of the newest confirmation, made as a worker makes it for the mail."""
        [row] = await self.room.run("SELECT * FROM confirmations WHERE email = %s ORDER BY id DESC LIMIT 1", email)
        return ConfirmTokens(SECRET).make(row["id"], row["address_hash"], row["story_id"])

    async def confirmed(self, slug: str = "dam", email: str = ADA, **wishes: Any) -> int:
        await self.ask(slug, email, **wishes)
        await self.answer()
        return (await following.confirm(self.database, SECRET, await self.token(email))).subscriber_id

    async def follows(self, subscriber_id: int) -> dict[str, tuple[str, str]]:
        rows = await self.room.run(
            "SELECT t.slug, f.cadence, f.channels::text AS channels FROM subscriptions f "
            "JOIN stories t ON t.id = f.story_id "
            "WHERE subscriber_id = %s AND confirmed_at IS NOT NULL AND ended_at IS NULL ORDER BY t.id",
            subscriber_id,
        )
        return {row["slug"]: (row["cadence"], row["channels"]) for row in rows}

    async def count(self, table: str) -> int:
        [row] = await self.room.run(f"SELECT count(*) AS count FROM {table}")
        return int(row["count"])

    async def later(self, interval: str) -> None:
        """Let time go by for everything that was owed, asked and confirmed."""
        for table, columns in (
            ("confirmations", ("created_at", "expires_at")),
            ("notices", ("created_at",)),
            ("subscriptions", ("confirmed_at",)),
        ):
            changes = ", ".join(f"{column} = {column} - %s::interval" for column in columns)
            await self.room.run(f"UPDATE {table} SET {changes}", *[interval] * len(columns))


@pytest.fixture
async def forms(database: db.Database) -> Forms:
    room = newsroom(database)
    await room.story()
    await stories.create(database, "strike", headline="School strike")
    return Forms(database, room)


async def test_a_stranger_is_asked_by_mail_and_follows_once_the_button_is_pressed(forms: Forms) -> None:
    await forms.ask(cadence=Cadence.MAJOR)
    assert await forms.answer() == 1
    assert await forms.answer() == 0
    assert (await forms.notices(), await forms.count("subscribers"), await forms.count("asks")) == (["confirm"], 0, 0)

    shown = await following.pending(forms.database, await forms.token())
    done = await following.confirm(forms.database, SECRET, await forms.token())

    assert (shown.story.slug, shown.cadence, shown.email_masked) == ("dam", Cadence.MAJOR, "a…@example.org")
    assert await forms.follows(done.subscriber_id) == {"dam": ("major", "{email}")}
    assert (await subscribing.reader(forms.database, done.subscriber_id)).timezone == "Europe/Kyiv"
    assert (await forms.room.run("SELECT email FROM confirmations")) == [{"email": None}]


async def test_looking_at_what_would_be_confirmed_changes_nothing(forms: Forms) -> None:
    await forms.ask()
    await forms.answer()
    before = await forms.room.run("SELECT * FROM confirmations")
    for _ in range(3):
        await following.pending(forms.database, await forms.token())

    assert await forms.room.run("SELECT * FROM confirmations") == before
    assert await forms.count("subscribers") == 0


async def test_the_database_does_not_hold_what_confirms(forms: Forms) -> None:
    await forms.ask()
    await forms.answer()
    token = await forms.token()
    [row] = await forms.room.run("SELECT confirmations::text AS all FROM confirmations")

    assert len(token) == 32
    assert token not in row["all"]
    assert confirm_token_hash(token).hex() in row["all"]


@pytest.mark.parametrize("wish", [True, False])
async def test_a_reader_is_brought_up_to_date_if_they_wish(forms: Forms, wish: bool) -> None:
    await forms.room.publish()
    newest = await forms.room.publish()
    await forms.confirmed(catch_up=wish)

    assert await forms.notices() == ["confirm", "catch_up"] if wish else ["confirm"]
    rows = await forms.room.run("SELECT update_id FROM notices WHERE kind = 'catch_up'")
    assert rows == ([{"update_id": newest.update.id}] if wish else [])


async def test_nobody_is_brought_up_to_a_date_that_has_passed(forms: Forms) -> None:
    await forms.room.publish()
    await forms.room.run("UPDATE updates SET expires_at = now() - interval '1 minute'")
    await forms.confirmed(catch_up=True)

    assert await forms.notices() == ["confirm"]


async def test_a_reader_who_has_confirmed_before_follows_one_more_story_at_once(forms: Forms) -> None:
    reader = await forms.confirmed()
    await forms.room.publish("strike")
    await forms.ask("strike", "Ada@Example.org", cadence=Cadence.MAJOR, catch_up=True, locale="uk")
    await forms.answer()

    assert await forms.follows(reader) == {"dam": ("every", "{email}"), "strike": ("major", "{email}")}
    assert await forms.notices() == ["confirm", "following", "catch_up"]
    told = await forms.room.run("SELECT DISTINCT email, locale, subscriber_id FROM notices WHERE kind <> 'confirm'")
    assert told == [{"email": ADA, "locale": "en", "subscriber_id": reader}]


async def test_who_follows_already_is_told_so_and_their_wishes_stay(forms: Forms) -> None:
    reader = await forms.confirmed(cadence=Cadence.MAJOR)
    await forms.later("2 hours")
    await forms.ask(cadence=Cadence.EVERY)
    await forms.answer()

    assert await forms.notices() == ["confirm", "already"]
    assert await forms.follows(reader) == {"dam": ("major", "{email}")}


@pytest.mark.parametrize("together", [True, False])
async def test_a_form_that_is_posted_twice_sends_one_mail(forms: Forms, together: bool) -> None:
    reader = await forms.confirmed()
    for email, slug in ((ADA, "strike"), (ADA, "strike"), ("bob@example.org", "dam"), ("bob@example.org", "dam")):
        await forms.ask(slug, email)
        if not together:
            await forms.answer()
    await forms.answer()

    assert await forms.notices(ADA) == ["confirm", "following"]
    assert await forms.notices("bob@example.org") == ["confirm"]
    assert set(await forms.follows(reader)) == {"dam", "strike"}


async def test_who_left_is_asked_again_and_comes_back_by_confirming(forms: Forms) -> None:
    reader = await forms.confirmed()
    await forms.ask("strike")
    await forms.answer()
    [dam] = await forms.room.run("SELECT id FROM stories WHERE slug = 'dam'")
    await subscribing.leave(forms.database, dam["id"], reader)
    await forms.later("2 hours")
    await forms.ask(cadence=Cadence.MAJOR)
    await forms.answer()
    assert set(await forms.follows(reader)) == {"strike"}

    done = await following.confirm(forms.database, SECRET, await forms.token())

    assert done.subscriber_id == reader
    assert await forms.follows(reader) == {"dam": ("major", "{email}"), "strike": ("every", "{email}")}


async def test_who_confirmed_nothing_that_goes_on_is_asked_again(forms: Forms) -> None:
    reader = await forms.confirmed()
    await subscribing.leave(forms.database, subscribing.ALL_STORIES, reader)
    await forms.later("2 hours")
    await forms.ask("strike")
    await forms.answer()

    assert await forms.follows(reader) == {}
    assert await forms.notices() == ["confirm", "confirm"]


async def test_who_was_imported_without_consent_consents_by_confirming(forms: Forms) -> None:
    await forms.room.follow("dam", ADA, confirmed=False)
    reader = await forms.confirmed()

    assert await forms.follows(reader) == {"dam": ("every", "{email}")}
    assert await forms.count("subscribers") == 1


async def suppress(forms: Forms, reason: str, email: str = ADA) -> None:
    hashed = address_hash(SECRET, parse_address(email))
    await forms.room.run("INSERT INTO suppressions (address_hash, reason) VALUES (%s, %s)", hashed, reason)


async def test_an_address_that_must_not_be_written_to_is_sent_nothing(forms: Forms) -> None:
    await forms.room.follow("dam", "bob@example.org")
    for email in (ADA, "bob@example.org"):
        await suppress(forms, "550 5.1.1 no such user", email)
        await forms.ask("dam", email)
        await forms.ask("strike", email)
        await forms.ask_for_link(email)

    assert await forms.answer() == 6
    assert (await forms.notices(), await forms.count("confirmations"), await forms.count("subscriptions")) == ([], 0, 1)


async def test_a_complaint_after_the_mail_makes_its_link_worthless(forms: Forms) -> None:
    await forms.ask()
    await forms.answer()
    await suppress(forms, "complaint")

    with pytest.raises(BadConfirmLink):
        await following.confirm(forms.database, SECRET, await forms.token())
    assert await forms.count("subscribers") == 0


async def test_a_lost_link_is_sent_to_whom_we_know_and_nothing_to_others(forms: Forms) -> None:
    reader = await forms.confirmed()
    await forms.ask_for_link("ADA@example.org")
    await forms.ask_for_link("nobody@example.org")
    assert await forms.answer() == 2

    assert await forms.notices() == ["confirm", "link"]
    [row] = await forms.room.run("SELECT subscriber_id, email FROM notices WHERE kind = 'link'")
    assert row == {"subscriber_id": reader, "email": ADA}


async def test_an_unknown_story_leaves_no_row(forms: Forms) -> None:
    for slug in ("none", "", "../dam", "dam\x00", "DAM", "1", "a" * 5000, "dam' OR true --"):
        with pytest.raises(NotFound) as caught:
            await forms.ask(slug)
        assert caught.value.status == 404
    assert await forms.count("asks") == 0


async def test_a_closed_story_names_the_one_that_goes_on(forms: Forms) -> None:
    await forms.ask()
    await forms.answer()
    await forms.ask(email="bob@example.org")
    await stories.close(forms.database, "dam", successor="strike")
    await forms.answer()
    with pytest.raises(StoryEnded) as asked:
        await forms.ask()
    with pytest.raises(StoryEnded) as confirmed:
        await following.confirm(forms.database, SECRET, await forms.token())

    for error in (asked.value, confirmed.value):
        assert (error.status, error.story.slug, error.story.successor) == (409, "dam", "strike")
        assert error.successor_headline == "School strike"
    assert (await following.pending(forms.database, await forms.token())).story.successor == "strike"
    assert (await forms.count("subscribers"), await forms.count("asks")) == (0, 0)
    assert await forms.notices() == ["confirm"]


@pytest.mark.parametrize(
    "wishes", [{"email": "nobody"}, {"email": "a@example.org\r\nBcc: b@example.org"}, {"locale": "xx"}]
)
async def test_a_form_with_nonsense_leaves_no_row(forms: Forms, wishes: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        await forms.ask(**wishes)
    assert await forms.count("asks") == 0


async def test_a_timezone_that_nobody_knows_keeps_nobody_out(forms: Forms) -> None:
    await forms.ask(timezone="Mars/Olympus\x00")

    assert await forms.room.run("SELECT timezone FROM asks") == [{"timezone": "UTC"}]


# --- limits


async def test_one_address_and_500_stories_is_one_mail_an_hour_and_three_a_day(forms: Forms) -> None:
    """S1: list bombing."""
    await forms.room.run(
        "INSERT INTO stories (slug, headline) SELECT 'story-' || n, 'One' FROM generate_series(1, 500) AS n"
    )
    mails = []
    for hour in range(26):
        for number in range(1, 501 if hour == 0 else 4):
            await forms.ask(f"story-{number}", "Victim@example.org" if number % 2 else "victim@EXAMPLE.org")
        while await forms.answer():
            pass
        mails.append(await forms.count("notices"))
        await forms.later("61 minutes")

    assert mails[:5] == [1, 2, 3, 3, 3]
    assert mails[-1] <= 6
    assert set(await forms.notices()) == {"confirm"}
    assert await forms.count("subscriptions") == 0


async def test_many_addresses_of_one_mailbox_are_limited_as_one_and_are_readers_of_their_own(forms: Forms) -> None:
    """Asked in one batch and in several; at Gmail dots are as good as sub-addresses, elsewhere they are not."""
    for number in range(5):
        await forms.ask(email=f"victim+{number}@example.org")
    await forms.answer()
    await forms.ask(email="Victim@example.org")
    await forms.ask(email="vic.tim@example.org")
    for email in ("v.ictim@gmail.com", "victim+x@gmail.com", "vic.tim@googlemail.com"):
        await forms.ask(email=email)
        await forms.answer()
    await forms.later("61 minutes")
    await forms.ask(email="victim+9@example.org")
    await forms.answer()
    sent = await forms.room.run("SELECT email FROM notices ORDER BY id")
    done = await following.confirm(forms.database, SECRET, await forms.token("victim+9@example.org"))

    assert [row["email"] for row in sent] == [
        "victim+0@example.org",
        "vic.tim@example.org",
        "v.ictim@gmail.com",
        "victim+9@example.org",
    ]
    assert (await subscribing.reader(forms.database, done.subscriber_id)).email == "victim+9@example.org"


async def test_two_workers_do_not_each_send_what_one_mailbox_may_have(forms: Forms) -> None:
    for number in range(8):
        await forms.ask(email=f"victim+{number}@example.org")
    waiting = [row["id"] for row in await forms.room.run("SELECT id FROM asks")]
    await asyncio.gather(*(answering._answer(forms.database, SECRET, only=each) for each in waiting))

    assert (await forms.count("asks"), await forms.notices()) == (0, ["confirm"])


@pytest.mark.parametrize(("kind", "an_hour"), [("link", 1), ("already", 1), ("following", 10)])
async def test_what_a_reader_can_be_sent_by_strangers_is_limited(forms: Forms, kind: str, an_hour: int) -> None:
    await forms.confirmed()
    await forms.later("2 hours")
    await forms.room.run(
        "INSERT INTO stories (slug, headline) SELECT 'story-' || n, 'One' FROM generate_series(1, 20) AS n"
    )
    for number in range(1, 21):
        if kind == "link":
            await forms.ask_for_link()
        else:
            await forms.ask("dam" if kind == "already" else f"story-{number}")
        if number % 3 == 0:
            await forms.answer()
    await forms.answer()

    assert await forms.notices() == ["confirm", *[kind] * an_hour]
    assert await forms.count("subscriptions") == (11 if kind == "following" else 1)


async def test_who_is_known_never_shows_in_what_a_form_leaves(forms: Forms) -> None:
    await forms.room.follow("dam", "known@example.org")
    await suppress(forms, "complaint", "loud@example.org")
    for email in ("known@example.org", "loud@example.org", "other@example.org"):
        await forms.ask(email=email)
    rows = await forms.room.run("SELECT kind, story_id, cadence, catch_up, locale, timezone FROM asks")

    assert len(rows) == 3
    assert all(row == rows[0] for row in rows)


async def test_two_workers_at_once_send_one_confirmation_per_address(forms: Forms) -> None:
    for _ in range(3):
        for number in range(60):
            await forms.ask("dam" if number % 2 else "strike", f"reader{number % 20}@example.org")
        answered = await asyncio.gather(*(forms.answer() for _ in range(4)))
        while await forms.answer():
            pass
        assert sum(answered) <= 60

    assert await forms.count("asks") == 0
    assert await forms.count("confirmations") == await forms.count("notices") == 20


async def test_a_worker_that_fails_leaves_its_asks_to_the_next(forms: Forms) -> None:
    await forms.ask()
    await forms.room.run("ALTER TABLE notices ADD CONSTRAINT full_disk CHECK (false)")
    with pytest.raises(db.CheckViolation):
        await forms.answer()
    assert (await forms.count("asks"), await forms.count("confirmations")) == (1, 0)
    await forms.room.run("ALTER TABLE notices DROP CONSTRAINT full_disk")

    assert await forms.answer() == 1
    assert await forms.notices() == ["confirm"]


# --- tokens


async def refused(forms: Forms, tokens: Sequence[str]) -> set[str]:
    words = set()
    for token in tokens:
        for attempt in (following.pending(forms.database, token), following.confirm(forms.database, SECRET, token)):
            with pytest.raises(NotFound) as caught:
                await attempt
            assert caught.value.status == 404
            words.add(str(caught.value))
    return words


async def test_every_token_that_is_not_good_is_refused_in_the_same_words(forms: Forms) -> None:
    await forms.ask()
    await forms.ask("dam", "bob@example.org")
    await forms.answer()
    used, expired = await forms.token(), await forms.token("bob@example.org")
    await following.confirm(forms.database, SECRET, used)
    await forms.room.run("UPDATE confirmations SET expires_at = now() WHERE used_at IS NULL")
    [row] = await forms.room.run("SELECT * FROM confirmations WHERE used_at IS NULL")
    forged = ConfirmTokens("another secret").make(row["id"], row["address_hash"], row["story_id"])

    words = await refused(
        forms, [used, expired, forged, used[:-1], used + "A", "", "\x00", "\ud800", "é" * 40, "a" * 9000]
    )

    assert len(words) == 1
    assert "you follow the story" in words.pop()


async def test_a_token_is_good_for_its_own_address_and_story_alone(forms: Forms) -> None:
    await forms.ask()
    await forms.answer()
    token = await forms.token()
    other = address_hash(SECRET, parse_address("eve@example.org"))
    await forms.room.run("UPDATE confirmations SET email = 'eve@example.org', address_hash = %s", other)

    with pytest.raises(BadConfirmLink):
        await following.confirm(forms.database, SECRET, token)
    assert await forms.count("subscribers") == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 31), bit=st.integers(0, 7))
async def test_one_altered_bit_makes_a_token_worthless(forms: Forms, at: int, bit: int) -> None:
    """S6."""
    if not await forms.count("confirmations"):
        await forms.ask()
        await forms.answer()
    token = await forms.token()
    altered = token[:at] + chr(ord(token[at]) ^ (1 << bit)) + token[at + 1 :]

    await refused(forms, [altered])
    assert await forms.count("subscribers") == 0
    assert (await following.pending(forms.database, token)).story.slug == "dam"


async def test_of_two_clicks_at_once_one_confirms(forms: Forms) -> None:
    await forms.ask(catch_up=True)
    await forms.room.publish()
    await forms.answer()
    token = await forms.token()
    done = await asyncio.gather(
        *(following.confirm(forms.database, SECRET, token) for _ in range(4)), return_exceptions=True
    )

    assert sorted(type(each).__name__ for each in done) == ["BadConfirmLink"] * 3 + ["Confirmed"]
    assert await forms.notices() == ["confirm", "catch_up"]
    assert await forms.count("subscriptions") == 1
