"""A blast's letters: compiled once per variant, kept in the database, so that every worker sends the same bytes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

import structlog

from dispatcher import db, policy, stories
from dispatcher.channels.email.letter import Letter
from dispatcher.channels.webpush.letter import PushLetter
from dispatcher.config import Settings
from dispatcher.model import Cadence, ChannelName, Importance, Kind, Story, StoryState, Update
from dispatcher.rendering.catalogues import known
from dispatcher.rendering.letters import MAX_EARLIER, Past, Successor, UpdateView
from dispatcher.rendering.making import make
from dispatcher.rendering.notices import NoticeView
from dispatcher.rendering.press import LetterImpossible, Press
from dispatcher.rendering.pressroom import explain
from dispatcher.rendering.wire import unpack
from dispatcher.rendering.wording import wish

log = structlog.get_logger()

#: Blasts and letters that a worker keeps in memory: a letter of 20 KB takes about 50.
MOST_BLASTS = 32
MOST_LETTERS = 256
MOST_WISHES = 4096
#: Seconds during which no worker tries again to make a letter that could not be made.
REST = 10.0
#: Seconds for which the letter of a notice, and so its date, is good.
NOTICE_FRESH = 60.0
#: After so many failures a letter counts as impossible, until somebody has its failures forgotten.
MOST_FAILURES = 3

K = TypeVar("K")
V = TypeVar("V")


class LetterFailed(Exception):
    """A letter could not be made: `reason` is a sentence for editors, `final` says that nobody will try any more."""

    def __init__(self, reason: str, *, final: bool) -> None:
        self.reason = reason
        self.final = final
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Content:
    """What a blast says, on which channel, and until when it is worth saying."""

    story_id: int
    update: Update
    view: UpdateView
    expires_at: datetime
    channel: ChannelName = ChannelName.EMAIL
    known: int = 0  #: the newest update that its list of earlier ones knows of: it may have taken one of them back

    @property
    def suffix(self) -> str:
        """What tells the letters of a blast whose list has changed while it went out from those before."""
        return f"/as of {self.known}" if self.known > self.update.seq else ""

    def ends_at(self, starts_at: datetime | None) -> datetime:
        """When it is worth saying no more, to readers who have it at `starts_at`, or at once."""
        return policy.expires_at(self.update.published_at, self.expires_at, starts_at=starts_at)

    @property
    def topic(self) -> str:
        """What a push service replaces an older push of the same story by (RFC 8030 §5.4): 32 characters at most."""
        return f"story-{self.story_id}"


@dataclass(frozen=True, slots=True)
class Aspect:
    """How some of a blast's readers see its update, where that is not as most do."""

    missed: int = 0  #: so many of the updates that it lists are new to them
    plain: bool = False  #: they never saw what it corrects, so to them it is an update like any other

    @property
    def suffix(self) -> str:
        """What tells a variant from the usual one."""
        return ("/plain" if self.plain else "") + (f"/missed {self.missed}" if self.missed else "")

    def of(self, view: UpdateView) -> UpdateView:
        """The update as these readers see it."""
        if self == USUAL:
            return view
        if self.plain:
            plain = replace(view.update, kind=Kind.UPDATE, corrects=None, corrects_seq=None)
            view = replace(view, update=plain, corrected=None)
        return replace(view, missed=self.missed)


USUAL = Aspect()


