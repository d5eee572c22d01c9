"""The mail about an update, as a reader gets it."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from timeit import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.channels.email.letter import Values
from dispatcher.config import Newsroom
from dispatcher.model import Cadence, Importance, Kind
from dispatcher.rendering.letters import Past, UpdateView, render_update
from dispatcher.rendering.lint import lint_html
from dispatcher.rendering.samples import sample_views
from dispatcher.rendering.wording import wish
from tests.rendering.mails import ANA, Mail

BREAKING = next(view for view in sample_views() if view.update.importance is Importance.BREAKING)
CORRECTION = next(view for view in sample_views() if view.corrected)


def mail_of(
    view: UpdateView, values: Values = ANA, *, timezone: str = "UTC", eight_bit: bool = True, locale: str = "en"
) -> Mail:
    return Mail(render_update(view, timezone=timezone, locale=locale), values, eight_bit=eight_bit)


def with_update(view: UpdateView, **changes: object) -> UpdateView:
    return replace(view, update=replace(view.update, **changes))  # type: ignore[arg-type]


def test_a_breaking_mail_says_what_happened_where_from_and_how_to_leave() -> None:
    mail = mail_of(BREAKING, timezone="Europe/Copenhagen")

    assert mail.message["Subject"] == f"BREAKING: {BREAKING.update.headline}"
    for part in (mail.shown, " ".join(mail.text.split())):
        for words in (
            "BREAKING",
            "Karsholm dam",
            BREAKING.update.headline,
            BREAKING.update.summary,
            "Północna Street",
            "Thu 12 Mar 2026, 23:56 CET",
            "One of three gates is stuck; shelters open in Karsholm",
            "You get this because you follow “Karsholm dam”.",
            "ana@mail.example",
            "every update, since 8 March 2026",
            "Stop following this story",
            "Manage my alerts",
            "8 Upper Market, 7040 Karsholm",
        ):
            assert words in part
        assert "Ana Lindqvist" not in part
    for link in (ANA.leave_url, ANA.manage_url, "https://ledger.example/s/karsholm-dam#u4"):
        assert f'href="{link}"' in mail.html
        assert link in mail.text.split()
    assert all(len(line) <= 72 for line in mail.text.split("\n"))


def test_all_mails_of_a_story_are_one_thread_and_one_list() -> None:
    first, second = mail_of(BREAKING).message, mail_of(CORRECTION).message

    for name in ("References", "In-Reply-To", "List-Id"):
        assert first[name] == second[name]
    assert first["References"] == first["In-Reply-To"] == "<story.karsholm-dam@ledger.example>"
    assert first["List-Id"] == '"Karsholm dam" <karsholm-dam.stories.ledger.example>'
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["Precedence"] is None
    assert first["List-Unsubscribe"] == f"<{ANA.leave_url}>"
    assert first["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_a_correction_shows_what_was_wrong_and_what_is_right() -> None:
    mail = mail_of(CORRECTION)
    assert CORRECTION.corrected is not None

    assert str(mail.message["Subject"]).startswith("CORRECTION: ")
    assert f"<s>{CORRECTION.corrected.headline}</s>" in re.sub(r"<s [^>]*>", "<s>", mail.html)
    for part in (mail.shown.upper(), mail.text.upper()):
        assert "WE WROTE AT 15:56" in part
        assert "WHAT IS RIGHT" in part
    assert "#b0121b" not in mail.html.split("<body")[1].replace("Breaking:", "").split("Earlier in this story")[0]


@pytest.mark.parametrize(
    ("kind", "importance", "tag", "subject"),
    [
        (Kind.UPDATE, Importance.ROUTINE, "UPDATE", "{}"),
        (Kind.UPDATE, Importance.MAJOR, "MAJOR UPDATE", "{}"),
        (Kind.UPDATE, Importance.BREAKING, "BREAKING", "BREAKING: {}"),
        (Kind.FINAL, Importance.BREAKING, "FINAL UPDATE", "Final update: {}"),
        (Kind.CORRECTION, Importance.ROUTINE, "CORRECTION", "CORRECTION: {}"),
    ],
)
def test_every_look_says_in_words_what_it_is(kind: Kind, importance: Importance, tag: str, subject: str) -> None:
    mail = mail_of(with_update(BREAKING, kind=kind, importance=importance))

    assert f">{tag}</span>" in mail.html
    assert mail.message["Subject"] == subject.format(BREAKING.update.headline)


def test_a_word_that_the_editor_wrote_is_not_said_twice() -> None:
    assert mail_of(with_update(BREAKING, headline="Breaking: dam fails")).message["Subject"] == "Breaking: dam fails"


@pytest.mark.parametrize(
    "view", sample_views(), ids=lambda view: f"{view.update.kind}-{view.update.importance}-{len(view.earlier)}"
)
def test_every_mail_is_whole_readable_and_small(view: UpdateView) -> None:
    mail = mail_of(view, timezone="Asia/Kathmandu")

    assert lint_html(mail.html) == []
    assert len(mail.raw) < 102_000
    assert mail.html.startswith('<!DOCTYPE html><html lang="en" dir="ltr"')
    assert 'role="article"' in mail.html
    assert mail.html.count("<h1") == 1
    assert "prefers-color-scheme: dark" in mail.html
    assert "fonts.googleapis" not in mail.html
    assert "slot" not in mail.html
    assert all("role=" in table for table in re.findall(r"<table[^>]*>", mail.html.split('class="body"')[0]))


def test_a_usual_mail_is_well_below_30_kb() -> None:
    usual = next(view for view in sample_views() if view.update.importance is Importance.MAJOR)

    assert len(mail_of(with_update(usual, body="Two people are missing. " * 40)).raw) < 27_000


@pytest.mark.parametrize(
    "body",
    [
        "A line of news.\n\n" * 9000,
        "|a|b|c|\n|---|---|---|\n" + "|1|2|3|\n" * 5000,
        "- a\n" * 30_000,
        "> " * 15 + "word " * 40_000,
    ],
)
def test_a_body_that_is_too_long_is_cut_and_the_mail_says_where_the_rest_is(body: str) -> None:
    mail = mail_of(with_update(BREAKING, body=body))

    assert 40_000 < len(mail.html.encode()) < 100_000
    for part in (mail.shown, " ".join(mail.text.split())):
        assert "The rest is on the story page." in part
        assert "Read the full update" in part


def test_only_the_newest_earlier_updates_are_listed_and_the_others_counted() -> None:
    earlier = tuple(
        Past(
            seq=seq, headline=f"Headline {seq}", published_at=BREAKING.update.published_at - timedelta(minutes=30 - seq)
        )
        for seq in range(20, 0, -1)
    )
    mail = mail_of(replace(BREAKING, earlier=earlier))

    assert "Headline 13" in mail.shown
    assert "Headline 12" not in mail.shown
    assert "and 12 earlier updates" in mail.shown
    assert "and 12 earlier updates: https://ledger.example/s/karsholm-dam" in mail.text


@pytest.mark.parametrize(
    ("moment", "timezone", "stamp"),
    [
        (datetime(2026, 3, 29, 0, 59, tzinfo=UTC), "Europe/Berlin", "Sun 29 Mar 2026, 01:59 CET"),
        (datetime(2026, 3, 29, 1, 0, tzinfo=UTC), "Europe/Berlin", "Sun 29 Mar 2026, 03:00 CEST"),
        (datetime(2026, 11, 1, 5, 30, tzinfo=UTC), "America/New_York", "Sun 1 Nov 2026, 01:30 EDT"),
        (datetime(2026, 11, 1, 6, 30, tzinfo=UTC), "America/New_York", "Sun 1 Nov 2026, 01:30 EST"),
        (datetime(2026, 12, 31, 20, 0, tzinfo=UTC), "Asia/Kathmandu", "Fri 1 Jan 2027, 01:45 UTC+5:45"),
        (datetime(2026, 7, 1, 2, 0, tzinfo=UTC), "America/Sao_Paulo", "Tue 30 Jun 2026, 23:00 UTC−3"),
        (datetime(2026, 7, 1, 2, 0, tzinfo=UTC), "Nowhere/Never", "Wed 1 Jul 2026, 02:00 UTC"),
        (datetime(2026, 7, 1, 2, 0, tzinfo=UTC), "../../etc/passwd", "Wed 1 Jul 2026, 02:00 UTC"),
        (datetime(2026, 7, 1, 2, 0, tzinfo=UTC), "", "Wed 1 Jul 2026, 02:00 UTC"),
    ],
)
def test_times_are_the_readers_own_and_name_their_zone(moment: datetime, timezone: str, stamp: str) -> None:
    mail = mail_of(with_update(BREAKING, published_at=moment), timezone=timezone)

    assert stamp in mail.text
    assert stamp in mail.shown


def test_an_earlier_time_names_its_day_and_zone_only_where_they_differ() -> None:
    published = datetime(2026, 3, 29, 6, 0, tzinfo=UTC)
    times = [published - timedelta(hours=1), published - timedelta(hours=6), published - timedelta(days=100)]
    earlier = tuple(Past(seq=3 - n, headline=f"Past {n}", published_at=time) for n, time in enumerate(times))
    mail = mail_of(replace(with_update(BREAKING, published_at=published), earlier=earlier), timezone="Europe/Berlin")

    assert "07:00 Past 0" in mail.text
    assert "01:00 CET Past 1" in mail.text
    assert "19 Dec 2025, 07:00 CET Past 2" in mail.text


def test_the_wish_is_said_in_words_and_in_the_readers_own_zone() -> None:
    confirmed = datetime(2026, 3, 7, 23, 30, tzinfo=UTC)

    assert (
        wish(Cadence.MAJOR, confirmed, locale="en", timezone="Europe/Berlin")
        == "major updates only, since 8 March 2026"
    )
    assert wish(Cadence.EVERY, None, locale="de-CH", timezone="UTC") == "every update"


def test_a_mail_speaks_the_language_of_its_reader_and_leaves_the_news_as_it_was_written() -> None:
    mail = mail_of(BREAKING, locale="uk-UA", timezone="Europe/Kyiv")

    assert mail.subject == f"ТЕРМІНОВО: {BREAKING.update.headline}"
    assert mail.message["Content-Language"] == "uk"
    assert '<html lang="uk" dir="ltr"' in mail.html
    for part in (mail.shown, mail.read):
        for words in (
            "ТЕРМІНОВО",
            "оновлення 4",
            BREAKING.update.headline,
            "пт, 13 бер. 2026, 00:56 за Києвом",
            "12 бер., 17:56",
            "Ви отримали цей лист, бо стежите за темою «Karsholm dam».",
            "Більше не стежити за цією темою",
        ):
            assert words in part
    for english in ("Stop following", "You get this", "Read it on", "Earlier in", "Sent to", "mail thread"):
        assert english not in mail.text + mail.shown
    assert all(len(line) <= 72 for line in mail.text.split("\n"))


def test_a_prefix_that_the_editor_wrote_in_either_language_is_not_said_twice() -> None:
    for headline in ("Breaking: dam fails", "Терміново: дамбу прорвано"):
        assert mail_of(with_update(BREAKING, headline=headline), locale="uk").subject == headline


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (9, "і ще 1 попереднє оновлення"),
        (10, "і ще 2 попередні оновлення"),
        (13, "і ще 5 попередніх оновлень"),
        (19, "і ще 11 попередніх оновлень"),
        (29, "і ще 21 попереднє оновлення"),
    ],
)
def test_earlier_updates_are_counted_with_the_right_plural(count: int, words: str) -> None:
    past = BREAKING.earlier[0]
    view = replace(BREAKING, earlier=tuple(replace(past, seq=8 - n) for n in range(8)), earlier_count=count)

    assert f"{words}:" in mail_of(view, locale="uk").text
    assert words in mail_of(view, locale="uk").shown


@pytest.mark.parametrize(
    ("moment", "time"),
    [
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "03:30 EEST"),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "03:30 EET"),
        (datetime(2026, 10, 25, 2, 30, tzinfo=UTC), "04:30 за Києвом"),
        (datetime(2026, 7, 1, 0, 30, tzinfo=UTC), "03:30 за Києвом"),
    ],
)
def test_the_time_of_kyiv_is_called_so_but_for_the_hour_that_comes_twice(moment: datetime, time: str) -> None:
    view = with_update(BREAKING, published_at=moment)

    assert f"2026, {time}\n" in mail_of(view, locale="uk", timezone="Europe/Kyiv").text
    assert "за Києвом" not in mail_of(view, locale="uk", timezone="Europe/Helsinki").text


def test_a_wish_is_said_in_ukrainian_too() -> None:
    confirmed = datetime(2026, 3, 7, 23, 30, tzinfo=UTC)

    assert (
        wish(Cadence.MAJOR, confirmed, locale="uk", timezone="Europe/Kyiv")
        == "лише важливі оновлення, з 8 березня 2026 року"
    )


def test_the_same_view_gives_the_same_bytes() -> None:
    assert render_update(BREAKING).dumps() == render_update(BREAKING).dumps()
    assert render_update(BREAKING).dumps() != render_update(BREAKING, timezone="Asia/Tokyo").dumps()


def test_nobody_can_forge_a_slot_or_a_template_or_mjml() -> None:
    tricks = "{{ reader.address }} {% raw %} slot0123n0z </mj-text></mj-section><mj-include path='/etc/passwd'/>"
    view = with_update(BREAKING, headline=tricks, summary=tricks, body=tricks)
    mail = mail_of(replace(view, earlier=(Past(seq=1, headline=tricks, published_at=view.update.published_at),)))

    assert mail.message["Subject"] == f"BREAKING: {tricks}"
    assert mail.shown.count(tricks) >= 4
    assert "<mj-" not in mail.html
    assert mail.shown.count("ana@mail.example") == 1


@pytest.mark.parametrize(
    "attack", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</title><script>x</script>", "&lt;b&gt;"]
)
def test_markup_in_any_field_is_shown_as_text(attack: str) -> None:
    view = with_update(BREAKING, headline=attack, summary=attack, body=attack)
    view = replace(
        view,
        newsroom=Newsroom(name=attack, address=attack),
        story=replace(view.story, headline=attack),
        corrected=Past(seq=1, headline=attack, published_at=view.update.published_at),
        earlier=(Past(seq=1, headline=attack, published_at=view.update.published_at),),
    )
    mail = mail_of(view, ANA._replace(wish=attack))

    assert "<script" not in mail.html
    assert "<img" not in mail.html
    assert mail.shown.count(attack) >= 7
    assert lint_html(mail.html) == []


def test_text_from_right_to_left_keeps_its_order_and_has_its_direction_marked() -> None:
    headline, body = "الفيضان يصل إلى المدينة القديمة", "الماء يرتفع بسرعة. **اصعدوا الآن**."
    mail = mail_of(with_update(BREAKING, headline=headline, body=body), ANA._replace(name="ليلى"))

    assert headline in mail.text
    assert re.search(rf'<h1[^>]* dir="auto"[^>]*>{headline}</h1>', mail.html.replace("\n", " "))
    assert re.search(r'<p[^>]* dir="auto"[^>]*>الماء', mail.html.replace("\n", " "))
    assert mail.message["To"].addresses[0].display_name == "ليلى"
    assert mail.message["Subject"] == f"BREAKING: {headline}"


_LINES = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


@settings(max_examples=40, deadline=None)
@given(headline=_LINES, story=_LINES, past=_LINES, body=st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_words_arrive_as_they_were_written(headline: str, story: str, past: str, body: str) -> None:
    view = with_update(BREAKING, headline=f"x{headline}", body=body)
    view = replace(
        view,
        story=replace(view.story, headline=f"x{story}"),
        earlier=(Past(seq=1, headline=f"x{past}", published_at=view.update.published_at),),
    )
    for eight_bit in (True, False):
        mail = mail_of(view, eight_bit=eight_bit)
        assert not mail.message.defects
        assert lint_html(mail.html) == []
        for words in (headline, story, past):
            clean = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", f"x{words}").split())
            assert clean in mail.shown
            assert clean in " ".join(mail.text.split())
        assert html.unescape(str(mail.message["Subject"])) is not None
        assert str(mail.message["Subject"]).startswith("BREAKING: x")


def test_compiling_a_letter_takes_milliseconds() -> None:
    render_update(BREAKING)
    best = min(repeat(lambda: render_update(BREAKING), number=1, repeat=8))

    print(f"{best * 1e3:.1f} ms a variant")
    assert best < 0.060, "about 5 ms on a quiet machine"


@pytest.mark.skipif(shutil.which("spamassassin") is None, reason="needs Debian's spamassassin")
@pytest.mark.parametrize("view", [BREAKING, CORRECTION], ids=["breaking", "correction"])
def test_a_spam_filter_has_nothing_against_the_mail(view: UpdateView) -> None:
    mail = mail_of(with_update(view, published_at=datetime.now(UTC)))
    done = subprocess.run(["spamassassin", "-L", "-t"], input=mail.raw, capture_output=True, check=False, timeout=120)
    report = done.stdout.decode(errors="replace")
    score = re.search(r"Content analysis details:\s+\((-?[\d.]+) points", report)

    assert score, report[-2000:]
    print(report[report.index("Content analysis") :])
    assert float(score.group(1)) < 0.5, report[report.index("Content analysis") :]
