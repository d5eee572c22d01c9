"""The statements of the hot path read what they need, however large the tables are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dispatcher import db
from dispatcher.embedded.postgres import Postgres
from dispatcher.pulse import ALIVE
from dispatcher.sending import WARM
from tests.support.databases import fresh_database

IDS = list(range(20_001, 20_501))
VALUES: dict[str, dict[str, Any]] = {
    "load_recipients": {
        "story_id": 1,
        "blast_id": 1,
        "ids": IDS,
        "since": "now",
        "expires_at": "infinity",
        "running": [],
        "seqs": [],
    },
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


#: The 500 readers of a batch, their addresses' hashes, and the devices of a batch.
SOME = list(range(20_001, 20_501))
HASHES = [number.to_bytes(8, "big") for number in SOME]
ENDPOINT = f"https://push.example/{SOME[0]}"
ONE: dict[str, Any] = {"subscriber_id": SOME[0], "address_hash": HASHES[0]}
CLAIM = {"class": ALIVE, "worker": 1, "lease": 60.0, "most": 100, "suspect": 2, "alone": False}
#: Statements that readers wait for, or that run all the time, with as many rows as they may look at in one table.
READERS: dict[str, tuple[dict[str, Any], int]] = {
    "take_asks": ({"limit": 200, "only": None}, 400),
    "askers": ({"hashes": HASHES}, 1_000),
    "askers_subscriptions": ({"subscribers": SOME, "stories": [1] * len(SOME)}, 500),
    "mails_of_late": ({"hashes": HASHES}, 3_000),
    "confirmations_of_late": ({"hashes": HASHES}, 500),
    "find_suppression": (ONE, 1),
    "open_confirmation": ({"token_hash": HASHES[0]}, 2),
    "claim_notices": (CLAIM, 500),
    "record_notices": (
        {
            "ids": SOME,
            "states": ["accepted"] * 500,
            "attempts": [1] * 500,
            "in_doubt": [0] * 500,
            "retry_in": [None] * 500,
            "codes": [250] * 500,
            "relays": ["r"] * 500,
            "replies": ["ok"] * 500,
        },
        1_000,
    ),
    "release_notices": ({"ids": SOME, "tokens": SOME, "pauses": [1.0] * 500}, 1_000),
    "suppress_notice_addresses": ({"ids": SOME[:10], "reasons": ["no"] * 10}, 20),
    "take_back_notices": ({"class": ALIVE}, 400),
    "bury_notices": ({"most": 5, "reason": "x"}, 400),
    "load_devices": (
        {
            "story_id": 1,
            "blast_id": 2,
            "ids": SOME,
            "since": "now",
            "expires_at": "infinity",
            "running": [],
            "seqs": [],
        },
        1_000,
    ),
    "note_received_by_devices": ({"story_id": 1, "ids": SOME, "seq": 1}, 1_000),
    "moved_devices": ({"ids": SOME[:10], "endpoints": [ENDPOINT] * 10}, 10),
    "remove_gone_devices": ({"ids": SOME[:10], "endpoints": [ENDPOINT] * 10}, 40),
    "find_device": ({"endpoint_hash": HASHES[0]}, 1),
    "lock_readers": ({"ids": SOME[:2]}, 2),
    "reader_page": (ONE, 1),
    "devices_of_reader": (ONE, 2),
    "followed_stories": (ONE, 10),
    "end_subscription": ({**ONE, "story_id": 1}, 3),
    "end_all_subscriptions": (ONE, 10),
    "set_channels": ({**ONE, "story_id": 1, "channels": ["email"]}, 1),
    "without_browsers": (ONE, 10),
    "move_devices": ({"from": SOME[0], "to": SOME[1]}, 10),
    "join_followed": ({"from": SOME[0], "to": SOME[1]}, 20),
    "erase_confirmations": (ONE, 10),
    "erase_notices": (ONE, 10),
    "erase_devices": (ONE, 10),
    "erase_subscriptions": (ONE, 10),
    "erase_reader": (ONE, 10),
    "export_reader": (ONE, 1),
    "export_subscriptions": (ONE, 10),
    "export_confirmations": (ONE, 10),
    "export_notices": (ONE, 10),
    "find_reader_by_hash": (ONE, 1),
    "find_readers_by_prefix": ({"low": "reader", "high": "reader\U0010ffff", "limit": 50}, 60),
    "trace_reader": (ONE, 1),
    "trace_subscriptions": (ONE, 2),
    "trace_updates": ({**ONE, "at": "9999-01-01", "before": 2**62, "limit": 31}, 4),
    "trace_notices": ({**ONE, "at": "9999-01-01", "before": 2**62, "limit": 31}, 8),
    "list_suppressions": ({"at": "9999-01-01", "before": b"", "limit": 51}, 60),
    "get_suppression": (ONE, 1),
}


@pytest.fixture(scope="module")
def many_readers(postgres: Postgres, template_database: str) -> Iterator[str]:
    """30,000 readers with a device, a confirmation and two notices each; 400 notices and 2,000 asks wait."""
    with fresh_database(postgres, template_database) as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO stories (slug, headline) VALUES ('dam', 'The dam');
            INSERT INTO subscribers (email, address_hash)
            SELECT 'reader' || n || '@example.test', int8send(n) FROM generate_series(1, 30000) AS n;
            INSERT INTO subscriptions (story_id, subscriber_id, channels, confirmed_at)
            SELECT 1, id, CASE WHEN id % 100 = 0 THEN '{email,webpush}' ELSE '{email}' END::channel[],
                   now() - interval '1 day' FROM subscribers;
            INSERT INTO devices (id, subscriber_id, endpoint, endpoint_hash, public_key, auth_secret)
            SELECT id, id, 'https://push.example/' || id, int8send(id), decode(repeat('04', 65), 'hex'),
                   decode(repeat('00', 16), 'hex') FROM subscribers;
            INSERT INTO confirmations (token_hash, email, address_hash, story_id, cadence, catch_up, locale, timezone,
                                       expires_at, mailbox_hash)
            SELECT int8send(id), email, address_hash, 1, 'every', false, 'en', 'UTC', now() + interval '1 day',
                   int8send(id)
            FROM subscribers;
            INSERT INTO notices (kind, email, address_hash, subscriber_id, story_id, locale, timezone, expires_at,
                                 state, next_at)
            SELECT 'following', CASE WHEN due THEN email END, address_hash, id, 1, 'en', 'UTC',
                   now() + interval '1 day', CASE WHEN NOT due THEN 'accepted'::delivery_state END,
                   CASE WHEN due THEN now() END
            FROM subscribers, LATERAL (SELECT id <= 200 AS due) d, generate_series(1, 2);
            INSERT INTO asks (kind, email, address_hash, story_id, locale, timezone)
            SELECT 'follow', email, address_hash, 1, 'en', 'UTC' FROM subscribers LIMIT 2000;
            INSERT INTO suppressions SELECT int8send(-id), 'complaint' FROM subscribers;
            INSERT INTO updates (story_id, seq, kind, importance, headline, body, content_hash, published_by)
            VALUES (1, 1, 'update', 'major', 'x', 'x', '', 'test');
            INSERT INTO blasts (update_id, channel, urgency, state, candidates)
            VALUES (1, 'email', 30, 'done', 0), (1, 'webpush', 30, 'cutting', NULL);
            INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state)
            SELECT 2, id, now(), 'accepted' FROM subscribers WHERE id <= 20500;
            """
        )
        connection.execute("VACUUM ANALYZE")
        yield url


