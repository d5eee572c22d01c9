-- name: lock_blast
-- One blast, held until the transaction ends, so that it is steered by one at a time; batches may still be added to it.
SELECT b.id, b.state, b.candidates, b.urgency, u.story_id, u.published_at, u.expires_at, clock_timestamp() AS now,
       u.local_time, b.is_drill, b.channel::text AS channel, u.seq, s.slug,
       EXISTS (SELECT FROM updates c WHERE c.corrects = u.id AND c.seq > 0) AS is_corrected
FROM blasts b JOIN updates u ON u.id = b.update_id JOIN stories s ON s.id = u.story_id
WHERE b.id = %(blast_id)s
FOR NO KEY UPDATE OF b;

-- name: steer_blast
-- Put a blast into another state, and keep who did that; one that is open is not done.
UPDATE blasts SET state = %(state)s, done_at = NULL, steered_by = %(by)s, steered_at = clock_timestamp()
WHERE id = %(blast_id)s;

-- name: end_cancelled
-- Let nothing of a cancelled blast wait any more: batches that came back are closed, and who would have been tried
-- again is given up: all of them in the first minute, later whoever is due. A message that was on its way when the blast
-- was cancelled may still be refused for now.
WITH closed AS (
    UPDATE batches SET state = 'done', reason = 'the blast was cancelled'
    WHERE state = 'waiting' AND blast_id IN (SELECT id FROM blasts WHERE state = 'cancelled')
    RETURNING blast_id, subscriber_ids, retry
), given_up AS (
    SELECT blast_id, unnest(subscriber_ids) AS subscriber_id FROM closed WHERE retry
    UNION
    SELECT blast_id, subscriber_id FROM deliveries
    WHERE next_at IS NOT NULL AND blast_id IN (
        SELECT id FROM blasts WHERE state = 'cancelled' AND steered_at > clock_timestamp() - interval '1 minute')
    UNION
    SELECT blast_id, subscriber_id FROM deliveries
    WHERE next_at <= clock_timestamp() AND blast_id IN (SELECT id FROM blasts WHERE state = 'cancelled')
)
UPDATE deliveries d SET next_at = NULL,
    state = CASE d.state WHEN 'deferred' THEN 'failed' ELSE d.state END,
    reply = CASE d.state
        WHEN 'deferred' THEN 'cancelled before the next try; before: ' || coalesce(nullif(d.reply, ''), 'no reply')
        ELSE d.reply END
FROM given_up g
WHERE d.blast_id = g.blast_id AND d.subscriber_id = g.subscriber_id AND d.state IN ('deferred', 'in_doubt');

-- name: retry_readers
-- Let the readers of a blast who ended in one of these states be tried again, but not who left or is suppressed. Who
-- may have the message already stays in doubt, and gets one more try. With `dry_run` they are only counted. `version`:
-- of two who choose the same reader at the same time, the second changes nothing, or the reader would be tried twice.
WITH chosen AS (
    SELECT d.subscriber_id, d.xmin AS version,
           (s.email IS NOT NULL OR v.id IS NOT NULL) AND f.subscriber_id IS NOT NULL AND x.address_hash IS NULL
               AS reachable
    FROM deliveries d
    LEFT JOIN devices v ON v.id = d.subscriber_id
    LEFT JOIN subscribers s ON s.id = coalesce(v.subscriber_id, d.subscriber_id)
    LEFT JOIN subscriptions f
           ON f.story_id = %(story_id)s AND f.subscriber_id = s.id
          AND (f.ended_at IS NULL OR f.ended_reason IN ('story closed', 'story merged'))
    LEFT JOIN suppressions x ON x.address_hash = s.address_hash
    WHERE d.blast_id = %(blast_id)s AND d.state = ANY (%(states)s::delivery_state[]) AND d.state <> 'accepted'
      AND d.next_at IS NULL
      AND (%(reason)s::text IS NULL OR coalesce(nullif(d.reply, ''), d.state::text) = %(reason)s)
      AND (%(lowest)s::integer IS NULL OR d.code BETWEEN %(lowest)s AND %(highest)s)
      AND NOT (d.state = 'in_doubt' AND d.subscriber_id IN (
          SELECT unnest(subscriber_ids) FROM batches
          WHERE blast_id = %(blast_id)s AND retry AND state IN ('waiting', 'leased')))
), tried AS (
    UPDATE deliveries d SET next_at = clock_timestamp(), attempts = 0,
        state = CASE WHEN d.in_doubt_count > 0 THEN 'in_doubt' ELSE 'deferred' END::delivery_state,
        in_doubt_count = least(d.in_doubt_count, %(most_doubts)s)
    FROM chosen c
    WHERE NOT %(dry_run)s AND c.reachable
      AND d.blast_id = %(blast_id)s AND d.subscriber_id = c.subscriber_id AND d.xmin = c.version
    RETURNING 1
)
SELECT CASE WHEN %(dry_run)s THEN count(*) FILTER (WHERE reachable) ELSE (SELECT count(*) FROM tried) END AS count,
       count(*) FILTER (WHERE NOT reachable) AS left_out
FROM chosen;

-- name: forget_tallies
-- What a blast that was done had been counted to is true no more.
DELETE FROM tallies WHERE blast_id = %(blast_id)s;
