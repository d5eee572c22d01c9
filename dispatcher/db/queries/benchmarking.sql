-- name: bench_story
-- The story of a benchmark.
INSERT INTO stories (slug, headline) VALUES (%(slug)s, 'Benchmark') RETURNING id;

-- name: bench_readers
-- So many readers of a benchmark's story, at a domain that no mail can reach (RFC 6761).
WITH readers AS (
    INSERT INTO subscribers (email, address_hash, name)
    SELECT 'reader' || n || '@' || %(slug)s || '.example.test', decode(md5(%(slug)s || n), 'hex'), 'Reader ' || n
    FROM generate_series(1, %(readers)s) AS n
    RETURNING id
)
INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at)
SELECT %(story_id)s, id, clock_timestamp() FROM readers;

-- name: bench_sizes
-- How much the database has written to its log so far, and how large the ledger is, both in bytes.
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS wal,
       pg_total_relation_size('deliveries')::bigint AS ledger;

-- name: bench_cut
-- How long it took to freeze the audience of a blast, in milliseconds from the moment it was written.
SELECT extract(epoch FROM frozen_at - created_at)::float8 * 1000 FROM blasts WHERE id = %(blast_id)s;

-- name: bench_forget_ledger
-- Remove the ledger of a benchmark.
DELETE FROM deliveries
WHERE blast_id IN (SELECT b.id FROM blasts b JOIN updates u ON u.id = b.update_id WHERE u.story_id = %(story_id)s);

-- name: bench_forget_progress
-- Remove what the ledger of a benchmark has counted.
DELETE FROM progress
WHERE blast_id IN (SELECT b.id FROM blasts b JOIN updates u ON u.id = b.update_id WHERE u.story_id = %(story_id)s);

-- name: bench_forget_blasts
-- Remove the blasts of a benchmark, with their batches and letters.
DELETE FROM blasts WHERE update_id IN (SELECT id FROM updates WHERE story_id = %(story_id)s);

-- name: bench_forget_readers
-- Remove the readers of a benchmark; the statements before have removed what was sent to them.
DELETE FROM subscribers WHERE id IN (SELECT subscriber_id FROM subscriptions WHERE story_id = %(story_id)s);

-- name: bench_forget_updates
-- Remove the updates of a benchmark.
DELETE FROM updates WHERE story_id = %(story_id)s;

-- name: bench_forget_story
-- Remove the story of a benchmark.
DELETE FROM stories WHERE id = %(story_id)s;
