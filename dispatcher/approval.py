"""The second pair of eyes: which updates need one before they go out, and the refusal of those that have none."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from dispatcher import audience, audit, db
from dispatcher.audience import Audience
from dispatcher.errors import DispatcherError, Invalid
from dispatcher.model import Draft, Importance

#: More readers than any story will have.
MOST_READERS = 1_000_000_000
#: Why readers do not get an update at one hour whom it would reach at another.
HELD_UP = frozenset({"paused", "quiet"})


class ApprovalRequired(DispatcherError):
    """A second person has to approve this before it goes out."""

    status = 403
    remedy = (
        "Write it as a draft at the desk, or hand it in with POST /api/v1/stories/SLUG/drafts; "
        "somebody else approves it there."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """When a second person has to approve. As it comes, nobody has to."""

    breaking: bool = False
    over: int | None = None  #: readers; whatever reaches more of them than this
    all: bool = False


async def read(tx: db.Connection) -> Rule:
    """The rule as it stands."""
    found = await tx.value("read_approval_rule")
    return Rule() if found is None else Rule(**found)


async def write(database: db.Database, rule: Rule, *, by: str) -> None:
    """Set the rule, for whatever is published from now on. Raises `Invalid` for a number that is none of readers."""
    if rule.over is not None and not 0 <= rule.over <= MOST_READERS:
        raise Invalid(
            f"{rule.over} is no number of readers.", remedy=f"Write one from 0 to {MOST_READERS:,}.", field="over"
        )
    value = asdict(rule)
    async with database.transaction() as tx:
        await tx.execute("write_approval_rule", value=json.dumps(value))
        await audit.note(tx, actor=by, action="set who approves", subject="settings", detail=value)


async def needed(
    tx: db.Connection, story_id: int, draft: Draft, *, is_quick: bool = False, counted: Audience | None = None
) -> str | None:
    """Why a second person has to approve this draft, as a sentence; None if nobody has to.

    Quick takes followers for readers whom it reaches, which are fewer: good enough for a list, where counting all takes
    too long. `counted` is its audience, where somebody has counted it a moment ago.
    """
    rule = await read(tx)
    if rule.all:
        return "Every update here is approved by a second person."
    if rule.breaking and draft.importance is Importance.BREAKING:
        return "It is breaking news."
    if rule.over is not None and await _reaches_more_than(
        tx, story_id, rule.over, draft, is_quick=is_quick, counted=counted
    ):
        return f"It reaches more than {rule.over:,} readers."
    return None


async def check(tx: db.Connection, story_id: int, draft: Draft) -> None:
    """Raises `ApprovalRequired` for what nobody may send alone."""
    if why := await needed(tx, story_id, draft):
        raise ApprovalRequired(f"A second person has to approve this before it goes out. {why}")


async def _reaches_more_than(
    tx: db.Connection, story_id: int, number: int, draft: Draft, *, is_quick: bool, counted: Audience | None
) -> bool:
    """Whether a draft reaches more readers, whatever the hour: who is held up only now counts as reached."""
    if not await tx.value("may_reach_more", story_id=story_id, number=number, corrects_seq=draft.corrects_seq):
        return False
    if is_quick:
        return True
    found = counted or await audience.count(
        tx, story_id, kind=draft.kind, importance=draft.importance, corrects_seq=draft.corrects_seq
    )
    held_up = sum(each.count.readers for each in found.left_out if each.reason in HELD_UP)
    return found.now.readers + held_up > number