class Letters:
    """The letters of one worker process: from memory, else from the database, else compiled and kept there."""

    def __init__(self, settings: Settings, database: db.Database, press: Press | None = None) -> None:
        """With a `press`, letters are made in it, within its limits; without one in a thread, without any."""
        self._settings = settings
        self._database = database
        self._press = press
        self._contents: OrderedDict[int, Content] = OrderedDict()
        self._letters: OrderedDict[tuple[int, str], Letter | PushLetter] = OrderedDict()
        self._notices: OrderedDict[tuple[object, ...], tuple[float, Letter | None]] = OrderedDict()
        self._making: dict[tuple[int, str], asyncio.Lock] = {}
        self._wishes: dict[tuple[object, ...], str] = {}

    async def content(self, blast_id: int) -> Content:
        """What the blast says. It is frozen with the blast; but what is taken back meanwhile is not listed any more."""
        kept = self._contents.get(blast_id)
        async with self._database.connection() as connection:
            if kept is not None and kept.known == await _newest(connection, kept.story_id, kept.update.seq):
                return kept
            row = await connection.one("blast_content", blast_id=blast_id)
            if row is None:
                raise LookupError(f"blast {blast_id} is gone")
            where = {"story_id": row["story_id"], "before": row["seq"]}
            newest = await _newest(connection, **where)
            earlier = await connection.all("earlier_updates", limit=MAX_EARLIER, known=newest, **where)
            count = await connection.value("count_earlier", known=newest, **where)
        content = replace(content_from(self._settings, row, earlier, count), known=newest)
        _keep(self._contents, blast_id, content, MOST_BLASTS)
        return content

    async def letter(
        self, blast_id: int, content: Content, locale: str, timezone: str, aspect: Aspect = USUAL
    ) -> Letter:
        """The mail for readers of one language in one time zone, in the aspect in which they are to see it.

        Raises `LetterFailed` if it cannot be made now, `PressUnavailable` if there is nobody to make it, and `Invalid`
        if the database holds one that this version cannot read.
        """
        found = await self._letter(blast_id, content, known(locale), timezone, aspect)
        assert isinstance(found, Letter)  # noqa: S101  # the blast is a mail's
        return found

    async def push(self, blast_id: int, content: Content, locale: str, aspect: Aspect = USUAL) -> PushLetter:
        """The push for readers of one language: it shows no times, so zones do not matter. Raises as `letter` does."""
        found = await self._letter(blast_id, content, known(locale), "UTC", aspect)
        assert isinstance(found, PushLetter)  # noqa: S101  # the blast is a push's
        return found

    async def notice(self, view: NoticeView, locale: str, timezone: str) -> Letter:
        """The mail of a notice, for readers of one language in one time zone; kept for a moment, because it is dated.

        Raises `LetterFailed` if it cannot be made, and `PressUnavailable` if there is nobody to make it.
        """
        key = (view.kind, view.story, view.parts, known(locale), timezone)
        now = asyncio.get_running_loop().time()
        made_at, letter = self._notices.get(key, (0.0, None))
        if letter is None or now - made_at > NOTICE_FRESH:
            try:
                letter = Letter.loads(await self._render(view, known(locale), timezone, ChannelName.EMAIL))
            except LetterImpossible as error:
                raise _failed(f"{view.kind} in {known(locale)}", error.reason, 1) from error
            _keep(self._notices, key, (now, letter), MOST_LETTERS)
            self._notices.move_to_end(key)
        return letter

    async def of_job(self, job: str) -> Letter:
        """The letter of a job that somebody has packed (`rendering.wire`), made anew.

        Raises `LetterFailed`, also for a job of another version, and `PressUnavailable` if there is nobody to make it.
        """
        try:
            view, locale, timezone, channel = unpack(job.encode())
        except (ValueError, TypeError, KeyError) as error:
            raise _failed("a draft", "another version of Dispatcher has asked for it", 1) from error
        try:
            return Letter.loads(await self._render(view, locale, timezone, channel))
        except LetterImpossible as error:
            raise _failed("a draft", error.reason, 1) from error

    async def _letter(
        self, blast_id: int, content: Content, locale: str, timezone: str, aspect: Aspect
    ) -> Letter | PushLetter:
        key = (blast_id, f"{locale}/{timezone}{aspect.suffix}{content.suffix}")
        if (found := self._letters.get(key)) is not None:
            return found
        async with self._making.setdefault(key, asyncio.Lock()):
            try:
                if (found := self._letters.get(key)) is None:
                    content = replace(content, view=aspect.of(content.view))
                    kept = await self._find(*key) or await self._make(*key, content, locale, timezone)
                    found = Letter.loads(kept) if content.channel is ChannelName.EMAIL else PushLetter.loads(kept)
                    _keep(self._letters, key, found, MOST_LETTERS)
            finally:
                self._making.pop(key, None)
        return found

    async def _find(self, blast_id: int, variant: str) -> bytes | None:
        """The letter as the database holds it, if it does; `LetterFailed` if it is not to be tried now."""
        async with self._database.connection() as connection:
            row = await connection.one("find_letter", blast_id=blast_id, variant=variant, rest=REST)
        assert row is not None  # noqa: S101  # it joins what there is to what was asked
        if row["letter"] is not None:
            return bytes(row["letter"])
        if row["rests"] or row["failures"] >= MOST_FAILURES:
            raise _failed(variant, row["reason"], row["failures"])
        return None

    async def _make(self, blast_id: int, variant: str, content: Content, locale: str, timezone: str) -> bytes:
        try:
            made = await self._render(content.view, locale, timezone, content.channel)
        except LetterImpossible as error:
            async with self._database.connection() as connection:
                failures = await connection.value(
                    "note_letter_failure", blast_id=blast_id, variant=variant, reason=error.reason, rest=REST
                )
            log.error("letter cannot be made", blast=blast_id, variant=variant, reason=error.reason, failures=failures)
            raise _failed(variant, error.reason, failures) from error
        async with self._database.connection() as connection:
            if await connection.execute("keep_letter", blast_id=blast_id, variant=variant, letter=made):
                return made
        return await self._find(blast_id, variant) or made

    async def _render(self, view: UpdateView | NoticeView, locale: str, timezone: str, channel: ChannelName) -> bytes:
        if self._press is not None:
            return await self._press.render(view, locale=locale, timezone=timezone, channel=channel)
        try:
            letter = await asyncio.to_thread(make, view, locale=locale, timezone=timezone, channel=channel)
        except Exception as error:
            raise LetterImpossible(explain(error)) from error
        return letter.dumps()

    def wish(self, cadence: str, confirmed_at: datetime | None, locale: str, timezone: str) -> str:
        """What the reader asked for, in words. Readers who confirmed on one day share them."""
        quarter = 0  # of an hour: within one, no time zone has midnight
        if confirmed_at is not None:
            quarter = confirmed_at.toordinal() * 96 + confirmed_at.hour * 4 + confirmed_at.minute // 15
        key = (cadence, quarter, locale, timezone)
        words = self._wishes.get(key)
        if words is None:
            if len(self._wishes) >= MOST_WISHES:
                self._wishes.clear()
            words = self._wishes[key] = wish(Cadence(cadence), confirmed_at, locale=locale, timezone=timezone)
        return words


