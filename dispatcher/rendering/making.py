"""What the press is told to call: any view on any channel, made into its letter."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from dispatcher.errors import Invalid
from dispatcher.model import ChannelName
from dispatcher.rendering.letters import UpdateView, render_update
from dispatcher.rendering.notices import NoticeView, render_notice
from dispatcher.rendering.pushes import render_push

View = UpdateView | NoticeView


class Made(Protocol):
    """A letter or a push, compiled."""

    def dumps(self) -> bytes:
        """What is kept and sent to other processes."""


def make(view: View, *, locale: str, timezone: str, channel: ChannelName = ChannelName.EMAIL) -> Made:
    """The letter of a view for readers of one language in one time zone. A notice is dated now.

    Raises `Invalid` for a notice that is not to be mailed, and whatever its templates raise.
    """
    if isinstance(view, NoticeView):
        if channel is not ChannelName.EMAIL:
            raise Invalid("A notice goes by mail.", field="channel")
        return render_notice(view, locale=locale, timezone=timezone, now=datetime.now(UTC))
    if channel is ChannelName.WEBPUSH:
        return render_push(view, locale=locale)
    return render_update(view, locale=locale, timezone=timezone)
