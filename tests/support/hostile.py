"""Letters that go wrong, each as the first word of its headline says. The press is told to call `render` here."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from dispatcher.channels.email.letter import Letter
from dispatcher.model import ChannelName
from dispatcher.rendering.letters import UpdateView
from dispatcher.rendering.making import Made, View, make

NAME = f"{__name__}:render"
#: A letter for readers in this zone crashes, whatever its headline says.
POISONED_ZONE = "Asia/Tokyo"


def render(view: View, *, locale: str, timezone: str, channel: ChannelName) -> Made:
    """What the headline says, or else the usual letter."""
    word, _, rest = view.update.headline.partition(" ") if isinstance(view, UpdateView) else ("", "", "")
    if timezone == POISONED_ZONE:
        word = "crashes"
    if word in DEEDS:
        DEEDS[word](rest)
    letter = make(view, locale=locale, timezone=timezone, channel=channel)
    if word == "swells" and isinstance(letter, Letter):
        form = letter.eight_bit
        return replace(letter, eight_bit=replace(form, literals=(b"x" * (8 << 20), *form.literals[1:])))
    return letter


def loops(_: str) -> None:
    while True:
        pass


def loops_deaf(_: str) -> None:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    loops("")


def sleeps(_: str) -> None:
    time.sleep(60)


def eats(_: str) -> None:
    eaten = []
    while True:
        eaten.append(bytearray(32 << 20))


def crashes(_: str) -> None:
    ctypes.string_at(1)


def leaves(code: str) -> None:
    os._exit(int(code))


def quits(_: str) -> None:
    sys.exit()


def raises(words: str) -> None:
    raise ValueError(f"{words}\nand a second line")


def prints(_: str) -> None:
    for fd in (1, 2):
        os.write(fd, b"noise\n" * 1_000_000)


def reads(_: str) -> None:
    """What it can read of its worker's secrets."""
    raise ValueError(",".join(sorted(name for name in os.environ if name.startswith("DISPATCHER_"))) or "nothing")


def slow(words: str) -> None:
    time.sleep(float(words.split()[0]))


DEEDS: dict[str, Callable[[str], None]] = {
    each.__name__: each
    for each in (loops, loops_deaf, sleeps, eats, crashes, leaves, quits, raises, prints, reads, slow)
}
