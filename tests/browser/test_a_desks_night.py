"""A desk's night with a real browser, from signing in to the end of the story, in a box as `dispatcher up` runs it.

Once at a desk in the light, once on a phone in the dark. Whoever approves has a phone, always.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from dispatcher.embedded.postgres import Postgres
from dispatcher.roles import Role
from tests.browser.desk_night import (
    READERS,
    Desk,
    Relay,
    a_desk_night,
    accepted,
    header,
    in_card,
    says,
    subject_of,
    sums,
)
from tests.browser.night import Night
from tests.browser.screens import until
from tests.browser.test_desk_in_a_browser import sign_in
from tests.journeys.desks import employ, tab, turn_codes_on
from tests.support.databases import fresh_database

pytestmark = pytest.mark.browser

#: Besides those with an address: browsers of whom one has a screen to look at.
DEVICES = 3
LATER = "the-morning-after"
LEVEE, HILLS = "Millgate levee gives way", "Both levees give way: walk to the hills"
WRONG, RIGHT = "The bridge is open", "The bridge is closed"
RUMOUR, REASON = "The dam has burst", "The dam stands. We were wrong."
END = "The water is gone"


@pytest.fixture(scope="module")
def night(postgres: Postgres, template_database: str) -> Iterator[tuple[Night, Relay]]:
    with fresh_database(postgres, template_database) as database_url, a_desk_night(database_url) as (night, relay):
        night.site.create_story(LATER, headline="The morning after")
        yield night, relay


@pytest.fixture(params=[1280, 360])
def desk(request: pytest.FixtureRequest, night: tuple[Night, Relay], chromium: Browser) -> Iterator[Desk]:
    is_phone = request.param == 360
    me, second = ("cleo", "dan") if is_phone else ("ada", "ben")
    look: dict[str, Any] = {"color_scheme": "dark" if is_phone else "light", "locale": "en-GB"}
    page = chromium.new_context(viewport={"width": request.param, "height": 800}, **look).new_page()
    phone = chromium.new_context(viewport={"width": 360, "height": 740}, has_touch=True, **look).new_page()
    trouble: list[str] = []
    for each in (page, phone):
        each.on("console", lambda said: trouble.append(f"{said.type}: {said.text}"))
        each.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    reader = night[0].window(chromium)
    devices = [reader.device, *(night[0].service.device() for _ in range(DEVICES - 1))]
    slug = "harbour-fire" if is_phone else "tarrow-flood"
    names = (f"{me}@courier.example", f"{second}@courier.example")
    yield Desk(*night, page, phone, reader, devices, *names, slug, trouble)
    for each in (page, phone, reader.page):
        each.context.close()


def test_a_desk_gets_through_a_night(desk: Desk) -> None:
    sign_in_with_a_code(desk)
    begin_the_story(desk)
    bring_two_thousand_readers_in(desk)
    have_breaking_news_approved_by_a_second_person(desk)

    write_it_see_it_and_mail_it_to_oneself(desk)
    ask_for_approval_and_get_it_on_a_phone(desk)
    send_it_watch_it_pause_and_resume(desk)
    replace_what_has_not_gone_out(desk)
    everybody_got_one_or_the_other(desk)

    correct_in_the_middle(desk)
    nobody_got_the_wrong_text_after_that(desk)
    send_what_some_mailboxes_refuse_and_try_again(desk)
    withdraw_it(desk)
    find_out_what_a_reader_got(desk)
    rehearse(desk)

    jump_by_a_few_letters(desk)
    close_with_a_final_update(desk)
    the_log_shows_it_all(desk)
    assert desk.trouble == []


def sign_in_with_a_code(desk: Desk) -> None:
    """With a second factor; whoever approves has none."""
    site, page = desk.night.site, desk.page
    employ(site, desk.me, Role.LEAD)
    employ(site, desk.second, Role.LEAD)
    with tab(site, desk.me) as opened:
        totp, _ = turn_codes_on(opened)
    sign_in(page, site, desk.me)
    page.get_by_label("The six digits").fill(totp.at(time.time() + 30))
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url(f"{site.url}/desk")
    sign_in(desk.phone, site, desk.second)
    desk.phone.wait_for_url(f"{site.url}/desk")


def begin_the_story(desk: Desk) -> None:
    page = desk.page
    page.get_by_role("link", name="New story").click()
    page.get_by_label("Headline").press_sequentially(desk.slug.replace("-", " ").capitalize())
    expect(page.get_by_label("Slug")).to_have_value(desk.slug)
    page.get_by_role("button", name="Create the story").click()
    page.wait_for_url(f"{desk.url}/desk/stories/{desk.slug}?done=created")


def bring_two_thousand_readers_in(desk: Desk) -> None:
    """From a file with a bad line, and three by the browser that they follow with."""
    page = desk.page
    lines = ["email,name", *(f"{each},A reader" for each in desk.readers), "not an address,Nobody"]
    desk.open("Subscribers")
    page.get_by_role("link", name="Import", exact=True).click()
    page.get_by_label("They follow").select_option(desk.slug)
    page.get_by_label("CSV file").set_input_files(
        {"name": "night.csv", "mimeType": "text/csv", "buffer": "\n".join(lines).encode()}
    )
    page.get_by_label("They have agreed").check()
    page.get_by_label("Leave bad lines out").check()
    page.get_by_role("button", name="Check, then import").click()
    expect(page.get_by_text("2,000 new followers.")).to_be_visible(timeout=20_000)
    expect(page.get_by_role("heading", name="Lines that were not imported")).to_be_visible()
    desk.is_fine()

    window = desk.reader.page
    window.goto(f"{desk.url}/s/{desk.slug}")
    window.get_by_role("button", name="Follow in this browser").click()
    expect(window.locator("#screen-said")).to_contain_text("Done.")
    for device in desk.devices[1:]:
        answer = desk.night.site.push("/push/follow", {"story": desk.slug, "subscription": device.subscription})
        assert answer.status_code == 200, answer.text


def have_breaking_news_approved_by_a_second_person(desk: Desk) -> None:
    page = desk.page
    desk.open("Settings")
    page.get_by_label("Breaking news").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("Saved")


def write_it_see_it_and_mail_it_to_oneself(desk: Desk) -> None:
    page = desk.page
    desk.home()
    page.get_by_role("button", name="Write an update").click()
    page.get_by_text("Breaking", exact=True).click()
    write(page, LEVEE, "Leave the lower city now.", "Walk. **Do not** drive.")
    in_card(page, "Ask for approval")
    mail = page.frame_locator("#mail")
    expect(mail.get_by_role("heading", name=LEVEE)).to_be_visible()
    expect(page.locator("#part-inbox")).to_contain_text(f"BREAKING: {LEVEE}")
    expect(page.locator("#part-push")).to_contain_text("Leave the lower city now.")
    audience = page.locator("#part-audience tfoot")
    assert audience.inner_text().split()[-3:] == ["2,003", "2,000", "3"]
    page.get_by_role("button", name="Dark", exact=True).click()
    expect(mail.get_by_role("heading", name=LEVEE)).to_be_visible()
    desk.is_fine()

    page.get_by_role("button", name="Test to me").click()
    expect(page.get_by_text("A test mail to you")).to_be_visible(timeout=15_000)
    until(lambda: [each for each in desk.relay.mails() if each.recipient == desk.me], page)
    [test] = [each for each in desk.relay.mails() if each.recipient == desk.me]
    assert subject_of(test) == f"[Test] BREAKING: {LEVEE}"
    assert says(test, "Leave the lower city now.")


def ask_for_approval_and_get_it_on_a_phone(desk: Desk) -> None:
    page, phone = desk.page, desk.phone
    assert page.get_by_role("button", name="Send to").count() == 0
    page.get_by_role("button", name="Ask for approval").click()
    expect(page.get_by_text("for a second person.", exact=True)).to_be_visible()
    assert page.get_by_role("link", name="Approve it").count() == 0  # it is their own

    phone.get_by_role("link", name="Drafts").click()
    phone.get_by_role("link", name=LEVEE).first.click()
    if not phone.url.endswith("/approve"):
        phone.get_by_role("link", name="Approve it").click()
    desk.is_fine(phone)
    phone.get_by_label("I understand that this alerts 2,003 people").check()
    phone.get_by_role("button", name="Approve, and let").click()
    expect(phone.get_by_text("Approved. Whoever may send can send it now.")).to_be_visible()


def send_it_watch_it_pause_and_resume(desk: Desk) -> None:
    page, relay = desk.page, desk.relay
    page.reload()
    expect(page.get_by_text("This exact text: any edit voids it.")).to_be_visible()
    relay.pace = 0.05
    begins = send(desk, LEVEE, hold=300)
    until(lambda: accepted(page) == 300, page)
    until(lambda: accepted(page, "Web push") == DEVICES, page)
    assert sums(page)["= candidates"] == READERS
    expect(page.locator("#live-head .live")).to_have_text("Going out")
    page.evaluate("window.stays = true")
    relay.hold_after(0)
    relay.hold_after(300 - relay.unanswered)
    until(lambda: accepted(page) > 400, page)
    assert page.evaluate("window.stays")  # the numbers have come by themselves
    desk.is_fine()

    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    relay.go_on()
    until(lambda: not relay.unanswered and accepted(page) == relay.count - begins, page)
    came = relay.count
    assert came - begins < 900  # what had been begun was ended
    desk.is_fine()
    assert relay.count == came
    assert accepted(page) == came - begins

    relay.hold_after(200)
    page.get_by_role("button", name="Resume").click()
    until(lambda: accepted(page) == came - begins + 200, page)


def replace_what_has_not_gone_out(desk: Desk) -> None:
    page, relay = desk.page, desk.relay
    page.get_by_role("link", name="Replace…").click()
    question = page.get_by_role("dialog", name="Replace what has not gone out?")
    expect(question).to_be_visible()
    left = READERS - accepted(page)
    expect(question).to_contain_text(f"{left:,} mails")
    desk.is_fine()
    question.get_by_role("button", name="Write the next update").click()
    expect(page.get_by_label("Replace it")).to_be_checked()
    page.get_by_text("Major", exact=True).click()
    write(page, HILLS, "Leave now, on foot.", "All of the city.")
    in_card(page, "Send to 2,003")
    expect(page.locator("#replaces")).to_contain_text(f"{left:,} mails")
    desk.is_fine()
    send(desk, HILLS)
    relay.pace = 0
    relay.go_on()
    until(lambda: accepted(page) == READERS, page, seconds=20)
    expect(page.locator("#live-head .ended")).to_have_text("Over", timeout=15_000)
    desk.is_fine()
    page.goto(f"{desk.url}/desk/stories/{desk.slug}/updates/1")
    expect(page.get_by_text("took the place of the rest").first).to_be_visible()
    assert accepted(page) + sums(page)["superseded"] == READERS


def everybody_got_one_or_the_other(desk: Desk) -> None:
    """The replaced update and then the new one, or the new one alone; and then it names the one that was missed."""
    got = mails_by_reader(desk, LEVEE)
    both, alone = [f"BREAKING: {LEVEE}", HILLS], [HILLS]
    assert set(got) == set(desk.readers)
    kinds = {reader: [subject_of(each) for each in mails] for reader, mails in got.items()}
    assert all(kind in (both, alone) for kind in kinds.values())
    told = [reader for reader, kind in kinds.items() if kind == both]
    assert 400 < len(told) < 1_200
    assert all(says(got[reader][-1], LEVEE) for reader in got if reader not in told)
    for device in desk.devices:
        assert [push.message["title"] for push in device.accepted] == [f"BREAKING: {LEVEE}", HILLS]


def correct_in_the_middle(desk: Desk) -> None:
    page, relay = desk.page, desk.relay
    desk.home()
    page.get_by_role("button", name="Follow up on the last").click()
    write(page, WRONG, "You can cross.", "Both lanes.")
    in_card(page, "Send to 2,003")
    relay.pace = 0.02
    send(desk, WRONG, hold=700)
    until(lambda: accepted(page) == 700, page)
    until(lambda: accepted(page, "Web push") == DEVICES, page)
    page.get_by_role("link", name="Correct…").click()
    question = page.get_by_role("dialog", name=f"Correct update {desk.seq}")
    expect(question).to_be_visible()
    desk.is_fine()
    question.get_by_role("button", name="Pause and write it").click()
    expect(page.get_by_label("Headline")).to_have_value(WRONG)
    relay.pace = 0
    relay.go_on()
    until(lambda: not relay.unanswered, page)
    came = relay.count - desk.sent[WRONG]
    write(page, RIGHT, "Do not cross.", "It was never open.")
    in_card(page, "Send to 2,003")
    reached = page.locator("#told-whom tbody tr").first
    expect(reached).to_contain_text("CORRECTION, in the same thread and push slot")
    mails, pushes = reached.inner_text().split()[-2:]
    assert (700 <= int(mails) <= came, pushes) == (True, f"{DEVICES}")  # as last counted
    page.get_by_label("As seen by").select_option("plain")
    expect(page.frame_locator("#mail").get_by_role("heading", name=RIGHT)).to_be_visible()
    desk.is_fine()
    send(desk, RIGHT)
    until(lambda: accepted(page) == READERS, page, seconds=20)
    expect(page.locator("#live-head .ended")).to_have_text("Over", timeout=15_000)


def nobody_got_the_wrong_text_after_that(desk: Desk) -> None:
    got = mails_by_reader(desk, WRONG)
    assert set(got) == set(desk.readers)
    for mails in got.values():
        subjects = [subject_of(each) for each in mails]
        if len(subjects) == 2:
            assert subjects == [WRONG, f"CORRECTION: {RIGHT}"]
            for name in ("In-Reply-To", "References"):
                assert header(mails[1], name) == header(mails[0], name) != ""
        else:
            assert subjects == [RIGHT]
            assert not says(mails[0], WRONG)
    wrong = [each for each in desk.relay.mails(desk.sent[WRONG]) if subject_of(each) == WRONG]
    assert len(wrong) == sum(len(mails) == 2 for mails in got.values()) >= 700
    assert not any(subject_of(each) == WRONG for each in desk.relay.mails(desk.sent[RIGHT]))
    for device in desk.devices:
        assert [push.message["title"] for push in device.accepted[-2:]] == [WRONG, f"CORRECTION: {RIGHT}"]


def send_what_some_mailboxes_refuse_and_try_again(desk: Desk) -> None:
    page, relay = desk.page, desk.relay
    relay.refused = set(desk.readers[:5])
    desk.home()
    page.get_by_role("button", name="Write an update").click()
    page.get_by_text("Major", exact=True).click()
    write(page, RUMOUR, "", "So we hear.")
    in_card(page, "Send to 2,003")
    expect(page.locator("#part-checks")).to_contain_text("summary")
    desk.is_fine()
    send(desk, RUMOUR)
    until(lambda: sums(page).get("failed") == 5 and not sums(page)["waiting"], page, seconds=20)
    expect(page.get_by_role("button", name="Retry the 5 that failed")).to_be_visible(timeout=15_000)
    desk.is_fine()
    relay.refused = set()
    page.get_by_role("button", name="Retry the 5 that failed").click()
    until(lambda: accepted(page) == READERS, page, seconds=20)


def withdraw_it(desk: Desk) -> None:
    """What was pushed is replaced on the screens; nobody is mailed."""
    page, came = desk.page, desk.relay.count
    assert shown(desk)["title"] == RUMOUR
    page.get_by_role("link", name="Withdraw…").click()
    question = page.get_by_role("dialog", name=f"Withdraw update {desk.seq}?")
    expect(question).to_contain_text("3 pushes are replaced by your reason.")
    question.get_by_label("Why, for readers").fill(REASON)
    desk.is_fine()
    question.get_by_role("button", name=f"Withdraw update {desk.seq}").click()
    expect(page.get_by_text("Withdrawn. Nothing more goes out")).to_be_visible()
    desk.seq += 1
    until(lambda: [len(each.accepted) for each in desk.devices] == [6] * DEVICES, page)
    for device in desk.devices:
        told = device.received[-1].message
        assert (told["kind"], told["title"] != RUMOUR, REASON in str(told)) == ("withdrawal", True, True)
    assert shown(desk)["tag"] == f"story-{desk.slug}"
    assert desk.relay.count == came


def shown(desk: Desk) -> dict[str, Any]:
    """Hand the newest push to the reader's browser; the only notification that stands there then."""
    push = desk.reader.device.received[-1]
    desk.reader.hand_over(push)
    until(lambda: desk.reader.screen.titles() == [push.message["title"]], desk.reader.page)
    [found] = desk.reader.screen.shown()
    return found


