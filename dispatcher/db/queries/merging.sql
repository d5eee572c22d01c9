-- name: story_is_going_out
-- Whether anything of a story is still going out, drills aside.
SELECT EXISTS (
    SELECT FROM updates u JOIN blasts b ON b.update_id = u.id
    WHERE u.story_id = %(story_id)s AND u.seq > 0
      AND (b.state IN ('cutting', 'sending', 'paused')
           OR (b.superseded_by IS NOT NULL AND b.done_at IS NULL)));

-- name: merge_outlook
-- What would become of those who follow one story if it were merged into another. Who has left that one stays away.
SELECT count(*) AS followers,
       count(*) FILTER (WHERE t.confirmed_at IS NOT NULL AND t.ended_at IS NULL) AS follow_both,
       count(*) FILTER (WHERE t.ended_at IS NOT NULL) AS have_left
FROM subscriptions f
LEFT JOIN subscriptions t ON t.story_id = %(into_id)s AND t.subscriber_id = f.subscriber_id
WHERE f.story_id = %(story_id)s AND f.confirmed_at IS NOT NULL AND f.ended_at IS NULL;

-- name: stories_to_move
-- Merged stories whose readers have not all been moved yet.
SELECT s.id, s.slug FROM stories s WHERE s.state = 'closed' AND s.released_at IS NULL AND s.is_merged ORDER BY s.id;

-- name: follow_successor
-- These readers of a merged story follow its successor from the moment of the merger on, as they followed it; who follows that
-- already, or has left it, is left as they are. Whoever moves them holds them.
INSERT INTO subscriptions AS t (story_id, subscriber_id, cadence, channels, confirmed_at)
SELECT s.successor_id, f.subscriber_id, f.cadence, f.channels, s.closed_at
FROM subscriptions f JOIN stories s ON s.id = f.story_id
WHERE f.story_id = %(story_id)s AND f.subscriber_id = ANY (%(ids)s::bigint[])
  AND f.confirmed_at IS NOT NULL AND f.ended_at IS NULL
ORDER BY f.subscriber_id
ON CONFLICT (story_id, subscriber_id) DO UPDATE
SET confirmed_at = excluded.confirmed_at, cadence = excluded.cadence, channels = excluded.channels
WHERE t.confirmed_at IS NULL AND t.ended_at IS NULL;

-- name: end_merged
-- These readers do not follow the merged story any more. Its moment is that at which they began to follow the other, so that
-- whoever leaves by a link in an old mail leaves that too.
UPDATE subscriptions f SET ended_at = s.closed_at, ended_reason = 'story merged'
FROM stories s
WHERE s.id = %(story_id)s AND f.story_id = s.id AND f.subscriber_id = ANY (%(ids)s::bigint[]) AND f.ended_at IS NULL;

-- name: count_followers_left
-- How many of a merged story's readers have not been moved yet; of a story that was only closed, none is.
SELECT count(*) FROM subscriptions
WHERE story_id = %(story_id)s AND confirmed_at IS NOT NULL AND ended_at IS NULL
  AND (SELECT is_merged FROM stories WHERE id = %(story_id)s);
