"""The update card over HTTP, without a script: everything that can be done on it, and everything that can go wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from dispatcher.roles import Role
from dispatcher.web.desk import writing_counts
from tests.api.serving import Site
from tests.journeys.desks import Tab, employ, field_of, tab

ADA, BEN, REP = "ada@courier.example", "ben@courier.example", "rep@courier.example"
TEXT = {"headline": "Millgate levee gives way", "summary": "Walk uphill now.", "body": "- It gave way at 02:44."}


@pytest.fixture
def desk(site: Site) -> Site:
    """A story with three followers, and somebody of each role."""
    employ(site, ADA)
    employ(site, BEN, Role.EDITOR)
    employ(site, REP, Role.REPORTER)
    site.create_story()
    for _ in range(3):
        site.add_reader("tarrow-flood")
    return site


@contextmanager
def card(site: Site, email: str = BEN) -> Iterator[tuple[Tab, str]]:
    """Somebody with a new draft open: the browser, and the draft's path."""
    with tab(site, email) as opened:
        answer = opened.submit("/desk/stories/tarrow-flood/write", page="/desk")
        assert answer.status_code == 303, answer.text
        yield opened, answer.headers["location"]


def press(opened: Tab, path: str, do: str, **fields: str) -> httpx2.Response:
    """Open the card, type, and press a button."""
    page = opened.get(path).text
    sent = {"csrf": field_of(page, "csrf"), "version": field_of(page, "version"), "do": do, **fields}
    return opened.client.post(path, data=sent)


def save(opened: Tab, path: str, **fields: str) -> httpx2.Response:
    """What the script does while somebody writes."""
    page = opened.get(path).text
    sent = {"csrf": field_of(page, "csrf"), "version": field_of(page, "version"), **fields}
    return opened.client.post(f"{path}/save", data=sent)


def kept(site: Site) -> tuple[str, str, str, int]:
    return site.look("SELECT headline, summary, body, version FROM drafts")[0]


def test_an_editor_writes_looks_mails_a_test_and_sends_once(desk: Site) -> None:
    with card(desk) as (ben, path):
        assert (
            press(ben, path, "save", **TEXT, importance="breaking").headers["location"].startswith(f"{path}?done=saved")
        )
        page = ben.get(path).text
        assert "Send to 3<" in page
        assert "BREAKING: Millgate levee gives way" in page
        assert "The mail is " in page
        for view, words in (("phone", "02:44"), ("text", "* It gave way at 02:44."), ("dark", "@media all")):
            answer = ben.get(f"{path}/preview?view={view}")
            assert words in answer.text
            assert answer.headers["content-security-policy"].startswith("sandbox allow-popups")
            assert "script-src" not in answer.headers["content-security-policy"]
        assert "prefers-color-scheme" not in ben.get(f"{path}/preview").text
        assert "ТЕРМІНОВО" in ben.get(f"{path}?lang=uk").text.upper()
        assert press(ben, path, "test").headers["location"] == f"{path}?done=test"
        assert desk.mails_owed() == [("test", BEN)]

        answer = press(ben, path, "send", **TEXT)

        assert answer.headers["location"] == "/desk/stories/tarrow-flood/updates/1"
        assert ben.get(path).headers["location"] == answer.headers["location"]  # the back button
        again = ben.client.post(path, data={"csrf": ben.csrf("/desk"), "version": "1", "do": "send", **TEXT})
        assert again.headers["location"] == answer.headers["location"]
        assert desk.look("SELECT headline, importance::text FROM updates") == [(TEXT["headline"], "breaking")]
        assert desk.look("SELECT count(*) FROM blasts") == [(1,)]


def test_a_drill_reaches_nobody_and_leaves_the_draft_as_it_is(desk: Site) -> None:
    with card(desk) as (ben, path):
        answer = press(ben, path, "drill", **TEXT)
        assert answer.headers["location"] == "/desk/stories/tarrow-flood/updates/-1"
        assert desk.look("SELECT is_drill FROM blasts") == [(True,)]
        assert "Send to 3<" in ben.get(path).text


