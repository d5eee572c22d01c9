"""The letters of notices: mails to one reader who waits for them, such as the one that asks whether it was you."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from typing import Any

from dispatcher.channels.email.letter import Letter, Marks, compile_letter
from dispatcher.config import Newsroom
from dispatcher.errors import Invalid
from dispatcher.model import NoticeKind, Story
from dispatcher.rendering.letters import line, machine_headers, newsroom_context, render
from dispatcher.rendering.wording import Wording, wording, zone

#: Those about a story that the reader follows: they can be left with one click (RFC 8058).
_LEFT_BY_ONE_CLICK = frozenset({NoticeKind.FOLLOWING, NoticeKind.ALREADY})
#: Those that are about no story.
_ABOUT_NO_STORY = frozenset(
    {NoticeKind.LINK, NoticeKind.INVITATION, NoticeKind.OVERRIDE, NoticeKind.NOT_SENT, NoticeKind.UNSCHEDULED}
)
#: Those that say what the letter of an update says.
_ARE_UPDATES = frozenset({NoticeKind.CATCH_UP, NoticeKind.TEST})
#: What a mail to the desk says, by the names of its parts.
_PARTS = {
    NoticeKind.INVITATION: frozenset({"by", "role", "is_reset"}),
    NoticeKind.OVERRIDE: frozenset({"who", "headline", "story", "why", "reason"}),
    NoticeKind.NOT_SENT: frozenset({"who", "headline", "story", "at", "local", "why"}),
    NoticeKind.UNSCHEDULED: frozenset({"who", "how", "headline", "story", "at", "local", "reason"}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class NoticeView:
    """Everything that a notice shows, the reader's own values aside."""

    newsroom: Newsroom
    public_url: str  #: without a slash at the end
    mail_from: Address
    kind: NoticeKind
    story: Story | None = None  #: what it is about, where it is about one
    parts: tuple[tuple[str, str], ...] = ()  #: what a mail to the desk says, by name


def render_notice(view: NoticeView, *, locale: str, timezone: str, now: datetime) -> Letter:
    """The letter of a notice for readers of one language in one time zone (an IANA name), dated `now`.

    Its slots want these values beside address and Message-ID: for `confirm` the link that confirms as `leave_url`, and
    the wish; for `following` and `already` the links to leave and to manage, and the wish; for `link` the link to
    manage; for those to the desk the page that they lead to as `leave_url`. It stands alone: no thread of a story takes
    it in, and nothing that answers mail by itself answers it.

    Raises `Invalid` for a notice without its story or its parts, or one that has no letter of its own, and
    `Misconfigured` if a template is broken.
    """
    words, marks = wording(locale), Marks.fresh(repr(view))
    context = notice_context(view, words, now.astimezone(zone(timezone)))
    content = render(str(view.kind), {**context, "reader": marks, "t": words}, locale=words.language)
    return compile_letter(
        subject=content.subject,
        text=content.text,
        html=content.html,
        marks=marks,
        mail_from=view.mail_from,
        date=now,
        headers=machine_headers(words),
        one_click=view.kind in _LEFT_BY_ONE_CLICK,
    )


def notice_context(view: NoticeView, words: Wording, stamp: datetime) -> dict[str, Any]:
    """What the templates of a notice see, but for `reader` and `t`. `stamp` is now, in the reader's own zone."""
    if view.kind in _ARE_UPDATES:
        raise Invalid("An update is told by the letter of the update itself.", field="kind")
    if (view.story is None) is not (view.kind in _ABOUT_NO_STORY):
        raise Invalid(f"A notice of the kind {view.kind} is about {_ABOUT[view.story is None]}.", field="story")
    parts = {name: line(text) for name, text in view.parts}
    if missing := _PARTS.get(view.kind, frozenset()) - parts.keys():
        raise Invalid(f"A notice of the kind {view.kind} lacks {', '.join(sorted(missing))}.", field="parts")
    context: dict[str, Any] = {
        "said": parts,
        "newsroom": newsroom_context(view.newsroom, view.public_url),
        "sent": {"day": words.day(stamp), "time": words.time(stamp)},
    }
    if "at" in parts:
        context["due"] = _due(parts, words, stamp)
    if view.story is not None:
        url = f"{view.public_url}/s/{view.story.slug}"
        context["story"] = {"headline": line(view.story.headline), "url": url}
    return context


def _due(parts: Mapping[str, str], words: Wording, stamp: datetime) -> dict[str, str]:
    """When a draft is, or was, to go out: by readers' own clocks, or in the zone of `stamp`."""
    if parts["local"]:
        there = datetime.fromisoformat(parts["local"])
        day, time = words.day(there), f"{there:%H:%M}"
        when = words.gettext("%(day)s, %(time)s by each reader’s clock") % {"day": day, "time": time}
        return {"time": time, "when": when}
    there = datetime.fromisoformat(parts["at"]).astimezone(stamp.tzinfo)
    return {"time": words.time(there), "when": f"{words.day(there)}, {words.time(there)}"}


_ABOUT = {True: "a story, and none is given", False: "no story"}
