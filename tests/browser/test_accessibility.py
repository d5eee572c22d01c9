"""Every page of readers before axe-core, in light and dark, on a small phone and at a desk: nothing is found.

Each page is opened once, in the state that a reader would see, and then looked at in every light and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from typing import Literal

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page

from dispatcher.embedded.postgres import Postgres
from dispatcher.embedded.valkey import Valkey
from dispatcher.rendering.letters import render_update
from dispatcher.rendering.notices import render_notice
from dispatcher.rendering.samples import sample_notices, sample_views
from tests.api.serving import Site, running, settings_for
from tests.browser.push_service import stand_in
from tests.journeys.mails import caught
from tests.rendering.mails import Mail
from tests.support.databases import fresh_database

pytestmark = pytest.mark.browser

#: The rules that axe-core follows by itself, and the one for targets of 24 px, which WCAG 2.2 AA adds.
#: What stands in the frame of a mail is the newsroom's letter, not a page of ours.
LOOK = """async ([type, values]) => {
  const options = { resultTypes: ["violations"], rules: { "target-size": { enabled: true } }, iframes: false };
  if (type) options.runOnly = { type, values };
  const { violations } = await axe.run(document, options);
  return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) =>
    `${id}: ${target.join(" ")} ${failureSummary}`));
}"""
OpenShelf = Callable[[str], AbstractContextManager["Shelf"]]
MAIL = "<h1>The levee gives way</h1><p>Leave now.</p>"
HEADLINES = {
    "en": ("Tarrow flood: Ostermere leaves the lower city", "Millgate levee gives way", "The levee holds after all"),
    "uk": ("Повінь на Тарроу: Остермере залишає нижнє місто", "Дамбу в Мілґейті прорвано", "Дамба таки тримається"),
}
BODY = (
    "Go **now**, along [Hill Road](https://courier.example/map).\n\n|Gauge|22:00|\n|:-|-:|\n|Dam|101.2|\n\n> Stay calm."
)


@dataclass
class Shelf:
    """A site with something of everything, and a window in which one language is read."""

    site: Site
    page: Page
    language: str
    readers: dict[str, int] = field(default_factory=dict)

    def goto(self, path: str) -> None:
        self.page.goto(self.site.url + path)

    def press(self, selector: str) -> None:
        self.page.locator(selector).click()

    def manage(self, who: str) -> str:
        return self.site.manage_path(self.readers[who])

    def leave(self, who: str, slug: str | None = "tarrow-flood") -> str:
        return self.site.leave_path(self.readers[who], slug)


@pytest.fixture(scope="module")
def open_shelf(
    postgres: Postgres,
    template_database: str,
    valkey: Valkey,
    chromium: Browser,
    tmp_path_factory: pytest.TempPathFactory,
) -> OpenShelf:
    @contextmanager
    def open_it(language: str) -> Iterator[Shelf]:
        inbox = caught(tmp_path_factory.mktemp("inbox"), MAIL, MAIL)
        with (
            fresh_database(postgres, template_database) as database_url,
            running(settings_for(database_url, valkey.url, inbox_dir=inbox)) as site,
        ):
            context = chromium.new_context(locale={"en": "en-GB", "uk": "uk-UA"}[language])
            found = Shelf(site, context.new_page(), language)
            found.page.add_init_script(stand_in(permission="denied"))
            fill(found)
            yield found
            context.close()

    return open_it


@pytest.fixture(scope="module")
def english(open_shelf: OpenShelf) -> Iterator[Shelf]:
    with open_shelf("en") as found:
        yield found


@pytest.fixture(scope="module")
def ukrainian(open_shelf: OpenShelf) -> Iterator[Shelf]:
    with open_shelf("uk") as found:
        yield found


def fill(shelf: Shelf) -> None:
    """Put something of everything there."""
    site = shelf.site
    story, first, second = HEADLINES[shelf.language]
    site.create_story(headline=story, summary=second)
    site.publish(headline=first, summary=second, body=BODY, importance="breaking")
    site.publish(headline=second, body=BODY, kind="correction", corrects=1)
    for number in range(4):
        site.publish(headline=f"{first} {number}", body=BODY, importance="major" if number % 2 else "routine")
    site.create_story("strike", headline=second)
    for slug, successor in (("closed", "strike"), ("ended", None)):
        site.create_story(slug, headline=story)
        site.publish(slug, headline=first, body=BODY, kind="final", successor=successor)
    for who in ("full", "leaving", "left", "erased", "alone"):
        shelf.readers[who] = site.add_reader("tarrow-flood", "strike", "closed")
    settle(shelf)


def settle(shelf: Shelf) -> None:
    """One reader with everything that a page can show, and one who is only a browser."""
    site, readers = shelf.site, shelf.readers
    site.look("UPDATE subscribers SET locale = %s", shelf.language)
    full, alone = readers["full"], readers["alone"]
    site.look(
        "UPDATE subscribers SET paused_until = now() + interval '5 days', quiet_from = '22:00', quiet_to = '07:00'"
        " WHERE id = %s",
        full,
    )
    site.add_device(full)
    site.look("UPDATE devices SET last_accepted_at = now() WHERE id = %s", site.add_device(full, ""))
    site.post(shelf.leave("full", "strike"), {"List-Unsubscribe": "One-Click"})
    site.add_device(alone)
    site.look("UPDATE subscribers SET email = NULL, address_hash = NULL WHERE id = %s", alone)


def at(path: str) -> Callable[[Shelf], None]:
    return lambda shelf: shelf.goto(path)


def a_slip(shelf: Shelf) -> None:
    """The form that comes back with what is wrong."""
    shelf.goto("/s/tarrow-flood")
    shelf.page.locator("#follow").evaluate("form => { form.noValidate = true; form.elements.email.value = 'ada@'; }")
    shelf.press("#follow button")
    shelf.page.locator("#email-wrong").wait_for()


def a_refusal(shelf: Shelf) -> None:
    """The words for a browser that does not let us."""
    shelf.goto("/s/tarrow-flood")
    shelf.press("#screen-on")
    shelf.page.locator("#screen-said:not(:empty)").wait_for()


def too_often(shelf: Shelf) -> None:
    for _ in range(20):
        shelf.site.follow("strike", "bo@mail.example", client="198.18.0.9")
    shelf.page.set_extra_http_headers({"X-Forwarded-For": "198.18.0.9"})
    shelf.goto("/s/tarrow-flood")
    shelf.page.locator("#email").fill("ada@mail.example")
    shelf.press("#follow button")
    shelf.page.locator("#too-many").wait_for()
    shelf.page.set_extra_http_headers({})


def confirming(shelf: Shelf) -> None:
    """The page with the button, and the browser that would come along."""
    shelf.site.follow(catch_up="1", headers={"Accept-Language": shelf.language})
    path = shelf.site.confirm_path()
    shelf.site.look("UPDATE confirmations SET device_subscriber_id = %s", shelf.readers["alone"])
    shelf.goto(path)
    assert shelf.page.locator("dl.facts dt").count() == 3
    assert shelf.page.get_by_role("checkbox").count() == 1


def managing(shelf: Shelf) -> None:
    """Everything that a reader's own page can show, right after a button was pressed."""
    shelf.goto(shelf.manage("full"))
    shelf.press("#language button")
    shelf.page.locator("#done").wait_for()
    assert shelf.page.locator("main section, main form.card").count() >= 7


