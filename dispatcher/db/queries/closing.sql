-- name: stories_to_release
-- Closed stories whose readers may be let go: nothing of them is going out any more, and what was last sent has expired, so
-- that nobody is tried again either. An update that never seems to expire counts for a week.
SELECT s.id, s.slug FROM stories s
WHERE s.state = 'closed' AND s.released_at IS NULL AND NOT s.is_merged
  AND NOT EXISTS (
    SELECT FROM updates u JOIN blasts b ON b.update_id = u.id
    WHERE u.story_id = s.id AND u.seq > 0
      AND (b.state IN ('cutting', 'sending', 'paused')
           OR (b.superseded_by IS NOT NULL AND b.done_at IS NULL)))
  AND NOT EXISTS (
    SELECT FROM updates u
    WHERE u.story_id = s.id AND u.seq > 0
      AND clock_timestamp() < least(s.closed_at + interval '7 days', coalesce(
        u.expires_at, greatest(u.published_at, u.local_time AT TIME ZONE 'Etc/GMT+12') + %(lifetime)s::interval)))
ORDER BY s.id;

-- name: hold_closed_story
-- Be the only one that sees to the readers of a closed story, until the transaction ends; no row if somebody else is, or if
-- somebody is just beginning to follow it who found it open (`hold_followed_story`): they will be seen the next time.
SELECT id FROM stories WHERE id = %(story_id)s AND released_at IS NULL FOR UPDATE SKIP LOCKED;

-- name: some_followers
-- The next so many readers by their numbers who still follow a story.
SELECT subscriber_id FROM subscriptions
WHERE story_id = %(story_id)s AND subscriber_id > %(after)s AND ended_at IS NULL
ORDER BY subscriber_id LIMIT %(most)s;

-- name: release_readers
-- Their story has ended for these readers.
UPDATE subscriptions SET ended_at = clock_timestamp(), ended_reason = 'story closed'
WHERE story_id = %(story_id)s AND subscriber_id = ANY (%(ids)s::bigint[]) AND ended_at IS NULL;

-- name: finish_release
-- Nobody follows this closed story any more. Touches nothing while somebody does, or readers of a story that was merged into it
-- are still on their way.
UPDATE stories SET released_at = clock_timestamp()
WHERE id = %(story_id)s AND released_at IS NULL
  AND NOT EXISTS (SELECT FROM subscriptions WHERE story_id = %(story_id)s AND ended_at IS NULL)
  AND NOT EXISTS (SELECT FROM stories m WHERE m.successor_id = %(story_id)s AND m.is_merged AND m.released_at IS NULL);
