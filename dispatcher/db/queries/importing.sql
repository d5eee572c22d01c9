-- name: import_rows_table
-- The lines of one chunk of a file, for the connection that imports it.
CREATE TEMPORARY TABLE import_rows (
    line bigint NOT NULL,
    address_hash bytea NOT NULL,
    email text NOT NULL,
    name text NOT NULL,
    locale text NOT NULL,
    timezone text NOT NULL
);

-- name: import_seen_table
-- Every address of the file so far, so that one that comes twice is told apart from one that was there before.
CREATE TEMPORARY TABLE import_seen (address_hash bytea PRIMARY KEY, line bigint NOT NULL);

-- name: import_while_nobody_is_erased
-- Until this chunk is merged, let nobody erase an address: it might be written after the erasure has looked for it.
SELECT pg_advisory_xact_lock_shared(hashtextextended('erase or import', 0));

-- name: import_small_joins
-- A chunk is small against its tables and their indexes are warm: reading them whole would be the slower way.
SET LOCAL random_page_cost = 1.1;

-- name: import_clear
-- Make room for the next chunk.
TRUNCATE import_rows;

-- name: import_copy
-- Take in the lines of a chunk.
COPY import_rows (line, address_hash, email, name, locale, timezone) FROM STDIN;

-- name: import_note_addresses
-- Remember the first line of every address. Fewer rows than the chunk has lines means that some came before.
INSERT INTO import_seen (address_hash, line) SELECT address_hash, line FROM import_rows ON CONFLICT DO NOTHING;

-- name: import_drop_repeats
-- Leave out the further lines of an address.
DELETE FROM import_rows r USING import_seen s WHERE s.address_hash = r.address_hash AND s.line <> r.line;

-- name: import_drop_suppressed
-- Leave out addresses that must never be written to again, and say which lines they were on.
DELETE FROM import_rows r USING suppressions s WHERE s.address_hash = r.address_hash RETURNING r.line;

-- name: import_drop_left
-- Leave out readers who left this story, and say which lines they were on.
DELETE FROM import_rows r USING subscribers s, subscriptions f
WHERE s.address_hash = r.address_hash
  AND f.story_id = %(story_id)s AND f.subscriber_id = s.id AND f.ended_at IS NOT NULL
RETURNING r.line;

-- name: import_subscribers
-- Create the readers who are new. In the order of their hashes, so that two imports never wait for each other in a ring.
INSERT INTO subscribers (email, address_hash, name, locale, timezone)
SELECT r.email, r.address_hash, r.name, r.locale, r.timezone FROM import_rows r
WHERE NOT EXISTS (SELECT FROM subscribers s WHERE s.address_hash = r.address_hash)
ORDER BY r.address_hash
ON CONFLICT (address_hash) DO NOTHING;

-- name: import_confirm
-- Confirm the subscriptions that were waiting for it.
UPDATE subscriptions f SET confirmed_at = clock_timestamp()
FROM import_rows r JOIN subscribers s ON s.address_hash = r.address_hash
WHERE f.story_id = %(story_id)s AND f.subscriber_id = s.id AND f.confirmed_at IS NULL AND f.ended_at IS NULL;

-- name: import_subscriptions
-- Let the readers of this chunk follow the story, those who do not yet.
INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at)
SELECT %(story_id)s, s.id, CASE WHEN %(confirmed)s THEN clock_timestamp() END
FROM import_rows r JOIN subscribers s ON s.address_hash = r.address_hash
ORDER BY s.id
ON CONFLICT (story_id, subscriber_id) DO NOTHING;

-- name: import_still_may
-- Whether the story still takes followers. Nobody lets its readers go until this transaction ends, should it close meanwhile.
SELECT state = 'developing' FROM stories WHERE id = %(story_id)s FOR KEY SHARE;
