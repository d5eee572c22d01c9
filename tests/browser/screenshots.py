"""Takes the pictures in `docs/screenshots` again, all but that of the terminal and those of the desk, see
`desk_screenshots`. Run by hand:

    python -m tests.browser.screenshots [DIRECTORY]

They show the sample story of `dispatcher demo` in a real box: what stands in them was published, followed, sent and
confirmed. Only the story's clock is set: its updates lie as far apart as their words say. The fonts are those of the
machine; Debian's fonts-noto-core and fonts-liberation come near to what most readers see.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from dispatcher.embedded.postgres import Postgres
from dispatcher.samples import sample_story
from tests.browser.night import Night, a_night
from tests.browser.windows import CHROMIUM
from tests.support.databases import fresh_database, make_template
from tests.support.directories import running, service_directory

ADA = "ada@mail.example"
STORY = sample_story()
#: When each update of the story was published, and when the reader looks at it.
TIMES = ("15:05", "18:40", "21:32", "23:46")
NOW = datetime.now(UTC).replace(hour=23, minute=50, second=0)
OTHERS = (("harbour-strike", "Harbour strike"), ("election-night", "Election night in Karsholm"))
PAPER = "#d9d6cf"


@dataclass
class Studio:
    """A newsroom with a reader, and a camera."""

    night: Night
    browser: Browser
    directory: Path

    @contextmanager
    def window(self, width: int, height: int, *, dark: bool = False, **more: Any) -> Iterator[Page]:
        """A window on the evening of the story."""
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            locale="en-GB",
            timezone_id="UTC",
            permissions=["notifications"],
            **more,
        )
        page = context.new_page()
        page.clock.set_fixed_time(NOW)
        yield page
        context.close()

    def take(self, page: Page, name: str, **more: Any) -> None:
        path = self.directory / f"{name}.png"
        page.screenshot(path=path, **more)
        print(f"{path}: {path.stat().st_size // 1000} KB")

    def side_by_side(self, name: str, *pictures: bytes, width: int, height: int) -> None:
        """Two telephones beside each other on grey paper."""
        shown = "".join(
            f'<img src="data:image/png;base64,{base64.b64encode(each).decode()}" width="{width}" height="{height}">'
            for each in pictures
        )
        with self.window(2 * width + 72, height + 48, device_scale_factor=1) as page:
            page.set_content(
                f"<style>body {{ margin: 0; padding: 24px; background: {PAPER}; display: flex; gap: 24px; }}"
                f" img {{ border-radius: 12px; }}</style>{shown}"
            )
            self.take(page, name)


def main(directory: Path) -> None:
    with (
        service_directory() as home,
        running(Postgres(home / "postgres", fsync=False)) as postgres,
        fresh_database(postgres, make_template(postgres)) as database_url,
        a_night(database_url) as night,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        studio = Studio(night, browser, directory)
        tell_the_story(night)
        manage = follow(studio)
        set_the_clock(night)
        take_story(studio)
        take_mails(studio)
        take_own_page(studio, manage)
        browser.close()


def tell_the_story(night: Night) -> None:
    """Publish all that came before the news."""
    night.site.create_story(STORY.slug, headline=STORY.headline, summary=STORY.summary)
    for slug, headline in OTHERS:
        night.site.create_story(slug, headline=headline)
    for draft in STORY.updates[:-1]:
        night.site.publish(
            *(STORY.slug, draft.headline), summary=draft.summary, body=draft.body, importance=str(draft.importance)
        )


def follow(studio: Studio) -> str:
    """Follow by mail and in a browser, confirm, and hear the news. Returns the address of the reader's own page."""
    night = studio.night
    window = night.window(
        studio.browser, user_agent="Mozilla/5.0 (Android 16; Mobile; rv:150.0) Gecko/150.0 Firefox/150.0"
    )
    page = window.page
    page.goto(f"{night.url}/s/{STORY.slug}")
    page.get_by_label("Email").fill(ADA)
    page.get_by_label("Also in this browser").check()
    page.get_by_role("button", name="Follow by email").click()
    mail = night.open_mail(page, ADA, f"Please confirm: follow “{STORY.headline}”")
    link = mail.get_by_role("link", name="Yes, follow this story").get_attribute("href")
    with studio.window(900, 770) as tab:
        tab.goto(str(link))
        studio.take(tab, "confirm")
    page.goto(str(link))
    page.get_by_role("button", name="Yes, follow this story").click()
    page.get_by_role("status").wait_for()
    manage = page.url.partition("?")[0]
    for slug, headline in OTHERS:
        page.goto(f"{night.url}/s/{slug}")
        page.get_by_label("Email").fill(ADA)
        page.get_by_label("Once a day" if slug == OTHERS[-1][0] else "Only major and breaking").check()
        page.get_by_role("button", name="Follow by email").click()
        night.open_mail(page, ADA, f"You now follow “{headline}”")
    news = STORY.updates[-1]
    told = night.tell(STORY.slug, news.headline, summary=news.summary, body=news.body)
    assert told == {"email": (1, 1), "webpush": (1, 1)}, told
    window.close()
    return manage


