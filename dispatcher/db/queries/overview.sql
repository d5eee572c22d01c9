-- name: overview_stories
-- A page of stories, those with the newest update first, each with the draft of it that was touched last. What is looked up
-- for each is looked up for those of the page alone.
SELECT page.*, d.id AS draft_id, d.state::text AS draft_state, d.send_at AS draft_send_at,
       coalesce(p.name, d.handed_in_by, '') AS draft_by, going.seq AS sending_seq
FROM (
    SELECT s.id, s.created_at, s.slug, s.headline, s.state, coalesce(u.seq, 0) AS updates, u.published_at AS last_at,
           u.headline AS last_headline, u.kind AS last_kind, u.importance AS last_importance
    FROM stories s
    LEFT JOIN LATERAL (SELECT * FROM updates WHERE story_id = s.id AND seq > 0 ORDER BY seq DESC LIMIT 1) u ON true
    WHERE (%(state)s::text = '' OR s.state::text = %(state)s::text)
      AND (%(like)s::text = '' OR s.headline ILIKE %(like)s::text OR s.slug ILIKE %(like)s::text)
    ORDER BY coalesce(u.published_at, s.created_at) DESC, s.id DESC LIMIT %(limit)s OFFSET %(offset)s) page
LEFT JOIN LATERAL (
    SELECT * FROM drafts WHERE story_id = page.id AND state NOT IN ('published', 'rejected')
    ORDER BY updated_at DESC LIMIT 1) d ON true
LEFT JOIN people p ON p.id = d.last_editor
LEFT JOIN LATERAL (
    SELECT max(o.seq) AS seq FROM blasts b JOIN updates o ON o.id = b.update_id
    WHERE b.state IN ('cutting', 'sending', 'paused') AND o.story_id = page.id AND o.seq > 0) going ON true
ORDER BY coalesce(page.last_at, page.created_at) DESC, page.id DESC;

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
SELECT b.id, b.channel, b.state, b.candidates, b.is_drill, u.id AS update_id, u.seq, u.headline, u.published_at, s.slug
FROM blasts b JOIN updates u ON u.id = b.update_id JOIN stories s ON s.id = u.story_id
WHERE b.state IN ('cutting', 'sending', 'paused') ORDER BY b.id DESC LIMIT %(limit)s;

-- name: overview_updates
-- A page of a story's updates, the newest first, each with who sent it, and the newest that corrects it or takes it back.
SELECT u.id, u.seq, u.kind, u.importance, u.headline, u.summary, u.published_at, coalesce(p.name, u.published_by) AS sent_by,
       c.seq AS corrects_seq, later.seq AS corrected_by, later.kind AS corrected_how
FROM updates u
LEFT JOIN updates c ON c.id = u.corrects
LEFT JOIN people p ON p.email = u.published_by
LEFT JOIN LATERAL (SELECT seq, kind FROM updates WHERE corrects = u.id AND seq > 0 ORDER BY id DESC LIMIT 1) later ON true
WHERE u.story_id = %(story_id)s AND u.seq > 0 AND u.seq < %(before)s
ORDER BY u.seq DESC LIMIT %(limit)s;

-- name: overview_drills
-- The newest drills of a story: they count downwards.
SELECT u.id, u.seq, u.kind, u.importance, u.headline, u.summary, u.published_at, coalesce(p.name, u.published_by) AS sent_by,
       NULL::integer AS corrects_seq, NULL::integer AS corrected_by, NULL::update_kind AS corrected_how
FROM updates u LEFT JOIN people p ON p.email = u.published_by
WHERE u.story_id = %(story_id)s AND u.seq < 0 ORDER BY u.seq LIMIT %(limit)s;

-- name: overview_blasts
-- The blasts of these updates.
SELECT b.id, b.channel, b.state, b.candidates, b.is_drill, b.update_id
FROM blasts b WHERE b.update_id = ANY (%(update_ids)s::bigint[]) ORDER BY b.update_id, b.channel;

-- name: jump_stories
-- Stories to jump to: those whose headline or slug begins so, then those that hold it, developing ones and newer ones first.
SELECT s.slug, s.headline, s.state, coalesce(u.seq, 0) AS updates,
       (SELECT max(o.seq) FROM blasts b JOIN updates o ON o.id = b.update_id
        WHERE b.state IN ('cutting', 'sending', 'paused') AND o.story_id = s.id AND o.seq > 0) AS sending_seq
FROM stories s
LEFT JOIN LATERAL (
    SELECT seq, published_at FROM updates WHERE story_id = s.id AND seq > 0 ORDER BY seq DESC LIMIT 1) u ON true
WHERE s.headline ILIKE '%%' || %(like)s::text OR s.slug ILIKE '%%' || %(like)s::text
ORDER BY s.headline ILIKE %(like)s::text OR s.slug ILIKE %(like)s::text DESC, s.state,
         coalesce(u.published_at, s.created_at) DESC, s.id DESC LIMIT %(limit)s;

-- name: jump_drafts
-- Drafts to jump to, the last touched first.
SELECT d.id, d.headline, d.state, s.headline AS story
FROM drafts d JOIN stories s ON s.id = d.story_id
WHERE d.state NOT IN ('published', 'rejected')
  AND (d.headline ILIKE '%%' || %(like)s::text OR s.headline ILIKE '%%' || %(like)s::text)
ORDER BY d.updated_at DESC LIMIT %(limit)s;
