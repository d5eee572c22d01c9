"""Notices: mails that one person waits for, as this person's mail program shows them."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from dispatcher.channels.email.letter import Values
from dispatcher.config import LANGUAGES, Newsroom
from dispatcher.errors import Invalid
from dispatcher.model import NoticeKind
from dispatcher.rendering.lint import lint_html
from dispatcher.rendering.notices import NoticeView, render_notice
from dispatcher.rendering.samples import sample_notices
from tests.rendering.mails import ANA, Mail

NOW = datetime(2026, 3, 12, 22, 56, 7, tzinfo=UTC)
VIEWS = {view.kind: view for view in sample_notices()}
CONFIRM = "https://ledger.example/confirm/AAAAAQAAAAAAAAABq83vEjRWeJCrze8S"
#: What a reader has who is not confirmed yet: nothing to be managed, and a link that confirms.
STRANGER = Values(
    address="ana@mail.example", message_id="<1.abc@ledger.example>", leave_url=CONFIRM, wish="major updates only"
)


def notice(
    kind: NoticeKind, values: Values | None = None, *, locale: str = "en", view: NoticeView | None = None
) -> Mail:
    letter = render_notice(view or VIEWS[kind], locale=locale, timezone="Europe/Copenhagen", now=NOW)
    return Mail(letter, values or (STRANGER if kind is NoticeKind.CONFIRM else ANA))


def links(mail: Mail) -> set[str]:
    """Where both parts lead."""
    assert set(re.findall(r"https?://\S+", mail.text)) <= set(re.findall(r'href="([^"]+)"', mail.html))
    return set(re.findall(r'href="([^"]+)"', mail.html))


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        (NoticeKind.CONFIRM, "Please confirm: follow “Karsholm dam”"),
        (NoticeKind.FOLLOWING, "You now follow “Karsholm dam”"),
        (NoticeKind.ALREADY, "You already follow “Karsholm dam”"),
        (NoticeKind.LINK, "The link to your alerts"),
        (NoticeKind.INVITATION, "You are invited to the desk"),
        (NoticeKind.OVERRIDE, "Sent without approval: “Water is over the wall”"),
        (NoticeKind.NOT_SENT, "Not sent at 19:00 CET: “Water is over the wall”"),
        (NoticeKind.UNSCHEDULED, "Off the schedule: “Water is over the wall”"),
    ],
)
def test_a_subject_says_in_a_list_of_mails_what_it_is_about(kind: NoticeKind, subject: str) -> None:
    assert notice(kind).subject == subject


def test_a_confirmation_says_what_for_how_often_how_long_and_what_happens_without_it() -> None:
    mail = notice(NoticeKind.CONFIRM)

    for part in (mail.shown, mail.read):
        for words in (
            "Karsholm dam",
            "asked for alerts about this story",
            "You asked for: major updates only",
            "Yes, follow this story",
            "good for 48 hours and works once",
            "If it was not you, do nothing",
            "without your confirmation you get no alerts",
            "ana@mail.example",
            "8 Upper Market, 7040 Karsholm",
        ):
            assert words in part
    assert links(mail) == {CONFIRM, "https://ledger.example/s/karsholm-dam", "https://ledger.example/"}


def test_a_confirmation_cannot_be_taken_for_an_alert_that_one_could_leave() -> None:
    message = notice(NoticeKind.CONFIRM).message

    assert message["List-Unsubscribe"] is message["List-Unsubscribe-Post"] is None
    assert notice(NoticeKind.LINK).message["List-Unsubscribe"] is None


@pytest.mark.parametrize("kind", [NoticeKind.FOLLOWING, NoticeKind.ALREADY])
def test_what_was_done_or_asked_in_the_readers_name_is_told_and_undone_with_one_click(kind: NoticeKind) -> None:
    mail = notice(kind)

    assert mail.message["List-Unsubscribe"] == f"<{ANA.leave_url}>"
    assert mail.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert {ANA.leave_url, ANA.manage_url} < links(mail)
    for part in (mail.shown, mail.read):
        assert "You asked for: every update, since 8 March 2026" in part


def test_the_link_to_ones_own_page_comes_alone() -> None:
    mail = notice(NoticeKind.LINK, ANA._replace(leave_url="", wish=""))

    assert links(mail) == {ANA.manage_url, "https://ledger.example/"}
    assert "do not pass this link on" in mail.read
    assert "You asked for:" not in mail.read


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", VIEWS)
def test_every_notice_is_whole_small_and_stands_alone(kind: NoticeKind, language: str) -> None:
    mail = notice(kind, locale=language)
    message = mail.message

    assert message["In-Reply-To"] is message["References"] is message["List-Id"] is None
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "OOF, AutoReply"
    assert message["Content-Language"] == language
    assert parsedate_to_datetime(message["Date"]) == NOW.replace(microsecond=0)
    assert lint_html(mail.html) == []
    assert len(mail.raw) < 30_000
    assert f'<html lang="{language}"' in mail.html
    assert mail.html.count("<h1") == 1
    assert "prefers-color-scheme: dark" in mail.html
    assert "slot" not in mail.html + mail.text
    assert "<img" not in mail.html
    assert all(len(line) <= 72 for line in mail.text.split("\n"))
    assert ("00:56" in mail.shown) is ("23:56" not in mail.shown)
    assert "23:56 CET" in mail.shown


@pytest.mark.parametrize("kind", VIEWS)
def test_a_notice_for_a_ukrainian_reader_has_no_english_sentence(kind: NoticeKind) -> None:
    mail = notice(kind, locale="uk-UA")
    ours = re.sub(r"https?://\S+|The Karsholm Ledger|8 Upper Market, 7040 Karsholm|Karsholm dam", "", mail.text)
    theirs = (ANA.address, ANA.wish, STRANGER.wish, "CET", *(text for _, text in VIEWS[kind].parts if text))
    for text in (*theirs, *re.findall(r"\S+", " ".join(theirs))):
        ours = ours.replace(text, "")
    headline = VIEWS[kind].story.headline if VIEWS[kind].story else dict(VIEWS[kind].parts).get("headline", "")  # type: ignore[union-attr]

    assert re.findall(r"[A-Za-z]+", ours) == []
    assert re.findall(r"[A-Za-z]+", mail.subject.replace(headline, "").replace("CET", "")) == []


def test_markup_in_a_headline_or_a_newsrooms_name_is_shown_as_text() -> None:
    for attack in ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "%(story)s %s {{ reader.address }}"):
        view = VIEWS[NoticeKind.CONFIRM]
        assert view.story is not None
        view = replace(view, newsroom=Newsroom(name=attack), story=replace(view.story, headline=attack))
        for language in LANGUAGES:
            mail = notice(NoticeKind.CONFIRM, view=view, locale=language)
            assert "<script" not in mail.html
            assert "<img" not in mail.html
            assert attack in mail.subject
            assert mail.shown.count(attack) >= 2
            assert lint_html(mail.html) == []


def test_a_line_break_in_a_headline_makes_no_header() -> None:
    view = VIEWS[NoticeKind.FOLLOWING]
    assert view.story is not None
    mail = notice(
        NoticeKind.FOLLOWING, view=replace(view, story=replace(view.story, headline="Dam\r\nBcc: x@mail.example"))
    )

    assert mail.subject == "You now follow “Dam Bcc: x@mail.example”"
    assert mail.message["Bcc"] is None


def test_a_notice_about_a_story_needs_one_and_a_catch_up_is_no_notice_of_its_own() -> None:
    for view, field in (
        (replace(VIEWS[NoticeKind.CONFIRM], story=None), "story"),
        (replace(VIEWS[NoticeKind.CONFIRM], kind=NoticeKind.LINK), "story"),
        (replace(VIEWS[NoticeKind.CONFIRM], kind=NoticeKind.CATCH_UP), "kind"),
        (replace(VIEWS[NoticeKind.LINK], kind=NoticeKind.TEST), "kind"),
        (replace(VIEWS[NoticeKind.INVITATION], parts=()), "parts"),
    ):
        with pytest.raises(Invalid) as caught:
            render_notice(view, locale="en", timezone="UTC", now=NOW)
        assert caught.value.field == field


def test_an_invitation_says_who_invites_to_what_and_leads_there() -> None:
    values = ANA._replace(leave_url="https://ledger.example/desk/invitation/T", manage_url="", wish="")
    mail = notice(NoticeKind.INVITATION, values)
    again = replace(VIEWS[NoticeKind.INVITATION], parts=(("by", "ada"), ("is_reset", "yes"), ("role", "lead")))
    reset = notice(NoticeKind.INVITATION, values, view=again)

    assert links(mail) == links(reset) == {values.leave_url, "https://ledger.example/"}
    for part in (mail.shown, mail.read):
        assert "ines.falk@ledger.example invites you to the desk" in part
        assert "Your role: editor" in part
        assert "good for 48 hours and works once" in part
    assert reset.subject == "A new password for the desk"
    assert "The old one counts until you do" in reset.read


def test_leads_are_told_who_sent_what_without_approval_and_why() -> None:
    mail = notice(
        NoticeKind.OVERRIDE, ANA._replace(leave_url="https://ledger.example/desk/log", manage_url="", wish="")
    )

    for part in (mail.shown, mail.read):
        assert "Ines Falk did not wait for a second person with this update of “Karsholm dam”" in part
        assert "Why it was to wait: it is breaking news" in part
        assert "Reason given: nobody else was awake" in part


def test_whoever_scheduled_what_does_not_go_out_reads_when_why_and_what_to_do() -> None:
    to_desk = ANA._replace(leave_url="https://ledger.example/desk/drafts/7", manage_url="", wish="")
    missed, off = notice(NoticeKind.NOT_SENT, to_desk), notice(NoticeKind.UNSCHEDULED, to_desk)

    for part in (missed.shown, missed.read):
        assert "was to go out on Sun 9 Nov 2025, 19:00 CET; Ines Falk had scheduled it. It did not." in part
        assert "Why: Nobody has approved it." in part
        assert "send it now or schedule it again" in part
    for part in (off.shown, off.read):
        assert "which you scheduled for Sun 9 Nov 2025, 18:00 by each reader’s clock, does not go out then" in part
        assert "Ines Falk has changed it." in part
        assert "Reason given" not in part
    assert links(missed) == links(off) == {to_desk.leave_url, "https://ledger.example/"}


def test_a_notice_that_can_be_left_is_not_sent_without_its_link() -> None:
    with pytest.raises(Invalid, match="leave_url"):
        notice(NoticeKind.FOLLOWING, ANA._replace(leave_url=""))


@pytest.mark.skipif(shutil.which("spamassassin") is None, reason="needs Debian's spamassassin")
@pytest.mark.parametrize(("language", "most"), [("en", 0.5), ("uk", 1.5)])
def test_a_spam_filter_has_little_against_a_confirmation(language: str, most: float) -> None:
    # One point is for Cyrillic words beside addresses in Latin letters, which every Ukrainian mail with links has.
    letter = render_notice(VIEWS[NoticeKind.CONFIRM], locale=language, timezone="UTC", now=datetime.now(UTC))
    mail = Mail(letter, STRANGER)
    done = subprocess.run(["spamassassin", "-L", "-t"], input=mail.raw, capture_output=True, check=False, timeout=120)
    report = done.stdout.decode(errors="replace")
    score = re.search(r"Content analysis details:\s+\((-?[\d.]+) points", report)

    assert score, report[-2000:]
    assert float(score.group(1)) < most, report[report.index("Content analysis") :]
