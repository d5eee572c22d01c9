"""The desk at a glance: its stories, one story with all that is known of it, and where somebody may want to jump to.

The list of stories and what is sending now are in `listing`, the counts of followers that are not made again for
everybody who looks in `followers`, the page of one story in `board`, what blasts have come to in `blasts`, and
`jumping` finds stories and drafts by a few letters.
"""

from __future__ import annotations

from dispatcher.overview.blasts import BlastLine
from dispatcher.overview.board import Board, UpdateLine, board
from dispatcher.overview.followers import OLDEST, Counts, Followers
from dispatcher.overview.jumping import FoundDraft, FoundStory, jump
from dispatcher.overview.listing import Sending, Stories, StoryLine, sending, stories

__all__ = [
    "OLDEST",
    "BlastLine",
    "Board",
    "Counts",
    "Followers",
    "FoundDraft",
    "FoundStory",
    "Sending",
    "Stories",
    "StoryLine",
    "UpdateLine",
    "board",
    "jump",
    "sending",
    "stories",
]
