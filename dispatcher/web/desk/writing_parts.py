"""What stands beside a draft: its letters, who gets it, and what to look at before the button is pressed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dispatcher import approval, audience, db, previewing
from dispatcher.audience import Audience, Going
from dispatcher.config import LANGUAGES
from dispatcher.drafting import Text, Writing
from dispatcher.errors import Unavailable
from dispatcher.letters import Aspect
from dispatcher.model import Kind
from dispatcher.previewing import GMAIL_CLIPS, LetterImpossible, MailPreview, PushPreview
from dispatcher.rendering.letters import UpdateView
from dispatcher.rendering.pushes import shorten
from dispatcher.web.desk.writing_links import Link, links_of
from dispatcher.web.front import Front

#: Characters that a headline and a summary should have at most: beyond them screens cut.
GOOD_HEADLINE, GOOD_SUMMARY = 90, 180
#: What screens show of a push before they cut: characters of its title and of its body.
SCREENS = (("ios", "iPhone: four lines, then it cuts", 90, 178),
           ("android", "Android: the headline cuts at 50", 50, 120),
           ("desktop", "Desktop: two lines, then it cuts", 64, 120))  # fmt: skip
VIEWS = ("phone", "desktop", "dark", "text")
#: Updates that a correction may name.
MOST_TO_CORRECT = 50
#: Stories that a final update may lead on to.
MOST_GOING_ON = 200


@dataclass(frozen=True, slots=True)
class Look:
    """How the mail is looked at."""

    view: str = VIEWS[0]
    language: str = "en"
    aspect: str = "usual"

    @classmethod
    def of(cls, view: str, language: str, aspect: str, default: str) -> Look:
        """What was asked for, as far as there is such a thing."""
        return cls(
            view if view in VIEWS else VIEWS[0],
            language if language in LANGUAGES else default,
            aspect if aspect in ("usual", "plain", "missed") else "usual",
        )


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was looked at before the button. `tone` is empty where all is well."""

    words: str
    tone: str = ""
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Screen:
    """A push on one kind of locked screen."""

    name: str
    words: str
    title: str
    body: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """All that the card shows of a draft beside its fields."""

    writing: Writing
    mail: MailPreview | None  #: None if it cannot be made
    push: PushPreview | None
    problem: str  #: why not
    screens: tuple[Screen, ...]
    aspects: tuple[str, ...]  #: ways in which readers may see it
    audience: Audience | None  #: None while it is counted for the first time
    going: list[Going]  #: what of this story is still going out
    why: str | None  #: why a second person has to approve it
    checks: tuple[Check, ...]
    is_checking: bool  #: links are still asked for
    to_correct: list[db.Row]
    going_on: list[db.Row]  #: stories that may go on where this one ends
    before: db.Row | None  #: the newest update there is


async def parts(here: Front, writing: Writing, look: Look, address: str) -> Parts:
    """Everything that the card shows of a draft as it is saved."""
    text, story_id = writing.text, writing.story.id
    counted = await here.counts.count(writing.story, text)
    async with here.database.connection() as connection:
        view = await previewing.view_of(connection, here.settings, story_id, text.draft())
        going = await audience.going_out(connection, story_id)
        before = await connection.one("update_before", story_id=story_id)
        to_correct: list[db.Row] = []
        if text.kind is Kind.CORRECTION:
            to_correct = await connection.all("updates_to_correct", story_id=story_id, limit=MOST_TO_CORRECT)
        going_on: list[db.Row] = []
        if text.kind is Kind.FINAL:
            going_on = await connection.all("developing_stories", limit=MOST_GOING_ON)
        rule = (
            None
            if writing.is_approved
            else await approval.needed(connection, story_id, text.draft(), is_quick=counted is None, counted=counted)
        )
    mail, push, problem = await _letters(here, view, look, address)
    links = here.links.look(links_of(text.body))
    return Parts(
        writing=writing,
        mail=mail,
        push=push,
        problem=problem,
        screens=screens(push),
        aspects=tuple(name for name, _ in previewing.aspects(view)),
        audience=counted,
        going=[each for each in going if each.kind is not Kind.CORRECTION],
        why=rule,
        checks=tuple(checks(text, before, mail, links)),
        is_checking=any(each.state == "checking" for each in links),
        to_correct=to_correct,
        going_on=[each for each in going_on if each["slug"] != writing.story.slug],
        before=before,
    )


async def letter(here: Front, writing: Writing, look: Look, address: str) -> MailPreview:
    """The mail of a draft as it is saved. Raises `LetterImpossible` and `PressUnavailable`."""
    async with here.database.connection() as connection:
        view = await previewing.view_of(connection, here.settings, writing.story.id, writing.text.draft())
    return await _mail(here, view, look, address)


