"""A list of forms is no weapon against one inbox, and a flood of them none against us."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator

import httpx2
import pytest

from dispatcher.embedded.valkey import Valkey
from tests.api.serving import Site, running, settings_for
from tests.security.conftest import times
from tests.security.house import House
from tests.support.directories import running as run_part
from tests.support.directories import service_directory

STORIES = 500


def form(browser: httpx2.Client, slug: str, email: str, client: str) -> httpx2.Response:
    fields = {"email": email, "cadence": "every", "timezone": "Europe/London"}
    return browser.post(f"/s/{slug}/follow", data=fields, headers={"X-Forwarded-For": client})


def forms(site: Site, asked: list[tuple[str, str]], *, client: str = "") -> list[int]:
    """Send the form for these stories and addresses, each from another place unless `client` is one; the answers."""
    with site.browser() as browser:
        return [form(browser, slug, email, client or site.somewhere()).status_code for slug, email in asked]


def stories_of(house: House, count: int) -> list[str]:
    """So many new stories."""
    first = house.story("bomb")
    house.site.look(
        "INSERT INTO stories (slug, headline) SELECT %s || '-' || n, 'One' FROM generate_series(2, %s) AS n",
        *(first, count),
    )
    return [first, *(f"{first}-{number}" for number in range(2, count + 1))]


def test_one_victim_and_500_stories_is_one_mail_an_hour_and_three_a_day(house: House) -> None:
    """S1, with a worker and a relay: at most one confirmation an hour and three a day, and nothing else before one."""
    victim = house.address("victim")
    stories = stories_of(house, STORIES)
    answers = forms(house.site, [(slug, victim) for slug in stories])
    house.settled()
    by_hour = [len(house.taken(victim))]
    for _ in range(5):
        house.later(61 / 60)
        for slug in stories[:4]:
            house.ask(slug, victim)
        house.settled()
        by_hour.append(len(house.taken(victim)))
    house.publish(stories[0])
    house.later(24)
    house.ask(stories[0], victim)
    house.settled()
    print(f"S1: {STORIES} forms, mails by hour {by_hour}, after a day {len(house.taken(victim))}")

    assert set(answers) == {303}
    assert by_hour == [1, 2, 3, 3, 3, 3]
    assert len(house.taken(victim)) == 4
    assert {mail["Subject"].partition(":")[0] for mail in house.mails(victim)} == {"Please confirm"}
    assert house.site.look("SELECT count(*) FROM subscribers WHERE email = %s", victim) == [(0,)]


@pytest.mark.chaos
def test_ten_thousand_addresses_from_one_client_are_twenty_asks(house: House) -> None:
    """S2: 10,000 in the long run."""
    count, client, slug = times(10_000, 200), f"2001:db8:{secrets.token_hex(2)}::1", house.story()
    answers = forms(house.site, [(slug, f"r{number}@{slug}.example") for number in range(count)], client=client)
    house.settled()
    print(f"S2: {count} forms from one client, {answers.count(303)} heard")

    assert answers.count(303) == 20
    assert set(answers) == {303, 429}
    assert len([each for each in house.sink.taken if each.recipient.endswith(f"@{slug}.example")]) == 20


@pytest.fixture
def flooded(database_url: str) -> Iterator[Site]:
    """A site with a broker of its own; its brake is that of an installation in the long run."""
    with (
        service_directory() as directory,
        run_part(Valkey(directory / "valkey")) as valkey,
        running(settings_for(database_url, valkey.url, brake=times(600, 100))) as found,
    ):
        found.create_story()
        yield found


@pytest.mark.chaos
def test_a_thousand_clients_at_once_are_asked_for_work_within_a_minute(flooded: Site) -> None:
    """S2: each of them is within its own limit. 1,000 in the long run."""
    count, began = times(1_000, 150), time.monotonic()
    with flooded.browser() as browser:
        answers = [form(browser, "tarrow-flood", f"r{n}@mail.example", flooded.somewhere()) for n in range(count)]
    took = time.monotonic() - began
    asked = [answer for answer in answers if answer.status_code == 429]
    print(f"S2: {count} clients, work is asked of {len(asked)} after {took:.1f} s at most")

    assert took < 60
    assert all(re.search(r'name="puzzle" value="[\w=-]+"', answer.text) for answer in asked)
    assert flooded.look("SELECT count(*) FROM asks")[0][0] <= times(600, 100) * 1.1
    assert len(asked) == count - flooded.look("SELECT count(*) FROM asks")[0][0]


@pytest.mark.chaos
def test_one_client_cannot_make_everybody_work(flooded: Site) -> None:
    """S2: what is over a client's own limit is refused and does not count for the brake."""
    client = flooded.somewhere()
    answers = forms(flooded, [("tarrow-flood", f"r{n}@mail.example") for n in range(times(700, 130))], client=client)
    other = flooded.follow(email="ada@mail.example")

    assert answers.count(303) == 20
    assert other.status_code == 303, "a reader elsewhere is asked for no work"
