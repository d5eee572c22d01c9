"""What the desk's live pages ask of the database stays small, however large the ledger: no plan reads it as a whole."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dispatcher import db, progress, watching
from dispatcher.embedded.postgres import Postgres
from dispatcher.model import ChannelName, DeliveryState
from dispatcher.pulse import ALIVE
from tests.support.databases import fresh_database
from tests.support.plans import explained

#: Blasts of the ledger, with so many readers each; every fiftieth was not reached.
BLASTS, READERS = 15, 10_000
UNREACHED = READERS // 50
PAGE = 50
ALL = {"any_reason": True, "codes": [], "statuses": [], "replies": []}
ONE: dict[str, Any] = {"blast_id": 7, "after": 4_000}
#: Each statement with its values, and how many rows of the ledger it may look at.
STATEMENTS: dict[str, tuple[dict[str, Any], int]] = {
    "watched_update": ({"slug": "dam", "seq": 7}, 0),
    "watched_blasts": ({"update_id": 7}, 0),
    "read_progress": ({"blast_ids": [7]}, 0),
    "count_progress": ({"blast_ids": [7]}, 0),
    "watched_log": ({"subjects": ["blast:7"], "slug": "dam", "seq": 7, "most": 30}, 0),
    "watched_incidents": ({"blasts": ["7"], "since": "now", "until": "now"}, 0),
    "relay_states": ({"class": ALIVE}, 0),
    "watched_reasons": ({"blast_ids": [7], "most": 20_000}, UNREACHED),
    "retry_readers": (
        {
            "blast_id": 7,
            "story_id": 1,
            "states": ["failed"],
            "reason": None,
            "lowest": None,
            "highest": None,
            "codes": [550],
            "statuses": ["5.1.1"],
            "words": [""],
            "most_doubts": 2,
            "dry_run": True,
        },
        UNREACHED,
    ),
    "retriable_by_answer": ({"blast_id": 7, "story_id": 1, "states": ["failed", "in_doubt"]}, UNREACHED),
    "end_of_unreached": ({**ONE, "state": "failed", "most": 20_000}, UNREACHED),
    "unreached_of_blast": ({**ONE, "state": "failed", "until": 2**62, "limit": PAGE, **ALL}, PAGE),
    "end_of_ledger": ({**ONE, "most": 2_000}, 2_000),
    "ledger_of_blast": ({**ONE, "until": 6_000, "limit": PAGE, "only_accepted": True}, 2 * PAGE),
}


@pytest.fixture(scope="module")
def full_ledger(postgres: Postgres, template_database: str) -> Iterator[str]:
    with fresh_database(postgres, template_database) as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO stories (slug, headline) VALUES ('dam', 'The dam')")
        connection.execute(
            "INSERT INTO updates (story_id, seq, kind, importance, headline, body, content_hash, published_by,"
            " published_at) SELECT 1, n, 'update', 'major', 'h', 'b', '', 'ada', now() - interval '5 min'"
            " FROM generate_series(1, %s) n",
            (BLASTS,),
        )
        connection.execute(
            "INSERT INTO blasts (update_id, channel, urgency, state, candidates, frozen_at, done_at)"
            " SELECT id, 'email', 20, CASE WHEN id = 7 THEN 'sending' ELSE 'done' END::blast_state, %s, now(),"
            " CASE WHEN id <> 7 THEN now() END FROM updates",
            (READERS,),
        )
        connection.execute(
            "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, relay, code, reply)"
            " SELECT b, n, now() - interval '5 min' + n * interval '20 ms',"
            " CASE WHEN n %% 50 = 0 THEN 'failed' ELSE 'accepted' END::delivery_state, 'relay', 550, '5.1.1 nobody'"
            " FROM generate_series(1, %s) b, generate_series(1, %s) n",
            (BLASTS, READERS),
        )
        connection.execute("VACUUM ANALYZE")
        yield url


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_of_the_live_pages_reads_the_ledger_as_a_whole(full_ledger: str, name: str) -> None:
    values, most = STATEMENTS[name]
    with psycopg.connect(full_ledger) as connection:
        row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {explained(name)}", values).fetchone()
        connection.rollback()

    assert row is not None
    read: Counter[str] = Counter()
    for node in _nodes(row[0][0]["Plan"]):
        if "Relation Name" in node:
            assert node["Relation Name"] != "deliveries" or node["Node Type"] != "Seq Scan", node
            read[node["Relation Name"]] += _rows(node)
    assert read["deliveries"] <= most, read
    assert read["progress"] <= 2_000, read


async def test_the_live_page_is_read_in_less_than_a_tenth_of_a_second(full_ledger: str) -> None:
    wanted = watching.Wanted(channel=ChannelName.EMAIL, state=DeliveryState.FAILED, reason="no-mailbox")
    async with db.Database(full_ledger) as database:
        await watching.look(database, "dam", 7)  # what comes first has everything to plan
        began = time.process_time()
        watched = await watching.look(database, "dam", 7, watching.Memory())
        page = await watching.readers(database, "dam", 7, wanted, after=f"0-{READERS // 2}")
        took = time.process_time() - began
        async with database.connection() as connection:
            found = (await progress.read(connection, [7]))[7]

    assert took < 0.1
    assert watched.blasts[0].states == {
        DeliveryState.ACCEPTED: READERS - UNREACHED,
        DeliveryState.FAILED: UNREACHED,
    }
    assert watched.reasons[0].readers == UNREACHED
    assert [reader.id for reader in page.readers][:2] == [READERS // 2 + 50, READERS // 2 + 100]
    assert len(found.slots) < 400


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


def _rows(node: dict[str, Any]) -> int:
    """Rows that a node has looked at, those that it threw away among them."""
    return int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
