"""Audiences as the card shows them, for editors who type and would have them counted at every letter."""

from __future__ import annotations

import time
from collections import OrderedDict

from dispatcher import audience, db
from dispatcher.audience import Audience
from dispatcher.drafting import Text
from dispatcher.model import Story

#: A count holds so many times as long as it took, and so many seconds at most.
HOLDS, LONGEST = 50, 20.0
MOST_COUNTS = 200


class Counts:
    """Audiences, counted again as often as that costs a fiftieth of the time."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[object, ...], tuple[float, Audience]] = OrderedDict()

    async def count(self, connection: db.Connection, story: Story, text: Text) -> Audience:
        """Who gets it now, or a moment ago: the audience says when it was counted."""
        key = (story.id, story.created_at, text.kind, text.importance, text.corrects_seq)
        until, found = self._known.get(key, (0.0, None))
        began = time.monotonic()
        if found is None or began > until:
            found = await audience.count(
                connection, story.id, kind=text.kind, importance=text.importance, corrects_seq=text.corrects_seq
            )
            took = time.monotonic() - began
            self._known[key] = began + took + min(HOLDS * took, LONGEST), found
            if len(self._known) > MOST_COUNTS:
                self._known.popitem(last=False)
        return found
