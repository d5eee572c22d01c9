-- name: read_approval_rule
-- When a second person has to approve; no row while no lead has said so.
SELECT value FROM desk_settings WHERE name = 'approval';

-- name: write_approval_rule
-- Say when a second person has to approve, from now on.
INSERT INTO desk_settings (name, value) VALUES ('approval', %(value)s::text::jsonb)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: has_more_followers
-- Whether more than so many readers follow a story: only then is it worth counting whom an update reaches.
SELECT count(*) > %(number)s FROM (
    SELECT FROM subscriptions
    WHERE story_id = %(story_id)s AND confirmed_at IS NOT NULL AND ended_at IS NULL
    LIMIT %(number)s + 1) AS followers;
