-- name: find_by_key
-- The update that was published under an idempotency key, with its story.
SELECT u.*, c.seq AS corrects_seq, s.slug
FROM updates u JOIN stories s ON s.id = u.story_id LEFT JOIN updates c ON c.id = u.corrects
WHERE u.idempotency_key = %(key)s;

-- name: insert_update
-- The next update of a story whose row is locked by this transaction.
INSERT INTO updates (story_id, seq, kind, importance, headline, summary, body, corrects, expires_at,
                     idempotency_key, content_hash, published_by, local_time)
SELECT %(story_id)s, greatest(max(seq), 0) + 1, %(kind)s, %(importance)s, %(headline)s, %(summary)s, %(body)s,
       %(corrects)s, %(expires_at)s, %(key)s, %(content_hash)s, %(by)s, %(local_time)s::timestamp
FROM updates WHERE story_id = %(story_id)s
RETURNING *, NULL::integer AS corrects_seq;

-- name: insert_drill
-- The next drill of a story whose row is locked by this transaction: drills are numbered below zero.
INSERT INTO updates (story_id, seq, kind, importance, headline, summary, body, corrects, content_hash, published_by)
SELECT %(story_id)s, least(min(seq), 0) - 1, %(kind)s, %(importance)s, %(headline)s, %(summary)s, %(body)s,
       %(corrects)s, %(content_hash)s, %(by)s
FROM updates WHERE story_id = %(story_id)s
RETURNING *, NULL::integer AS corrects_seq;

-- name: insert_blast
-- One blast of an update on one channel; `of_blast`: it goes to that blast's readers and to nobody else.
INSERT INTO blasts (update_id, channel, urgency, of_blast, is_drill)
VALUES (%(update_id)s, %(channel)s, %(urgency)s, %(of_blast)s::bigint, %(is_drill)s) RETURNING id;

-- name: blasts_of_update
-- The blasts of an update, oldest first.
SELECT id FROM blasts WHERE update_id = %(update_id)s ORDER BY id;

-- name: blasts_superseded_by
-- The blasts in whose place an update has come, oldest first.
SELECT id FROM blasts WHERE superseded_by = %(update_id)s ORDER BY id;

-- name: is_pushed
-- Whether any browser follows a story. The conditions are those of the index `subscriptions_by_push`.
SELECT EXISTS (
    SELECT FROM subscriptions
    WHERE story_id = %(story_id)s AND confirmed_at IS NOT NULL AND ended_at IS NULL
      AND cardinality(channels) > 0 AND channels <> '{email}');