def left(shelf: Shelf) -> None:
    shelf.goto(shelf.leave("left"))
    shelf.press("main button.strong")
    shelf.page.get_by_role("status").wait_for()


def erased(shelf: Shelf) -> None:
    shelf.goto(shelf.manage("erased") + "/erase")
    shelf.press("main button.danger")
    shelf.page.get_by_role("status").wait_for()


def a_mail(view: str) -> Callable[[Shelf], None]:
    def opened(shelf: Shelf) -> None:
        shelf.goto("/inbox")
        shelf.page.locator(".mails a").first.click()
        if view != "html":
            shelf.press(f'.tabs a[href="?view={view}"]')

    return opened


#: The states that readers and the desk see, by name.
STATES: dict[str, Callable[[Shelf], None]] = {
    "all stories": at("/"),
    "a story": at("/s/tarrow-flood"),
    "a story, earlier updates": at("/s/tarrow-flood?before=4"),
    "a story without updates": at("/s/strike"),
    "a story that goes on elsewhere": at("/s/closed"),
    "a story that has ended": at("/s/ended"),
    "a form with a slip": a_slip,
    "a form sent too often": too_often,
    "a refusal of the browser": a_refusal,
    "asked": at("/s/tarrow-flood/asked"),
    "confirm": confirming,
    "a reader's own page": managing,
    "a browser's own page": lambda shelf: shelf.goto(shelf.manage("alone")),
    "erase": lambda shelf: shelf.goto(shelf.manage("full") + "/erase"),
    "erased": erased,
    "leave": lambda shelf: shelf.goto(shelf.leave("leaving")),
    "leave all": lambda shelf: shelf.goto(shelf.leave("leaving", None)),
    "left": left,
    "lost": at("/lost"),
    "lost, asked": at("/lost/asked"),
    "embedded": at("/embed/tarrow-flood"),
    "embedded, asked": at("/embed/tarrow-flood?asked=1"),
    "embedded, ended": at("/embed/ended"),
    "a bad link": at("/manage/cut-off"),
    "a bad confirm link": at("/confirm/cut-off"),
    "no such page": at("/nowhere"),
    "the inbox": at("/inbox"),
    "a mail": a_mail("html"),
    "a mail's text": a_mail("text"),
    "a mail's headers": a_mail("headers"),
}
#: Those that are read in Ukrainian too: whatever is longer there.
IN_UKRAINIAN = (
    *("all stories", "a story", "a form with a slip", "a refusal of the browser", "asked", "confirm"),
    *("a reader's own page", "erase", "leave", "left", "embedded", "a bad link"),
)
#: Which rules are followed: all; those about colours, which are all that light and dark change; those of WCAG 2.2 AA.
Rules = tuple[str, tuple[str, ...]]
ALL: Rules = ("", ())
COLOURS: Rules = ("rule", ("color-contrast", "link-in-text-block"))
WCAG: Rules = ("tag", ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"))
Look = tuple[int, Literal["light", "dark"], Rules]
ON_A_PHONE: tuple[Look, ...] = ((320, "dark", ALL),)
EACH_ONCE: tuple[Look, ...] = (*ON_A_PHONE, (1280, "light", ALL))
EVERY_LOOK: tuple[Look, ...] = ((320, "light", COLOURS), *EACH_ONCE, (1280, "dark", COLOURS))
#: Taken in turns: mails differ in their words, and hardly in their frame.
LOOKS_OF_A_MAIL: tuple[Look, ...] = ((320, "light", WCAG), (700, "dark", WCAG), (320, "dark", WCAG))


@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing_on_a_page_in_any_light_and_at_any_width(english: Shelf, state: str) -> None:
    STATES[state](english)

    assert english.page.locator("html").get_attribute("lang") == "en"
    assert findings(english.page, EVERY_LOOK) == []


@pytest.mark.parametrize("state", IN_UKRAINIAN)
def test_axe_finds_nothing_on_a_page_in_ukrainian(ukrainian: Shelf, state: str) -> None:
    STATES[state](ukrainian)

    assert ukrainian.page.locator("html").get_attribute("lang") == "uk"
    assert findings(ukrainian.page, ON_A_PHONE) == []


def test_axe_finds_nothing_in_the_api_reference(english: Shelf) -> None:
    english.goto("/api/v1/docs")

    assert findings(english.page, EACH_ONCE) == []  # it is so long that each look takes seconds


def test_axe_finds_nothing_in_any_mail(chromium: Browser) -> None:
    now, zone = datetime(2026, 11, 27, 21, 30, tzinfo=UTC), "Europe/Kyiv"
    letters = [
        *(render_notice(each, locale="uk", timezone=zone, now=now) for each in sample_notices()),
        *(render_update(each, locale="uk", timezone=zone) for each in sample_views()),
    ]
    page = chromium.new_page()

    assert len(letters) > 6
    for letter, look in zip(letters, cycle(LOOKS_OF_A_MAIL), strict=False):
        mail = Mail(letter)
        page.set_content(mail.html)
        # Landmarks and their like are for pages: a mail stands in the page of a mail program.
        assert findings(page, (look,)) == [], mail.subject
    page.close()


def test_axe_would_find_what_is_wrong(english: Shelf) -> None:
    english.goto("/lost")
    english.page.locator("main").evaluate(
        "main => { main.querySelector('label[for=email]').remove();"
        ' main.insertAdjacentHTML(\'beforeend\', \'<p id="grey">Grey</p><p id="wide">Wide</p>'
        '<p><button class="tiny">x</button><button class="tiny">y</button></p>\');'
        " document.adoptedStyleSheets = [new CSSStyleSheet()]; document.adoptedStyleSheets[0].replaceSync("
        "'#grey { color: #777; background: #555; } #wide { width: 700px; }"
        " .tiny { height: 12px; width: 12px; min-height: 0; padding: 0; font-size: 8px; }'); }"
    )
    found = findings(english.page, EACH_ONCE)

    assert {each.split(": ")[1] for each in found if each.startswith("320 px, dark")} >= {
        "color-contrast",
        "label",
        "target-size",
    }
    assert any("px too wide" in each for each in found)


def findings(page: Page, looks: tuple[Look, ...]) -> list[str]:
    """What axe-core has to say about a page at each width and in each light, and how far the page sticks out."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found = []
    for width, light, rules in looks:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=light)
        found += [f"{width} px, {light}: {each}" for each in page.evaluate(LOOK, rules)]
        if sideways := page.evaluate("document.documentElement.scrollWidth - innerWidth"):
            found.append(f"{width} px: {sideways} px too wide")
    return found
