"""Samples of everything that readers get, made of the sample story: to check templates with, and to warm up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address

from dispatcher.config import Newsroom
from dispatcher.model import Draft, Importance, Kind, NoticeKind, Story, StoryState, Update
from dispatcher.rendering.letters import Past, Successor, UpdateView
from dispatcher.rendering.notices import NoticeView
from dispatcher.samples import sample_story


def sample_notices() -> list[NoticeView]:
    """One view for every notice that has a letter of its own."""
    view = sample_views()[0]
    bare = NoticeView(
        newsroom=view.newsroom, public_url=view.public_url, mail_from=view.mail_from, kind=NoticeKind.LINK
    )
    about_a_story = (NoticeKind.CONFIRM, NoticeKind.FOLLOWING, NoticeKind.ALREADY)
    return [
        *(replace(bare, kind=kind, story=view.story) for kind in about_a_story),
        bare,
        replace(bare, kind=NoticeKind.INVITATION, parts=_INVITED),
        replace(bare, kind=NoticeKind.OVERRIDE, parts=_OVERRULED),
        replace(bare, kind=NoticeKind.NOT_SENT, parts=_NOT_SENT),
        replace(bare, kind=NoticeKind.UNSCHEDULED, parts=_UNSCHEDULED),
    ]


_INVITED = (("by", "ines.falk@ledger.example"), ("role", "editor"), ("is_reset", ""))
_OVERRULED = (
    ("who", "Ines Falk"),
    ("headline", "Water is over the wall"),
    ("story", "Karsholm dam"),
    ("why", "it is breaking news"),
    ("reason", "nobody else was awake"),
)
_DUE = (
    ("who", "Ines Falk"),
    ("headline", "Water is over the wall"),
    ("story", "Karsholm dam"),
    ("at", "2025-11-09T18:00:00+00:00"),
)
_NOT_SENT = (*_DUE, ("local", ""), ("why", "Nobody has approved it."))
_UNSCHEDULED = (*_DUE, ("local", "2025-11-09T18:00:00"), ("how", "changed"), ("reason", ""))


def sample_views() -> list[UpdateView]:
    """One view for every look of the update mail, made of the sample story."""
    sample = sample_story()
    night = datetime(2026, 3, 12, 22, 56, tzinfo=UTC)
    drafts = [*sample.updates]
    story = Story(
        id=1,
        slug=sample.slug,
        headline=sample.headline,
        summary=sample.summary,
        state=StoryState.DEVELOPING,
        created_at=night - timedelta(hours=40),
    )
    past = tuple(
        Past(
            seq=seq,
            headline=draft.headline,
            published_at=night - timedelta(hours=7 * (len(drafts) - seq)),
            kind=draft.kind,
            importance=draft.importance,
            corrected=seq == 2,
        )
        for seq, draft in reversed(list(enumerate(drafts[:-1], 1)))
    )
    view = UpdateView(
        newsroom=Newsroom(name="The Karsholm Ledger", address="8 Upper Market, 7040 Karsholm"),
        public_url="https://ledger.example",
        mail_from=Address("The Karsholm Ledger", "alerts", "ledger.example"),
        story=story,
        update=_update(drafts[-1], len(drafts), night),
        earlier=past,
    )
    views = [replace(view, update=replace(view.update, importance=each)) for each in Importance]
    views += [replace(view, earlier=past * 4, earlier_count=40, newsroom=Newsroom())]
    views += [replace(view, earlier=(), update=replace(view.update, seq=1, summary="", body="word " * 40_000))]
    final = replace(view, update=replace(view.update, kind=Kind.FINAL))
    views += [
        final,
        replace(
            final,
            merged=("The levee at Millgate",),
            successor=Successor(slug="rebuilding", headline="Rebuilding the lower city"),
        ),
    ]
    correction = replace(view.update, kind=Kind.CORRECTION, corrects_seq=1)
    withdrawal = replace(view.update, kind=Kind.WITHDRAWAL, corrects_seq=1)
    views += [replace(view, update=each, corrected=past[0]) for each in (correction, withdrawal)]
    return [*views, replace(view, update=correction), replace(view, earlier=(_taken_back(past[0]), *past))]


def _taken_back(past: Past) -> Past:
    return replace(past, kind=Kind.WITHDRAWAL, headline="The gauge was read wrongly")


def _update(draft: Draft, seq: int, published_at: datetime) -> Update:
    return Update(
        id=seq,
        story_id=1,
        seq=seq,
        kind=draft.kind,
        importance=draft.importance,
        headline=draft.headline,
        summary=draft.summary,
        body=draft.body,
        published_at=published_at,
    )
