-- name: read_approval_rule
-- When a second person has to approve; no row while no lead has said so.
SELECT value FROM desk_settings WHERE name = 'approval';

-- name: write_approval_rule
-- Say when a second person has to approve, from now on.
INSERT INTO desk_settings (name, value) VALUES ('approval', %(value)s::text::jsonb)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: may_reach_more
-- Whether more than so many readers follow a story, or were sent what a correction corrects: nobody may follow that story any
-- more. Only then is it worth counting whom an update reaches.
SELECT (SELECT count(*) > %(number)s FROM (
            SELECT FROM subscriptions
            WHERE story_id = %(story_id)s AND confirmed_at IS NOT NULL AND ended_at IS NULL
            LIMIT %(number)s + 1) AS followers)
    OR (SELECT coalesce(sum(o.candidates), 0) + (SELECT count(*) FROM notices n WHERE n.update_id = u.id) > %(number)s
        FROM updates u JOIN blasts b ON b.update_id = u.id JOIN blasts o ON o.id IN (b.id, b.of_blast)
        WHERE u.story_id = %(story_id)s AND u.seq = %(corrects_seq)s::integer GROUP BY u.id);
