-- name: create_story
-- A new developing story; no row if the slug is taken.
INSERT INTO stories (slug, headline, summary, in_doubt)
VALUES (%(slug)s, %(headline)s, %(summary)s, %(in_doubt)s::text)
ON CONFLICT (slug) DO NOTHING
RETURNING *, NULL::text AS successor;

-- name: find_story
-- One story by its slug, with the slug of its successor.
SELECT s.*, n.slug AS successor FROM stories s LEFT JOIN stories n ON n.id = s.successor_id WHERE s.slug = %(slug)s;

-- name: lock_story
-- One story by its slug, held until the transaction ends, so that `seq` and closing have one writer. Not so firmly that who
-- begins to follow it would wait: a row that refers to the story needs no more than its key.
SELECT s.*, NULL::text AS successor, clock_timestamp() AS now FROM stories s WHERE s.slug = %(slug)s FOR NO KEY UPDATE;

-- name: list_stories
-- Every story with its followers, the developing ones first, newest first.
SELECT s.*, n.slug AS successor,
       (SELECT count(*) FROM subscriptions f
        WHERE f.story_id = s.id AND f.confirmed_at IS NOT NULL AND f.ended_at IS NULL) AS followers
FROM stories s LEFT JOIN stories n ON n.id = s.successor_id
ORDER BY s.state, s.id DESC;

-- name: close_story
-- Close a story that is still developing, and name the one that goes on.
UPDATE stories SET state = 'closed', closed_at = clock_timestamp(), successor_id = %(successor_id)s::bigint,
    is_merged = %(is_merged)s
WHERE id = %(story_id)s AND state = 'developing';

-- name: change_story
-- Change what a story says of itself, and what becomes of its messages without an answer.
UPDATE stories SET headline = %(headline)s, summary = %(summary)s, in_doubt = %(in_doubt)s::text WHERE id = %(story_id)s;

-- name: slugs_like
-- The slug itself and those that begin like it, as far as they are taken.
SELECT slug FROM stories WHERE slug = %(slug)s OR slug LIKE %(beginning)s;

-- name: timeline
-- The updates of a story, newest first, at most `limit`, each with the seq of the update that it corrects, and
-- with its withdrawal if it was taken back.
SELECT u.*, c.seq AS corrects_seq, w.published_at AS withdrawn_at, w.headline AS withdrawn_because, w.seq AS withdrawn_by
FROM updates u LEFT JOIN updates c ON c.id = u.corrects
LEFT JOIN updates w ON w.corrects = u.id AND w.kind = 'withdrawal'
WHERE u.story_id = %(story_id)s AND u.seq > 0 AND u.seq < %(before)s
ORDER BY u.seq DESC LIMIT %(limit)s;

-- name: find_update
-- One update of a story by its number, or one of its drills, with the same.
SELECT u.*, c.seq AS corrects_seq, w.published_at AS withdrawn_at, w.headline AS withdrawn_because, w.seq AS withdrawn_by
FROM updates u LEFT JOIN updates c ON c.id = u.corrects
LEFT JOIN updates w ON w.corrects = u.id AND w.kind = 'withdrawal'
WHERE u.story_id = %(story_id)s AND u.seq = %(seq)s;
