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

-- name: bench_forget
-- Remove the readers of a benchmark; their rows in the ledger go with its blast.
DELETE FROM subscribers WHERE id IN (SELECT subscriber_id FROM subscriptions WHERE story_id = %(story_id)s);

-- name: bench_forget_ledger
-- Remove the ledger of a benchmark.
DELETE FROM deliveries WHERE blast_id = %(blast_id)s;

-- name: bench_forget_blast
-- Remove the blast of a benchmark, with its batches and letters.
DELETE FROM blasts WHERE id = %(blast_id)s;

-- name: bench_forget_updates
-- Remove the update of a benchmark.
DELETE FROM updates WHERE story_id = %(story_id)s;

-- name: bench_forget_story
-- Remove the story of a benchmark.
DELETE FROM stories WHERE id = %(story_id)s;