@pytest.mark.parametrize("name", READERS)
def test_whoever_waits_does_not_wait_for_all_other_readers(many_readers: str, name: str) -> None:
    """Rows that a plan looks at, those that it throws away among them."""
    values, most = READERS[name]
    with psycopg.connect(many_readers) as connection:
        connection.execute("SELECT pg_advisory_lock(%s, 1)", (ALIVE,))
        row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {db.statements()[name]}", values).fetchone()
        connection.rollback()

    assert row is not None
    read: Counter[str] = Counter()
    for node in _nodes(row[0][0]["Plan"]):
        if node["Node Type"].endswith("Scan") and "Relation Name" in node:
            read[node["Relation Name"]] += _rows(node)
    assert all(rows <= most for rows in read.values()), read


def test_a_push_blast_reads_those_who_want_pushes_and_not_every_follower(many_readers: str) -> None:
    """300 of 30,000 do."""
    with psycopg.connect(many_readers) as connection:
        statement = f"EXPLAIN (ANALYZE, FORMAT JSON) {db.statements()['cut_next']}"
        row = connection.execute(statement, {"urgency": 99, "batch_size": 500, "drills": False}).fetchone()
        cut = connection.execute("SELECT sum(cardinality(subscriber_ids)) FROM batches").fetchone()
        connection.rollback()

    assert row is not None
    assert cut == (300,)
    read: Counter[str] = Counter()
    for node in _nodes(row[0][0]["Plan"]):
        if "Relation Name" in node:
            read[node["Relation Name"]] += _rows(node)
    assert read["subscriptions"] <= 400, read
    assert read["devices"] <= 400, read


