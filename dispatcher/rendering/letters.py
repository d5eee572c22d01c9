"""From an update to its letter: templates to MJML to HTML with its styles inlined, and a text part of its own."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import Address
from typing import Any

from css_inline import CSSInliner
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup
from mjml import mjml2html

from dispatcher import markdown
from dispatcher.channels.email.letter import Letter, Marks, compile_letter
from dispatcher.channels.email.mime import mailbox
from dispatcher.config import Newsroom
from dispatcher.errors import Misconfigured
from dispatcher.model import Importance, Kind, Story, Update
from dispatcher.rendering import environment
from dispatcher.rendering.wording import Wording, wording, zone

#: Octets of HTML that the text of an update may take before its styles are inlined, and that a mail may have: Gmail
#: hides what is beyond 102 KB.
MAX_BODY_HTML = 40_000
MAX_HTML = 96_000
#: Earlier updates that a mail lists; the others are one link.
MAX_EARLIER = 8
_PREVIEW = 140


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """An update that went before, as a later mail shows it."""

    seq: int
    headline: str
    published_at: datetime
    kind: Kind = Kind.UPDATE
    importance: Importance = Importance.ROUTINE
    corrected: bool = False  #: a later update corrects it
    summary: str = ""  #: shown to those who missed it


@dataclass(frozen=True, kw_only=True, slots=True)
class Successor:
    """The story that goes on where a final update ends its own."""

    slug: str
    headline: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateView:
    """Everything that a letter about an update shows, the reader's own values aside."""

    newsroom: Newsroom
    public_url: str  #: without a slash at the end
    mail_from: Address
    story: Story
    update: Update
    corrected: Past | None = None  #: what a correction corrects
    earlier: tuple[Past, ...] = ()  #: newest first
    earlier_count: int | None = None  #: how many there are in all; None if `earlier` has them all
    missed: int = 0  #: so many of `earlier`, the newest, these readers have not received
    headers: tuple[tuple[str, str], ...] = field(default=())  #: further headers, in ASCII
    successor: Successor | None = None  #: offered to follow
    merged: tuple[str, ...] = ()  #: headlines of stories whose readers came to this one not long ago
    label: str = ""  #: stands before the subject, where this is not for readers: `[Test]`

    @property
    def story_url(self) -> str:
        return f"{self.public_url}/s/{self.story.slug}"

    @property
    def domain(self) -> str:
        domain = self.mail_from.domain
        return domain if domain.isascii() else domain.encode("idna").decode()

    @property
    def thread_id(self) -> str:
        """The Message-ID that all mails of a story refer to. No mail has it: the thread has no first mail to miss."""
        return f"<story.{self.story.slug}@{self.domain}>"

    @property
    def list_id(self) -> str:
        """The story as a list (RFC 2919), with its headline for people."""
        return " ".join(
            mailbox(line(self.story.headline), f"{self.story.slug}.stories.{self.domain}", column=9).split()
        )


def render_update(view: UpdateView, *, locale: str = "en", timezone: str = "UTC") -> Letter:
    """The letter about an update for readers of one language in one time zone (an IANA name).

    The same view gives the same bytes. Raises `Invalid` if the content cannot be sent as it is, and `Misconfigured`
    if a template is broken.
    """
    words, marks = wording(locale), Marks.fresh(repr(view))
    longest = MAX_BODY_HTML
    while True:
        context = update_context(view, words, timezone, longest=longest)
        content = render("update", {**context, "reader": marks, "t": words}, locale=words.language)
        size = len(content.html.encode())
        if size <= MAX_HTML or longest < 1000:
            break
        # Many small blocks, such as the cells of a table, grow a lot when their styles are inlined.
        longest = longest * MAX_HTML // (size + 4000)
    return compile_letter(
        subject=content.subject,
        text=content.text,
        html=content.html,
        marks=marks,
        mail_from=view.mail_from,
        date=view.update.published_at,
        headers=_headers(view, words),
    )


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message's three templates, rendered; marks of slots still stand in them."""

    subject: str
    text: str
    html: str


def render(message: str, context: Mapping[str, Any], *, locale: str = "en") -> Rendered:
    """Render `templates/email/MESSAGE/{subject.txt, body.txt, body.mjml}`.

    The templates of the bodies see the subject too. `context["body"]`, if it is there, is a `MailBody`; its HTML goes
    around MJML, which would read it as MJML.
    """
    made = email_environment(locale)
    hole = Marks.fresh(repr(context)).nonce
    subject = " ".join(made.get_template(f"{message}/subject.txt").render(context).split())
    context = {**context, "subject": subject}
    text = made.get_template(f"{message}/body.txt").render(context)
    with_hole = {**context, "body_html": Markup(hole)}  # noqa: S704  # letters and digits of ours
    body = context.get("body")
    filling = body.html if isinstance(body, markdown.MailBody) else ""
    html = to_html(made.get_template(f"{message}/body.mjml").render(with_hole), {hole: filling})
    return Rendered(subject, _trim(text), html)


def to_html(mjml: str, holes: Mapping[str, str]) -> str:
    """An HTML document from MJML, its styles inlined. `holes` are words in it to be replaced by safe HTML.

    Raises `Misconfigured` if it is not well-formed MJML.
    """
    try:
        html = mjml2html(mjml, disable_comments=True)
    except ValueError as error:
        raise Misconfigured(f"A mail template is not well-formed MJML: {error}.", remedy="Run `make check`.") from error
    # Indents of the templates; what a reader wrote comes in afterwards, with its lines as they are.
    html = re.sub(r"\n\s+", "\n", html)
    for hole, filling in holes.items():
        html = html.replace(hole, filling)
    # MJML's own resets are for old programs and would double every cell's style: they stay in the head.
    resets = _RESETS.search(html)
    html = _INLINER.inline(_RESETS.sub("", html, count=1))
    html = html.replace("</head>", f"{resets.group()}</head>", 1) if resets else html
    # HTML allows < and > in an attribute's value, and headlines end up in some; poor filters take them for tags.
    return _START_TAG.sub(_escape_values, html) if _ANGLE_IN_VALUE.search(html) else html


