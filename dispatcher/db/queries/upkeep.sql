-- name: be_brief
-- Have the server end this transaction, and so its locks, if its client says nothing for so many milliseconds.
SELECT set_config('idle_in_transaction_session_timeout', %(milliseconds)s::integer::text, true);

-- name: try_upkeep
-- Only one worker does the round at a time.
SELECT pg_try_advisory_xact_lock(%(lock)s);

-- name: take_back
-- Free the batches whose lease lapsed, or whose worker's connection has ended: the worker is gone.
UPDATE batches SET state = 'waiting', lease_token = NULL, lease_until = NULL, worker = NULL
WHERE state = 'leased' AND (lease_until < clock_timestamp() OR NOT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND classid = %(class)s::integer AND objid::bigint = worker
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted));

-- name: split_crashing
-- Halve the batches whose workers died on them too often, until the reader who does it is alone.
WITH crashing AS (
    DELETE FROM batches
    WHERE state = 'waiting' AND attempts >= %(most)s AND cardinality(subscriber_ids) > 1
    RETURNING blast_id, urgency, subscriber_ids, retry, created_at, plain, starts_at, cardinality(subscriber_ids) / 2 AS middle
)
INSERT INTO batches (blast_id, urgency, subscriber_ids, retry, created_at, plain, starts_at, attempts, reason)
SELECT blast_id, urgency, half, retry, created_at, plain, starts_at, %(most)s - 1, 'split after its workers died'
FROM crashing, LATERAL (VALUES (subscriber_ids[:middle]), (subscriber_ids[middle + 1:])) AS halves (half);

-- name: bury_poison
-- A reader alone in a batch on which workers still die is given up, with a reason that a person can read. One of those
-- that died may have sent it, so the reader is in doubt, and a correction reaches them.
WITH poison AS (
    UPDATE batches SET state = 'dead', reason = %(reason)s
    WHERE state = 'waiting' AND attempts >= %(most)s AND cardinality(subscriber_ids) = 1
    RETURNING blast_id, subscriber_ids[1] AS subscriber_id
)
INSERT INTO deliveries AS d (blast_id, subscriber_id, recorded_at, state, in_doubt_count, reply)
SELECT blast_id, subscriber_id, clock_timestamp(), 'in_doubt', 1, %(reason)s FROM poison
ON CONFLICT (blast_id, subscriber_id) DO UPDATE
SET state = 'in_doubt', in_doubt_count = greatest(d.in_doubt_count, 1), recorded_at = clock_timestamp(), next_at = NULL,
    reply = excluded.reply
WHERE d.state IN ('deferred', 'in_doubt');

-- name: queue_due
-- Turn readers whose time has come into new batches; those in doubt go last. A batch is newer than what the ledger says
-- of its readers, even if the clock was set back. Readers stay what they were in the batch that was cut for them: who is
-- to get a correction as an update like any other, or at a time of their own day, also is when they are tried again.
-- Rows are found again by where they lie, and batches one blast at a time, or the planner might think it cheaper to read the
-- whole ledger. A row that was written meanwhile lies elsewhere: its turn comes once more, and a second batch with it finds
-- nothing to do.
WITH due AS MATERIALIZED (
    SELECT ctid AS place, blast_id, subscriber_id, recorded_at, state = 'in_doubt' AS doubtful
    FROM deliveries WHERE next_at <= clock_timestamp()
    ORDER BY next_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE deliveries SET next_at = NULL WHERE ctid = ANY (ARRAY(SELECT place FROM due))
), special AS (
    SELECT p.blast_id, unnest(p.subscriber_ids) AS subscriber_id, p.plain, p.starts_at
    FROM batches p
    WHERE p.blast_id = ANY (ARRAY(SELECT DISTINCT blast_id FROM due)) AND NOT p.retry AND (p.plain OR p.starts_at IS NOT NULL)
), sliced AS (
    SELECT blast_id, subscriber_id, recorded_at, doubtful, coalesce(special.plain, false) AS plain, special.starts_at,
           (row_number() OVER (PARTITION BY blast_id, coalesce(special.plain, false), special.starts_at
                               ORDER BY doubtful, subscriber_id) - 1) / %(batch_size)s::integer AS slice
    FROM due LEFT JOIN special USING (blast_id, subscriber_id)
)
INSERT INTO batches (blast_id, urgency, subscriber_ids, retry, plain, starts_at, created_at)
SELECT s.blast_id, b.urgency, array_agg(s.subscriber_id ORDER BY s.doubtful, s.subscriber_id), true, s.plain, s.starts_at,
       greatest(clock_timestamp(), max(s.recorded_at) + interval '1 microsecond')
FROM sliced s JOIN blasts b ON b.id = s.blast_id
GROUP BY s.blast_id, b.urgency, s.plain, s.starts_at, s.slice ORDER BY b.urgency, s.blast_id, s.slice;

-- name: finish_blasts
-- Close every blast in which nobody waits any more. The last line is that of `finish_blast`.
UPDATE blasts SET state = 'done', done_at = clock_timestamp()
WHERE state = 'sending'
  AND NOT EXISTS (SELECT FROM batches WHERE blast_id = blasts.id AND state IN ('waiting', 'leased'))
  AND NOT EXISTS (SELECT FROM deliveries WHERE blast_id = blasts.id AND next_at IS NOT NULL)
  AND steered_at IS NOT DISTINCT FROM (SELECT seen.steered_at FROM blasts seen WHERE seen.id = blasts.id);

-- name: work_waiting
-- The most urgent blast to cut, the most urgent batch to send, how many batches could be claimed now, and whether
-- somebody's ask or notice waits.
SELECT
    (SELECT min(urgency) FROM blasts WHERE state = 'cutting') AS to_cut,
    (SELECT min(b.urgency) FROM batches b JOIN blasts ON blasts.id = b.blast_id
     WHERE b.state = 'waiting' AND b.not_before <= clock_timestamp() AND blasts.state = 'sending') AS to_send,
    (SELECT count(*) FROM (
        SELECT FROM batches b JOIN blasts ON blasts.id = b.blast_id
        WHERE b.state = 'waiting' AND b.not_before <= clock_timestamp() AND blasts.state = 'sending' LIMIT 16
     ) AS claimable) AS batches,
    EXISTS (SELECT FROM blasts WHERE superseded_by IS NOT NULL AND done_at IS NULL) AS superseded,
    EXISTS (SELECT FROM asks) AS asks,
    EXISTS (SELECT FROM notices WHERE next_at <= clock_timestamp() AND lease_token IS NULL) AS notices;

-- name: take_forgetting_turn
-- Take the turn to forget what is old; no row if somebody had it not long ago.
INSERT INTO moments AS m (name, at) VALUES ('forgot', clock_timestamp())
ON CONFLICT (name) DO UPDATE SET at = excluded.at
WHERE m.at <= clock_timestamp() - make_interval(secs => %(every)s);

-- name: forget_confirmations
-- Forget confirmations two days after they expired: until then they count against list bombing.
DELETE FROM confirmations WHERE expires_at < clock_timestamp() - interval '2 days';

-- name: forget_notices
-- Forget what was sent to a reader ninety days ago, as their page says.
DELETE FROM notices WHERE next_at IS NULL AND created_at < clock_timestamp() - interval '90 days';
