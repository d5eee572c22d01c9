"""What editors write: Markdown, as safe HTML for pages and mails and as plain text.

CommonMark with tables and strikethrough. Raw HTML is shown as the text that it is; links go to http, https or mailto,
images come from https, and everything passes an allow-list afterwards (nh3), so a mistake here is not yet a hole.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

#: What is nested deeper in quotes and lists is left out.
MAX_NESTING = 20
#: Headings of a text begin below those of the page or mail around it.
FIRST_HEADING = 3

_LINK = re.compile(r"(?:https?://|mailto:)[^\s]", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_RIGHT_TO_LEFT = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\U00010800-\U00010fff\U0001e800-\U0001efff]")
_BLOCKS = ("p", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "table", "td", "th")


def to_html(source: str) -> Markup:
    """Safe HTML, for pages."""
    return Markup(_PAGE.clean(_MARKDOWN.render(tidy(source))))  # noqa: S704  # nh3 has cleaned it


@dataclass(frozen=True, slots=True)
class MailBody:
    """A text as the two parts of a mail show it."""

    html: Markup
    text: str
    cut: bool  #: True if the end was left out so that the mail keeps to its size


@lru_cache(maxsize=32)
def for_mail(source: str, *, longest: int, width: int = 72) -> MailBody:
    """Safe HTML of at most `longest` octets, and the same text in lines of at most `width` characters.

    A longer text is cut at the end of a paragraph, line or word. Images get the attributes that mail programs need;
    the mail's own style sheet does the rest. A text in a script that runs from right to left has the direction of
    each of its blocks marked. The last few results are kept, because all variants of a letter show the same text.
    """
    source = tidy(source)
    cleaner = _MAIL_RTL if _RIGHT_TO_LEFT.search(source) else _MAIL
    kept = source if len(source) <= longest else _shorten(source, longest)
    while (size := len((found := cleaner.clean(_MARKDOWN.render(kept))).encode())) > longest:
        kept = _shorten(kept, len(kept) * longest // size)
    return MailBody(Markup(found), to_text(kept, width=width), cut=kept is not source)  # noqa: S704  # nh3 has cleaned it


def to_text(source: str, *, width: int = 72) -> str:
    """Plain text in lines of at most `width` characters.

    Links become numbers in brackets, with the list of them below the text. A word, a link or a line of code that is
    longer than a line is left whole.
    """
    return _Text(width=width).render(_MARKDOWN.parse(tidy(source)))


def first_words(source: str, *, longest: int) -> str:
    """The beginning of a text on one line, without its links and marks; cut at a word, with an ellipsis."""
    tokens = _MARKDOWN.parse(tidy(source[: 8 * longest]))
    words = " ".join(_plain(token.children or []) for token in tokens if token.type == "inline")
    return textwrap.shorten(words, longest, placeholder=" …")


def tidy(source: str) -> str:
    """The text with LF line ends and without control characters."""
    source = source.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n\n")
    return _CONTROLS.sub("", source)


def _shorten(source: str, length: int) -> str:
    """At most `length` characters of `source`, which has more, cut where it hurts least."""
    length = max(0, min(length, len(source) - 1))
    for mark in ("\n\n", "\n", " "):
        cut = source.rfind(mark, length * 2 // 3, length + 1)
        if cut > 0:
            return source[:cut]
    return source[:length]


def _markdown() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_NESTING}).enable(["table", "strikethrough"])
    made.validateLink = lambda url: bool(_LINK.match(url.strip()))  # type: ignore[method-assign]
    made.add_render_rule("image", _render_image)
    made.add_render_rule("heading_open", _render_heading)
    made.add_render_rule("heading_close", _render_heading)
    return made


def _render_image(_self: object, tokens: Sequence[Token], index: int, *_rest: object) -> str:
    token = tokens[index]
    alt, source = html.escape(_plain(token.children or [])), str(token.attrs.get("src", ""))
    if not source.lower().startswith("https://"):
        return f"<em>{alt}</em>"
    # Outlook obeys the width alone, everybody else the style that the mail's style sheet adds.
    return f'<img src="{html.escape(source)}" alt="{alt}" width="536">'


def _render_heading(_self: object, tokens: Sequence[Token], index: int, *_rest: object) -> str:
    token = tokens[index]
    tag = f"h{min(int(token.tag[1]) + FIRST_HEADING - 1, 6)}"
    return f"<{tag}>" if token.nesting == 1 else f"</{tag}>\n"


def _plain(tokens: Sequence[Token]) -> str:
    """The words of inline tokens, without any mark-up."""
    return "".join(
        " " if each.type in ("softbreak", "hardbreak") else _plain(each.children) if each.children else each.content
        for each in tokens
    )


def _cleaner(*, mail: bool, directions: bool) -> nh3.Cleaner:
    tags = {*_BLOCKS, "br", "hr", "strong", "em", "s", "a", "code", "pre", "img", "thead", "tbody", "tr"}
    return nh3.Cleaner(
        tags=tags,
        clean_content_tags={"script", "style"},
        attributes={
            "a": {"href", "title"},
            "img": {"src", "alt", "title", "width"},
            "ol": {"start"},
            "td": {"style"},
            "th": {"style"},
        },
        filter_style_properties={"text-align"},
        url_schemes={"http", "https", "mailto"},
        url_relative="deny",
        link_rel=None if mail else "noopener noreferrer nofollow",
        set_tag_attribute_values={tag: {"dir": "auto"} for tag in _BLOCKS} if directions else None,
    )


_MARKDOWN = _markdown()
_PAGE = _cleaner(mail=False, directions=True)
_MAIL = _cleaner(mail=True, directions=False)
_MAIL_RTL = _cleaner(mail=True, directions=True)


@dataclass
class _Text:
    """Turns Markdown tokens into plain text."""

    width: int
    _lines: list[str] = field(default_factory=list)
    _links: list[str] = field(default_factory=list)
    _indent: str = ""
    _bullet: str = ""  #: stands once, before the first line of a list item
    _gap: bool = False  #: an empty line goes before the next block
    _lists: list[int | None] = field(default_factory=list)  #: open lists: the next number, None for bullets
    _outer: list[str] = field(default_factory=list)  #: indents to return to
    _rows: list[list[str]] = field(default_factory=list)
    _heading: str = ""

    def render(self, tokens: Sequence[Token]) -> str:
        for token in tokens:
            handler = getattr(self, f"_on_{token.type}", None)
            if handler is not None:
                handler(token)
        if self._links:
            self._lines.append("")
            self._lines += [f"[{number}] {url}" for number, url in enumerate(self._links, 1)]
        return "\n".join(line.rstrip() for line in self._lines).strip("\n")

    def _put(self, text: str, *, wrap: bool = True) -> None:
        """Append a block of text, with the indent and the bullet that are due."""
        self._leave_gap(self._outer[-1] if self._bullet else self._indent)
        first = self._indent[: len(self._indent) - len(self._bullet)] + self._bullet
        room = max(24, self.width - len(self._indent))
        lines: list[str] = []
        for line in text.split("\n"):
            lines += (
                (textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False) or [""]) if wrap else [line]
            )
        for number, line in enumerate(lines):
            self._lines.append((self._indent if number else first) + line)
        self._bullet = ""

    def _leave_gap(self, indent: str) -> None:
        """The empty line that is due; within a quote it belongs to the quote."""
        if self._gap and self._lines:
            self._lines.append(indent)
        self._gap = False

    def _on_paragraph_close(self, token: Token) -> None:
        self._gap = not token.hidden

    def _on_inline(self, token: Token) -> None:
        text = self._inline(token.children or [])
        if self._rows:
            self._rows[-1].append(" ".join(text.split()))
        else:
            self._put(text)
            if self._heading:
                self._lines.append(self._indent + self._heading * min(max(map(len, text.split("\n"))), 40))

    def _inline(self, tokens: Sequence[Token]) -> str:
        out: list[str] = []
        opened: list[tuple[int, str]] = []
        for token in tokens:
            if token.type in ("softbreak", "hardbreak"):
                out.append(" " if token.type == "softbreak" else "\n")
            elif token.type == "link_open":
                opened.append((len(out), str(token.attrs.get("href", ""))))
            elif token.type == "link_close" and opened:
                start, url = opened.pop()
                out.append(self._link("".join(out[start:]), url))
            elif token.type == "image":
                out.append(_image_as_text(token))
            else:
                out.append(_MARKS.get(token.type, token.content))
        return "".join(out)

    def _link(self, text: str, url: str) -> str:
        """What follows a link's text: its number, or nothing where the text is the link."""
        if text == url or f"mailto:{text}" == url:
            return ""
        if url not in self._links:
            self._links.append(url)
        return f" [{self._links.index(url) + 1}]"

    def _on_heading_open(self, token: Token) -> None:
        self._gap = True
        self._heading = "-" if token.tag in ("h1", "h2") else ""

    def _on_heading_close(self, _token: Token) -> None:
        self._gap, self._heading = True, ""

    def _on_hr(self, _token: Token) -> None:
        self._gap = True
        self._put("* * *")
        self._gap = True

    def _on_fence(self, token: Token) -> None:
        self._gap = True
        self._put("\n".join(f"    {line}" for line in token.content.rstrip("\n").split("\n")), wrap=False)
        self._gap = True

    _on_code_block = _on_fence

    def _on_blockquote_open(self, _token: Token) -> None:
        if not self._bullet:
            self._leave_gap(self._indent)
        self._push("> ")

    def _on_blockquote_close(self, _token: Token) -> None:
        self._indent = self._outer.pop()
        self._gap = True

    def _on_bullet_list_open(self, _token: Token) -> None:
        self._lists.append(None)

    def _on_ordered_list_open(self, token: Token) -> None:
        self._lists.append(int(token.attrs.get("start", 1)))

    def _on_bullet_list_close(self, _token: Token) -> None:
        self._lists.pop()
        self._gap = not self._lists

    _on_ordered_list_close = _on_bullet_list_close

    def _on_list_item_open(self, _token: Token) -> None:
        number = self._lists[-1]
        bullet = "* " if number is None else f"{number}. "
        if number is not None:
            self._lists[-1] = number + 1
        self._push(" " * len(bullet))
        self._bullet = bullet

    def _on_list_item_close(self, _token: Token) -> None:
        if self._bullet:
            self._put("")
        self._indent = self._outer.pop()

    def _push(self, indent: str) -> None:
        if self._bullet:
            self._put("")  # a block that begins an item begins below its bullet
        self._outer.append(self._indent)
        self._indent += indent

    def _on_tr_open(self, _token: Token) -> None:
        self._rows.append([])

    def _on_table_close(self, _token: Token) -> None:
        rows, self._rows = self._rows, []
        self._gap = True
        for row in rows:
            self._put(" | ".join(row))
        self._gap = True


#: How inline marks look in plain text.
_MARKS = {"strong_open": "*", "strong_close": "*", "em_open": "_", "em_close": "_", "s_open": "~", "s_close": "~"}


def _image_as_text(token: Token) -> str:
    alt, source = _plain(token.children or []), str(token.attrs.get("src", ""))
    if not source.lower().startswith("https://"):
        return alt
    return f"[Image: {alt}, {source}]" if alt else f"[Image: {source}]"