def test_a_button_sends_to_as_many_as_it_says_or_asks_again(desk: Site) -> None:
    desk.look("UPDATE subscriptions SET cadence = 'major' WHERE subscriber_id = (SELECT min(id) FROM subscribers)")
    with card(desk) as (ben, path):
        press(ben, path, "save", **TEXT, importance="routine")
        page = ben.get(path).text
        assert '"send:2">Send to 2<' in page

        # What is chosen after the page was made makes it another number.
        more = press(ben, path, "send:2", **TEXT, importance="breaking", expires="7200")

        assert more.status_code == 409
        assert "Nothing was sent: it reaches 3 readers now, not 2." in more.text
        assert '"send:3">Send to 3<' in more.text
        assert '<option value="7200" selected>' in more.text
        assert desk.look("SELECT count(*) FROM updates") == [(0,)]
        assert press(ben, path, "send:0").status_code == 409
        assert press(ben, path, f"mine:{'9' * 5000}").status_code == 422
        assert press(ben, path, "send:3").status_code == 303
        assert desk.look("SELECT importance::text FROM updates") == [("breaking",)]


def test_what_was_filled_in_for_later_is_kept_when_it_cannot_be(desk: Site) -> None:
    with card(desk) as (ben, path):
        press(ben, path, "save", **TEXT)
        late = press(ben, path, "schedule", at="2020-01-01T03:00", clock="reader")
        assert late.status_code == 422
        assert 'value="2020-01-01T03:00" aria-invalid="true"' in late.text
        assert 'value="reader" checked' in late.text
        assert '<details class="card" open>' in late.text
    desk.look("INSERT INTO desk_settings VALUES ('approval', %s)", json.dumps({"breaking": 0, "over": 1, "all": 0}))
    with tab(desk, ADA) as ada:
        wrong = press(ada, path, "override:1", reason="Water is at the door")
        assert (wrong.status_code, 'value="Water is at the door"' in wrong.text) == (409, True)


def test_each_button_asks_for_the_role_that_it_needs_whoever_else_may_open_the_card(desk: Site) -> None:
    with card(desk) as (ben, path), tab(desk, REP) as rep:
        press(ben, path, "save", **TEXT)
        more = {"at": "2099-01-01T03:00", "reason": "Now", "sure": "yes", "headline": "Another"}
        before = desk.look("SELECT state::text, version, headline FROM drafts")
        for do in ("send", "send:3", "schedule", "unschedule", "drill", "override", "discard"):
            assert press(rep, path, do, **more).status_code == 403, do
        assert press(ben, path, "override", **more).status_code == 403
        for do in ("unschedule", "discard"):
            answer = rep.submit("/desk/drafts", do=f"{do}:{path.rpartition('/')[2]}", version="2")
            assert answer.status_code == 403, do
        assert desk.look("SELECT state::text, version, headline FROM drafts") == before
        assert desk.look("SELECT count(*) FROM updates") == [(0,)]


def test_two_on_one_draft_are_warned_and_nobody_overwrites_what_they_have_not_seen(desk: Site) -> None:
    with card(desk) as (ben, path), tab(desk, ADA) as ada:
        theirs = ben.get(path).text
        assert save(ada, path, **TEXT).json()["version"] == 2
        assert "Ada has this draft open too" in ben.get(path).text
        sent = {"csrf": field_of(theirs, "csrf"), "version": "1", "headline": "Ben’s headline"}

        stale = ben.client.post(f"{path}/save", data=sent)
        shown = ben.client.post(path, data={**sent, "do": "send"})

        assert (stale.status_code, stale.json()["problem"]["by"]) == (409, "Ada")
        assert shown.status_code == 409
        assert "Ada has saved this draft meanwhile" in shown.text
        assert "\nBen’s headline</textarea>" in shown.text
        assert TEXT["headline"] in shown.text
        assert field_of(shown.text, "version") == "1"
        assert desk.look("SELECT count(*) FROM updates") == [(0,)]
        mine = ben.client.post(path, data={**sent, "do": "mine:2"})
        assert mine.status_code == 303
        assert kept(desk)[0] == "Ben’s headline"
        # Whoever has the same text is in nobody's way.
        assert ben.client.post(f"{path}/save", data=sent).json()["version"] == 3


