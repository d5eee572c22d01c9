-- name: story_of_subscription
-- The story that a link names, whether or not anybody follows it.
SELECT s.*, n.slug AS successor FROM stories s LEFT JOIN stories n ON n.id = s.successor_id WHERE s.id = %(story_id)s;

-- name: end_subscription
-- A reader leaves one story. A subscription that has ended already keeps its first time and reason.
UPDATE subscriptions SET ended_at = clock_timestamp(), ended_reason = 'reader'
WHERE story_id = %(story_id)s AND subscriber_id = %(subscriber_id)s AND ended_at IS NULL;

-- name: end_all_subscriptions
-- A reader leaves every story.
UPDATE subscriptions SET ended_at = clock_timestamp(), ended_reason = 'reader'
WHERE subscriber_id = %(subscriber_id)s AND ended_at IS NULL;

-- name: resume_subscription
-- A reader takes back their own leaving. Nothing else that ended a subscription is undone, and no story is reopened.
UPDATE subscriptions f SET ended_at = NULL, ended_reason = NULL
FROM stories s
WHERE f.story_id = %(story_id)s AND f.subscriber_id = %(subscriber_id)s AND f.ended_reason = 'reader'
  AND f.confirmed_at IS NOT NULL AND s.id = f.story_id AND s.state = 'developing';

-- name: followed_stories
-- What a subscriber follows, and what they left and may follow again; developing stories first, newest first.
SELECT s.*, n.slug AS successor, n.headline AS successor_headline, f.cadence, f.ended_at
FROM subscriptions f JOIN stories s ON s.id = f.story_id LEFT JOIN stories n ON n.id = s.successor_id
WHERE f.subscriber_id = %(subscriber_id)s AND f.confirmed_at IS NOT NULL
  AND (f.ended_at IS NULL OR (f.ended_reason = 'reader' AND s.state = 'developing'))
ORDER BY s.state, s.id DESC;

-- name: set_cadence
-- How often a reader wants to hear of a story that they follow.
UPDATE subscriptions SET cadence = %(cadence)s
WHERE story_id = %(story_id)s AND subscriber_id = %(subscriber_id)s
  AND confirmed_at IS NOT NULL AND ended_at IS NULL;
