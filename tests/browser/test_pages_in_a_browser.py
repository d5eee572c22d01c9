"""The pages in a real browser: on a phone and at a desk, true to their own policy, inert against hostility."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Error

from dispatcher.embedded.maildir import Maildir
from tests.api.serving import Site, running, settings_for
from tests.browser.windows import Window
from tests.journeys.mails import caught, put

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)><script>alert(1)</script>\"'><svg onload=alert(1)>"
EVIL_MAIL = (
    '<body onload="alert(1)"><script>alert(1); parent.document.title = "taken"</script>'
    '<img src="x" onerror="alert(1)"><form action="/manage/x" method="post"><button id="go">Go</button></form>'
    '<a id="out" href="/s/tarrow-flood">Read</a><iframe src="javascript:alert(1)"></iframe></body>'
)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return caught(tmp_path, "<p>Hello</p>", EVIL_MAIL, subject=HOSTILE[:60])


@pytest.fixture
def site(database_url: str, broker_url: str, inbox: Path) -> Iterator[Site]:
    """A site with a hostile story, a calm one, a closed one, and caught mail."""
    with running(settings_for(database_url, broker_url, inbox_dir=inbox)) as found:
        found.create_story(headline="Tarrow flood: Ostermere leaves the lower city", summary="The river is high.")
        found.publish(
            headline="Millgate levee gives way", body="Go **now**.\n\n|a|b|\n|:-|-:|\n|1|2|\n", importance="breaking"
        )
        found.publish(headline="It did not", kind="correction", corrects=1)
        found.create_story("hostile", headline=HOSTILE, summary=HOSTILE)
        found.publish("hostile", headline=HOSTILE, summary=HOSTILE, body=f"{HOSTILE}\n\n[x](javascript:alert(1))")
        found.create_story("wide", headline="W" * 200)
        found.publish("wide", headline="W" * 200, body="W" * 400 + "\n\n|" + "wide|" * 40 + "\n|" + "-|" * 40 + "\n")
        found.close_story("wide", successor="hostile")
        yield found


def pages(site: Site) -> list[str]:
    reader = site.add_reader("tarrow-flood", "hostile", "wide")
    site.add_device(reader, name=HOSTILE[:80])
    site.follow("hostile")
    stories = ["/s/tarrow-flood", "/s/hostile", "/s/wide", "/s/hostile/asked", "/embed/hostile", "/embed/wide"]
    own = [site.leave_path(reader, "hostile"), site.manage_path(reader), site.manage_path(reader) + "/erase"]
    return ["/", *stories, *own, site.confirm_path(), "/lost", "/lost/asked", "/inbox", "/api/v1/docs"]


@pytest.mark.parametrize(("width", "dark"), [(320, False), (360, True), (1280, False)])
def test_every_page_fits_its_window_and_keeps_its_own_policy(
    site: Site, window: Callable[..., Window], width: int, dark: bool
) -> None:
    opened = window(width, dark=dark)
    for path in pages(site):
        opened.page.goto(site.url + path)
        assert opened.sideways() <= 0, path

    assert opened.trouble == []


def test_hostile_words_start_nothing(site: Site, window: Callable[..., Window]) -> None:
    opened = window()
    opened.page.goto(f"{site.url}/s/hostile#u1")
    opened.page.wait_for_timeout(200)

    assert opened.page.locator("h1").inner_text() == HOSTILE
    assert opened.page.locator("main img, main script, main svg").count() == 0
    assert opened.trouble == []


def test_times_are_told_in_the_readers_own_timezone(site: Site, window: Callable[..., Window]) -> None:
    site.look("UPDATE updates SET published_at = now() - interval '3 hours'")
    with_script, without = window(), window(javascript=False)
    for opened in (with_script, without):
        opened.page.goto(f"{site.url}/s/tarrow-flood")

    stamp = ".timeline li:first-child time"
    utc = without.page.locator(stamp).first.inner_text()
    assert utc.endswith(" UTC")
    assert with_script.page.locator(stamp).first.inner_text() not in utc
    assert "3 hours ago" in with_script.page.locator(".story-head").inner_text()
    assert "3 hours ago" in without.page.locator(".story-head").inner_text()


@pytest.mark.parametrize("javascript", [True, False])
def test_a_reader_leaves_and_comes_back_by_pressing_buttons(
    site: Site, window: Callable[..., Window], javascript: bool
) -> None:
    reader = site.add_reader("tarrow-flood", "hostile")
    opened = window(360, javascript=javascript)
    opened.page.goto(site.url + site.leave_path(reader, "tarrow-flood"))
    opened.page.get_by_role("button", name="Stop following").click()
    assert "no more alerts" in opened.page.locator("h1").inner_text()
    assert site.follows(reader) == {"hostile"}

    opened.page.goto(site.url + site.manage_path(reader))
    opened.page.get_by_role("button", name="Follow Tarrow flood").click()
    assert "Welcome back" in opened.page.get_by_role("status").inner_text()
    assert site.follows(reader) == {"hostile", "tarrow-flood"}

    opened.page.get_by_label("How often, Tarrow flood").select_option("major")
    opened.page.get_by_role("button", name="Save changes").click()
    assert "Saved" in opened.page.get_by_role("status").inner_text()
    assert opened.page.get_by_label("How often, Tarrow flood").input_value() == "major"
    assert opened.trouble == []


def test_every_control_is_reached_and_named_by_keyboard_alone(site: Site, window: Callable[..., Window]) -> None:
    opened = window(360)
    opened.page.goto(site.url + site.manage_path(site.add_reader("tarrow-flood")))
    seen = []
    for _ in range(9):
        opened.page.keyboard.press("Tab")
        seen.append(
            opened.page.evaluate(
                "[document.activeElement.tagName, document.activeElement.getAttribute('aria-label')"
                " || document.activeElement.labels?.[0]?.innerText || document.activeElement.innerText,"
                " getComputedStyle(document.activeElement).outlineStyle]"
            )
        )

    names = [name for _, name, _ in seen]
    assert names[0] == "Skip to the content"
    assert any(name.startswith("How often, ") for name in names)
    assert any(name.startswith("Stop Tarrow flood") for name in names)
    assert "Stop all stories" in names
    assert all(name for name in names[:8])
    assert {outline for tag, _, outline in seen if tag in ("A", "BUTTON", "SELECT")} == {"solid"}


def test_controls_are_large_enough_for_a_thumb(site: Site, window: Callable[..., Window]) -> None:
    opened = window(360)
    for path in pages(site):
        opened.page.goto(site.url + path)
        for control in opened.page.locator(
            "button:visible:not(.unseen), select:visible, input:visible:not(.pick > *, .viewer > *), .pick:visible,"
            " a.button:visible"
        ).all():
            box = control.bounding_box()
            assert box is not None
            assert box["height"] >= 44, path


CONTRAST = """() => {
  const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = rgb => 0.2126 * channel(rgb[0]) + 0.7152 * channel(rgb[1]) + 0.0722 * channel(rgb[2]);
  const rgba = text => text.match(/[\\d.]+/g).map(Number);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const found = rgba(getComputedStyle(e).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(".unseen, .skip")) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_stands_out_from_its_ground(site: Site, window: Callable[..., Window], dark: bool) -> None:
    opened = window(360, dark=dark)
    for path in pages(site):
        opened.page.goto(site.url + path)
        assert opened.page.evaluate(CONTRAST) == [], path


def test_a_hostile_mail_does_nothing_in_the_inbox(site: Site, window: Callable[..., Window]) -> None:
    opened = window()
    opened.page.goto(f"{site.url}/inbox")
    opened.page.locator(".mails a").first.click()
    frame = opened.page.frame_locator("iframe")
    frame.locator("#go").click()
    opened.page.wait_for_timeout(300)

    assert not [line for line in opened.trouble if line.startswith("dialog")]
    assert "taken" not in opened.page.title()
    assert opened.page.url.startswith(f"{site.url}/inbox/")
    with opened.page.context.expect_page() as tab:
        frame.locator("#out").click()
    tab.value.wait_for_load_state()
    assert tab.value.url == f"{site.url}/s/tarrow-flood"
    assert tab.value.locator("h1").inner_text().startswith("Tarrow flood")


def test_a_mail_is_shown_at_the_width_of_a_phone(site: Site, window: Callable[..., Window]) -> None:
    opened = window()
    opened.page.goto(f"{site.url}/inbox")
    opened.page.locator(".mails a").last.click()
    frame = opened.page.locator("iframe")
    wide = frame.bounding_box()
    opened.page.get_by_label("Phone").check()
    narrow = frame.bounding_box()

    assert wide is not None
    assert narrow is not None
    assert wide["width"] > 700
    assert narrow["width"] == 377  # with its two borders
    assert opened.trouble == []


def test_a_new_mail_appears_by_itself_and_an_old_list_is_left_alone(
    site: Site, inbox: Path, window: Callable[..., Window]
) -> None:
    opened = window()
    opened.page.goto(f"{site.url}/inbox")
    opened.page.evaluate("document.querySelector('.mails').mark = 'same'")
    opened.page.wait_for_timeout(2500)
    assert opened.page.evaluate("document.querySelector('.mails').mark") == "same"

    maildir = Maildir(inbox)
    put(maildir, "A new one", "<p>Hello</p>")
    maildir.close()
    opened.page.get_by_text("A new one").wait_for(timeout=6000)
    assert opened.page.locator(".mails li").count() == 3
    assert opened.trouble == []


def test_no_page_can_be_framed(site: Site, window: Callable[..., Window]) -> None:
    opened = window()
    opened.page.goto(f"{site.url}/inbox")
    opened.page.evaluate(
        "() => { const f = document.createElement('iframe'); f.src = '/'; document.body.append(f);"
        " return new Promise(done => f.onload = done); }"
    )
    (frame,) = opened.page.frames[1:]
    try:
        text = frame.locator("body").inner_text(timeout=1000)
    except Error:
        text = ""
    assert "Developing stories" not in text
    assert any("frame-ancestors" in line for line in opened.trouble)
