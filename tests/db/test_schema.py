"""Migrations, the schema file and the statements agree with each other."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from dispatcher import db
from dispatcher.db.migrate import migrate
from dispatcher.db.revisions import newest, revisions
from dispatcher.embedded.postgres import Postgres, installed_server
from tests.support.databases import fresh_database

SCHEMA = "dispatcher/db/schema.sql"


@pytest.fixture
def empty(postgres: Postgres) -> Iterator[str]:
    with fresh_database(postgres) as url:
        yield url


def dump(url: str) -> str:
    """The schema as pg_dump writes it, without alembic's own table and what changes from run to run."""
    dumper = installed_server() / "bin" / "pg_dump"
    arguments = ["--schema-only", "--no-owner", "--exclude-table=alembic_version", url]
    text = subprocess.run([dumper, *arguments], check=True, capture_output=True, text=True).stdout
    return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)


def test_all_migrations_together_make_the_schema_file(postgres: Postgres, pytestconfig: pytest.Config) -> None:
    with fresh_database(postgres) as migrated, fresh_database(postgres) as written:
        migrate(migrated)
        with psycopg.connect(written, autocommit=True) as connection:
            connection.execute((pytestconfig.rootpath / SCHEMA).read_text())

        assert dump(migrated) == dump(written)


def test_migrating_down_leaves_nothing_and_up_again_leaves_the_same(empty: str) -> None:
    before = dump(empty)
    migrate(empty)
    up = dump(empty)

    migrate(empty, "base")
    assert dump(empty) == before

    migrate(empty)
    assert dump(empty) == up


def test_migrating_twice_changes_nothing(empty: str) -> None:
    migrate(empty)
    first = dump(empty)

    migrate(empty)

    assert dump(empty) == first
    at, head = revisions(empty)
    assert at == head == newest()


def test_a_large_ledger_is_counted_while_everybody_goes_on(empty: str) -> None:
    """Old rows and new ones, of a writer who never stops. What is slow is done without a lock, and after 0006."""
    migrate(empty, "0005")
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO stories (slug, headline) VALUES ('dam', 'The dam');
            INSERT INTO updates (story_id, seq, kind, importance, headline, body, content_hash, published_by)
            SELECT 1, n, 'update', 'major', 'h', 'b', '', 'test' FROM generate_series(1, 4) n;
            INSERT INTO blasts (update_id, channel, urgency, state, candidates)
            SELECT id, 'email', 30, CASE id WHEN 4 THEN 'sending' ELSE 'done' END::blast_state, 9000 FROM updates;
            INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state)
            SELECT b, n, now(), 'accepted' FROM generate_series(1, 4) b, generate_series(1, 2000) n;
            """
        )
    done = threading.Event()

    def write() -> int:
        number = 2000
        with psycopg.connect(empty, autocommit=True) as connection:
            while not done.is_set() or number < 2100:
                number += 1
                connection.execute("INSERT INTO deliveries VALUES (4, %s, now(), NULL, 'deferred')", [number])
                connection.execute("UPDATE deliveries SET state = 'failed' WHERE subscriber_id = %s", [number - 1000])
        return number

    with ThreadPoolExecutor() as pool:
        writer = pool.submit(write)
        try:
            migrate(empty)
        finally:
            done.set()
        last = writer.result(timeout=60)
    counted = "SELECT blast_id, state::text, count(*) FROM deliveries GROUP BY 1, 2 ORDER BY 1, 2"
    kept = "SELECT blast_id, state::text, sum(count) FROM progress GROUP BY 1, 2 HAVING sum(count) <> 0 ORDER BY 1, 2"
    with psycopg.connect(empty) as connection:
        assert connection.execute(kept).fetchall() == connection.execute(counted).fetchall()
        assert connection.execute("SELECT count(*) FROM deliveries").fetchone() == (4 * 2000 + last - 2000,)


def test_counting_that_was_interrupted_begins_anew_and_counts_nothing_twice(empty: str) -> None:
    """It had counted one blast and begun an index; readers were recorded before, meanwhile and afterwards."""
    migrate(empty, "0005")
    add = "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state) VALUES (1, %s, now(), 'accepted')"
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(add, [1])
        connection.execute("INSERT INTO stories (slug, headline) VALUES ('dam', 'The dam')")
        connection.execute(
            "INSERT INTO updates (story_id, seq, kind, importance, headline, body, content_hash, published_by)"
            " VALUES (1, 1, 'update', 'major', 'h', 'b', '', 'test')"
        )
        connection.execute("INSERT INTO blasts (update_id, channel, urgency) VALUES (1, 'email', 30)")
        migrate(empty)
        connection.execute("UPDATE alembic_version SET version_num = '0006'")
        connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'deliveries_unreached'::regclass")
        connection.execute(add, [2])

        migrate(empty)

        assert connection.execute("SELECT sum(count) FROM progress").fetchone() == (2,)
        assert connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)


def test_a_database_without_a_schema_is_at_no_revision(empty: str) -> None:
    assert revisions(empty) == (None, newest())


def test_every_statement_is_one_that_postgres_understands(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        for name, statement in db.statements().items():
            if statement.startswith(("COPY", "SET", "LISTEN")) or re.search(r"\bimport_|\bincoming\b", statement):
                continue  # reads a temporary table that only its own transaction has, or takes no parameters
            numbered = re.sub(r"%\((\w+)\)s", _Numbers(), statement).replace("%%", "%")
            try:
                connection.execute(f"PREPARE p_{name} AS {numbered.rstrip(';')}")
            except psycopg.Error as error:
                raise AssertionError(f"{name}: {error}") from error


class _Numbers(dict[str, int]):
    """%(name)s → $1, the same number for the same name."""

    def __call__(self, match: re.Match[str]) -> str:
        return f"${self.setdefault(match[1], len(self) + 1)}"


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("INSERT INTO updates (story_id, seq, kind, importance, headline, body, content_hash, published_by) "
         "SELECT story_id, seq, kind, importance, headline, body, content_hash, published_by FROM updates",
         "updates_story_id_seq_key"),
        ("INSERT INTO updates (story_id, seq, kind, importance, headline, body, content_hash, published_by, "
         "idempotency_key) SELECT story_id, 2, kind, importance, headline, body, content_hash, published_by, "
         "idempotency_key FROM updates", "updates_idempotency_key_key"),
        ("INSERT INTO blasts (update_id, channel, urgency) SELECT update_id, channel, urgency FROM blasts",
         "blasts_update_id_channel_key"),
        ("INSERT INTO deliveries SELECT * FROM deliveries", "deliveries_pkey"),
    ],
)  # fmt: skip
def test_the_database_itself_refuses_a_second_one(database_url: str, statement: str, constraint: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO stories (slug, headline) VALUES ('dam', 'The dam');
            INSERT INTO updates (story_id, seq, kind, importance, headline, body, content_hash, published_by,
                                 idempotency_key) VALUES (1, 1, 'update', 'routine', 'h', 'b', '', 'test', 'key');
            INSERT INTO blasts (update_id, channel, urgency) VALUES (1, 'email', 30);
            INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state) VALUES (1, 1, now(), 'accepted');
            """
        )
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            connection.execute(statement)

    assert caught.value.diag.constraint_name == constraint