def set_the_clock(night: Night) -> None:
    for seq, clock in enumerate(TIMES, 1):
        at = NOW.replace(hour=int(clock[:2]), minute=int(clock[3:]))
        night.site.look("UPDATE updates SET published_at = %s WHERE seq = %s", at, seq)
    night.site.look(
        "UPDATE devices SET created_at = %s, last_accepted_at = %s", NOW - timedelta(days=9), NOW - timedelta(minutes=4)
    )


def take_story(studio: Studio) -> None:
    url = f"{studio.night.url}/s/{STORY.slug}"
    with studio.window(1240, 1020) as page:
        page.goto(url)
        studio.take(page, "story")
    window = studio.night.window(studio.browser, viewport={"width": 1240, "height": 1020})
    window.page.goto(url)
    window.page.get_by_role("button", name="Follow in this browser").click()
    window.page.get_by_text("This browser alerts you").wait_for()
    window.page.reload()
    window.page.get_by_text("This browser alerts you").wait_for()
    window.page.get_by_label("Email").fill(ADA)
    window.page.get_by_label("Email").blur()
    box = window.page.locator(".story > aside").bounding_box()
    assert box is not None
    clip = {"x": box["x"] - 24, "y": box["y"] - 24, "width": box["width"] + 48, "height": box["height"] + 8}
    studio.take(window.page, "follow", clip=clip, full_page=True)
    window.close()
    shots = []
    for dark in (False, True):
        with studio.window(390, 844, dark=dark, has_touch=True, is_mobile=True) as page:
            page.goto(url)
            if dark:
                page.locator("#follow").scroll_into_view_if_needed()
                page.evaluate("scrollTo(0, document.getElementById('follow').offsetTop - 16)")
            shots.append(page.screenshot())
    studio.side_by_side("follow-phone", *shots, width=390, height=844)


def take_mails(studio: Studio) -> None:
    night = studio.night
    news = f"BREAKING: {STORY.updates[-1].headline}"
    with studio.window(1120, 1180) as page:
        night.open_mail(page, ADA, news).get_by_role("heading", name="What we know").wait_for()
        studio.take(page, "inbox")
    shots = []
    for dark in (False, True):
        with studio.window(360, 1240, dark=dark) as page:
            page.set_content(night.mail(ADA, news).html)
            shots.append(page.screenshot())
    studio.side_by_side("mail-phone", *shots, width=360, height=1240)
    with studio.window(700, 640) as page:
        page.set_content(night.mail(ADA, f"Please confirm: follow “{STORY.headline}”").html)
        studio.take(page, "confirm-mail", full_page=True)


def take_own_page(studio: Studio, manage: str) -> None:
    with studio.window(1000, 1150) as page:
        page.goto(manage)
        page.locator("#quiet-from").fill("23:00")
        page.locator("#quiet-to").fill("06:30")
        page.get_by_label("Let breaking alerts through").check()
        page.get_by_role("button", name="Save quiet hours").click()
        page.goto(manage)
        studio.take(page, "manage")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "docs" / "screenshots")
