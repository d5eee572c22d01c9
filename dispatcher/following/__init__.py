"""Following a story: somebody asks, a worker answers by mail, the reader confirms; or a browser follows by itself.

A form decides nothing and looks nothing up: it leaves an ask, the same way and in the same time for every address. Only
whoever reads the address's mail learns whether it was known (ADR 0015).
"""

from dispatcher.following.answering import answer
from dispatcher.following.asking import StoryEnded, ask_for_link, ask_to_follow
from dispatcher.following.browsers import NewDevice, browser_reader, follow_in_browser, renew_device
from dispatcher.following.confirming import BadConfirmLink, Confirmed, Pending, confirm, pending

__all__ = [
    "BadConfirmLink",
    "Confirmed",
    "NewDevice",
    "Pending",
    "StoryEnded",
    "answer",
    "ask_for_link",
    "ask_to_follow",
    "browser_reader",
    "confirm",
    "follow_in_browser",
    "pending",
    "renew_device",
]
