"""Whatever stands in a filter, an order, a number or a slug, the database takes it for a value (S37)."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest

from tests.api.serving import Site
from tests.journeys.desks import employ, tab

#: Seconds that no answer takes, and that each of those which sleep would.
QUICK = 15.0
#: How each database is made to agree, to fail, to sleep, to join and to end a statement, in and out of quotes.
STATEMENTS = [
    f"{before}{statement}{after}"
    for before in ("", "1", "'", '"', "')", "x'))")
    for statement in (
        " OR 1=1",
        " OR 'a'='a",
        " AND 1=CAST(version() AS integer)",
        "; SELECT pg_sleep(30)",
        " || pg_sleep(30)",
        " OR 1=(SELECT 1 FROM pg_sleep(30))",
        " UNION SELECT email, password_hash, 1 FROM people",
        "; DROP TABLE deliveries CASCADE",
        "; UPDATE people SET role = 'lead'",
        " ORDER BY 99",
        ",(SELECT CASE WHEN true THEN pg_sleep(30) END)",
        "%s %(slug)s {} %%",
    )
    for after in ("", "--")
]
#: Every address that takes something which is looked for in the database.
ADDRESSES = (
    *("/s/{}", "/s/{}/feed.xml", "/s/tarrow-flood?before={}", "/s/tarrow-flood/fresh?after={}", "/embed/{}"),
    *("/desk?q={}", "/desk?state={}", "/desk?q=a&page={}", "/desk/log?actor={}", "/desk/log?action={}&subject={}"),
    *("/desk/log?before={}", "/desk/jump?q={}", "/desk/slug?headline={}", "/desk/stories/{}", "/desk/drafts/{}"),
    *("/desk/stories/tarrow-flood?before={}", "/desk/stories/tarrow-flood/updates/{}", "/desk/subscribers/{}"),
    *("/desk/stories/tarrow-flood/updates/1/readers?state={}", "/desk/suppressions?after={}", "/desk/import/{}"),
    *("/desk/stories/tarrow-flood/updates/1/readers?state=failed&after={}&reason={}", "/desk/subscribers/1?before={}"),
    *("/api/v1/stories/{}", "/api/v1/blasts?limit={}", "/api/v1/blasts/{}", "/api/v1/stories/tarrow-flood/updates/{}"),
)


@pytest.fixture
def full(site: Site) -> Site:
    site.create_story("tarrow-flood")
    site.create_story("harbour-fire", "Harbour fire")
    site.add_reader("tarrow-flood")
    site.publish()
    employ(site)
    return site


def test_no_address_of_any_page_says_anything_to_the_database(full: Site) -> None:
    before = tables(full)
    asked = 0
    with tab(full, "ada@courier.example") as desk:
        desk.client.headers["Authorization"] = f"Bearer {full.token}"
        for number, statement in enumerate(STATEMENTS):
            for address in ADDRESSES[number % 3 :: 3]:  # each address is asked with a third of them
                began = time.monotonic()
                answer = desk.get(address.replace("{}", quote(statement)))
                assert answer.status_code < 500, (address, statement, answer.text)
                assert time.monotonic() - began < QUICK, (address, statement)
                assert "argon2" not in answer.text, (address, statement)
                asked += 1
    assert asked > 1000
    assert tables(full) == before


def test_what_is_searched_for_is_found_as_it_is_written_and_nothing_else(full: Site) -> None:
    with tab(full, "ada@courier.example") as desk:
        for statement in STATEMENTS:
            found = desk.get(f"/desk?state=all&q={quote(statement)}").text
            assert "No story matches." in found, statement
        assert "No story matches." not in desk.get("/desk?state=all&q=Tarrow").text
        form = desk.csrf("/desk/subscribers")
        for statement in STATEMENTS[::4]:
            answer = desk.client.post("/desk/subscribers", data={"csrf": form, "q": statement})
            assert answer.status_code < 500, statement
            assert "reader1@mail.example" not in answer.text, statement


def tables(site: Site) -> dict[str, object]:
    """Every table, but for what looking at pages itself writes."""
    return {
        name: rows
        for name, rows in site.everything().items()
        if name not in {"sessions", "people", "api_tokens", "audit"}
    }
