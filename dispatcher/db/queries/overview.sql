-- name: overview_stories
-- A page of stories, those with the newest update first, with followers by channel; only theirs are counted.
WITH shown AS (
    SELECT s.id, s.slug, s.headline, s.state, u.seq, u.published_at, u.headline AS last_headline, u.kind, u.importance,
           coalesce(u.published_at, s.created_at) AS moved_at
    FROM stories s
    LEFT JOIN LATERAL (SELECT * FROM updates WHERE story_id = s.id ORDER BY seq DESC LIMIT 1) u ON true
    WHERE (%(state)s::text = '' OR s.state::text = %(state)s::text)
      AND (%(like)s::text = '' OR s.headline ILIKE %(like)s::text OR s.slug ILIKE %(like)s::text)
    ORDER BY moved_at DESC, s.id DESC LIMIT %(limit)s OFFSET %(offset)s)
SELECT w.slug, w.headline, w.state, f.readers, f.by_mail, f.by_push, coalesce(w.seq, 0) AS updates,
       w.published_at AS last_at, w.last_headline, w.kind AS last_kind, w.importance AS last_importance,
       EXISTS (SELECT FROM blasts b JOIN updates o ON o.id = b.update_id
               WHERE b.state IN ('cutting', 'sending', 'paused') AND o.story_id = w.id) AS is_sending
FROM shown w
CROSS JOIN LATERAL (
    SELECT count(*) AS readers, count(*) FILTER (WHERE 'email' = ANY (channels)) AS by_mail,
           count(*) FILTER (WHERE 'webpush' = ANY (channels)) AS by_push
    FROM subscriptions WHERE story_id = w.id AND confirmed_at IS NOT NULL AND ended_at IS NULL) f
ORDER BY w.moved_at DESC, w.id DESC;

-- name: overview_counts
-- How many stories are in each state.
SELECT state::text, count(*) AS count FROM stories GROUP BY state;

-- name: overview_sending
-- The blasts that are open, the newest first.
SELECT b.id, s.slug, u.seq, u.headline, b.channel, b.state, b.candidates, u.published_at
FROM blasts b JOIN updates u ON u.id = b.update_id JOIN stories s ON s.id = u.story_id
WHERE b.state IN ('cutting', 'sending', 'paused') ORDER BY b.id DESC LIMIT %(limit)s;
