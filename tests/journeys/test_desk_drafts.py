"""From a draft to readers by the desk's own pages: written by one, looked at by another, sent once."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from typing import Any

import httpx2

from dispatcher.roles import Role
from tests.api.problems import problem
from tests.api.serving import Site
from tests.journeys.desks import Tab, employ, tab

LEA, LEO, ANN = "lea@courier.example", "leo@courier.example", "ann@courier.example"
ARTICLE = {
    "headline": "Levee gives way",
    "body": "Walk **uphill**, now.\n\n<script>alert(1)</script> {{ 7 * 7 }}",
    "summary": "Leave the lower city.",
    "importance": "breaking",
}
EVERYTHING = """INSERT INTO desk_settings VALUES ('approval', '{"all": true, "breaking": false, "over": null}')"""


def hand_in(site: Site, **more: Any) -> int:
    """A draft that waits; its number."""
    with site.cms() as cms:
        answer = cms.post("/api/v1/stories/tarrow-flood/drafts", json={**ARTICLE, **more})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def form_of(page: str) -> dict[str, str]:
    """What the forms of the approval page carry."""
    return {
        name: unescape(re.findall(rf'name="{name}" value="([^"]*)"', page)[-1]) for name in ("csrf", "version", "hash")
    }


def test_what_needs_a_second_person_gets_round_nobody_whatever_the_door(site: Site) -> None:
    site.create_story()
    employ(site, LEA)
    employ(site, ANN, Role.REPORTER)
    employ(site, "ed@courier.example", Role.EDITOR)
    site.look(EVERYTHING)
    number = hand_in(site)
    with site.cms() as cms:
        refused = cms.post(
            "/api/v1/stories/tarrow-flood/updates",
            json={"headline": "Levee", "body": "It gave way."},
            headers={"Idempotency-Key": "k1"},
        )
        again = cms.post("/api/v1/stories/tarrow-flood/drafts", json=ARTICLE, headers={"Idempotency-Key": "k2"})
        repeated = cms.post("/api/v1/stories/tarrow-flood/drafts", json=ARTICLE, headers={"Idempotency-Key": "k2"})
    assert "second person" in problem(refused, 403, "approval-required")["detail"]
    assert (again.status_code, repeated.status_code) == (201, 200)
    assert again.json() == repeated.json()
    for email in (ANN, "ed@courier.example"):
        with tab(site, email) as opened:
            sent = {"csrf": opened.csrf("/desk"), "version": "1", "hash": "0" * 64, "sure": "yes"}
            for do in ("approve-and-send", "approve", "override", "return"):
                answer = opened.client.post(f"/desk/drafts/{number}/approve", data={**sent, "do": do, "reason": "Now"})
                assert answer.status_code == 403
    assert site.look("SELECT count(*) FROM updates") == [(0,)]


def test_a_lead_reads_ticks_and_sends_and_twenty_presses_are_one_update(site: Site) -> None:
    site.create_story()
    for _ in range(3):
        site.add_reader("tarrow-flood")
    employ(site, LEA)
    site.look(EVERYTHING)
    number = hand_in(site, body=ARTICLE["body"] + "\n\n| gauge | m |\n|-------|--:|\n| Millgate | 4.1 |\n")
    path = f"/desk/drafts/{number}/approve"
    with tab(site, LEA) as lea:
        assert "Waits for" in lea.get("/desk/drafts").text
        page = lea.get(path).text
        for words in (
            "cms asks you to alert 3 people",
            "Every update here is approved by a second person.",
            "I understand that this alerts <strong>3 people</strong>",
            "Approve and send to 3<",
            "Approve, and let an editor send it<",
            "<strong>uphill</strong>",
            "{{ 7 * 7 }}",
            "3 by mail",
            "handed in a draft",
        ):
            assert words in page, words
        assert "<script>alert" not in page
        assert "style=" not in page  # which our policy forbids
        fields = {**form_of(page), "do": "approve-and-send"}
        unticked = lea.client.post(path, data=fields)
        assert unticked.status_code == 422
        assert "Tick that you understand" in unticked.text
        fewer = lea.client.post(path, data={**fields, "sure": "yes", "reaches": "2"})
        assert fewer.status_code == 409
        assert "it reaches 3 readers now, not 2" in fewer.text
        assert 'name="reaches" value="3"' in fewer.text
        answers = at_once(20, lambda: lea.client.post(path, data={**fields, "sure": "yes"}))

        assert {(each.status_code, each.headers["location"]) for each in answers} == {
            (303, "/desk/stories/tarrow-flood/updates/1")
        }
        assert "This is out, as update 1" in lea.get(path).text
    assert site.look("SELECT seq, published_by FROM updates") == [(1, LEA)]
    assert site.look("SELECT count(*) FROM blasts") == [(1,)]


def at_once(times: int, press: Callable[[], httpx2.Response]) -> list[httpx2.Response]:
    with ThreadPoolExecutor(times) as threads:
        return [each.result() for each in [threads.submit(press) for _ in range(times)]]


def test_an_old_page_approves_nothing_and_shows_what_has_changed(site: Site) -> None:
    site.create_story()
    employ(site, LEA)
    employ(site, LEO)
    number = hand_in(site)
    path = f"/desk/drafts/{number}/approve"
    with tab(site, LEA) as lea:
        seen = form_of(lea.get(path).text)
        save(site, number, "Levee holds")
        answer = lea.client.post(path, data={**seen, "do": "approve-and-send", "sure": "yes"})

        assert answer.status_code == 409
        assert "Leo has changed this draft meanwhile" in answer.text
        assert "<del>Levee gives way</del>" in answer.text
        assert "<ins>Levee holds</ins>" in answer.text
        garbled = lea.client.post(path, data={**seen, "hash": "nothing", "do": "approve"})
        assert garbled.status_code == 422
        approved = lea.client.post(path, data={**form_of(answer.text), "do": "approve"})
        assert (approved.status_code, approved.headers["location"]) == (303, "/desk/drafts?done=approved")
        assert "Approved by Lea" in lea.get(path).text
    assert site.look("SELECT count(*) FROM updates") == [(0,)]


def save(site: Site, number: int, headline: str) -> None:
    """Leo changes the headline, and no more."""
    site.look(
        "UPDATE drafts SET headline = %s, version = version + 1, last_editor = p.id FROM people p"
        " WHERE drafts.id = %s AND p.email = %s",
        *(headline, number, LEO),
    )


def test_a_draft_is_returned_with_a_wish_that_whoever_wrote_it_reads(site: Site) -> None:
    site.create_story()
    employ(site, LEA)
    number = hand_in(site)
    path = f"/desk/drafts/{number}/approve"
    with tab(site, LEA) as lea:
        wordless = lea.client.post(path, data={**form_of(lea.get(path).text), "do": "return", "reason": ""})
        assert (wordless.status_code, "reason is empty" in wordless.text) == (422, True)
        fields = {**form_of(lea.get(path).text), "do": "return", "reason": "Name <b>the</b> source"}
        assert lea.client.post(path, data=fields).headers["location"] == "/desk/drafts?done=returned"
        page = lea.get("/desk/drafts").text
        assert "Name &lt;b&gt;the&lt;/b&gt; source" in page
        assert "Returned" in page
        assert "This draft was returned." in lea.get(path).text
        twice = lea.client.post(path, data={**fields, "do": "approve"})
        assert twice.status_code == 409


def test_somebody_begins_a_draft_and_a_schedule_is_cancelled_from_the_list(site: Site) -> None:
    site.create_story()
    employ(site, LEA)
    employ(site, ANN, Role.REPORTER)
    with tab(site, ANN) as ann, tab(site, LEA) as lea:
        begun = ann.submit("/desk/stories/tarrow-flood/write", page="/desk", importance="major")
        number = int(re.fullmatch(r"/desk/drafts/(\d+)", begun.headers["location"])[1])  # type: ignore[index]
        assert ann.submit("/desk/stories/no-story/write", page="/desk").status_code == 404
        assert ann.submit("/desk/stories/tarrow-flood/write", page="/desk", kind="withdrawal").status_code == 422
        assert "No headline yet" in ann.get("/desk/drafts").text
        schedule(site, number)
        assert "Cancel the schedule" in lea.get("/desk/drafts").text
        assert cancel(ann, number).status_code == 403
        assert cancel(lea, number).headers["location"] == "/desk/drafts?done=unscheduled"
        assert cancel(lea, number).status_code == 409
        assert ann.submit("/desk/drafts", do=f"discard:{number}").headers["location"] == "/desk/drafts?done=discarded"
        assert ann.submit("/desk/drafts", do=f"discard:{number}").status_code == 404
        assert "Nothing is being written" in ann.get("/desk/drafts").text


def test_what_did_not_go_out_at_its_time_is_marked_until_somebody_acts(site: Site) -> None:
    site.create_story()
    employ(site, LEA)
    number = hand_in(site)
    site.look(
        "UPDATE drafts SET state = 'draft', missed_at = '2026-11-01 18:00Z', reason = 'It was not sent. <b>Closed.'"
    )
    with tab(site, LEA) as lea:
        for page in ("/desk/drafts", "/desk/stories/tarrow-flood", f"/desk/drafts/{number}"):
            assert "Not sent" in lea.get(page).text, page
        listed, card = lea.get("/desk/drafts").text, lea.get(f"/desk/drafts/{number}").text
        for page in (listed, card):
            assert "It was to go out Sun 1 November 2026, 18:00 UTC." in page
            assert "It was not sent. &lt;b&gt;Closed." in page
        assert "Did not go out at their time" in listed
        sealed = form_of(lea.get(f"/desk/drafts/{number}/approve").text)
        lea.client.post(f"/desk/drafts/{number}", data={**sealed, **ARTICLE, "headline": "Another", "do": "save"})
        assert "Not sent" not in lea.get("/desk/drafts").text


def cancel(opened: Tab, number: int) -> httpx2.Response:
    return opened.submit("/desk/drafts", do=f"unschedule:{number}", version="1")


def schedule(site: Site, number: int) -> None:
    site.look(
        "UPDATE drafts SET state = 'scheduled', send_at = now() + interval '1 day', scheduled_by = author"
        " WHERE id = %s",
        number,
    )
