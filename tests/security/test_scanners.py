"""Mail scanners open every link of every mail, some with JavaScript on. Looking changes nothing (S4)."""

from __future__ import annotations

from collections.abc import Callable
from email.message import EmailMessage

import pytest

from tests.browser.windows import Window
from tests.security.house import House, links

#: What a reader has decided, or has not yet.
DECIDED = ("subscribers", "subscriptions", "confirmations", "devices", "suppressions", "asks")
KINDS = ("confirm", "following", "already", "link", "catch_up", "update", "correction", "correction again")


@pytest.fixture(scope="module")
def mails(house: House) -> dict[str, EmailMessage]:
    """One mail of every kind, each to a reader of whom something waits to be confirmed too."""
    site = house.site
    first, second = house.story("first", headline="Tarrow flood"), house.story("second", headline="School strike")
    house.publish(first, headline="The levee gives way")
    found: dict[str, EmailMessage] = {}

    email = house.address()
    house.ask(first, email, catch_up="1")
    [found["confirm"]] = house.mails(email)
    asked = house.address("eve")
    house.confirmed(first, asked, catch_up="1")
    _, found["catch_up"] = house.mails(asked, 2)
    house.ask(second, asked)
    found["following"] = house.mails(asked, 3)[-1]
    house.later(2)
    house.ask(first, asked)
    found["already"] = house.mails(asked, 4)[-1]
    site.post("/lost", {"email": asked, "timezone": ""}, **{"X-Forwarded-For": site.somewhere()})
    found["link"] = house.mails(asked, 5)[-1]
    house.publish(first, headline="Water in Millgate", importance="breaking")
    found["update"] = house.mails(asked, 6)[-1]
    house.publish(first, headline="It is not", kind="correction", corrects=2)
    found["correction"] = house.mails(asked, 7)[-1]
    late = house.address("late")
    house.confirmed(first, late, catch_up="1")
    found["correction again"] = house.mails(late, 2)[-1]
    assert tuple(sorted(found)) == tuple(sorted(KINDS))
    assert len({mail["Subject"] for mail in found.values()}) == len(KINDS) - 1, "a correction caught up with is itself"
    return found


def decided(house: House) -> dict[str, list[str]]:
    return {
        table: [row for (row,) in house.site.look(f"SELECT t::text FROM {table} t ORDER BY 1")] for table in DECIDED
    }


def own(house: House, mail: EmailMessage) -> list[str]:
    """The links of a mail that lead to us."""
    found = [link for link in links(mail) if link.startswith(house.site.url)]
    assert len(found) == len(links(mail)), "a mail leads nowhere else"
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_link_of_every_mail_is_opened_and_nothing_is_decided(
    house: House, mails: dict[str, EmailMessage], kind: str
) -> None:
    before = decided(house)
    found = own(house, mails[kind])
    with house.site.browser(**{"User-Agent": "scanner"}) as scanner:
        for link in found:
            for query in ("", "?List-Unsubscribe=One-Click", "?do=stop-all&confirm=1"):
                address = link.partition("#")[0] + query
                shown, head = scanner.get(address), scanner.head(address)
                assert shown.status_code == head.status_code == 200, address
                assert "set-cookie" not in shown.headers

    assert {"confirm": "/confirm/"}.get(kind, "/u/" if kind != "link" else "/manage/") in " ".join(found)
    assert decided(house) == before


@pytest.mark.browser
def test_a_scanner_with_javascript_decides_nothing_either(
    house: House, mails: dict[str, EmailMessage], window: Callable[..., Window]
) -> None:
    before = decided(house)
    opened = window()
    posts: list[str] = []
    opened.page.on("request", lambda request: posts.append(request.url) if request.method != "GET" else None)
    found = list(dict.fromkeys(link for mail in mails.values() for link in own(house, mail)))
    for link in found:
        opened.page.goto(link)
        opened.page.mouse.move(200, 200)
        opened.page.wait_for_timeout(20)
    opened.page.wait_for_timeout(300)

    assert len([link for link in found if "/confirm/" in link]) >= 1
    assert posts == []
    assert opened.trouble == []
    assert decided(house) == before


def test_the_buttons_behind_the_links_do_decide(house: House, mails: dict[str, EmailMessage]) -> None:
    """Or the tests above would prove nothing."""
    before = decided(house)
    confirmed = house.site.post(house.path(mails["confirm"], "confirm"))
    stopped = house.site.post(house.path(mails["update"], "u"))
    after = decided(house)

    assert (confirmed.status_code, stopped.status_code) == (303, 200)
    assert len(after["subscribers"]) == len(before["subscribers"]) + 1
    assert after["subscriptions"] != before["subscriptions"]
