"""The statements of the hot path read what they need, however large the tables are."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from dispatcher import db
from dispatcher.sending import WARM

IDS = list(range(20_001, 20_501))
VALUES: dict[str, dict[str, Any]] = {
    "load_recipients": {"story_id": 1, "blast_id": 1, "ids": IDS, "since": "now", "expires_at": "infinity"},
    "note_received": {"story_id": 1, "ids": IDS, "seq": 1},
}


@pytest.fixture
def crowded(database_url: str) -> str:
    """30,000 followers, and a ledger with two thirds of them."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO stories (slug, headline) VALUES ('dam', 'The dam');
            INSERT INTO subscribers (email, address_hash)
            SELECT 'reader' || n || '@example.test', int8send(n) FROM generate_series(1, 30000) AS n;
            INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at) SELECT 1, id, now() FROM subscribers;
            INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state)
            SELECT 1, n, now(), 'accepted' FROM generate_series(1, 20500) AS n;
            """
        )
        connection.execute("VACUUM ANALYZE subscribers, subscriptions")
    return database_url


@pytest.mark.parametrize("analysed", [False, True], ids=["fresh ledger", "analysed ledger"])
@pytest.mark.parametrize("name", VALUES)
def test_a_batch_reads_its_own_readers_and_not_the_whole_ledger(crowded: str, name: str, analysed: bool) -> None:
    with psycopg.connect(crowded, autocommit=True) as connection:
        if analysed:
            connection.execute("ANALYZE deliveries")
        statement = f"EXPLAIN (ANALYZE, FORMAT JSON) {db.statements()[name]}"
        row = connection.execute(statement, VALUES[name]).fetchone()

    assert row is not None
    read = {node["Relation Name"]: _rows(node) for node in _nodes(row[0][0]["Plan"]) if "Relation Name" in node}
    assert read.get("deliveries", 0) <= len(IDS)
    assert all(rows <= 2 * len(IDS) for rows in read.values()), read


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


def _rows(node: dict[str, Any]) -> int:
    """Rows that a node has looked at, those that it threw away among them."""
    return int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])


def test_what_warms_a_connection_up_fits_its_statements_and_changes_nothing(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True, prepare_threshold=0) as connection:
        for name, values in WARM.items():
            touched = connection.execute(db.statements()[name], values).rowcount
            assert touched == 0 or db.statements()[name].startswith("SELECT"), name
