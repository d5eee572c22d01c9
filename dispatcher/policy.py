"""What an outcome means for a reader: pure decisions, no effects."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple

from dispatcher.channels import Fate, Outcome
from dispatcher.model import DeliveryState

#: Seconds to the next try after the first, second, … refusal for now (4xx); then the last again.
RETRY_AFTER = (60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0)
JITTER = 0.25
#: A reader in doubt is written to again at most so often; after that only a person decides.
MOST_DOUBTS = 2
#: An update that does not say when it expires is no alert any more after this time.
DEFAULT_EXPIRY = timedelta(hours=6)


class Settlement(NamedTuple):
    """What goes into the ledger for one reader."""

    state: DeliveryState
    attempts: int
    in_doubt_count: int
    retry_in: float | None  #: seconds from now; None: not again


def settle(outcome: Outcome, *, attempts: int, in_doubt_count: int, chance: float | None = None) -> Settlement:
    """Turn an outcome into a state and the time of the next try.

    `attempts` and `in_doubt_count` are those before this outcome. `chance`, 0 to 1, places the jitter of ±25 %.
    """
    tries = attempts + 1
    if outcome.fate is Fate.ACCEPTED:
        return accepted(attempts, in_doubt_count)
    chance = random.random() if chance is None else chance  # noqa: S311
    pause = RETRY_AFTER[min(tries, len(RETRY_AFTER)) - 1] * (1 - JITTER + 2 * JITTER * chance)
    match outcome.fate:
        case Fate.FAILED:
            return Settlement(DeliveryState.FAILED, tries, in_doubt_count, None)
        case Fate.DEFERRED if in_doubt_count:
            # The relay may have taken the earlier try: to say only "deferred" would forget that.
            return Settlement(DeliveryState.IN_DOUBT, tries, in_doubt_count, pause)
        case Fate.DEFERRED:
            return Settlement(DeliveryState.DEFERRED, tries, in_doubt_count, pause)
        case Fate.IN_DOUBT:
            doubts = in_doubt_count + 1
            again = pause if doubts <= MOST_DOUBTS else None
            return Settlement(DeliveryState.IN_DOUBT, tries, doubts, again)
        case Fate.UNSENT:
            raise ValueError("an unsent parcel has nothing to settle")


@cache
def accepted(attempts: int, in_doubt_count: int) -> Settlement:
    """The settlement that nearly every reader gets."""
    return Settlement(DeliveryState.ACCEPTED, attempts + 1, in_doubt_count, None)


def expires_at(published_at: datetime, expires: datetime | None) -> datetime:
    """When an update stops being worth sending."""
    return expires or published_at + DEFAULT_EXPIRY
