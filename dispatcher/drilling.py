"""Rehearse an update: everything is done for it, up to the relay, and nobody is reached.

A drill is an update below zero with blasts of its own. Workers freeze the same audience, make each reader's very
message and write its outcome down; only the channel is one that hands nothing to anybody. It waits for everything that
is real, and ends as soon as its story has a real update.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from dispatcher import audit, db, publishing, stories
from dispatcher.errors import Invalid, StoryClosed
from dispatcher.model import ChannelName, Draft, Published, Story, Urgency
from dispatcher.nudges import Bell, Task

log = structlog.get_logger()


async def drill(database: db.Database, bell: Bell, slug: str, draft: Draft, *, by: str) -> Published:
    """Rehearse `draft` for everyone who follows the story `slug`; nobody has to approve that.

    It takes the place of nothing, and goes to all at once, whatever the draft says of that. A correction is rehearsed
    for those whom the wrong update has reached. The answer's update has a number below zero. Raises `Invalid`,
    `TooLarge`, `NotFound`, `StoryClosed` or `DatabaseUnavailable`; then nothing is written.
    """
    draft = publishing.check(replace(draft, replaces=False, local_time=None))
    hashed = publishing.content_hash(slug, draft)
    async with database.transaction() as tx:
        await tx.execute("be_brief", milliseconds=publishing.SILENCE)
        rehearsed = await _insert(tx, slug, draft, hashed, by=by)
        detail = {"update": rehearsed.update.seq, "headline": draft.headline}
        await audit.note(tx, actor=by, action="rehearsed", subject=f"story:{slug}", content_hash=hashed, detail=detail)
    log.info("drill begins", story=slug, seq=rehearsed.update.seq, by=by)
    await bell.ring(Task.CUT, urgency=Urgency.DRILL)
    return rehearsed


async def _insert(tx: db.Connection, slug: str, draft: Draft, hashed: bytes, *, by: str) -> Published:
    found = await tx.one("lock_story", slug=slug)
    if found is None:
        raise stories.unknown(slug)
    story = stories.story_from(found)
    if not story.takes(draft.kind):
        raise StoryClosed(f"The story {slug!r} is closed and takes no more updates.", field="story")
    wrong_id = await _wrong(tx, story, draft)
    row = await tx.one(
        "insert_drill",
        story_id=story.id,
        kind=str(draft.kind),
        importance=str(draft.importance),
        headline=draft.headline,
        summary=draft.summary,
        body=draft.body,
        corrects=wrong_id,
        content_hash=hashed,
        by=by,
    )
    assert row is not None  # noqa: S101  # INSERT … RETURNING of one row
    blast_ids = [
        await tx.value(
            "insert_blast",
            update_id=row["id"],
            channel=channel,
            urgency=int(Urgency.DRILL),
            of_blast=of_blast,
            is_drill=True,
        )
        for channel, of_blast in await _channels(tx, story, wrong_id)
    ]
    update = stories.update_from({**row, "corrects_seq": draft.corrects_seq})
    return Published(story=story, update=update, blast_ids=tuple(blast_ids))


async def _wrong(tx: db.Connection, story: Story, draft: Draft) -> int | None:
    if draft.corrects_seq is None:
        return None
    row = await publishing.corrected(tx, story.id, draft.corrects_seq)
    if await tx.value("update_is_going_out", update_id=row["id"]):
        raise Invalid(
            f"Update {draft.corrects_seq} is still going out: nobody can say yet whom its correction reaches.",
            remedy="Correct it now, or rehearse when it is through.",
            field="corrects",
        )
    return int(row["id"])


async def _channels(tx: db.Connection, story: Story, wrong_id: int | None) -> list[tuple[str, int | None]]:
    """The channels that it would go out on, each with the blast whose readers it would be for."""
    if wrong_id is not None:
        return [(each["channel"], each["id"]) for each in await tx.all("blasts_to_correct", update_id=wrong_id)]
    channels: list[tuple[str, int | None]] = [(str(ChannelName.EMAIL), None)]
    if await tx.value("is_pushed", story_id=story.id):
        channels.append((str(ChannelName.WEBPUSH), None))
    return channels
