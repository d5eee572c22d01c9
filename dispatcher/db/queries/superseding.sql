-- name: supersede_blasts
-- Stop the blasts of an update that are still going out: whoever was not reached gets the update `by` instead. Workers
-- hear it when this is committed. A blast whose audience was never frozen has none.
UPDATE blasts SET state = 'superseded', superseded_by = %(by)s, done_at = NULL, candidates = coalesce(candidates, 0)
WHERE update_id = %(update_id)s AND state IN ('cutting', 'sending', 'paused')
RETURNING id;

-- name: updates_going_out
-- The updates of a story that are still going out, but for corrections and withdrawals: who has the wrong text must get
-- those.
SELECT DISTINCT u.id, u.seq, u.kind, u.importance
FROM updates u JOIN blasts b ON b.update_id = u.id
WHERE u.story_id = %(story_id)s AND u.kind NOT IN ('correction', 'withdrawal') AND u.seq BETWEEN 1 AND %(seq)s - 1
  AND b.state IN ('cutting', 'sending', 'paused');

-- name: update_is_going_out
-- Whether some blast of an update is still going out.
SELECT EXISTS (SELECT FROM blasts WHERE update_id = %(update_id)s
               AND (state IN ('cutting', 'sending', 'paused') OR (state = 'superseded' AND done_at IS NULL)));

-- name: blasts_to_correct
-- The blasts of an update, whose readers a correction goes to, oldest first. A correction that was stopped before its own
-- audience was frozen has reached nobody: who has the wrong text is still to be found in the blast that it was for.
SELECT CASE WHEN frozen_at IS NULL THEN coalesce(of_blast, id) ELSE id END AS id, channel
FROM blasts WHERE update_id = %(update_id)s ORDER BY id;

-- name: pushes_to_withdraw
-- The push blasts of an update that may have reached somebody: their audience was frozen.
SELECT id FROM blasts WHERE update_id = %(update_id)s AND channel = 'webpush' AND frozen_at IS NOT NULL ORDER BY id;

-- name: is_withdrawn
-- Whether an update was taken back.
SELECT EXISTS (SELECT FROM updates WHERE corrects = %(update_id)s AND kind = 'withdrawal');

-- name: settle_superseded
-- Write down for some of the readers who were not reached by a superseded blast that they get another instead. A batch
-- on which a worker died may have reached some of them: they are in doubt. Batches that are with a worker are not here:
-- what is on its way is answered first, or the worker's lease ends.
WITH closed AS (
    UPDATE batches SET state = 'done', reason = 'a later update took its place'
    WHERE id IN (
        SELECT b.id FROM batches b JOIN blasts ON blasts.id = b.blast_id
        WHERE blasts.superseded_by IS NOT NULL AND blasts.done_at IS NULL AND b.state = 'waiting'
        ORDER BY b.id LIMIT %(most)s FOR UPDATE OF b SKIP LOCKED)
    RETURNING blast_id, subscriber_ids, attempts > 0 AS is_doubtful
), readers AS (
    SELECT c.blast_id, unnest(c.subscriber_ids) AS subscriber_id, c.is_doubtful, u.kind = 'withdrawal' AS is_withdrawn
    FROM closed c JOIN blasts b ON b.id = c.blast_id JOIN updates u ON u.id = b.superseded_by
), written AS (
    INSERT INTO deliveries AS d (blast_id, subscriber_id, recorded_at, state, in_doubt_count, reply)
    SELECT blast_id, subscriber_id, clock_timestamp(),
           CASE WHEN is_doubtful THEN 'in_doubt' ELSE 'superseded' END::delivery_state, is_doubtful::integer,
           CASE WHEN is_doubtful THEN 'its worker died while it may have been sent'
                WHEN is_withdrawn THEN 'the update was withdrawn' ELSE 'a later update took its place' END
    FROM readers
    -- Who was refused before may have been tried again by the worker that died.
    ON CONFLICT (blast_id, subscriber_id) DO UPDATE
    SET next_at = NULL, state = CASE d.state WHEN 'deferred' THEN excluded.state ELSE d.state END,
        in_doubt_count = greatest(d.in_doubt_count, excluded.in_doubt_count)
    WHERE d.state IN ('deferred', 'in_doubt')
)
SELECT count(*) AS batches FROM closed;

-- name: settle_superseded_retries
-- Whoever a superseded blast would have tried again is not: deferred readers get the other update, and who is in doubt
-- stays so.
UPDATE deliveries d SET next_at = NULL, state = CASE d.state WHEN 'deferred' THEN 'superseded' ELSE d.state END
WHERE d.next_at IS NOT NULL AND d.state IN ('deferred', 'in_doubt') AND d.blast_id IN (
    SELECT id FROM blasts WHERE superseded_by IS NOT NULL AND done_at IS NULL);

-- name: finish_superseded
-- A superseded blast is settled when no batch of it is open, and nobody in it would be tried again.
UPDATE blasts SET done_at = clock_timestamp()
WHERE superseded_by IS NOT NULL AND done_at IS NULL
  AND NOT EXISTS (SELECT FROM batches WHERE blast_id = blasts.id AND state IN ('waiting', 'leased'))
  AND NOT EXISTS (SELECT FROM deliveries WHERE blast_id = blasts.id AND next_at IS NOT NULL);

-- name: superseded_open
-- How many superseded blasts are not settled yet.
SELECT count(*) FROM blasts WHERE superseded_by IS NOT NULL AND done_at IS NULL;

-- name: stop_drills
-- Nobody rehearses any more what has happened: drills end as soon as their story has an update that is newer. One whose
-- audience is being frozen at this moment is left to the reconciler, so that nobody who publishes waits for it.
UPDATE blasts SET state = 'cancelled', steered_at = clock_timestamp(), steered_by = (
    SELECT n.published_by FROM updates d JOIN updates n USING (story_id)
    WHERE d.id = blasts.update_id AND n.seq > 0 ORDER BY n.seq DESC LIMIT 1)
WHERE id IN (
    SELECT b.id FROM blasts b JOIN updates d ON d.id = b.update_id
    WHERE b.is_drill AND b.state IN ('cutting', 'sending', 'paused') AND EXISTS (
        SELECT FROM updates n WHERE n.story_id = d.story_id AND n.seq > 0 AND n.published_at > d.published_at)
    FOR UPDATE OF b SKIP LOCKED);
