-- name: one_snapshot
-- Let every read of this transaction see the same moment, so that the sums add up.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: blast_head
-- A blast with its update and story, and the reason why it stands still, if it does.
SELECT b.id, b.channel, b.state, b.candidates, b.steered_by, b.steered_at, b.is_drill, u.seq, u.headline, u.published_at,
       s.slug,
       coalesce((SELECT reason FROM batches
                 WHERE blast_id = b.id AND state = 'waiting' AND reason IS NOT NULL AND NOT retry
                 ORDER BY id LIMIT 1),
                -- No worker claims anything while every relay is away, so its batches bear no reason.
                CASE WHEN b.state = 'sending' AND b.channel = 'email' AND NOT b.is_drill AND EXISTS (SELECT FROM batches WHERE blast_id = b.id AND state = 'waiting')
                     THEN (SELECT min(reason) FROM relay_reports HAVING bool_and(circuit = 'open')) END) AS holding
FROM blasts b JOIN updates u ON u.id = b.update_id JOIN stories s ON s.id = u.story_id
WHERE b.id = %(blast_id)s;

-- name: list_blasts
-- The open blasts, then the others, the newest first, at most `limit`.
SELECT b.id, b.channel, b.state, b.candidates, b.steered_by, b.steered_at, b.is_drill, u.seq, u.headline, u.published_at,
       s.slug
FROM ((SELECT *, true AS open FROM blasts WHERE state IN ('cutting', 'sending', 'paused')
       ORDER BY id DESC LIMIT %(limit)s)
      UNION ALL
      (SELECT *, false FROM blasts WHERE state NOT IN ('cutting', 'sending', 'paused')
       ORDER BY id DESC LIMIT %(limit)s)) b
JOIN updates u ON u.id = b.update_id JOIN stories s ON s.id = u.story_id
ORDER BY b.open DESC, b.id DESC LIMIT %(limit)s;

-- name: blast_states
-- How many readers of a blast are in each state: what counting its ledger would give.
SELECT state, sum(count)::bigint AS count FROM progress WHERE blast_id = %(blast_id)s GROUP BY state HAVING sum(count) <> 0;

-- name: blast_times
-- First, percentiles and last acceptance of a blast, in milliseconds from the publish commit.
SELECT min(ms) AS first_ms, max(ms) AS last_ms,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS p50_ms,
       percentile_cont(0.9) WITHIN GROUP (ORDER BY ms) AS p90_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY ms) AS p99_ms
FROM (SELECT extract(epoch FROM recorded_at - %(published_at)s)::float8 * 1000 AS ms
      FROM deliveries WHERE blast_id = %(blast_id)s AND state = 'accepted') AS accepted;

-- name: blast_reasons
-- Why readers of a blast were not reached, the ten most frequent reasons first.
SELECT coalesce(nullif(reply, ''), state::text) AS reason, count(*) AS count
FROM deliveries WHERE blast_id = %(blast_id)s AND state <> 'accepted'
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10;

-- name: schema_found
-- Whether this database was ever migrated, and whether it takes writes at all.
SELECT to_regclass('alembic_version') IS NOT NULL AS migrated,
       current_setting('transaction_read_only') = 'on' AS read_only;

-- name: can_write
-- Prove that this database takes writes: a standby does not, nor does one whose disk has no room for one more page.
WITH before AS (DELETE FROM proofs) INSERT INTO proofs (filler) VALUES (repeat('-', 7000)) RETURNING true;