def test_of_two_who_press_the_second_sees_what_went_out_and_loses_nothing(desk: Site) -> None:
    with card(desk) as (ben, path), tab(desk, ADA) as ada:
        page = ben.get(path).text
        press(ada, path, "send", **TEXT)
        sent = {"csrf": field_of(page, "csrf"), "version": field_of(page, "version"), "do": "send"}

        answer = ben.client.post(path, data={**sent, "headline": "Another", "body": "What Ben wrote."})

        assert answer.status_code == 409
        assert "went out as update 1, and yours did not" in answer.text
        assert "What Ben wrote." in answer.text
        assert desk.look("SELECT headline FROM updates") == [(TEXT["headline"],)]


def test_nothing_is_lost_when_somebody_throws_the_draft_away_meanwhile(desk: Site) -> None:
    with card(desk) as (ben, path), tab(desk, ADA) as ada:
        page = ben.get(path).text
        assert press(ada, path, "discard").headers["location"] == "/desk/drafts?done=discarded"
        sent = {"csrf": field_of(page, "csrf"), "version": "1", **TEXT, "body": "Written for an hour."}
        for where in (path, f"{path}/save"):
            answer = ben.client.post(where, data=sent)
            assert answer.status_code == 404
            assert "Written for an hour." in answer.text
            assert 'href="/desk/drafts"' in answer.text


def test_nothing_is_lost_when_the_session_is_gone(desk: Site) -> None:
    with card(desk) as (ben, path):
        page = ben.get(path).text
        desk.look("DELETE FROM sessions")
        sent = {"csrf": field_of(page, "csrf"), "version": "1", "do": "save", **TEXT, "body": "</textarea><script>x"}

        for where in (path, f"{path}/save"):
            answer = ben.client.post(where, data=sent)
            assert answer.status_code == 403
            assert "Your text is here, but not saved" in answer.text
            assert "&lt;/textarea&gt;&lt;script&gt;x" in answer.text
            assert f'href="/desk/sign-in?next={path}"' in answer.text
        foreign = ben.client.post(path, data=sent, headers={"Origin": "https://evil.example"})
        assert foreign.status_code == 403
        assert "not saved" not in foreign.text
        assert kept(desk)[2] == ""


def test_a_text_of_five_megabytes_is_refused_and_shown_again_whole(desk: Site) -> None:
    with card(desk) as (ben, path):
        body = "Watér. " * 700_000
        answer = press(ben, path, "save", **{**TEXT, "body": body})
        assert answer.status_code == 413
        assert "262,144 is the most" in answer.text
        assert body in answer.text
        assert TEXT["headline"] in answer.text
        assert kept(desk)[2] == ""
        told = save(ben, path, **{**TEXT, "body": "x" * 300_000})
        assert (told.status_code, told.json()["problem"]["field"]) == (413, "body")


HOSTILE = (
    "<script>alert(1)</script><iframe src=https://evil.example></iframe>\n"
    "[tap](javascript:alert(2)) ![x](javascript:alert(3)) <img src=x onerror=alert(4)> {{ 7 * 191 }} ${7*191}\n"
    "\u202eשלום עולם مرحبا 🌊🏳️‍🌈</textarea>"
)


