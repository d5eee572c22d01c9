-- name: story_of_subscription
-- The story that a link names, whether or not anybody follows it.
SELECT s.*, n.slug AS successor FROM stories s LEFT JOIN stories n ON n.id = s.successor_id WHERE s.id = %(story_id)s;

-- name: end_subscription
-- A reader leaves one story, and the one that it was merged into if that is how they came there, and the one that they came
-- from. A subscription that has ended already keeps its first time, and its reason unless its story ended: then nothing, not
-- even a correction, is to come.
WITH RECURSIVE merged AS (
    SELECT story_id, confirmed_at, ended_at FROM subscriptions
    WHERE story_id = %(story_id)s AND subscriber_id = %(subscriber_id)s
    UNION
    SELECT f.story_id, f.confirmed_at, f.ended_at
    FROM merged m JOIN subscriptions f ON f.subscriber_id = %(subscriber_id)s
    JOIN stories s ON s.id IN (m.story_id, f.story_id) AND s.is_merged
                  AND ((s.id = m.story_id AND s.successor_id = f.story_id AND f.confirmed_at = m.ended_at)
                       OR (s.id = f.story_id AND s.successor_id = m.story_id AND f.ended_at = m.confirmed_at))
)
UPDATE subscriptions f SET ended_at = coalesce(f.ended_at, clock_timestamp()), ended_reason = 'reader'
FROM merged
WHERE f.story_id = merged.story_id AND f.subscriber_id = %(subscriber_id)s
  AND (f.ended_at IS NULL OR f.ended_reason IN ('story closed', 'story merged'));

-- name: end_all_subscriptions
-- A reader leaves every story, also those that ended: not even a correction of them is to come.
UPDATE subscriptions SET ended_at = clock_timestamp(), ended_reason = 'reader'
WHERE subscriber_id = %(subscriber_id)s
  AND (ended_at IS NULL OR ended_reason IN ('story closed', 'story merged'));

-- name: resume_subscription
-- A reader takes back their own leaving. Nothing else that ended a subscription is undone, and no story is reopened.
UPDATE subscriptions f SET ended_at = NULL, ended_reason = NULL
FROM stories s
WHERE f.story_id = %(story_id)s AND f.subscriber_id = %(subscriber_id)s AND f.ended_reason = 'reader'
  AND f.confirmed_at IS NOT NULL AND s.id = f.story_id AND s.state = 'developing';

-- name: followed_stories
-- What a subscriber follows, and what they left and may follow again; developing stories first, newest first.
SELECT s.*, n.slug AS successor, n.headline AS successor_headline, f.cadence, f.ended_at, f.channels::text[] AS channels
FROM subscriptions f JOIN stories s ON s.id = f.story_id LEFT JOIN stories n ON n.id = s.successor_id
WHERE f.subscriber_id = %(subscriber_id)s AND f.confirmed_at IS NOT NULL
  AND (f.ended_at IS NULL OR (f.ended_reason = 'reader' AND s.state = 'developing'))
ORDER BY s.state, s.id DESC;

-- name: set_cadence
-- How often a reader wants to hear of a story that they follow.
UPDATE subscriptions SET cadence = %(cadence)s
WHERE story_id = %(story_id)s AND subscriber_id = %(subscriber_id)s
  AND confirmed_at IS NOT NULL AND ended_at IS NULL;

-- name: reader_page
-- Who a reader is, and when they want to hear nothing; a pause that is over is none.
SELECT email, locale, timezone, quiet_from, quiet_to, quiet_breaking,
       CASE WHEN paused_until > clock_timestamp() THEN paused_until END AS paused_until
FROM subscribers WHERE id = %(subscriber_id)s;

-- name: devices_of_reader
-- The browsers of a reader, the oldest first.
SELECT id, name, created_at, last_accepted_at FROM devices WHERE subscriber_id = %(subscriber_id)s ORDER BY id;

-- name: reachable_by
-- By what a reader can be reached.
SELECT r.email IS NOT NULL AS by_email, EXISTS (SELECT FROM devices d WHERE d.subscriber_id = r.id) AS by_webpush
FROM subscribers r WHERE r.id = %(subscriber_id)s;

-- name: set_channels
-- Where a reader wants to hear of a story that they follow.
UPDATE subscriptions SET channels = %(channels)s::channel[]
WHERE story_id = %(story_id)s AND subscriber_id = %(subscriber_id)s
  AND confirmed_at IS NOT NULL AND ended_at IS NULL;

-- name: timezone_of_reader
-- The timezone in which a reader's days begin and end, and this moment.
SELECT timezone, clock_timestamp() AS now FROM subscribers WHERE id = %(subscriber_id)s;

-- name: pause_reader
-- Send nothing before a moment; null: send again.
UPDATE subscribers SET paused_until = %(until)s WHERE id = %(subscriber_id)s;

-- name: set_quiet
-- The hours of a reader's day in which they want to hear nothing.
UPDATE subscribers SET quiet_from = %(quiet_from)s, quiet_to = %(quiet_to)s, quiet_breaking = %(breaking)s,
    timezone = %(timezone)s
WHERE id = %(subscriber_id)s;

-- name: set_language
-- The language in which a reader is written to.
UPDATE subscribers SET locale = %(locale)s WHERE id = %(subscriber_id)s;

-- name: remove_device
-- A reader takes a browser away.
DELETE FROM devices WHERE id = %(device_id)s AND subscriber_id = %(subscriber_id)s;

-- name: without_browsers
-- A reader whose last browser is gone goes on by mail; one without an address follows nothing any more.
UPDATE subscriptions f SET channels = CASE WHEN r.email IS NULL THEN f.channels ELSE '{email}' END,
    ended_at = CASE WHEN r.email IS NULL THEN clock_timestamp() END,
    ended_reason = CASE WHEN r.email IS NULL THEN 'no device' END
FROM subscribers r
WHERE r.id = %(subscriber_id)s AND f.subscriber_id = r.id AND f.ended_at IS NULL
  AND (r.email IS NULL OR f.channels = '{webpush}')
  AND NOT EXISTS (SELECT FROM devices d WHERE d.subscriber_id = r.id);