def find_out_what_a_reader_got(desk: Desk) -> None:
    page = desk.page
    desk.open("Subscribers")
    page.get_by_label("Email address, or how it begins").fill(desk.readers[0])
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name=desk.readers[0])).to_be_visible()
    expect(page.get_by_role("link", name=RUMOUR)).to_be_visible()
    desk.is_fine()


def rehearse(desk: Desk) -> None:
    """Everything is done for everybody, and nothing leaves the house."""
    page = desk.page
    before = desk.relay.count, len(desk.night.service.received)
    desk.home()
    page.get_by_role("button", name="Write an update").click()
    page.get_by_text("Breaking", exact=True).click()
    write(page, "All of Ostermere leaves", "Only if it comes to that.", "By bus.")
    in_card(page, "Drill: reaches nobody")
    page.get_by_role("button", name="Drill: reaches nobody").click()
    page.wait_for_url(re.compile(rf"/desk/stories/{desk.slug}/updates/-1(\?|$)"))
    expect(page.get_by_text("This is a drill.")).to_be_visible()
    until(lambda: accepted(page) == READERS, page, seconds=20)
    until(lambda: accepted(page, "Web push") == DEVICES, page)
    expect(page.locator("#live-head .ended")).to_be_visible(timeout=15_000)
    colour = "getComputedStyle(document.querySelector('.drill')).borderTopColor"
    red, _, blue = (int(each) for each in re.findall(r"\d+", page.evaluate(colour))[:3])
    assert blue > red
    desk.is_fine()
    assert (desk.relay.count, len(desk.night.service.received)) == before


