"""The page that says how the installation is, and what it says when something is not well."""

from __future__ import annotations

import re
from dataclasses import replace

import psycopg

from dispatcher import checkup, db
from dispatcher.config import RelaySettings
from dispatcher.pulse import ALIVE
from dispatcher.roles import Role
from tests.api.serving import Site, at_once
from tests.journeys.desks import employ, tab


def words(page: str) -> str:
    """What a page says, without its tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<main")[2]).split())


def test_the_page_says_part_by_part_what_is_not_well_and_what_to_do(site: Site) -> None:
    employ(site, role=Role.REPORTER)
    site.create_story()
    site.add_reader("tarrow-flood")
    site.publish(importance="breaking")
    site.look(
        "INSERT INTO incidents (kind, subject, text, opened_at, closed_at) VALUES"
        " ('relay', 'mx1:25', 'Relay mx1:25 <b>is away</b>.', now() - interval '1 hour', NULL),"
        " ('no_workers', '', 'No worker was alive.', now() - interval '2 days', now() - interval '47 hours')"
    )
    site.look(
        "INSERT INTO letter_failures SELECT id, 'en', 3, 'the template is broken', now() FROM blasts"
        " WHERE channel = 'email'"
    )
    with tab(site, "ada@courier.example") as ada:
        page = ada.get("/desk/health").text
    said = words(page)

    assert "things want somebody’s attention" in said
    assert "None is running: what is published waits." in said
    assert "On the server: dispatcher worker" in said
    assert "Relay mx1:25 &lt;b&gt;is away&lt;/b&gt;." in said
    assert "Mend it there, or add another to DISPATCHER_SMTP_URL" in said
    assert "1 letter cannot be made: the template is broken." in said
    assert "Broker Well Answers." in said
    assert "PostgreSQL 18." in said
    assert re.search(r"Breaking 0 \d+ s", said)
    assert said.index("Last incidents") < said.index("No worker was alive.")


def test_relays_are_shown_as_the_workers_that_live_find_them(site: Site) -> None:
    relays = tuple(RelaySettings(host=name, port=25) for name in ("mx1", "mx2", "mx3", "mx4", "mx5"))
    settings = replace(site.settings, relays=relays, broker_url="redis://127.0.0.1:1/0")

    async def look() -> checkup.Condition:
        async with db.Database(settings.database_url) as database:
            return await checkup.condition(settings, database)

    with psycopg.connect(settings.database_url, autocommit=True) as worker:
        for number in (1, 2):
            worker.execute("SELECT pg_advisory_lock(%s, %s)", (ALIVE, number))
        worker.execute(
            "INSERT INTO relay_reports VALUES (1, 'mx1:25', 'h', 1, 'closed', '', now(), 3, 1, 0, now()),"
            " (1, 'mx2:25', 'h', 1, 'open', 'connection refused', now(), 0, 0, 0, now()),"
            " (1, 'mx3:25', 'h', 1, 'open', '550 5.7.1 no', now(), 0, 0, 0, now()),"
            " (1, 'mx4:25', 'h', 1, 'open', 'timeout', now(), 0, 0, 0, now()),"
            " (2, 'mx4:25', 'h', 1, 'closed', '', now(), 2, 0, 0, now())"
        )
        worker.execute("INSERT INTO moments VALUES ('round', now())")
        found = at_once(look())

    parts = {part.name: part for part in found.parts}
    assert {name: str(part.health) for name, part in parts.items()} == {
        "Workers": "ok",
        "Relay mx1:25": "ok",
        "Relay mx2:25": "fail",
        "Relay mx3:25": "fail",
        "Relay mx4:25": "warn",
        "Relay mx5:25": "warn",
        "Letters": "ok",
        "Mails to one person": "ok",
        "Database": "ok",
        "Broker": "warn",
        "Monitor": "ok",
    }
    assert parts["Workers"].detail == "2 workers run."
    assert parts["Relay mx1:25"].detail == "Takes mail: 3 connections open, 1 busy."
    assert "Refuses our mail by policy" in parts["Relay mx3:25"].detail
    assert all(part.remedy for part in found.parts if part.health is not checkup.Health.OK)
    assert (found.health, found.troubles) == (checkup.Health.FAIL, 5)
