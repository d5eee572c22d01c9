"""What an outcome means for a reader: pure decisions, no effects."""

from __future__ import annotations

import random
from datetime import datetime, time, timedelta, timezone
from functools import cache
from typing import NamedTuple

from dispatcher.channels import Fate, Outcome
from dispatcher.model import DeliveryState, InDoubt

#: Seconds to the next try after the first, second, … refusal for now (4xx); then the last again.
RETRY_AFTER = (60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0)
JITTER = 0.25
#: A reader in doubt is written to again at most so often; after that only a person decides.
MOST_DOUBTS = 2
#: An update that does not say when it expires is no alert any more after this time.
DEFAULT_EXPIRY = timedelta(hours=6)
#: The zone in which every time of the day comes last.
LAST_ZONE = timezone(timedelta(hours=-12))
#: A reader whose mail is refused by policy (5.7.x) while others' is not is given up after so many tries.
MOST_REFUSALS = 3


class Settlement(NamedTuple):
    """What goes into the ledger for one reader."""

    state: DeliveryState
    attempts: int
    in_doubt_count: int
    retry_in: float | None  #: seconds from now; None: not again


def settle(
    outcome: Outcome,
    *,
    attempts: int,
    in_doubt_count: int,
    expires_in: float,
    in_doubt: InDoubt | None = InDoubt.RESEND,
    chance: float | None = None,
) -> Settlement:
    """Turn an outcome into a state and the time of the next try.

    `attempts` and `in_doubt_count` are those before this outcome. A try that would come after the update has expired,
    in `expires_in` seconds, comes just then, to say so. `chance`, 0 to 1, places the jitter of ±25 %. If the other side
    named a time (`outcome.wait`), nothing is tried sooner.
    """
    tries = attempts + 1
    if outcome.fate is Fate.ACCEPTED:
        return accepted(attempts, in_doubt_count)
    chance = random.random() if chance is None else chance  # noqa: S311
    pause = RETRY_AFTER[min(tries, len(RETRY_AFTER)) - 1] * (1 - JITTER + 2 * JITTER * chance)
    pause = min(max(pause, outcome.wait), max(0.0, expires_in))
    match outcome.fate:
        case Fate.FAILED:
            return Settlement(DeliveryState.FAILED, tries, in_doubt_count, None)
        case Fate.REFUSED if tries >= MOST_REFUSALS and not in_doubt_count:
            return Settlement(DeliveryState.FAILED, tries, in_doubt_count, None)
        case Fate.DEFERRED | Fate.REFUSED if in_doubt_count:
            # The relay may have taken the earlier try: to say only "deferred" would forget that.
            return Settlement(DeliveryState.IN_DOUBT, tries, in_doubt_count, pause)
        case Fate.DEFERRED | Fate.REFUSED:
            return Settlement(DeliveryState.DEFERRED, tries, in_doubt_count, pause)
        case Fate.IN_DOUBT:
            doubts = in_doubt_count + 1
            return Settlement(DeliveryState.IN_DOUBT, tries, doubts, pause if may_resend(doubts, in_doubt) else None)
        case Fate.UNSENT:
            raise ValueError("an unsent parcel has nothing to settle")


def is_quiet(local: time, quiet_from: time, quiet_to: time) -> bool:
    """Whether a time of the reader's day lies in their quiet hours, which may go over midnight. The end does not."""
    if quiet_from < quiet_to:
        return quiet_from <= local < quiet_to
    return local >= quiet_from or local < quiet_to


def may_resend(in_doubt_count: int, in_doubt: InDoubt | None) -> bool:
    """May a reader be written to again of whom it is so often not known whether the message arrived?

    `in_doubt` is None for a push: a second one replaces the first, so it does no harm.
    """
    if not in_doubt_count or in_doubt is None:
        return True
    return in_doubt is InDoubt.RESEND and in_doubt_count <= MOST_DOUBTS


@cache
def accepted(attempts: int, in_doubt_count: int) -> Settlement:
    """The settlement that nearly every reader gets."""
    return Settlement(DeliveryState.ACCEPTED, attempts + 1, in_doubt_count, None)


def expires_at(
    published_at: datetime,
    expires: datetime | None,
    *,
    starts_at: datetime | None = None,
    local_time: datetime | None = None,
) -> datetime:
    """When an update stops being worth sending: to readers who have it at `starts_at`, a time of their own day, so much
    later. `local_time` instead is a time by every reader's clock: then for the last of them on earth.
    """
    end = expires or published_at + DEFAULT_EXPIRY
    starts_at = starts_at or (None if local_time is None else local_time.replace(tzinfo=LAST_ZONE))
    return end if starts_at is None else end + max(timedelta(), starts_at - published_at)
