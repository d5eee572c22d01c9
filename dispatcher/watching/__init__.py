"""Watch an update go out: figures that add up at every moment, for any number of people at the desk."""

from dispatcher.watching.events import CHANNELS, seconds
from dispatcher.watching.figures import OPEN, ReasonLine, RelayLine, Watched, WatchedBlast
from dispatcher.watching.looking import Memory, exists, look
from dispatcher.watching.readers import Listed, Page, Wanted, answers, every_page, note_download, readers
from dispatcher.watching.sharing import Watcher, Watchers

__all__ = [
    "CHANNELS",
    "OPEN",
    "Listed",
    "Memory",
    "Page",
    "ReasonLine",
    "RelayLine",
    "Wanted",
    "Watched",
    "WatchedBlast",
    "Watcher",
    "Watchers",
    "answers",
    "every_page",
    "exists",
    "look",
    "note_download",
    "readers",
    "seconds",
]
