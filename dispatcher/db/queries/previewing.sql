-- name: draft_content
-- What `blast_content` would say of a draft, if it were published now.
SELECT 'email' AS channel, 0 AS update_id, s.id AS story_id,
       (SELECT greatest(max(u.seq), 0) + 1 FROM updates u WHERE u.story_id = s.id) AS seq,
       c.id AS corrects, c.seq AS corrects_seq, c.headline AS corrects_headline, c.published_at AS corrects_at,
       s.slug, s.headline AS story_headline, s.summary AS story_summary, s.state AS story_state,
       s.created_at AS story_created_at, n.slug AS successor, n.headline AS successor_headline,
       ARRAY(SELECT m.headline FROM stories m
             WHERE m.successor_id = s.id AND m.is_merged AND m.closed_at > clock_timestamp() - interval '30 days'
             ORDER BY m.closed_at DESC LIMIT 3) AS merged
FROM stories s
LEFT JOIN updates c ON c.story_id = s.id AND c.seq = %(corrects_seq)s::integer
LEFT JOIN stories n ON n.slug = %(successor)s::text
WHERE s.id = %(story_id)s;

-- name: update_before
-- The newest update of a story, to compare with; drills and what was taken back are none.
SELECT seq, headline, summary, body, published_at FROM updates
WHERE story_id = %(story_id)s AND seq > 0 AND kind <> 'withdrawal' ORDER BY seq DESC LIMIT 1;

-- name: updates_to_correct
-- The newest updates of a story that a correction may name.
SELECT seq, headline, published_at FROM updates
WHERE story_id = %(story_id)s AND seq > 0 AND kind <> 'withdrawal' ORDER BY seq DESC LIMIT %(limit)s;
