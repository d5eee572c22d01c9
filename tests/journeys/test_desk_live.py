"""The desk watches an update go out: sums that add up, pause, resume, cancel, retry, and who was not reached."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import time
from collections.abc import Callable, Iterator
from html import unescape

import pytest

from dispatcher import db, drilling
from dispatcher.model import Draft
from dispatcher.nudges import Bell
from dispatcher.roles import Role
from dispatcher.web.desk import live_stream
from tests.api.serving import Site, at_once, running
from tests.journeys.desks import Tab, employ, field_of, tab
from tests.support.background import a_worker
from tests.support.newsroom import NO_BROKER
from tests.support.sink import SILENCE, Script, Session

READERS = 240
LIVE = "/desk/stories/tarrow-flood/updates/1"
STATES = (
    *("accepted", "waiting", "deferred", "failed", "in doubt", "held back", "suppressed", "withdrawn", "expired"),
    "superseded",
)
NO_MAILBOX, TRY_AGAIN, FULL = 12, 8, 4
REFUSED = NO_MAILBOX + TRY_AGAIN + FULL


class Relay:
    """Does not know some mailboxes, does not like others yet, one kind is full; and takes so many mails and no more."""

    def __init__(self) -> None:
        self.most = REFUSED + 60  # one that was refused is ended as well
        self.taken = 0
        self.is_kind = False

    def __call__(self, step: str, argument: str, session: Session) -> str | None:
        if step == "BODY":
            self.taken += 1
            if self.taken <= self.most:
                return None
            self.answer(self.taken, session)
            return SILENCE
        found = re.search(r"reader(\d+)@", argument) if step == "RCPT" else None
        if found is None:
            return None
        return self.refusal(int(found[1]))

    def answer(self, number: int, session: Session) -> None:
        """Say yes once so many mails are wanted."""
        if number <= self.most:
            session.speak("250 2.0.0 Ok")
        else:
            asyncio.get_running_loop().call_later(0.02, self.answer, number, session)

    def refusal(self, number: int) -> str | None:
        if number < NO_MAILBOX:
            return "550 5.1.1 no such user here"
        if number < NO_MAILBOX + TRY_AGAIN and not self.is_kind:
            return "550 not today"
        if number < NO_MAILBOX + TRY_AGAIN + FULL and not self.is_kind:
            return "452 4.2.2 mailbox full"
        return None


def add_readers(site: Site, count: int = READERS) -> None:
    site.look(
        "WITH made AS (INSERT INTO subscribers (email, address_hash)"
        " SELECT 'reader' || n || '@mail.example', int8send(n) FROM generate_series(0, %s - 1) AS n RETURNING id)"
        " INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at)"
        " SELECT s.id, made.id, now() FROM made, stories s WHERE s.slug = 'tarrow-flood'",
        count,
    )


def sums(page: str) -> dict[str, int]:
    """The first key of a page, which adds up, or the page is wrong."""
    found = re.search(r'<dl class="sums">(.*?)</dl>', page, re.DOTALL)
    assert found is not None, page
    pairs = re.findall(r"<dt>(.*?)</dt><dd.*?>(.*?)</dd>", found[1], re.DOTALL)
    key = {plain(name): int(plain(count).replace(",", "")) for name, count in pairs}
    assert set(key) == {*STATES, "= candidates"}
    assert sum(key[state] for state in STATES) == key["= candidates"]
    return key


def plain(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html)).strip()


def seen(opened: Tab, path: str = LIVE) -> str:
    answer = opened.get(path)
    assert answer.status_code == 200, answer.text
    return answer.text


def until(opened: Tab, come: Callable[[dict[str, int]], bool], *, path: str = LIVE, within: float = 20) -> str:
    """The live page, once its sums are like that."""
    end = time.monotonic() + within
    while True:
        page = seen(opened, path)
        found = sums(page) if 'class="sums"' in page else {}
        if found and come(found):
            return page
        assert time.monotonic() < end, found or page
        time.sleep(0.05)


def looks(opened: Tab, count: int, path: str = LIVE) -> list[str]:
    """So many pages as the stream sends them."""
    pages: list[str] = []
    with opened.client.stream("GET", f"{path}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines: list[str] = []
        for line in answer.iter_lines():
            if line.startswith("data: "):
                lines.append(line[6:])
            elif line == "event: look":
                lines = []
            elif not line and lines:
                pages.append("\n".join(lines))
                lines = []
                if len(pages) == count:
                    break
    return pages


@pytest.fixture
def going_out(own_site: Site) -> Iterator[tuple[Site, Relay]]:
    """A story with its readers, and a worker that waits for an update."""
    employ(own_site, "ada@courier.example", Role.EDITOR)
    employ(own_site, "rep@courier.example", Role.REPORTER)
    own_site.create_story()
    add_readers(own_site)
    relay = Relay()
    script: Script = relay
    with a_worker(own_site.settings.database_url, script):
        yield own_site, relay


def test_an_editor_watches_an_update_pauses_it_and_tries_those_again_who_failed(
    going_out: tuple[Site, Relay],
) -> None:
    site, relay = going_out
    site.look("UPDATE subscribers SET email = '=1+1|' || email WHERE email = 'reader0@mail.example'")
    with tab(site, "ada@courier.example") as ada, tab(site, "rep@courier.example") as rep:
        site.publish(importance="breaking")
        until(ada, lambda now: now["accepted"] == 60)

        for page in looks(ada, 2):
            assert "Going out" in page
            assert sums(page)["accepted"] == 60
            assert ada.csrf(LIVE) in page  # so that the buttons of what was sent work too

        assert ada.submit(f"{LIVE}/steer", page=LIVE, do="pause").headers["location"] == f"{LIVE}?done=paused"
        relay.most = 2 * READERS
        paused = until(ada, lambda now: now["accepted"] > 60)
        assert "Resume" in paused
        assert sums(paused)["waiting"] > 0
        assert "Paused by ada@courier.example" in plain(paused)
        assert sums(seen(ada))["accepted"] <= 64  # what had been begun was ended, and nothing more

        assert ada.submit(f"{LIVE}/steer", page=LIVE, do="resume").status_code == 303
        page = until(ada, lambda now: now["waiting"] == 0)
        assert sums(page)["accepted"] == READERS - NO_MAILBOX - TRY_AGAIN - FULL
        assert sums(page)["failed"] == NO_MAILBOX + TRY_AGAIN
        assert sums(page)["deferred"] == FULL
        assert f"Retry the {TRY_AGAIN} that failed" in page
        for words, count in (
            ("No such mailbox", NO_MAILBOX),
            ("Refused by the receiver", TRY_AGAIN),
            ("Mailbox is full", FULL),
        ):
            assert re.search(rf">{words}</a>.*?<td class=\"n\">{count}</td>", page, re.DOTALL), words
        assert "suppressed from now on" in page
        assert plain(page).count("they are never written to now") == 1
        assert re.findall(r"Try (.*?)<span", page) == [f"these {TRY_AGAIN} again"]
        assert "First mail accepted after" in page
        assert "Mail paused by Ada" in page

        refused = f"{LIVE}/readers?channel=email&state=failed&reason=no-mailbox"
        listed = ada.get(refused).text
        assert listed.count("no such user here") == NO_MAILBOX
        assert "reader5@mail.example" in listed
        assert "reader5@mail.example" not in rep.get(refused).text
        assert "Nobody" in ada.get(f"{LIVE}/readers?state=superseded").text
        assert ada.get(f"{LIVE}/readers?state=nonsense").status_code == 422
        assert ada.get(f"{LIVE}/readers?after=x").status_code == 422
        assert every_reader(ada) == READERS

        rows = download(ada, state="failed")
        assert len(rows) == NO_MAILBOX + TRY_AGAIN
        assert all(row["state"] == "failed" for row in rows)
        assert next(row for row in rows if "1+1" in row["email"])["email"].startswith("'=")
        assert len(download(ada)) == READERS
        assert not any(row["email"].startswith("reader5@") for row in download(rep))
        assert site.look("SELECT actor FROM audit WHERE action = 'downloaded readers' ORDER BY id")[-1] == (
            "rep@courier.example",
        )

        assert 'value="retry"' not in seen(rep)
        assert (
            rep.client.post(f"{LIVE}/steer", data={"csrf": rep.csrf(f"{LIVE}/readers"), "do": "cancel"}).status_code
            == 403
        )
        relay.is_kind = True
        blast = field_of(page, "blast")
        again = {"do": "retry", "blast": blast, "state": "failed", "reason": "refused"}
        assert ada.submit(f"{LIVE}/steer", page=LIVE, **{**again, "state": "lost"}).status_code == 422
        assert ada.submit(f"{LIVE}/steer", page=LIVE, **{**again, "state": "expired"}).status_code == 422
        assert ada.submit(f"{LIVE}/steer", page=LIVE, **{**again, "blast": "999"}).status_code == 422
        assert rep.client.post(f"{LIVE}/steer", data={"csrf": rep.csrf(f"{LIVE}/readers"), **again}).status_code == 403
        nobody = ada.submit(f"{LIVE}/steer", page=LIVE, **{**again, "reason": "no-mailbox"}).headers["location"]
        assert nobody == f"{LIVE}?done=nobody"
        assert "nobody is left who could be" in ada.get(nobody).text
        assert ada.submit(f"{LIVE}/steer", page=LIVE, **again).headers["location"] == f"{LIVE}?done=retried"
        page = until(ada, lambda now: now["failed"] == NO_MAILBOX)
        assert f"{TRY_AGAIN} readers tried again by Ada: Refused by the receiver" in plain(page)
        assert ada.submit(f"{LIVE}/steer", page=LIVE, **again).headers["location"] == nobody


def download(opened: Tab, **fields: str) -> list[dict[str, str]]:
    answer = opened.submit(f"{LIVE}/readers.csv", page=f"{LIVE}/readers", **fields)
    assert answer.status_code == 200, answer.text
    assert "attachment" in answer.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(answer.text)))


def every_reader(opened: Tab) -> int:
    """Readers on all pages of the list, each once."""
    seen: list[str] = []
    path: str | None = f"{LIVE}/readers"
    while path:
        page = opened.get(path).text
        seen += re.findall(r'<th scope="row" class="all">(.*?)</th>', page)
        more = re.search(r'href="([^"]+)" rel="next"', page)
        path = unescape(more[1]) if more else None
    assert len(set(seen)) == len(seen)
    return len(seen)


def test_the_rest_is_cancelled_and_what_is_wrong_is_replaced_or_corrected_from_the_same_page(
    going_out: tuple[Site, Relay],
) -> None:
    site, relay = going_out
    relay.most = REFUSED + 20
    with tab(site, "ada@courier.example") as ada:
        site.publish()
        until(ada, lambda now: now["accepted"] == 20)

        replaced = ada.submit(f"{LIVE}/replace", page=LIVE)
        corrected = ada.submit(f"{LIVE}/correct", page=LIVE, pause="1")
        page = seen(ada)
        assert "Paused" in page
        drafts = [int(answer.headers["location"].rpartition("/")[2]) for answer in (replaced, corrected)]
        kept = site.look("SELECT id, kind::text, replaces, corrects IS NOT NULL FROM drafts ORDER BY id")
        assert kept == [(drafts[0], "update", True, False), (drafts[1], "correction", False, True)]

        assert ada.submit(f"{LIVE}/steer", page=LIVE, do="cancel").headers["location"].endswith("done=cancelled")
        relay.most = 2 * READERS
        over = until(ada, lambda now: now["accepted"] > 20)
        assert "Cancel the rest" not in over
        assert sums(over)["waiting"] > 0
        assert ada.submit(f"{LIVE}/withdraw", page=LIVE, reason=" ").status_code == 422
        again = ada.submit(f"{LIVE}/steer", page=f"{LIVE}/readers", do="pause")
        assert again.status_code == 409
        assert "Nothing of this update goes out any more" in again.text
        assert sums(seen(ada))["accepted"] <= 24
        withdrawn = ada.submit(f"{LIVE}/withdraw", page=LIVE, reason="It was another levee.")
        assert withdrawn.headers["location"] == f"{LIVE}?done=withdrawn"
        assert "Withdrawn by Ada: It was another levee." in plain(seen(ada))
        assert ada.submit(f"{LIVE}/withdraw", page=f"{LIVE}/readers", reason="Again.").status_code == 409
        for wrong in ("/desk/stories/tarrow-flood/updates/9", "/desk/stories/tarrow-flood/updates/-1"):
            assert ada.get(wrong).status_code == ada.get(f"{wrong}/events").status_code == 404
        for wrong in ("0", "1.5", "x", "99999999999"):
            assert ada.get(f"/desk/stories/tarrow-flood/updates/{wrong}").status_code == 404


def lines_of(opened: Tab) -> Iterator[str]:
    """What the stream of the live page says, for as long as it lasts."""
    with opened.client.stream("GET", f"{LIVE}/events") as answer:
        yield from answer.iter_lines()


def test_a_stream_ends_with_its_session_and_keeps_none_alive(own_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_stream, "LOOK_AT_SESSION", 0.2)
    employ(own_site)
    own_site.create_story()
    own_site.publish()
    with tab(own_site, "ada@courier.example") as ada, own_site.browser() as stranger:
        assert stranger.get(f"{LIVE}/events").status_code == 303
        before = own_site.look("UPDATE sessions SET seen_at = seen_at - interval '2 hours' RETURNING seen_at")
        lines = lines_of(ada)
        assert "event: look" in (next(lines), next(lines), next(lines))
        # Without a script the page asks for itself again; never while what was typed into it would be lost.
        refreshed = re.search(r'<meta http-equiv="refresh" content="3;url=([^"]+)"', ada.get(LIVE + "?again=1").text)
        assert refreshed is not None
        assert refreshed[1] == f"{LIVE}?again=1"
        assert own_site.look("SELECT seen_at FROM sessions") == before
        wrong = ada.submit(f"{LIVE}/withdraw", page=f"{LIVE}?again=1", reason=" ")
        assert (wrong.status_code, "http-equiv" in wrong.text) == (422, False)
        own_site.look("DELETE FROM sessions")
        assert "event: over" in list(lines)


def test_streams_that_are_open_keep_no_server_from_stopping(own_site: Site) -> None:
    employ(own_site)
    own_site.create_story()
    own_site.publish()
    with running(own_site.settings) as second, tab(second, "ada@courier.example") as ada:
        streams = [lines_of(ada) for _ in range(5)]
        for lines in streams:
            assert "event: look" in (next(lines), next(lines), next(lines))
        began = time.monotonic()
    assert time.monotonic() - began < 12
    for lines in streams:
        lines.close()  # type: ignore[attr-defined]


def test_a_drill_is_watched_in_words_that_nobody_takes_for_the_real_thing(own_site: Site) -> None:
    employ(own_site)
    own_site.create_story()
    add_readers(own_site, 20)
    path = LIVE.replace("/1", "/-1")
    with a_worker(own_site.settings.database_url, Relay()) as sink, tab(own_site, "ada@courier.example") as ada:
        rehearse(own_site)
        page = until(ada, lambda now: now["accepted"] == 20, path=path)
        assert "This is a drill" in page
        assert "it reaches nobody" in page
        assert "Drill, reaches nobody" in page
        assert "Drilled by" in page
        for button in ("Withdraw…", "Correct…", "Replace…"):
            assert button not in page
        assert sink.taken == []


def rehearse(site: Site) -> None:
    async def work() -> None:
        async with db.Database(site.settings.database_url) as database:
            draft = Draft(headline="The levee gives way", body="It gave way.")
            await drilling.drill(database, Bell(NO_BROKER), "tarrow-flood", draft, by="ada@courier.example")

    at_once(work())