def _escape_values(tag: re.Match[str]) -> str:
    inner = tag.group()[1:-1]
    return f"<{inner.replace('<', '&lt;').replace('>', '&gt;')}>"


_ANGLE_IN_VALUE = re.compile(r'="[^"]*[<>]')
_START_TAG = re.compile(r"""<[a-z](?:[^<>"]|"[^"]*")*>""")

_RESETS = re.compile(r'<style type="text/css">\s*#outlook a.*?</style>', re.DOTALL)
_INLINER = CSSInliner(keep_at_rules=True, minify_css=True, load_remote_stylesheets=False)


def email_environment(locale: str = "en") -> SandboxedEnvironment:
    """The environment of mail templates in a language, with the filters that they use."""
    made = environment("email", locale)
    made.filters.setdefault("wrap", wrap)
    made.filters.setdefault("bdi", bdi)
    return made


def bdi(text: str) -> Markup:
    """`text` for the middle of a sentence in HTML, whichever way it is written."""
    return Markup("<bdi>{}</bdi>").format(text)


def wrap(text: str, width: int = 72, indent: str = "") -> str:
    """`text` as one paragraph in lines of at most `width`; words and links stay whole."""
    return textwrap.fill(
        " ".join(text.split()), width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def update_context(view: UpdateView, words: Wording, timezone: str, *, longest: int = MAX_BODY_HTML) -> dict[str, Any]:
    """What the templates of `update` see, but for `reader` and `t`."""
    here = zone(timezone)
    update, stamp = view.update, view.update.published_at.astimezone(here)
    body = markdown.for_mail(update.body, longest=longest)
    summary, headline = line(update.summary), line(update.headline)
    earlier = [_past(past, view, words, stamp) for past in view.earlier[:MAX_EARLIER]]
    count = len(view.earlier) if view.earlier_count is None else view.earlier_count
    preview = summary or markdown.first_words(update.body, longest=_PREVIEW)
    return {
        "newsroom": newsroom_context(view.newsroom, view.public_url),
        "story": {"headline": line(view.story.headline), "url": view.story_url},
        "update": {
            "headline": headline,
            "summary": summary,
            "seq": update.seq,
            "url": f"{view.story_url}#u{update.seq}",
            "day": words.day(stamp),
            "time": words.time(stamp),
            "kind": str(update.kind),
            "look": "correction" if update.kind in (Kind.CORRECTION, Kind.WITHDRAWAL) else str(update.importance),
            "tag": words.tag(update.kind, update.importance),
        },
        "subject": f"{view.label} {words.subject(update.kind, update.importance, headline)}".strip(),
        "preview": preview,
        "body": body,
        "corrected": None if view.corrected is None else _past(view.corrected, view, words, stamp),
        "successor": successor_context(view),
        "merged": [line(headline) for headline in view.merged],
        "missed": earlier[: view.missed],
        "earlier": earlier[view.missed :],
        "more": max(0, count - len(earlier)),
    }


def successor_context(view: UpdateView) -> dict[str, str] | None:
    """The story that goes on, and where it is followed: a form, for no link of a mail changes anything."""
    if view.successor is None:
        return None
    return {
        "headline": line(view.successor.headline),
        "url": f"{view.public_url}/s/{view.successor.slug}#follow",
    }


def newsroom_context(newsroom: Newsroom, public_url: str) -> dict[str, str]:
    """The newsroom as the frame of every mail shows it."""
    return {"name": line(newsroom.name), "address": line(newsroom.address), "url": f"{public_url}/"}


def _past(past: Past, view: UpdateView, words: Wording, stamp: datetime) -> dict[str, Any]:
    return {
        "headline": line(past.headline),
        "url": f"{view.story_url}#u{past.seq}",
        "when": words.time_beside(past.published_at.astimezone(stamp.tzinfo), stamp),
        "is_correction": past.kind is Kind.CORRECTION,
        "is_withdrawal": past.kind is Kind.WITHDRAWAL,
        "is_breaking": past.importance is Importance.BREAKING,
        "corrected": past.corrected,
        "summary": line(past.summary),
    }


def _headers(view: UpdateView, words: Wording) -> list[tuple[str, str]]:
    return [
        ("In-Reply-To", view.thread_id),
        ("References", view.thread_id),
        ("List-Id", view.list_id),
        *machine_headers(words),
        *view.headers,
    ]


def machine_headers(words: Wording) -> list[tuple[str, str]]:
    """The headers of every mail of ours, which programs read."""
    return [
        # Answers by machines are stopped by this (RFC 3834) and, at Exchange, by the next. `Precedence: bulk` would
        # add nothing to them, and some filters count it against an alert.
        ("Auto-Submitted", "auto-generated"),
        ("X-Auto-Response-Suppress", "OOF, AutoReply"),
        ("Content-Language", words.language),
    ]


def line(text: str) -> str:
    """One line of a user's text: no control characters, no runs of spaces."""
    return " ".join(_CONTROLS.sub(" ", text).split())


_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _trim(text: str) -> str:
    """Without spaces at line ends, and with never more than one empty line at a time."""
    lines = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", lines).strip("\n") + "\n"