def jump_by_a_few_letters(desk: Desk) -> None:
    page = desk.page
    page.keyboard.press("Control+k")
    page.keyboard.type(desk.slug.split("-")[1])
    expect(page.get_by_role("option").first).to_be_visible()
    desk.is_fine()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(rf"/desk/stories/{desk.slug}$"))
    desk.open("Health")
    expect(page.get_by_role("heading", name="The parts")).to_be_visible()
    desk.is_fine()


def close_with_a_final_update(desk: Desk) -> None:
    page = desk.page
    desk.home()
    page.get_by_role("link", name="Close…").click()
    page.get_by_label("It goes on as").fill(LATER)
    page.get_by_role("button", name="Write the final update").click()
    expect(page.get_by_label("The story goes on in")).to_have_value(LATER)
    write(page, END, "Good night.", "Thank you for reading.")
    in_card(page, "Send to 2,003")
    send(desk, END)
    until(lambda: accepted(page) == READERS, page, seconds=20)
    [last] = mails_by_reader(desk, END)[desk.readers[-1]]
    assert says(last, "The morning after")
    desk.home()
    expect(page.get_by_text("It goes on as")).to_be_visible()
    assert page.get_by_role("button", name="Write an update").count() == 0
    desk.is_fine()


def the_log_shows_it_all(desk: Desk) -> None:
    page = desk.page
    page.goto(f"{desk.url}/desk/log?subject=story%3A{desk.slug}")
    done = page.locator("table").inner_text()
    page.goto(f"{desk.url}/desk/log?actor={desk.me}")
    done += page.locator("table").inner_text()
    page.goto(f"{desk.url}/desk/log?actor={desk.second}")
    done += page.locator("table").inner_text()
    for deed in (
        *("signed in", "imported readers", "mailed a test to themselves", "asked for approval", "approved", "sent"),
        *("paused", "resumed", "withdrew", "rehearsed"),
    ):
        assert deed in done, deed
    for words in (LEVEE, HILLS, RIGHT, REASON, END):
        assert words in done, words


def write(page: Page, headline: str, summary: str, body: str) -> None:
    page.get_by_label("Headline").fill(headline)
    page.get_by_label("Summary").fill(summary)
    page.locator("#body").fill(body)


def send(desk: Desk, headline: str, *, hold: int | None = None) -> int:
    """Press the button, and see it go out. Returns how many mails had come before."""
    if hold is not None:
        desk.relay.hold_after(hold)
    desk.sent[headline] = desk.relay.count
    desk.seq += 1
    desk.page.get_by_role("button", name="Send to 2,003").click()
    desk.live()
    return desk.sent[headline]


def mails_by_reader(desk: Desk, since: str) -> dict[str, list[Any]]:
    """What each reader has been sent since this update, the oldest first."""
    found = defaultdict(list)
    for each in desk.relay.mails(desk.sent[since]):
        if each.recipient.endswith(f"@{desk.slug}.example"):
            found[each.recipient].append(each)
    return found