async def _newest(connection: db.Connection, story_id: int, before: int) -> int:
    """The number of the newest update that takes back one before number `before`, or that number."""
    return int(await connection.value("newest_correction", story_id=story_id, before=before))


async def forget_failures(tx: db.Connection, blast_id: int) -> None:
    """Have the letters of a blast that could not be made tried again, as often as the first time."""
    await tx.execute("forget_letter_failures", blast_id=blast_id)


def content_from(settings: Settings, row: db.Row, earlier: list[db.Row], count: int) -> Content:
    """What a blast says, from the rows of `blast_content` and `earlier_updates`, and the count of the latter."""
    update = stories.update_from({**row, "id": row["update_id"]})
    story = Story(
        id=row["story_id"],
        slug=row["slug"],
        headline=row["story_headline"],
        summary=row["story_summary"],
        state=StoryState(row["story_state"]),
        created_at=row["story_created_at"],
    )
    view = UpdateView(
        newsroom=settings.newsroom,
        public_url=settings.public_url,
        mail_from=settings.mail_from,
        story=story,
        update=update,
        corrected=_corrected(row),
        successor=_successor(row),
        merged=tuple(row["merged"]),
        earlier=tuple(_past(each) for each in earlier),
        earlier_count=count,
    )
    expires_at = policy.expires_at(update.published_at, update.expires_at)
    return Content(row["story_id"], update, view, expires_at, ChannelName(row["channel"]))


def _failed(variant: str, reason: str, failures: int) -> LetterFailed:
    return LetterFailed(f"the letter for {variant} cannot be made: {reason}", final=failures >= MOST_FAILURES)


def _corrected(row: db.Row) -> Past | None:
    if row["corrects"] is None:
        return None
    return Past(
        seq=row["corrects_seq"], headline=row["corrects_headline"], published_at=row["corrects_at"], corrected=True
    )


def _successor(row: db.Row) -> Successor | None:
    if row["successor"] is None:
        return None
    return Successor(slug=row["successor"], headline=row["successor_headline"])


def _past(row: db.Row) -> Past:
    return Past(
        seq=row["seq"],
        headline=row["headline"],
        published_at=row["published_at"],
        kind=Kind(row["kind"]),
        importance=Importance(row["importance"]),
        corrected=row["corrected"],
        summary=row["summary"],
    )


def _keep(cache: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    cache[key] = value
    if len(cache) > most:
        cache.popitem(last=False)
