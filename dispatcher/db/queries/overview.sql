-- name: overview_stories
-- A page of stories, those with the newest update first; whether one of their updates is being sent.
SELECT s.id, s.created_at, s.slug, s.headline, s.state, coalesce(u.seq, 0) AS updates, u.published_at AS last_at,
       u.headline AS last_headline, u.kind AS last_kind, u.importance AS last_importance,
       s.id IN (SELECT o.story_id FROM blasts b JOIN updates o ON o.id = b.update_id
                WHERE b.state IN ('cutting', 'sending', 'paused')) AS is_sending
FROM stories s
LEFT JOIN LATERAL (SELECT * FROM updates WHERE story_id = s.id ORDER BY seq DESC LIMIT 1) u ON true
WHERE (%(state)s::text = '' OR s.state::text = %(state)s::text)
  AND (%(like)s::text = '' OR s.headline ILIKE %(like)s::text OR s.slug ILIKE %(like)s::text)
ORDER BY coalesce(u.published_at, s.created_at) DESC, s.id DESC LIMIT %(limit)s OFFSET %(offset)s;

-- name: overview_followers
-- How many follow each of these stories, and how many of them by mail and by push. Those of large stories take a while.
SELECT story_id, count(*) AS readers, count(*) FILTER (WHERE 'email' = ANY (channels)) AS by_mail,
       count(*) FILTER (WHERE 'webpush' = ANY (channels)) AS by_push
FROM subscriptions
WHERE story_id = ANY (%(story_ids)s::bigint[]) AND confirmed_at IS NOT NULL AND ended_at IS NULL
GROUP BY story_id;

-- name: overview_counts
-- How many stories are in each state.
SELECT state::text, count(*) AS count FROM stories GROUP BY state;

-- name: overview_sending
-- The blasts that are open, the newest first.
SELECT b.id, s.slug, u.seq, u.headline, b.channel, b.state, b.candidates, u.published_at
FROM blasts b JOIN updates u ON u.id = b.update_id JOIN stories s ON s.id = u.story_id
WHERE b.state IN ('cutting', 'sending', 'paused') ORDER BY b.id DESC LIMIT %(limit)s;
