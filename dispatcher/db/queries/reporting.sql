-- name: one_snapshot
-- Let every read of this transaction see the same moment, so that the sums add up.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: blast_head
-- A blast with its update and story, and the reason why it stands still, if it does.
SELECT b.id, b.channel, b.state, b.candidates, u.seq, u.headline, u.published_at, s.slug,
       (SELECT reason FROM batches
        WHERE blast_id = b.id AND state = 'waiting' AND reason IS NOT NULL AND NOT retry
        ORDER BY id LIMIT 1) AS holding
FROM blasts b JOIN updates u ON u.id = b.update_id JOIN stories s ON s.id = u.story_id
WHERE b.id = %(blast_id)s;

-- name: blast_states
-- How many readers of a blast are in each state.
SELECT state, count(*) AS count FROM deliveries WHERE blast_id = %(blast_id)s GROUP BY state;

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

-- name: fleet
-- Work that waits and how old it is, open blasts, subscribers, and the deliveries of the last day by state.
SELECT
    (SELECT count(*) FROM stories WHERE state = 'developing') AS stories_developing,
    (SELECT count(*) FROM subscribers) AS subscribers,
    (SELECT count(*) FROM subscriptions WHERE confirmed_at IS NOT NULL AND ended_at IS NULL) AS subscriptions_active,
    (SELECT count(*) FROM blasts WHERE state IN ('cutting', 'sending', 'paused')) AS blasts_open,
    (SELECT count(*) FROM batches WHERE state IN ('waiting', 'leased')) AS batches_waiting,
    (SELECT coalesce(sum(cardinality(subscriber_ids)), 0) FROM batches WHERE state IN ('waiting', 'leased'))
        AS readers_in_batches,
    (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0) FROM blasts
     WHERE state IN ('cutting', 'sending'))::float8 AS oldest_blast_seconds,
    (SELECT count(*) FROM batches WHERE state = 'dead') AS batches_dead,
    (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(greatest(created_at, not_before))), 0) FROM batches
     WHERE state = 'waiting' AND not_before <= clock_timestamp())::float8 AS oldest_batch_seconds,
    (SELECT count(*) FROM deliveries WHERE next_at <= clock_timestamp()) AS deliveries_due,
    (SELECT coalesce(jsonb_object_agg(state, n), '{}') FROM (
        SELECT state, count(*) AS n FROM blasts WHERE created_at > clock_timestamp() - interval '1 day'
        GROUP BY state) AS states) AS blasts_by_state,
    (SELECT coalesce(jsonb_object_agg(state, n), '{}') FROM (
        SELECT d.state, count(*) AS n FROM deliveries d
        WHERE d.blast_id IN (SELECT id FROM blasts WHERE created_at > clock_timestamp() - interval '1 day')
        GROUP BY d.state) AS states) AS deliveries_by_state;

-- name: schema_found
-- Whether this database was ever migrated, and whether it takes writes at all.
SELECT to_regclass('alembic_version') IS NOT NULL AS migrated,
       current_setting('transaction_read_only') = 'on' AS read_only;

-- name: can_write
-- Prove that this database takes writes: a standby or a full disk does not.
SELECT nextval('lease_tokens');