async def _letters(
    here: Front, view: UpdateView, look: Look, address: str
) -> tuple[MailPreview | None, PushPreview | None, str]:
    """Mail and push, or the reason why there are none: the text can be saved all the same."""
    try:
        mail, push = await asyncio.gather(
            _mail(here, view, look, address), here.previews.push(view, locale=look.language, aspect=_aspect(view, look))
        )
    except LetterImpossible as error:
        return None, None, f"This text cannot be made into a mail: {error.reason}."
    except Unavailable as error:
        return None, None, str(error)
    return mail, push, ""


async def _mail(here: Front, view: UpdateView, look: Look, address: str) -> MailPreview:
    zone = here.settings.newsroom.timezone
    return await here.previews.mail(
        view, address=address, locale=look.language, timezone=zone, aspect=_aspect(view, look)
    )


def _aspect(view: UpdateView, look: Look) -> Aspect:
    found = dict(previewing.aspects(view))
    return found.get(look.aspect, found["usual"])


def screens(push: PushPreview | None) -> tuple[Screen, ...]:
    """A push as locked screens cut it."""
    if push is None:
        return ()
    return tuple(
        Screen(name, words, shorten(push.title, title), shorten(push.body, body))
        for name, words, title, body in SCREENS
    )


def checks(text: Text, before: db.Row | None, mail: MailPreview | None, links: Sequence[Link]) -> list[Check]:
    """What an editor should know before pressing the button, the worst first."""
    found = [*_missing(text), *_repeated(text, before), *_lengths(text), *_size(mail), *_links(links)]
    return sorted(found, key=lambda check: ("stop", "wait", "").index(check.tone))


def _missing(text: Text) -> list[Check]:
    found = []
    if not text.headline.strip():
        found.append(Check("There is no headline yet. Without one it cannot be sent.", "stop", "Empty"))
    if not text.body.strip():
        found.append(Check("There is no text yet. Without one it cannot be sent.", "stop", "Empty"))
    if text.kind is Kind.CORRECTION and text.corrects_seq is None:
        found.append(Check("Choose the update that this corrects.", "stop", "Missing"))
    if not text.summary.strip():
        found.append(Check("No summary: push and inbox show the first words of the text instead.", "wait", "Empty"))
    return found


def _repeated(text: Text, before: db.Row | None) -> list[Check]:
    """What is new against the newest update; a correction repeats what stands."""
    if before is None or text.kind is Kind.CORRECTION or not text.body.strip():
        return []
    seq = before["seq"]
    found = []
    if text.headline.strip() == before["headline"]:
        found.append(
            Check(f"The headline is that of update {seq}. Readers may take it for the same alert.", "wait", "As before")
        )
    old = _points(before["body"])
    points = len([each for each in _points(text.body) if each not in old])
    new = [
        *(["headline"] if text.headline.strip() != before["headline"] else []),
        *(["summary"] if text.summary.strip() != before["summary"] else []),
        *([f"{points} {'point' if points == 1 else 'points'}"] if points else []),
    ]
    if not points:
        found.append(Check(f"The text says nothing that update {seq} does not say.", "wait", "Nothing new"))
    elif new:
        found.append(Check(f"New against update {seq}: {', '.join(new)}"))
    return found


def _points(body: str) -> set[str]:
    """The lines of a text, without their marks."""
    return {" ".join(_MARK.sub("", line).split()) for line in body.splitlines()} - {""}


_MARK = re.compile(r"^\s*(?:[-*+]|\d+[.)]|#+|>)\s+")


def _lengths(text: Text) -> list[Check]:
    found = []
    if (length := len(text.headline)) > GOOD_HEADLINE:
        found.append(Check(f"The headline has {length} characters; screens cut after {GOOD_HEADLINE}.", "wait", "Long"))
    if (length := len(text.summary)) > GOOD_SUMMARY:
        found.append(Check(f"The summary has {length} characters; screens cut after {GOOD_SUMMARY}.", "wait", "Long"))
    return found


def _size(mail: MailPreview | None) -> list[Check]:
    if mail is None:
        return []
    if mail.is_cut or mail.html_size > GMAIL_CLIPS:
        words = (
            "The text is longer than a mail can be: Gmail clips at 102 KB. The mail ends early, and links to the rest."
        )
        return [Check(words, "wait", "Long")]
    return [Check(f"The mail is {mail.html_size / 1024:.1f} KB; Gmail clips at 102 KB")]


#: How each state of a link is told: the colour and the word of its tag.
_TOLD = {
    "gone": ("stop", "Gone"),
    "broken": ("stop", "Broken"),
    "unreachable": ("stop", "No answer"),
    "slow": ("wait", "Slow"),
    "unsure": ("wait", "Unsure"),
}


def _links(links: Sequence[Link]) -> list[Check]:
    found = [Check(f"{each.host} {each.words}", *_TOLD[each.state]) for each in links if each.state in _TOLD]
    good = len([each for each in links if each.state == "ok"])
    checking = len([each for each in links if each.state == "checking"])
    if good:
        found.append(Check(f"{good} {'link answers' if good == 1 else 'links answer'}"))
    if checking:
        found.append(Check(f"{checking} {'link is' if checking == 1 else 'links are'} being asked for"))
    return found