def test_scripts_templates_and_letters_of_any_direction_are_text(desk: Site) -> None:
    with card(desk) as (ben, path):
        headline = "🌊 {{ 7 * 191 }} <b>שלום</b>"
        saved = save(ben, path, headline=headline, summary=HOSTILE.replace("\n", " "), body=HOSTILE)
        page = ben.get(path).text
        mails = [ben.get(f"{path}/preview?view={view}").text for view in ("phone", "dark", "text")]

        assert saved.status_code == 200
        for shown in (page, *saved.json()["parts"].values(), *mails):
            assert not re.search(r"<(script>alert|iframe src=https|img src=x|b>ש)|href=\"javascript", shown)
            assert "1337" not in shown
        assert 'dir="auto"' in page
        assert kept(desk)[0] == headline
        assert [each for each in mails if "🌊" not in each] == []


def test_what_is_wrong_is_told_before_the_button(desk: Site) -> None:
    desk.publish(headline=TEXT["headline"], summary=TEXT["summary"], body=TEXT["body"])
    with card(desk) as (ben, path):
        bare = ben.get(path).text
        same = save(ben, path, **TEXT).json()["parts"]["checks"]
        body = f"{TEXT['body']}\n- New.\n" + "many words " * 9_000
        long = save(ben, path, headline="h" * 120, summary="", body=body)
        body = "See [this](https://127.0.0.1:1/x), http://plain.example/ and https://x.invalid/"
        links = save(ben, path, **{**TEXT, "body": body})
        checks = long.json()["parts"]["checks"]
        assert "There is no headline yet" in bare
        assert "The headline is that of update 1" in same
        assert "says nothing that update 1 does not say" in same
        assert "No summary" in checks
        assert "Gmail clips at 102 KB. The mail ends early" in checks
        assert "120 characters; screens cut after 90" in checks
        assert "New against update 1: headline, summary, 2 points" in checks
        for _ in range(200):
            found = save(ben, path).json()
            if not found["again"]:
                break
        told = found["parts"]["checks"]
        assert "127.0.0.1:1 was not asked: this host has an address that is not on the public internet" in told
        assert "plain.example was not asked: only https addresses are called" in told
        assert "x.invalid does not answer: the name of the host cannot be resolved" in told
        assert links.json()["again"]


def test_what_needs_a_second_person_cannot_be_sent_alone_and_a_lead_can_overrule_it_with_a_reason(desk: Site) -> None:
    desk.look(
        "INSERT INTO desk_settings VALUES ('approval', %s)", json.dumps({"breaking": True, "over": None, "all": False})
    )
    with card(desk) as (ben, path), tab(desk, ADA) as ada, tab(desk, REP) as reporter:
        press(ben, path, "save", **TEXT, importance="breaking")
        page = ben.get(path).text
        assert "Ask for approval" in page
        assert "Send to 3<" not in page
        refused = press(ben, path, "send")
        assert refused.status_code == 403
        assert "It is breaking news." in refused.text
        assert press(reporter, path, "send").status_code == 403
        assert "Drill" not in reporter.get(path).text
        assert press(ben, path, "override", reason="now").status_code == 403
        assert press(ben, path, "submit").headers["location"] == f"{path}?done=submitted"
        assert "Approve it" in ada.get(path).text
        assert press(ada, path, "override", reason=" ").status_code == 422
        assert press(ada, path, "override", reason="Lives are at stake").headers["location"].endswith("/updates/1")
        assert ("override", ADA) in desk.mails_owed()


