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
-- was cancelled may still be refused for now. Who was in the hands of a worker that died is in doubt.
SELECT end_cancelled();

-- name: retry_readers
-- Let the readers of a blast who ended in one of these states be tried again, but not who left or is suppressed. Who
-- may have the message already stays in doubt, and gets one more try. With `dry_run` they are only counted. `version`:
-- of two who choose the same reader at the same time, the second changes nothing, or the reader would be tried twice.
-- `codes` (below zero: none), `statuses` and `words`: only those with one of these answers, where some are given.
SELECT * FROM retry_readers(%(blast_id)s, %(story_id)s, %(states)s::delivery_state[], %(reason)s, %(lowest)s, %(highest)s,
                            %(codes)s::integer[], %(statuses)s::text[], %(words)s::text[], %(most_doubts)s, %(dry_run)s);

-- name: forget_tallies
-- What a blast that was done had been counted to is true no more.
DELETE FROM tallies WHERE blast_id = %(blast_id)s;
