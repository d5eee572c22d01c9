"""The very letters of a draft, before it goes out: what readers of any language, zone and aspect would get.

They come out of the press that makes what is sent, within its limits: no text that somebody types can stop the desk.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from dispatcher import db, letters, markdown
from dispatcher.addresses import address_hash, parse_address
from dispatcher.channels.email.letter import Letter, Values
from dispatcher.channels.email.mime import unstuffed
from dispatcher.channels.webpush.letter import PushLetter
from dispatcher.config import Settings
from dispatcher.letters import USUAL, Aspect
from dispatcher.model import Cadence, ChannelName, Draft, NoticeKind
from dispatcher.rendering.letters import MAX_EARLIER, UpdateView, line
from dispatcher.rendering.press import LetterImpossible, Press
from dispatcher.rendering.wire import pack
from dispatcher.rendering.wording import wish, wording
from dispatcher.tokens import leave_links, manage_links

#: Letters that a web process keeps: one of 20 KB takes about 50.
MOST_KEPT = 64
#: Beyond this Gmail hides the rest of a mail, in bytes of its HTML.
GMAIL_CLIPS = 102 * 1024
#: Characters of the line below a subject in a list of mails.
PREVIEW = 140
#: Stands for what is not written yet: a mail needs a subject.
NO_HEADLINE = "(no headline yet)"
#: What a test mail's subject begins with, and the seconds for which it is worth sending.
LABEL = "[Test]"
TEST_FOR = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class MailPreview:
    """A mail as it would be sent to one reader."""

    subject: str
    preview: str  #: what a list of mails shows beside the subject
    html: str
    text: str
    size: int  #: of the whole message, in bytes
    html_size: int
    is_cut: bool  #: the text is longer than a mail may be, so its end is on the story page only


@dataclass(frozen=True, slots=True)
class PushPreview:
    """What a push hands to a screen, before the screen cuts it."""

    title: str
    body: str
    url: str


class Previews:
    """The previews of one web process. Close it."""

    def __init__(self, settings: Settings, press: Press | None = None) -> None:
        self._settings = settings
        self._press = press or Press()
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._leave = leave_links(settings.secret_key)
        self._manage = manage_links(settings.secret_key)

    async def mail(
        self, view: UpdateView, *, address: str, locale: str, timezone: str, aspect: Aspect = USUAL
    ) -> MailPreview:
        """The mail to a reader of this address, language and zone. Its links to leave and to manage are nobody's.

        Raises `LetterImpossible` with the reason, and `PressUnavailable`.
        """
        seen = aspect.of(view)
        letter = Letter.loads(await self._made(seen, locale, timezone, ChannelName.EMAIL))
        public = self._settings.public_url
        sent = letter.splice(
            Values(
                address=address,
                message_id=f"<preview@{self._settings.mail_domain}>",
                leave_url=f"{public}/u/{self._leave.make(view.story.id, 0)}",
                manage_url=f"{public}/manage/{self._manage.make(0, 0)}",
                wish=wish(Cadence.EVERY, view.update.published_at, locale=locale, timezone=timezone),
            ),
            eight_bit=True,
        )
        message = unstuffed(sent)
        found = message_from_bytes(message, policy=policy.default)
        html = _part(found, "html")
        return MailPreview(
            subject=str(found["Subject"]),
            preview=line(view.update.summary) or markdown.first_words(view.update.body, longest=PREVIEW),
            html=html,
            text=_part(found, "plain"),
            size=len(message),
            html_size=len(html.encode()),
            is_cut=wording(locale).gettext(_CUT) in html,
        )

    async def push(self, view: UpdateView, *, locale: str, aspect: Aspect = USUAL) -> PushPreview:
        """The push to a device of this language. Raises as `mail` does."""
        letter = PushLetter.loads(await self._made(aspect.of(view), locale, "UTC", ChannelName.WEBPUSH))
        said = json.loads(letter.splice(""))
        return PushPreview(said["title"], said["body"], said["url"])

    async def close(self) -> None:
        """End the press."""
        await self._press.close()

    async def _made(self, view: UpdateView, locale: str, timezone: str, channel: ChannelName) -> bytes:
        job = pack(view, locale=locale, timezone=timezone, channel=channel)
        key = hashlib.blake2b(job, digest_size=16).digest()
        if (made := self._kept.get(key)) is None:
            made = await self._press.render(view, locale=locale, timezone=timezone, channel=channel)
            self._kept[key] = made
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return made


async def view_of(
    connection: db.Connection, settings: Settings, story_id: int, draft: Draft, *, now: datetime | None = None
) -> UpdateView:
    """A draft as a published update, to be made into letters: the next of its story, dated this minute."""
    row = await connection.one(
        "draft_content", story_id=story_id, corrects_seq=draft.corrects_seq, successor=draft.successor
    )
    assert row is not None  # noqa: S101  # a draft holds its story
    where = {"story_id": story_id, "before": row["seq"], "known": row["seq"]}
    earlier = await connection.all("earlier_updates", limit=MAX_EARLIER, **where)
    count = await connection.value("count_earlier", **where)
    at = (now or datetime.now(UTC)).replace(second=0, microsecond=0)
    return letters.content_from(settings, {**row, **_said(draft), "published_at": at}, earlier, count).view


async def owe_test(
    tx: db.Connection, settings: Settings, view: UpdateView, *, email: str, locale: str, timezone: str
) -> None:
    """Owe somebody of the desk the letter of a draft, in the caller's transaction: a worker sends it at once."""
    await tx.execute(
        "owe_desk_mail",
        kind=str(NoticeKind.TEST),
        email=email,
        address_hash=address_hash(settings.secret_key, parse_address(email)),
        locale=locale,
        timezone=timezone,
        seconds=TEST_FOR,
        detail=json.dumps({"job": pack(replace(view, label=LABEL), locale=locale, timezone=timezone).decode()}),
    )


def aspects(view: UpdateView) -> Sequence[tuple[str, Aspect]]:
    """The ways in which readers may see an update, by name: `usual` first."""
    found = [("usual", USUAL)]
    if view.corrected is not None:
        found.append(("plain", Aspect(plain=True)))
    elif view.earlier:
        found.append(("missed", Aspect(missed=min(len(view.earlier), 2))))
    return found


def _said(draft: Draft) -> dict[str, Any]:
    return {
        "kind": draft.kind,
        "importance": draft.importance,
        "headline": draft.headline or NO_HEADLINE,
        "summary": draft.summary,
        "body": draft.body,
        "expires_at": draft.expires_at,
    }


def _part(message: EmailMessage, kind: str) -> str:
    found = message.get_body((kind,))
    return "" if found is None else str(found.get_content())


#: What the template says of a text that was cut; the catalogues translate it.
_CUT = "This update is longer than a mail can be. The rest is on the story page."

__all__ = [
    "GMAIL_CLIPS",
    "LetterImpossible",
    "MailPreview",
    "Previews",
    "PushPreview",
    "aspects",
    "owe_test",
    "view_of",
]