def test_whoever_is_tried_again_is_found_without_reading_what_is_done(
    postgres: Postgres, template_database: str
) -> None:
    """Three are due in a blast of 1,000 batches that wait, beside 100,000 done batches and 300,000 outcomes."""
    with fresh_database(postgres, template_database) as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO stories (slug, headline) VALUES ('dam', 'The dam');
            INSERT INTO updates (story_id, seq, kind, importance, headline, body, content_hash, published_by)
            SELECT 1, n, 'update', 'major', 'x', 'x', '', 'test' FROM generate_series(1, 101) n;
            INSERT INTO blasts (update_id, channel, urgency, state, candidates)
            SELECT id, 'email', 30, CASE id WHEN 101 THEN 'sending' ELSE 'done' END::blast_state, 0 FROM updates;
            INSERT INTO batches (blast_id, urgency, subscriber_ids, plain, state)
            SELECT b, 30, ARRAY[3 * n, 3 * n + 1, 3 * n + 2], true,
                   CASE b WHEN 101 THEN 'waiting' ELSE 'done' END::batch_state
            FROM generate_series(1, 101) b, generate_series(0, 999) n;
            INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state)
            SELECT b, n, now(), 'accepted' FROM generate_series(1, 100) b, generate_series(0, 2999) n;
            INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, next_at)
            SELECT 101, 5 * n, now(), 'deferred', now() FROM generate_series(1, 3) n;
            """
        )
        connection.execute("VACUUM ANALYZE")
        statement = f"EXPLAIN (ANALYZE, FORMAT JSON) {db.statements()['queue_due']}"
        row = connection.execute(statement, {"most": 50_000, "batch_size": 500}).fetchone()
        made = connection.execute("SELECT subscriber_ids, plain FROM batches WHERE retry").fetchall()
        left = connection.execute("SELECT count(*) FROM deliveries WHERE next_at IS NOT NULL").fetchone()

    assert row is not None
    read: Counter[str] = Counter()
    for node in _nodes(row[0][0]["Plan"]):
        if node["Node Type"].endswith("Scan") and "Relation Name" in node:
            read[node["Relation Name"]] += _rows(node)
    assert read["deliveries"] <= 10, read
    assert read["batches"] <= 1_000, read
    assert (made, left) == ([([5, 10, 15], True)], (0,))


def test_a_large_audience_is_counted_in_slices_by_several_processes(crowded: str) -> None:
    with psycopg.connect(crowded, autocommit=True) as connection:
        values = {"story_id": 1, "second": 10_001, "third": 20_001, "is_breaking": False, "utc": "12:00"}
        statement = f"EXPLAIN (ANALYZE, FORMAT JSON) {db.statements()['count_audience']}"
        row = connection.execute(statement, {**values, "zones": ["UTC"], "times": ["12:00"]}).fetchone()

    assert row is not None
    nodes = list(_nodes(row[0][0]["Plan"]))
    assert [node.get("Function Name") for node in nodes].count("followers") == 3
    assert [node["Parallel Aware"] for node in nodes if node["Node Type"] == "Append"] == [True]
    assert [node["Workers Planned"] for node in nodes if "Gather" in node["Node Type"]] == [2]


def test_an_audience_is_written_once_and_planned_as_if_it_stood_where_it_is_used(many_readers: str) -> None:
    """A function that the planner does not see through would be called, and its rows kept, for every blast."""
    with psycopg.connect(many_readers) as connection:
        for name in ("cut_next", "cut_correction"):
            statement = f"EXPLAIN (FORMAT JSON) {db.statements()[name]}"
            row = connection.execute(statement, {"urgency": 99, "batch_size": 500, "drills": False}).fetchone()
            assert row is not None
            called = {node.get("Function Name") for node in _nodes(row[0][0]["Plan"])}
            assert called <= {None, "generate_series", "pg_timezone_names"}, name


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
