"""From an update to its push: a title and a few words that fit on a locked screen, and where a tap leads."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from dispatcher import markdown
from dispatcher.channels.webpush.letter import PushLetter, compile_push
from dispatcher.model import Kind
from dispatcher.rendering import environment
from dispatcher.rendering.letters import UpdateView, line, newsroom_context, successor_context
from dispatcher.rendering.wording import Wording, wording

#: Characters of a title and a body. Screens cut them at 40 to 90 and at about 200, and in the longest alphabets both
#: together take 1,400 of the 3,993 bytes that a push may have (RFC 8291 §4).
MAX_TITLE = 90
MAX_BODY = 240


def render_push(view: UpdateView, *, locale: str) -> PushLetter:
    """The push about an update for readers of one language.

    Its `tag` is the story's, so that it takes the place of the push before it. Raises `Misconfigured` or Jinja's
    errors if a template is broken, and `TooLarge` if the story's address leaves no room.
    """
    words = wording(locale)
    made, context = environment("push", words.language), push_context(view, words)
    title, body = (made.get_template(f"update/{name}.txt").render(context) for name in ("title", "body"))
    update = view.update
    withdraws = {"withdraws": update.corrects_seq} if update.kind is Kind.WITHDRAWAL else {}
    return compile_push(
        {
            "title": shorten(line(title), MAX_TITLE),
            "body": shorten(line(body), MAX_BODY),
            "url": context["update"]["url"],
            "tag": f"story-{view.story.slug}",
            "lang": words.language,
            "dir": "auto",
            "at": int(update.published_at.timestamp() * 1000),
            "story": view.story.slug,
            "seq": update.seq,
            "kind": str(update.kind),
            **withdraws,
            "importance": str(update.importance),
            "open": words.pgettext("push", "Open"),
            "stop": words.pgettext("push", "Stop following"),
        }
    )


def push_context(view: UpdateView, words: Wording) -> dict[str, Any]:
    """What the templates of a push about an update see. `title` and `text` are what is usually said."""
    update = view.update
    summary, headline = line(update.summary), line(update.headline)
    return {
        "newsroom": newsroom_context(view.newsroom, view.public_url),
        "story": {"headline": line(view.story.headline), "url": view.story_url},
        "update": {
            "headline": headline,
            "summary": summary,
            "seq": update.seq,
            "url": f"{view.story_url}#u{update.seq}",
            "kind": str(update.kind),
            "importance": str(update.importance),
            "tag": words.tag(update.kind, update.importance),
        },
        "title": words.subject(update.kind, update.importance, headline),
        "text": summary or markdown.first_words(update.body, longest=2 * MAX_BODY),
        "corrected": "" if view.corrected is None else line(view.corrected.headline),
        "successor": successor_context(view),
        "missed": [line(past.headline) for past in view.earlier[: view.missed]],
    }


def shorten(text: str, longest: int) -> str:
    """`text` in at most `longest` characters, cut between words where there are some, and then with an ellipsis."""
    if len(text) <= longest:
        return text
    cut = text[: longest - 1]
    # Not in the middle of what is one sign to a reader: a letter and its accents, a family of emoji.
    while cut and (_joins(text[len(cut)]) or cut[-1] == _JOINER):
        cut = cut[:-1]
    if text[len(cut)].isalnum() and (space := cut.rfind(" ")) > longest // 2:
        cut = cut[:space]
    return re.sub(r"[\s,;:–-]+$", "", cut) + "…"


_JOINER = "\u200d"


def _joins(character: str) -> bool:
    """Whether it belongs to the character before it."""
    return character == _JOINER or unicodedata.category(character) in ("Mn", "Mc", "Me", "Sk")
