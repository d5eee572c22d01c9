"""Count what the ledger held before it counted itself, and index what is large, while everything goes on.

Nothing here is one transaction: a step that was interrupted begins anew, and finds what it did before. Since 0006 the
ledger's triggers count whatever changes, each session for itself; what is missing are the rows that were there before.

Revision ID: 0007
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

#: Those that somebody may be watching first.
BLASTS = "SELECT id FROM blasts ORDER BY state IN ('done', 'cancelled'), id DESC"
#: What the ledger says of a blast now, less what the triggers have counted of it so far. One snapshot sees both, so
#: this is the same at whatever moment it is asked, and nobody has to wait for it.
COUNT = """
INSERT INTO progress (blast_id, session, after_ms, state, relay, count, seconds, first_at, last_at)
SELECT blast_id, 0, after_ms, state, relay, sum(count), sum(seconds), min(first_at), max(last_at)
FROM (
    SELECT blast_id, progress_slot(seconds) AS after_ms, state, relay, count(*) AS count, sum(seconds) AS seconds,
           min(recorded_at) AS first_at, max(recorded_at) AS last_at
    FROM (SELECT d.blast_id, d.state, coalesce(d.relay, '') AS relay, d.recorded_at,
                 greatest(coalesce(date_part('epoch', d.recorded_at - u.published_at), 0), 0) AS seconds
          FROM deliveries d LEFT JOIN blasts b ON b.id = d.blast_id LEFT JOIN updates u ON u.id = b.update_id
          WHERE d.blast_id = %(blast_id)s) AS timed
    GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT blast_id, after_ms, state, relay, -count, -seconds, first_at, last_at
    FROM progress WHERE blast_id = %(blast_id)s AND session <> 0
) AS both_counts
GROUP BY 1, 3, 4, 5 HAVING sum(count) <> 0
ON CONFLICT DO NOTHING
"""
#: Indexes of tables with many millions of rows.
INDEXES = {
    "deliveries_unreached": "deliveries (blast_id, state, subscriber_id) WHERE state <> 'accepted'",
    "subscribers_by_email": 'subscribers (lower(email) COLLATE "C", id)',
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        bind = op.get_bind()
        for (blast_id,) in bind.exec_driver_sql(BLASTS).fetchall():
            bind.exec_driver_sql(COUNT, {"blast_id": blast_id})
        for name, what in INDEXES.items():
            bind.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # one that was begun is no use
            bind.exec_driver_sql(f"CREATE INDEX CONCURRENTLY {name} ON {what}")


def downgrade() -> None:
    for name in INDEXES:
        op.get_bind().exec_driver_sql(f"DROP INDEX {name}")
    op.get_bind().exec_driver_sql("DELETE FROM progress WHERE session = 0")
