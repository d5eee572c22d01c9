"""Two pairs of eyes: nothing that needs them goes out without, and they stand by exactly what goes out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dispatcher import approval, audit, db, drafting, publishing, stories
from dispatcher.approval import ApprovalRequired, Rule
from dispatcher.drafting import NotYours, SavedMeanwhile, Text, Writing
from dispatcher.errors import Conflict, Invalid
from dispatcher.model import Draft, DraftState, Importance, Kind
from dispatcher.people import Person
from dispatcher.roles import Role
from tests.support.desk import TEXT, employ, log_of, set_rule, updates
from tests.support.newsroom import Newsroom, newsroom

BREAKING = replace(TEXT, importance=Importance.BREAKING)


@pytest.fixture
async def room(database: db.Database) -> Newsroom:
    made = newsroom(database)
    await made.story(followers=3)
    await stories.create(made.database, "river", headline="The river")
    return made


@pytest.fixture
async def desk(room: Newsroom) -> dict[str, Person]:
    """A reporter, an editor and two leads."""
    roles = {"ann": Role.REPORTER, "ed": Role.EDITOR, "lea": Role.LEAD, "leo": Role.LEAD}
    return {name: await employ(room, name, role) for name, role in roles.items()}


async def submitted(room: Newsroom, by: Person, text: Text = BREAKING) -> Writing:
    draft = await drafting.begin(room.database, "dam", by=by, text=text)
    return await drafting.submit(room.database, draft.id, version=1, by=by)


RULES: dict[str, tuple[dict[str, Any], str]] = {
    "breaking": ({"breaking": True}, "It is breaking news."),
    "over": ({"over": 2}, "It reaches more than 2 readers."),
    "everything": ({"everything": True}, "Every update here is approved by a second person."),
}


@pytest.mark.parametrize("name", RULES)
async def test_no_door_lets_out_what_nobody_has_approved(room: Newsroom, desk: dict[str, Person], name: str) -> None:
    rule, why = RULES[name]
    await set_rule(room, **rule)
    draft = await submitted(room, desk["ann"])
    plain = Draft(headline="Water is over the wall", body="6.12 m.", importance=Importance.BREAKING)

    for by in ("cms", "cli:root", "lea@courier.example"):
        with pytest.raises(ApprovalRequired) as caught:
            await publishing.publish(room.database, room.bell, "dam", plain, by=by, key=by)
        assert why in caught.value.message
        assert (caught.value.status, "drafts" in caught.value.remedy) == (403, True)
    for person in (desk["ed"], desk["lea"]):
        with pytest.raises(ApprovalRequired):
            await drafting.send(room.database, room.bell, draft.id, version=1, by=person)
    with pytest.raises(ApprovalRequired):
        async with room.database.transaction() as tx:
            await publishing.write(tx, "dam", plain, by="closing")
    assert await updates(room) == 0

    await drafting.approve(room.database, draft.id, version=1, by=desk["lea"], content_hash=draft.content_hash)
    sent = await drafting.send(room.database, room.bell, draft.id, version=1, by=desk["ed"])
    assert sent.update.seq == 1


async def test_what_the_rule_does_not_name_goes_out_as_always(room: Newsroom, desk: dict[str, Person]) -> None:
    await set_rule(room, breaking=True, over=3)
    draft = await drafting.begin(room.database, "dam", by=desk["ed"], text=TEXT)

    await drafting.send(room.database, room.bell, draft.id, version=1, by=desk["ed"])
    await room.publish("dam")

    assert await drafting.why_not(room.database, draft) is None


async def test_the_rule_and_the_audience_are_looked_at_again_when_it_is_sent(
    room: Newsroom, desk: dict[str, Person]
) -> None:
    await set_rule(room, over=3)
    await room.follow("dam", "weekly@example.org", cadence="weekly")
    draft = await drafting.begin(room.database, "dam", by=desk["ed"], text=TEXT)
    assert await drafting.why_not(room.database, draft) is None

    await room.follow("dam", "one.more@example.org")
    await room.run("UPDATE subscribers SET paused_until = now() + interval '1 day'")
    with pytest.raises(ApprovalRequired, match="more than 3 readers"):
        await drafting.send(room.database, room.bell, draft.id, version=1, by=desk["ed"])
    await set_rule(room)
    sent = await drafting.send(room.database, room.bell, draft.id, version=1, by=desk["ed"])

    assert sent.update.seq == 1


@pytest.mark.parametrize("over", [-1, 10_000_000_000])
async def test_a_rule_about_no_number_of_readers_is_refused(room: Newsroom, over: int) -> None:
    with pytest.raises(Invalid) as caught:
        await approval.write(room.database, Rule(over=over), by="test")

    assert caught.value.field == "over"


async def test_author_last_editor_and_submitter_cannot_approve(room: Newsroom, desk: dict[str, Person]) -> None:
    await set_rule(room, breaking=True)
    lea, leo = desk["lea"], desk["leo"]
    authored = await submitted(room, lea)
    edited = await submitted(room, desk["ann"])
    edited = await drafting.save(
        room.database, room.settings, edited.id, replace(BREAKING, body="Lea"), version=1, by=lea
    )
    asked = await drafting.begin(room.database, "dam", by=desk["ann"], text=BREAKING)
    asked = await drafting.submit(room.database, asked.id, version=1, by=lea)

    for each in (authored, edited, asked):
        assert each.state is DraftState.SUBMITTED
        with pytest.raises(NotYours, match="somebody else"):
            await drafting.approve(room.database, each.id, version=each.version, by=lea)
        with pytest.raises(NotYours):
            await drafting.approve_and_send(room.database, room.bell, each.id, version=each.version, by=lea)
        for nobody in (desk["ann"], desk["ed"]):
            with pytest.raises(NotYours):
                await drafting.approve(room.database, each.id, version=each.version, by=nobody)
        done = await drafting.approve(room.database, each.id, version=each.version, by=leo)
        assert (done.state, done.is_approved, done.approved_by) == (DraftState.APPROVED, True, leo)
    assert await updates(room) == 0


CHANGES: dict[str, Callable[[Text], Text]] = {
    "kind": lambda text: replace(text, kind=Kind.FINAL),
    "importance": lambda text: replace(text, importance=Importance.MAJOR),
    "headline": lambda text: replace(text, headline=text.headline + "!"),
    "summary": lambda text: replace(text, summary="Walk uphill"),
    "body": lambda text: replace(text, body=text.body + " "),
    "corrects": lambda text: replace(text, kind=Kind.CORRECTION, corrects_seq=1),
    "replaces": lambda text: replace(text, replaces=True),
    "expires_in": lambda text: replace(text, expires_in=timedelta(hours=1)),
    "successor": lambda text: replace(text, kind=Kind.FINAL, successor="river"),
}


async def test_any_edit_voids_an_approval(room: Newsroom, desk: dict[str, Person]) -> None:
    await room.publish()
    await set_rule(room, everything=True)
    for name, change in CHANGES.items():
        draft = await submitted(room, desk["ann"])
        await drafting.approve(room.database, draft.id, version=1, by=desk["lea"])

        edited = await drafting.save(
            room.database, room.settings, draft.id, change(BREAKING), version=1, by=desk["ann"]
        )

        assert (edited.state, edited.is_approved, edited.approved_by) == (DraftState.DRAFT, False, None), name
        with pytest.raises(ApprovalRequired):
            await drafting.send(room.database, room.bell, draft.id, version=2, by=desk["ed"])
        again = await drafting.save(room.database, room.settings, draft.id, BREAKING, version=2, by=desk["ann"])
        assert not again.is_approved, f"{name}: changed back is not approved"
        assert "changed an approved draft" in await log_of(room, draft.subject)


TEXTS = some.builds(
    Text,
    kind=some.sampled_from([Kind.UPDATE, Kind.CORRECTION, Kind.FINAL]),
    importance=some.sampled_from(list(Importance)),
    headline=some.text(max_size=8),
    summary=some.text(max_size=8),
    body=some.text(max_size=8),
    corrects_seq=some.none() | some.integers(1, 3),
    replaces=some.booleans(),
    expires_in=some.none() | some.integers(60, 62).map(lambda seconds: timedelta(seconds=seconds)),
    successor=some.none() | some.sampled_from(["a", "b"]),
)


@given(one=TEXTS, other=TEXTS)
def test_two_texts_have_the_same_hash_only_if_they_are_the_same(one: Text, other: Text) -> None:
    assert (writing_of(one).content_hash == writing_of(other).content_hash) == (one == other)


def writing_of(text: Text, **more: Any) -> Writing:
    """A draft with this text and nothing else."""
    nothing = dict.fromkeys(Writing.__dataclass_fields__)
    return Writing(**{**nothing, "story": SLUGGED, "text": text, **more})


class _Slugged:
    slug = "dam"


SLUGGED = _Slugged()


async def test_an_approval_of_what_is_not_there_any_more_is_refused(room: Newsroom, desk: dict[str, Person]) -> None:
    await set_rule(room, breaking=True)
    seen = await submitted(room, desk["ann"])
    now = await drafting.save(
        room.database, room.settings, seen.id, replace(BREAKING, headline="It holds"), version=1, by=desk["ann"]
    )

    for version, content_hash in ((1, seen.content_hash), (1, None), (2, seen.content_hash)):
        with pytest.raises(SavedMeanwhile, match="Ann has changed"):
            await drafting.approve(room.database, seen.id, version=version, by=desk["lea"], content_hash=content_hash)
        with pytest.raises(SavedMeanwhile):
            await drafting.approve_and_send(
                room.database, room.bell, seen.id, version=version, by=desk["lea"], content_hash=content_hash
            )
    assert not (await drafting.find(room.database, seen.id)).is_approved
    assert (await drafting.find(room.database, seen.id)).version == now.version
    assert await updates(room) == 0


async def test_approve_and_send_pressed_by_two_leads_five_times_sends_once(
    room: Newsroom, desk: dict[str, Person]
) -> None:
    await set_rule(room, breaking=True)
    draft = await submitted(room, desk["ann"])

    answers = await asyncio.gather(
        *(
            drafting.approve_and_send(room.database, room.bell, draft.id, version=1, by=desk[name])
            for name in ("lea", "leo", "lea", "leo", "lea")
        )
    )

    assert {each.update.seq for each in answers} == {1}
    assert [each.replayed for each in answers].count(False) == 1
    assert await updates(room) == 2
    assert await log_of(room, draft.subject) == ["began a draft", "asked for approval", "approved", "sent"]


async def test_a_draft_that_came_back_goes_nowhere_before_it_is_changed(
    room: Newsroom, desk: dict[str, Person]
) -> None:
    for back in (drafting.return_, drafting.reject):
        draft = await submitted(room, desk["ann"], TEXT)
        with pytest.raises(Invalid) as caught:
            await back(room.database, room.settings, draft.id, version=1, by=desk["lea"], reason=" ")
        assert caught.value.field == "reason"
        with pytest.raises(NotYours):
            await back(room.database, room.settings, draft.id, version=1, by=desk["ed"], reason="No")
        done = await back(room.database, room.settings, draft.id, version=1, by=desk["lea"], reason="Name the\nsource")
        assert done.reason == "Name the source"
        with pytest.raises(Conflict, match="Name the source"):
            await drafting.send(room.database, room.bell, draft.id, version=1, by=desk["ed"])
        with pytest.raises(Conflict):
            await drafting.approve(room.database, draft.id, version=1, by=desk["lea"])
        changed = await drafting.save(
            room.database, room.settings, draft.id, replace(TEXT, body="Says A."), version=1, by=desk["ann"]
        )
        assert (changed.state, changed.reason) == (DraftState.DRAFT, "Name the source")
        await drafting.send(room.database, room.bell, draft.id, version=2, by=desk["ed"])
    assert await updates(room) == 4


async def test_a_lead_who_does_not_wait_says_why_and_every_lead_hears_of_it(
    room: Newsroom, desk: dict[str, Person]
) -> None:
    await set_rule(room, breaking=True)
    gone = await employ(room, "gone", Role.LEAD)
    await room.run("UPDATE people SET ended_at = now() WHERE id = %s", gone.id)
    draft = await drafting.begin(room.database, "dam", by=desk["lea"], text=BREAKING)

    async def override(by: Person, reason: str = "Nobody else is awake") -> Any:
        return await drafting.override(
            room.database, room.bell, room.settings, draft.id, version=1, by=by, reason=reason
        )

    for by, reason, error in ((desk["ed"], "Now", NotYours), (desk["lea"], "", Invalid)):
        with pytest.raises(error):
            await override(by, reason)
    answers = await asyncio.gather(override(desk["lea"]), override(desk["lea"]), override(desk["leo"]))

    assert {each.update.seq for each in answers} == {1}
    mails = await room.run("SELECT email, detail FROM notices WHERE kind = 'override' ORDER BY id")
    assert [row["email"] for row in mails] == ["lea@courier.example", "leo@courier.example"]
    assert mails[0]["detail"] | {"who": ""} == {
        "who": "",
        "headline": BREAKING.headline,
        "story": "The dam above the city",
        "why": "It is breaking news.",
        "reason": "Nobody else is awake",
        "path": "/desk/stories/dam/updates/1",
    }
    found = await drafting.find(room.database, draft.id)
    assert (found.is_override, found.is_approved, found.reason) == (True, False, "Nobody else is awake")
    page = await audit.read(room.database, subject=draft.subject, action="did not wait for approval")
    assert json.loads(json.dumps(page.entries[0].detail))["why"] == "It is breaking news."
    other = await drafting.begin(room.database, "dam", by=desk["lea"], text=TEXT)
    with pytest.raises(Conflict, match="waits for nobody"):
        await drafting.override(
            room.database, room.bell, room.settings, other.id, version=1, by=desk["lea"], reason="Why not"
        )


async def test_what_another_system_hands_in_waits_for_somebody_who_did_not_make_its_token(
    room: Newsroom, desk: dict[str, Person]
) -> None:
    await set_rule(room, everything=True)
    await room.run(
        "INSERT INTO api_tokens (name, token_hash, created_by)"
        " VALUES ('cms', 'a', 'lea@courier.example'), ('feed', 'b', 'cli')"
    )
    first, why, was_there = await drafting.hand_in(room.database, "dam", BREAKING, by="cms", key="k1")
    again, _, was_there_again = await drafting.hand_in(room.database, "dam", BREAKING, by="cms", key="k1")
    other, _, _ = await drafting.hand_in(room.database, "dam", BREAKING, by="feed", key="k1")

    assert why == "Every update here is approved by a second person."
    assert (was_there, was_there_again, again.id == first.id, other.id == first.id) == (False, True, True, False)
    assert (first.state, first.author.name, first.handed_in_by) == (DraftState.SUBMITTED, "Lea", "cms")
    assert (other.author.name, other.author.id, other.handed_in_by) == ("feed", 0, "feed")
    with pytest.raises(Conflict, match="idempotency key"):
        await drafting.hand_in(room.database, "dam", TEXT, by="cms", key="k1")
    with pytest.raises(NotYours):
        await drafting.approve(room.database, first.id, version=1, by=desk["lea"])
    with pytest.raises(ApprovalRequired):
        await drafting.send(room.database, room.bell, other.id, version=1, by=desk["lea"])
    for each in (first, other):
        await drafting.approve_and_send(room.database, room.bell, each.id, version=1, by=desk["leo"])
    assert await drafting.waiting(room.database, await drafting.listing(room.database)) == []


async def test_a_correction_in_a_story_whose_readers_were_let_go_needs_a_second_person_all_the_same(
    room: Newsroom,
) -> None:
    """Nobody follows it any more, and yet the correction reaches everybody whom the wrong text has reached."""
    await room.publish("dam")
    await room.cut()
    await room.run(
        "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state)"
        " SELECT b.blast_id, unnest(b.subscriber_ids), now(), 'accepted' FROM batches b"
    )
    await room.run("UPDATE batches SET state = 'done'")
    await room.run("UPDATE blasts SET state = 'done', done_at = now()")
    await stories.close(room.database, "dam")
    await room.run("UPDATE subscriptions SET ended_at = now(), ended_reason = 'story closed'")
    await set_rule(room, over=2)

    with pytest.raises(ApprovalRequired, match="more than 2 readers"):
        await room.publish("dam", kind=Kind.CORRECTION, corrects_seq=1)
    await set_rule(room, over=3)
    await room.publish("dam", kind=Kind.CORRECTION, corrects_seq=1)
