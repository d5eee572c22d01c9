"""Whatever editors, readers, browsers and relays write, no page runs it (S15)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Page

from dispatcher.config import Newsroom
from dispatcher.embedded.maildir import Maildir
from dispatcher.embedded.postgres import Postgres
from dispatcher.embedded.valkey import Valkey
from tests.browser.test_desk_in_a_browser import sign_in
from tests.browser.windows import Window
from tests.journeys.desks import employ
from tests.journeys.test_web_guards import HOSTILE
from tests.security.house import House, a_house
from tests.support.boxes import eventually
from tests.support.databases import fresh_database
from tests.support.directories import service_directory

pytestmark = pytest.mark.browser

#: Each of these says `alert` if it runs, and all of them stand in every field as far as they fit.
SCRIPTS = [text for text in HOSTILE if "alert" in text]
LINE = " ".join(
    (
        "</title></textarea></style></script>",
        *SCRIPTS,
        '"\' autofocus onfocus=alert(2) onmouseover=alert(3) x="',
        "<a href=javascript:alert(4)>go</a>",
        "<details open ontoggle=alert(5)>",
        "]]>--><svg/onload=alert(6)>",
    )
)
#: What Chromium remarks of pages that run nothing of what was written: a preview is of no origin, so that it may load
#: nothing from ours, and a field that asks for the focus does not get it from whoever has pressed Tab already.
HARMLESS = ("NotSameOrigin", "Autofocus processing was blocked")
BODY = "\n\n".join((*SCRIPTS, "[go](javascript:alert(7))", "![x](x onerror=alert(8))", "<javascript:alert(9)>", LINE))


@pytest.fixture(scope="module")
def hostile(postgres: Postgres, template_database: str, valkey: Valkey) -> Iterator[House]:
    """A newsroom in which everybody is hostile, itself among them."""
    newsroom = Newsroom(name=LINE[:150], address=LINE[150:300])
    with (
        service_directory() as directory,
        fresh_database(postgres, template_database) as url,
        a_house(url, valkey.url, inbox_dir=directory / "mail", newsroom=newsroom) as found,
    ):
        Maildir(directory / "mail").close()
        yield found


def pages(house: House) -> list[str]:
    """Every page that there is, filled to the brim."""
    site = house.site
    slug, closed = house.story(headline=LINE[:200], summary=LINE[:500]), house.story("closed", headline=LINE[-200:])
    for number in range(0, len(LINE), 200):
        house.publish(slug, headline=LINE[number : number + 200], summary=LINE[:500], body=BODY, importance="breaking")
    house.publish(slug, headline=LINE[:200], body=BODY, kind="correction", corrects=1)
    ada, eve = house.address("ada"), house.address("x'+alert+'")
    own = house.confirmed(slug, ada, catch_up="1")
    house.ask(closed, ada)
    house.ask(slug, eve)
    [mail] = house.mails(eve)
    confirm = house.path(mail, "confirm")
    site.look("UPDATE subscribers SET name = %s", LINE[:200])
    [(reader,)] = site.look("SELECT id FROM subscribers WHERE email = %s", ada)
    for text in (*SCRIPTS, LINE):
        site.add_device(reader, name=text[:80])
    site.close_story(closed, successor=slug)
    house.mails(ada, 3)
    put_into_inbox(house)
    inbox = re.findall(r'href="(/inbox/[^"?]+)"', site.get("/inbox").text)
    assert len(inbox) >= 4
    return [
        *("/", f"/s/{slug}", f"/s/{slug}?before=2", f"/s/{closed}", f"/s/{slug}/asked", f"/embed/{slug}", "/lost"),
        *(f"/embed/{closed}", f"/embed/{slug}?asked=1", "/lost/asked", confirm, own, f"{own}/erase", "/api/v1/docs"),
        *(site.leave_path(reader, slug), site.leave_path(reader), f"{own}?done=confirmed&story={slug}"),
        *("/inbox", "/inbox?q=%3Cscript%3Ealert(1)%3C/script%3E"),
        *(f"{mail}?view={view}&images=1" for mail in inbox[-2:] for view in ("html", "text", "headers")),
        *(f"/s/{text}" for text in ("<script>alert(1)</script>", "%3Cimg%20src=x%20onerror=alert(1)%3E")),
        *(f"{own}?done={text}&story={text}" for text in ("<script>alert(1)</script>", '"><svg onload=alert(1)>')),
        *("/manage/<script>alert(1)</script>", "/confirm/'-alert(1)-'", "/u/%22%3E%3Csvg%20onload=alert(1)%3E"),
    ]


def put_into_inbox(house: House) -> None:
    """What the relay was given is what the catcher would have caught."""
    assert house.site.settings.inbox_dir is not None
    maildir = Maildir(house.site.settings.inbox_dir)
    for each in house.sink.taken:
        maildir.put(each.sender, [each.recipient], each.data)
    maildir.close()


def test_no_page_runs_what_anybody_has_written(hostile: House, window: Callable[..., Window]) -> None:
    """S15: 0 dialogs on every page, and nothing that the policy had to stop."""
    opened = window()
    found = pages(hostile)
    for path in found:
        answer = opened.page.goto(hostile.site.url + path)
        assert answer is not None
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        opened.page.mouse.move(300, 300)
        for _ in range(3):
            opened.page.keyboard.press("Tab")
        strange = [line for line in opened.trouble if "404" not in line]
        assert strange == [], path
    print(f"S15: {len(found)} pages, 0 dialogs")


def desk_pages(house: House, page: Page) -> list[str]:
    """Every page of the desk that shows what others have written; whoever looks has such a name herself."""
    site, slug, refused = house.site, house.story(headline=LINE[:200], summary=LINE[:500]), house.address("refused")
    house.confirmed(slug, refused)
    [(reader,)] = site.look("SELECT id FROM subscribers WHERE email = %s", refused)
    site.look("UPDATE subscribers SET name = %s WHERE id = %s", LINE[:200], reader)
    said = f"550 5.1.1 {LINE[:200]}"
    house.sink.script = lambda step, argument, session: said if step == "RCPT" and argument == refused else None
    try:
        house.publish(slug, headline=LINE[:200], summary=LINE[:500], body=BODY, importance="breaking")
    finally:
        house.sink.script = lambda *_: None
    site.look("INSERT INTO suppressions VALUES (decode(md5(%s), 'hex'), %s)", slug, LINE)
    site.look("INSERT INTO incidents (kind, subject, text) VALUES ('relay', %s, %s)", slug, LINE)
    site.look("INSERT INTO audit (actor, action, subject) VALUES (%s, %s, %s)", LINE, LINE, LINE)
    lead = employ(site, f"{slug}@courier.example")
    site.look("UPDATE people SET name = %s WHERE email = %s", LINE[:100], lead)
    sign_in(page, site, lead)
    page.goto(f"{site.url}/desk/stories/{slug}")
    page.get_by_role("button", name="Follow up on the last").click()
    page.wait_for_url("**/desk/drafts/*")
    draft = page.url.removeprefix(site.url)
    story = f"/desk/stories/{slug}"
    return [
        *("/desk", f"/desk?q={quote(SCRIPTS[0])}", story, f"{story}/edit", f"{story}/close", f"{story}/merge"),
        *(f"{story}/updates/1", f"{story}/updates/1/readers?state=failed", draft, f"{draft}/approve"),
        *(f"{draft}/preview?view={view}&lang=en" for view in ("phone", "text")),
        *("/desk/drafts", f"/desk/subscribers/{reader}", "/desk/suppressions", "/desk/people", "/desk/me"),
        *("/desk/log", f"/desk/log?actor={quote(LINE)}", "/desk/health", "/desk/settings", "/desk/tokens"),
        *(f"/desk/jump?q={quote(SCRIPTS[0])}", f"/desk/sign-in?next={quote(LINE)}", f"/desk/people?done={quote(LINE)}"),
    ]


def test_no_page_of_the_desk_runs_what_anybody_has_written(hostile: House, window: Callable[..., Window]) -> None:
    """S15: what would run here would run with the rights of whoever sends to everybody."""
    opened = window()
    found = desk_pages(hostile, opened.page)
    for path in found:
        answer = opened.page.goto(hostile.site.url + path)
        assert answer is not None
        assert answer.status == 200, path
        if "/preview" not in path:
            assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe-eval" not in answer.headers["content-security-policy"]
        for _ in range(3):
            opened.page.keyboard.press("Tab")
        assert [line for line in opened.trouble if not any(words in line for words in HARMLESS)] == [], path
    assert len(found) > 20


@pytest.mark.parametrize("path", ["/s/{slug}", "/lost"])
def test_what_was_typed_wrong_is_shown_again_as_text(hostile: House, window: Callable[..., Window], path: str) -> None:
    """S15: what comes back in a form that a reader, or whoever sent them the link, has filled in."""
    slug = hostile.story()
    opened = window()
    opened.page.goto(hostile.site.url + path.format(slug=slug))
    with opened.page.expect_navigation():
        opened.page.evaluate(
            "text => { const field = document.querySelector('input[name=email]'); field.type = 'text';"
            " field.value = text; field.form.submit(); }",
            LINE,
        )
    assert opened.page.locator("input[name=email]").input_value() == LINE[:320]
    assert [line for line in opened.trouble if "422" not in line and "429" not in line] == []


def test_what_a_relay_says_is_shown_as_text_by_whatever_shows_it(hostile: House) -> None:
    """S15: the API shows it as JSON that no browser takes for a page."""
    slug, email = hostile.story(), hostile.address()
    hostile.confirmed(slug, email)
    said = "550 5.7.1 <script>alert(1)</script>"
    hostile.sink.script = lambda step, argument, session: said if step == "RCPT" and argument == email else None
    blast = hostile.site.publish(slug)["blasts"][0]["id"]
    try:
        assert eventually(lambda: hostile.site.look("SELECT reply FROM deliveries WHERE blast_id = %s", blast) != [])
    finally:
        hostile.sink.script = lambda *_: None
    with hostile.site.cms() as cms:
        answer = cms.get(f"/api/v1/blasts/{blast}")

    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