def test_an_update_is_scheduled_and_an_edit_or_a_button_cancels_that(desk: Site) -> None:
    with card(desk) as (ben, path):
        past = press(ben, path, "schedule", **TEXT, at="2020-01-01T06:00", clock="newsroom")
        assert past.status_code == 422
        assert TEXT["headline"] in past.text
        later = press(ben, path, "schedule", **TEXT, at="2099-01-01T06:00", clock="reader")
        assert later.status_code == 422
        soon = desk.look("SELECT to_char(now() AT TIME ZONE 'UTC' + interval '1 day', 'YYYY-MM-DD\"T\"HH24:MI')")[0][0]
        assert press(ben, path, "schedule", **TEXT, at=soon, clock="newsroom").headers["location"].endswith("scheduled")
        assert "Cancel the schedule" in ben.get(path).text
        assert press(ben, path, "unschedule").headers["location"].endswith("unscheduled")
        assert desk.look("SELECT state::text, send_at FROM drafts") == [("draft", None)]
        assert press(ben, path, "schedule", **TEXT, at=soon, clock="newsroom").headers["location"].endswith("scheduled")
        with tab(desk, REP) as ann:
            changed = {**TEXT, "body": "- It gave way at ten."}
            for do in ("save", "test", "preview:dark", "submit"):
                asked = press(ann, path, do, **changed)
                assert (asked.status_code, changed["body"] in asked.text) == (409, True)
                assert "Changing it takes it off the schedule; an editor has to schedule it again." in asked.text
                assert "Ben, who scheduled it, is told by mail." in asked.text
            refused = save(ann, path, **changed)
            assert refused.status_code == 409
            assert "takes it off the schedule" in refused.json()["problem"]["state"]["undoes"]
            assert desk.look("SELECT state::text, version FROM drafts") == [
                ("scheduled", int(field_of(ann.get(path).text, "version")))
            ]
            assert press(ann, path, "off", **changed).status_code == 303
        assert desk.look("SELECT state::text, body FROM drafts") == [("draft", changed["body"])]
        assert ("unscheduled", BEN) in desk.mails_owed()


def test_a_correction_says_who_gets_which_words(desk: Site) -> None:
    desk.publish()
    with card(desk) as (ben, path):
        parts = save(ben, path, **TEXT, kind="correction").json()["parts"]
        assert "Choose the update that this corrects" in parts["checks"]
        assert press(ben, path, "send").status_code == 422
        parts = save(ben, path, kind="correction", corrects="1").json()["parts"]
        assert re.search(
            r"not reached</th><td>the right text, as a plain update</td><td class=\"n\">3<", parts["choices"]
        )
        page = ben.get(f"{path}?as=plain").text
        assert "CORRECTION: Millgate" in ben.get(path).text
        assert "CORRECTION: Millgate" not in page


def test_what_is_still_going_out_can_be_replaced(desk: Site) -> None:
    desk.publish()
    with card(desk) as (ben, path):
        page = ben.get(path).text
        assert "Update 1 is still going out. Replace what has not gone?" in page
        desk.look("UPDATE blasts SET state = 'sending', candidates = 3, frozen_at = now()")
        assert "3 mails and 0 pushes become this one" in ben.get(path).text
        press(ben, path, "send", **TEXT, replaces="1")
        assert desk.look("SELECT state::text FROM blasts ORDER BY id") == [("superseded",), ("cutting",)]


def test_where_nobody_is_left_the_button_says_so(desk: Site) -> None:
    desk.look("UPDATE subscriptions SET ended_at = now(), ended_reason = 'reader'")
    with card(desk) as (ben, path):
        press(ben, path, "save", **TEXT)
        page = ben.get(path).text
        assert "Publish to the page: 0 readers" in page
        assert "Nobody gets it now" in page
        desk.close_story("tarrow-flood")
        assert "This story is closed" in ben.get(path).text
        assert press(ben, path, "send").status_code == 409
        assert kept(desk)[0] == TEXT["headline"]


def test_a_large_audience_is_counted_behind_whoever_writes(desk: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing_counts, "LARGE", 2)
    monkeypatch.setattr(writing_counts, "PATIENCE", 0.0)
    with card(desk) as (ben, path):
        first = ben.get(path).text
        assert "Counting the readers" in first
        assert "The readers are being counted" in first
        for _ in range(200):
            found = save(ben, path, **TEXT).json()
            if not found["again"]:
                break
        assert "Send to 3<" in found["parts"]["foot"]
