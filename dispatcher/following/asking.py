"""What a form leaves behind: one row that says who asked for what, and nothing that tells whether they are known."""

from __future__ import annotations

from dispatcher import db, stories
from dispatcher.addresses import address_hash, parse_address
from dispatcher.config import LANGUAGES
from dispatcher.errors import Invalid, StoryClosed
from dispatcher.model import Cadence, Story, StoryState
from dispatcher.texts import DEFAULT_TIMEZONE, is_timezone


class StoryEnded(StoryClosed):
    """This story has ended, and takes no more followers."""

    remedy = ""

    def __init__(self, story: Story, successor_headline: str) -> None:
        super().__init__()
        self.story = story  #: its `successor` is the slug of the story that goes on, or None
        self.successor_headline = successor_headline  #: empty if none goes on


async def ask_to_follow(
    database: db.Database,
    secret_key: str,
    slug: str,
    *,
    email: str,
    cadence: Cadence,
    locale: str,
    timezone: str,
    catch_up: bool = False,
    device_subscriber_id: int | None = None,
) -> Story:
    """Put down that whoever reads `email` may want to follow a story; a worker answers (`answer`).

    `device_subscriber_id` is the browser that asks, as `follow_in_browser` named it, and never a number from a form.
    A timezone that nobody knows counts as UTC. Raises `Invalid` for an address or language, `NotFound` for the story,
    `StoryEnded`; each before anything is written.
    """
    address = parse_address(email)
    async with database.connection() as connection:
        row = await connection.one(
            "ask_to_follow",
            slug=known_slug(slug),
            email=address.email,
            address_hash=address_hash(secret_key, address),
            cadence=str(cadence),
            catch_up=catch_up,
            device_subscriber_id=device_subscriber_id,
            locale=check_language(locale),
            timezone=usable_timezone(timezone),
        )
    return open_story(row, slug)


async def ask_for_link(database: db.Database, secret_key: str, *, email: str, locale: str, timezone: str) -> None:
    """Put down that somebody lost the link to their page. Raises `Invalid` for the address or language."""
    address = parse_address(email)
    async with database.connection() as connection:
        await connection.execute(
            "ask_for_link",
            email=address.email,
            address_hash=address_hash(secret_key, address),
            locale=check_language(locale),
            timezone=usable_timezone(timezone),
        )


def known_slug(slug: str) -> str:
    """A slug that a story may have. Raises `NotFound`: what cannot be a slug is no story."""
    try:
        return stories.check_slug(slug)
    except Invalid as error:
        raise stories.unknown(slug) from error


def open_story(row: db.Row | None, slug: str) -> Story:
    """The story of a row that also names its successor. Raises `NotFound` and `StoryEnded`."""
    if row is None:
        raise stories.unknown(slug)
    story = stories.story_from(row)
    if story.state is StoryState.CLOSED:
        raise StoryEnded(story, row["successor_headline"] or "")
    return story


def check_language(locale: str) -> str:
    """A language that pages and mails speak. Raises `Invalid`."""
    if locale not in LANGUAGES:
        raise Invalid("The language is not offered.", remedy=f"Choose {' or '.join(LANGUAGES)}.", field="locale")
    return locale


def usable_timezone(timezone: str) -> str:
    """The timezone if it is one, else UTC: a browser's odd idea of where it is must not keep its reader out."""
    return timezone if is_timezone(timezone) else DEFAULT_TIMEZONE
