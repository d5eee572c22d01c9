"""Other systems hand drafts in, which then wait at the desk for somebody to look at them."""

from __future__ import annotations

import hashlib
import json
import uuid

from dispatcher import approval, audit, db, publishing
from dispatcher.drafting.keeping import insert
from dispatcher.drafting.writing import Text, Writing, check_text, locked
from dispatcher.errors import IdempotencyMismatch
from dispatcher.model import DraftState
from dispatcher.texts import one_line

#: The names of our own keys, so that no idempotency key of others meets one that we draw.
_KEYS = uuid.UUID("6f3c1a52-6d0f-4c7b-9d3e-2b8a51c0e7d4")


async def hand_in(
    database: db.Database, slug: str, text: Text, *, by: str, key: str | None = None
) -> tuple[Writing, str | None, bool]:
    """Leave a complete draft at the desk, submitted. `by` is the name of the API token that brings it.

    Its author is whoever made the token, who therefore cannot approve it. The same `key` with the same content gives
    the first draft again. Returns the draft, why it needs a second person, if it does, and whether it was there before.
    Raises `Invalid`, `TooLarge`, `NotFound`, `StoryClosed`, `IdempotencyMismatch`.
    """
    text = check_text(text)
    publishing.check(text.draft())
    drawn = None
    if key is not None:
        key = one_line("Idempotency-Key", key, longest=publishing.MAX_KEY)
        drawn = str(uuid.uuid5(_KEYS, f"{by}\n{key}"))
    hashed = _hash(slug, text)
    async with database.transaction() as tx:
        draft_id = await insert(
            tx,
            slug,
            text,
            author=await tx.value("person_of_token", name=by),
            state=DraftState.SUBMITTED,
            handed_in_by=by,
            handed_in_hash=hashed,
            key=drawn,
        )
        is_new = draft_id is not None
        if draft_id is None:
            draft_id = await _first(tx, drawn, hashed)
        writing = await locked(tx, draft_id)
        if is_new:
            await audit.note(
                tx,
                actor=by,
                action="handed in a draft",
                subject=writing.subject,
                content_hash=writing.content_hash,
                detail={"story": slug, "headline": text.headline},
            )
        why = await approval.needed(tx, writing.story.id, writing.text.draft())
    return writing, why, not is_new


async def _first(tx: db.Connection, key: str | None, hashed: bytes) -> int:
    row = await tx.one("find_draft_by_key", key=key)
    assert row is not None  # noqa: S101  # only a draft with this key keeps another from being made
    if row["handed_in_hash"] != hashed:
        raise IdempotencyMismatch(field="Idempotency-Key")
    return int(row["id"])


def _hash(slug: str, text: Text) -> bytes:
    return hashlib.sha256(json.dumps([slug, text.as_json()], ensure_ascii=False, sort_keys=True).encode()).digest()
