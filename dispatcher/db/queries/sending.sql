-- name: cut_next
-- Freeze the audience of the most urgent blast that has none yet: its batches and their counts, all in one statement.
-- Who follows the story at the moment of publishing is in; who confirmed later is not. An update for a time of the
-- reader's own day has batches for each zone, which wait for that time there; where it is past, they do not wait. Readers
-- of a story that was merged into this one before are waited for while they are moved, but not longer than two minutes.
WITH blast AS (
    SELECT b.id, b.urgency, b.channel, u.story_id, u.published_at, u.local_time,
           u.importance = 'routine' AND u.kind = 'update' AS is_minor
    FROM blasts b JOIN updates u ON u.id = b.update_id
    WHERE b.state = 'cutting' AND b.of_blast IS NULL AND b.urgency <= %(urgency)s AND b.is_drill = %(drills)s
      AND NOT EXISTS (
        SELECT FROM stories m
        WHERE m.successor_id = u.story_id AND m.is_merged AND m.released_at IS NULL
          AND m.closed_at BETWEEN clock_timestamp() - interval '2 minutes' AND u.published_at)
    ORDER BY b.urgency, b.id LIMIT 1
    FOR UPDATE OF b SKIP LOCKED
), zones AS (
    SELECT z.name, blast.local_time AT TIME ZONE z.name AS at
    FROM blast, pg_timezone_names z WHERE blast.local_time IS NOT NULL
), audience AS (
    -- One sorted array that is sliced: half the time of numbering a million rows and grouping them.
    SELECT NULL::timestamptz AS starts_at, array_agg(id) AS ids FROM (
        SELECT a.subscriber_id AS id
        FROM blast, mail_audience(blast.story_id, blast.published_at, blast.is_minor) AS a
        WHERE blast.channel = 'email' AND blast.local_time IS NULL
        UNION ALL
        SELECT a.device_id
        FROM blast, push_audience(blast.story_id, blast.published_at, blast.is_minor) AS a
        WHERE blast.channel = 'webpush' AND blast.local_time IS NULL
        ORDER BY id) AS followers
    UNION ALL
    SELECT clocked.starts_at, array_agg(clocked.id ORDER BY clocked.id) FROM (
        SELECT f.id, greatest(blast.published_at, coalesce(z.at, blast.local_time AT TIME ZONE 'UTC')) AS starts_at
        FROM blast CROSS JOIN (
            SELECT a.subscriber_id AS id, a.subscriber_id
            FROM blast, mail_audience(blast.story_id, blast.published_at, blast.is_minor) AS a
            WHERE blast.channel = 'email' AND blast.local_time IS NOT NULL
            UNION ALL
            SELECT a.device_id, a.subscriber_id
            FROM blast, push_audience(blast.story_id, blast.published_at, blast.is_minor) AS a
            WHERE blast.channel = 'webpush' AND blast.local_time IS NOT NULL) AS f
        JOIN subscribers s ON s.id = f.subscriber_id
        LEFT JOIN zones z ON z.name = s.timezone) AS clocked
    GROUP BY clocked.starts_at
), cut AS (
    INSERT INTO batches (blast_id, urgency, subscriber_ids, starts_at, not_before)
    SELECT blast.id, blast.urgency, audience.ids[first : first + %(batch_size)s::integer - 1], audience.starts_at,
           coalesce(audience.starts_at, '-infinity')
    FROM blast, audience, generate_series(1, cardinality(audience.ids), %(batch_size)s::integer) AS first
    ORDER BY audience.starts_at, first
    RETURNING cardinality(subscriber_ids) AS size
), total AS (
    SELECT coalesce(sum(size), 0)::integer AS candidates, count(*)::integer AS batches FROM cut
)
UPDATE blasts SET candidates = total.candidates, frozen_at = clock_timestamp(),
    state = CASE WHEN total.candidates = 0 THEN 'done' ELSE 'sending' END::blast_state,
    done_at = CASE WHEN total.candidates = 0 THEN clock_timestamp() END
FROM blast, total WHERE blasts.id = blast.id
RETURNING blasts.id, blasts.urgency, total.candidates, total.batches;

-- name: cut_correction
-- Freeze the audience of the most urgent correction that has none yet: exactly those who received what it corrects, or may
-- have, and whoever it had not reached when its blast was stopped. The latter get the right text as an update like any
-- other (`plain`), unless what is corrected was a correction itself: then they hold the first wrong text; and at the time
-- of their own day that they would have had it, if there was one. Waits until everybody in the stopped blast has an
-- outcome, and nothing of a cancelled one, nor a mail that catches somebody up, is on its way any more. Of a blast that was
-- stopped before its audience was frozen, whoever would have been in it. A withdrawal tells nobody anything who does not
-- have what it withdraws, nor a device that has shown something later since which still holds: it would hide that.
WITH blast AS (
    SELECT b.id, b.urgency, b.channel, b.of_blast, w.id AS wrong_id, w.seq AS wrong_seq, w.kind, w.published_at, w.story_id,
           u.published_at AS now, u.local_time, u.kind = 'withdrawal' AS is_withdrawal,
           w.importance = 'routine' AND w.kind = 'update' AS is_minor,
           o.superseded_by IS NOT NULL AND o.frozen_at IS NULL AS was_never_cut
    FROM blasts b JOIN updates u ON u.id = b.update_id
    JOIN blasts o ON o.id = b.of_blast JOIN updates w ON w.id = o.update_id
    WHERE b.state = 'cutting' AND b.urgency <= %(urgency)s AND b.is_drill = %(drills)s
      AND (o.superseded_by IS NULL OR o.done_at IS NOT NULL)
      AND NOT (o.state = 'cancelled'
               AND EXISTS (SELECT FROM batches p WHERE p.blast_id = o.id AND p.state IN ('waiting', 'leased')))
      AND NOT (b.channel = 'email' AND EXISTS (
        SELECT FROM notices n WHERE n.update_id = w.id AND n.kind = 'catch_up' AND n.lease_token IS NOT NULL))
    ORDER BY b.urgency, b.id LIMIT 1
    FOR UPDATE OF b SKIP LOCKED
), told AS (
    SELECT d.subscriber_id AS id, d.state = 'superseded' AS unreached
    FROM blast JOIN deliveries d ON d.blast_id = blast.of_blast
    -- Who was refused for good in the end may have been reached by a try before, if that was in doubt.
    WHERE d.state IN ('accepted', 'in_doubt', 'superseded') OR (d.state = 'failed' AND d.in_doubt_count > 0)
), plain AS (
    SELECT unnest(p.subscriber_ids) AS id
    FROM blast JOIN batches p ON p.blast_id = blast.of_blast
    WHERE blast.kind = 'correction' AND p.plain
), later AS MATERIALIZED (
    SELECT p.id
    FROM blast JOIN updates l ON l.story_id = blast.story_id AND l.seq > blast.wrong_seq
    JOIN blasts p ON p.update_id = l.id AND p.channel = blast.channel
    WHERE blast.is_withdrawal AND l.kind <> 'withdrawal'
      AND NOT EXISTS (SELECT FROM updates t WHERE t.corrects = l.id AND t.kind = 'withdrawal')
), readers AS (
    SELECT told.id, told.unreached AND (blast.kind <> 'correction' OR told.id IN (SELECT id FROM plain)) AS plain
    FROM blast, told
    WHERE NOT (blast.is_withdrawal AND (told.unreached OR EXISTS (
        SELECT FROM later JOIN deliveries e ON e.blast_id = later.id AND e.subscriber_id = told.id
        WHERE e.state = 'accepted')))
    UNION ALL
    SELECT DISTINCT n.subscriber_id, false
    FROM blast JOIN notices n ON n.update_id = blast.wrong_id
    WHERE blast.channel = 'email' AND n.kind = 'catch_up'
      AND (n.state IN ('accepted', 'in_doubt') OR n.in_doubt_count > 0 OR n.claims > 0)  -- by a worker that died with it
      AND n.subscriber_id NOT IN (SELECT id FROM told)
    UNION ALL
    SELECT a.subscriber_id, true
    FROM blast, mail_audience(blast.story_id, blast.published_at, blast.is_minor) AS a
    WHERE blast.was_never_cut AND NOT blast.is_withdrawal AND blast.channel = 'email'
    UNION ALL
    SELECT a.device_id, true
    FROM blast, push_audience(blast.story_id, blast.published_at, blast.is_minor) AS a
    WHERE blast.was_never_cut AND NOT blast.is_withdrawal AND blast.channel = 'webpush'
), zones AS (
    SELECT z.name, blast.local_time AT TIME ZONE z.name AS at
    FROM blast, pg_timezone_names z WHERE blast.local_time IS NOT NULL
), timed AS (
    SELECT r.id, r.plain, NULL::timestamptz AS starts_at
    FROM blast, readers r WHERE NOT r.plain OR blast.local_time IS NULL
    UNION ALL
    SELECT r.id, r.plain, greatest(blast.now, coalesce(z.at, blast.local_time AT TIME ZONE 'UTC'))
    FROM blast CROSS JOIN readers r
    LEFT JOIN devices v ON v.id = r.id LEFT JOIN subscribers s ON s.id = coalesce(v.subscriber_id, r.id)
    LEFT JOIN zones z ON z.name = s.timezone
    WHERE r.plain AND blast.local_time IS NOT NULL
), audience AS (
    SELECT plain, starts_at, array_agg(id ORDER BY id) AS ids FROM timed GROUP BY plain, starts_at
), cut AS (
    INSERT INTO batches (blast_id, urgency, subscriber_ids, plain, starts_at, not_before)
    SELECT blast.id, blast.urgency, audience.ids[first : first + %(batch_size)s::integer - 1], audience.plain,
           audience.starts_at, coalesce(audience.starts_at, '-infinity')
    FROM blast, audience, generate_series(1, cardinality(audience.ids), %(batch_size)s::integer) AS first
    ORDER BY audience.plain, audience.starts_at, first
    RETURNING cardinality(subscriber_ids) AS size
), total AS (
    SELECT coalesce(sum(size), 0)::integer AS candidates, count(*)::integer AS batches FROM cut
)
UPDATE blasts SET candidates = total.candidates, frozen_at = clock_timestamp(),
    state = CASE WHEN total.candidates = 0 THEN 'done' ELSE 'sending' END::blast_state,
    done_at = CASE WHEN total.candidates = 0 THEN clock_timestamp() END
FROM blast, total WHERE blasts.id = blast.id
RETURNING blasts.id, blasts.urgency, total.candidates, total.batches;

-- name: claim_batch
-- Claim the most urgent batch that is free: a lease on the database's clock, with a fencing token. `channels` are those
-- on which this worker can send, each with the least urgency that it still takes there; drills, on whichever channel, are
-- for the one that is called `drill`. One on which workers have died
-- before is claimed only by a worker that holds nothing else, so that nobody else is blamed; while one waits, nothing
-- less urgent is claimed, or no worker might ever hold nothing. A worker that does not hold its lock any more, and may
-- not have noticed yet, claims nothing: it would be taken back from it at once.
WITH open AS (
    SELECT * FROM unnest(%(channels)s::text[], %(limits)s::smallint[]) AS o (channel, least)
)
UPDATE batches SET state = 'leased', attempts = attempts + 1, worker = %(worker)s,
    lease_token = nextval('lease_tokens'), lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
WHERE id = (
    SELECT first.id FROM (
        SELECT b.id, b.urgency FROM batches b JOIN blasts ON blasts.id = b.blast_id
        JOIN open ON open.channel = CASE WHEN blasts.is_drill THEN 'drill' ELSE blasts.channel::text END
        WHERE b.state = 'waiting' AND b.urgency <= open.least AND b.urgency <= %(urgency)s
          AND b.not_before <= clock_timestamp()
          AND blasts.state = 'sending' AND (b.attempts < %(suspect)s OR %(alone)s)
        ORDER BY b.urgency, b.blast_id, b.id LIMIT 1
        FOR UPDATE OF b SKIP LOCKED) AS first
    WHERE (%(alone)s OR NOT EXISTS (
        SELECT FROM batches b JOIN blasts ON blasts.id = b.blast_id
        JOIN open ON open.channel = CASE WHEN blasts.is_drill THEN 'drill' ELSE blasts.channel::text END
        WHERE b.state = 'waiting' AND b.urgency < first.urgency AND b.not_before <= clock_timestamp()
          AND blasts.state = 'sending' AND b.attempts >= %(suspect)s))
      AND EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 2 AND classid = %(class)s::integer AND objid::bigint = %(worker)s
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted)
)
RETURNING id, blast_id, urgency, subscriber_ids, retry, plain, starts_at, lease_token, attempts, created_at,
    clock_timestamp() AS claimed_when,
    (SELECT s.in_doubt FROM blasts JOIN updates u ON u.id = blasts.update_id JOIN stories s ON s.id = u.story_id
     WHERE blasts.id = batches.blast_id) AS in_doubt,
    (SELECT channel FROM blasts WHERE blasts.id = batches.blast_id) AS channel,
    (SELECT is_drill FROM blasts WHERE blasts.id = batches.blast_id) AS is_drill;

-- name: blast_content
-- Everything about a blast that its letters and its policy need. A drill shows the number that the real thing would have.
-- `merged`: stories whose readers came to this one within a month.
SELECT b.channel, u.id AS update_id, u.story_id, u.kind,
       CASE WHEN b.is_drill THEN (SELECT greatest(max(p.seq), 0) + 1 FROM updates p WHERE p.story_id = u.story_id)
            ELSE u.seq END AS seq, u.importance, u.headline, u.summary, u.body, u.published_at,
       u.expires_at, u.corrects, c.seq AS corrects_seq, c.headline AS corrects_headline,
       c.published_at AS corrects_at, s.slug, s.headline AS story_headline, s.summary AS story_summary,
       s.state AS story_state, s.created_at AS story_created_at, n.slug AS successor, n.headline AS successor_headline,
       ARRAY(SELECT m.headline FROM stories m
             WHERE m.successor_id = s.id AND m.is_merged AND m.closed_at > u.published_at - interval '30 days'
             ORDER BY m.closed_at DESC LIMIT 3) AS merged
FROM blasts b JOIN updates u ON u.id = b.update_id JOIN stories s ON s.id = u.story_id
LEFT JOIN stories n ON n.id = s.successor_id AND u.kind = 'final'
LEFT JOIN updates c ON c.id = u.corrects
WHERE b.id = %(blast_id)s;

-- name: earlier_updates
-- The updates before a given one, newest first, without those that were corrected or withdrawn by the update `known`: whoever
-- never saw the wrong words is not to see them in a list either.
SELECT u.seq, u.headline, u.summary, u.published_at, u.kind, u.importance, false AS corrected
FROM updates u WHERE u.story_id = %(story_id)s AND u.seq > 0 AND u.seq < %(before)s
  AND NOT EXISTS (SELECT FROM updates c WHERE c.corrects = u.id AND c.seq BETWEEN 1 AND %(known)s)
ORDER BY u.seq DESC LIMIT %(limit)s;

-- name: count_earlier
-- How many updates there are before a given one that were not corrected or withdrawn by the update `known`.
SELECT count(*)::integer FROM updates u
WHERE u.story_id = %(story_id)s AND u.seq > 0 AND u.seq < %(before)s
  AND NOT EXISTS (SELECT FROM updates c WHERE c.corrects = u.id AND c.seq BETWEEN 1 AND %(known)s);

-- name: newest_correction
-- The newest update that corrects or withdraws one before a given one; that one itself where none is newer.
SELECT greatest(max(c.seq), %(before)s)::integer
FROM updates c JOIN updates u ON u.id = c.corrects
WHERE c.story_id = %(story_id)s AND c.seq > %(before)s AND u.seq BETWEEN 1 AND %(before)s - 1;

-- name: running_blasts
-- Blasts of earlier updates of a story on this channel whose batches may not have told yet whom they reached.
SELECT b.id, u.seq FROM blasts b JOIN updates u ON u.id = b.update_id
WHERE u.story_id = %(story_id)s AND u.seq > 0 AND u.seq < %(seq)s AND b.channel = %(channel)s::channel
  AND (b.done_at IS NULL OR b.done_at > clock_timestamp() - interval '15 minutes')
ORDER BY u.seq DESC LIMIT %(limit)s;

-- name: load_recipients
-- The readers of a batch in its frozen order, with all that decides whether and how each is written to. `is_older`:
-- the ledger says nothing that is newer than the batch, so a batch of retries still owes this reader its try. `last_seq`:
-- the newest update that the reader received, also by a blast that is running still. Each
-- table is narrowed to the batch by itself: joined as a whole, the ledger of a large blast would be read again and again.
-- `has_left`: of their own will; whose story ended still gets corrections of what they received.
-- `load_devices` gives the same columns, and some more.
SELECT ids.id, s.email, s.name, s.locale, s.timezone, f.confirmed_at,
       (f.subscriber_id IS NULL
        OR (f.ended_at IS NOT NULL AND f.ended_reason NOT IN ('story closed', 'story merged'))) AS has_left,
       x.reason AS suppressed_because,
       d.state::text AS state, coalesce(d.attempts, 0) AS attempts, coalesce(d.in_doubt_count, 0) AS in_doubt_count,
       coalesce(d.recorded_at < %(since)s, true) AS is_older, f.cadence::text AS cadence,
       clock_timestamp() >= %(expires_at)s AS is_expired,
       coalesce(s.paused_until > clock_timestamp(), false) AS is_paused, s.quiet_from, s.quiet_to, s.quiet_breaking,
       greatest(f.last_seq, (SELECT max(p.seq) FROM unnest(%(running)s::bigint[], %(seqs)s::integer[]) AS p (blast_id, seq)
                             WHERE EXISTS (SELECT FROM deliveries e WHERE e.blast_id = p.blast_id
                                           AND e.subscriber_id = ids.id AND e.state = 'accepted')), 0) AS last_seq
FROM unnest(%(ids)s::bigint[]) WITH ORDINALITY AS ids (id, place)
LEFT JOIN (SELECT * FROM subscribers WHERE id = ANY (%(ids)s::bigint[])) s ON s.id = ids.id
LEFT JOIN (SELECT * FROM subscriptions WHERE story_id = %(story_id)s AND subscriber_id = ANY (%(ids)s::bigint[])) f
       ON f.subscriber_id = ids.id
LEFT JOIN suppressions x ON x.address_hash = s.address_hash
LEFT JOIN (SELECT * FROM deliveries WHERE blast_id = %(blast_id)s AND subscriber_id = ANY (%(ids)s::bigint[])) d
       ON d.subscriber_id = ids.id
ORDER BY ids.place;

-- name: load_devices
-- The devices of a push batch in its frozen order, as `load_recipients` loads readers: the wishes are those of the reader
-- whose device it is, and where that has an address the address does not matter here.
SELECT ids.id, v.endpoint AS email, '' AS name, s.locale, s.timezone, f.confirmed_at,
       (f.subscriber_id IS NULL OR NOT 'webpush' = ANY (f.channels)
        OR (f.ended_at IS NOT NULL AND f.ended_reason NOT IN ('story closed', 'story merged'))) AS has_left,
       NULL::text AS suppressed_because,
       d.state::text AS state, coalesce(d.attempts, 0) AS attempts, coalesce(d.in_doubt_count, 0) AS in_doubt_count,
       coalesce(d.recorded_at < %(since)s, true) AS is_older, f.cadence::text AS cadence,
       clock_timestamp() >= %(expires_at)s AS is_expired,
       coalesce(s.paused_until > clock_timestamp(), false) AS is_paused, s.quiet_from, s.quiet_to, s.quiet_breaking,
       greatest(f.last_seq, (SELECT max(p.seq) FROM unnest(%(running)s::bigint[], %(seqs)s::integer[]) AS p (blast_id, seq)
                             WHERE EXISTS (SELECT FROM deliveries e WHERE e.blast_id = p.blast_id
                                           AND e.subscriber_id = ids.id AND e.state = 'accepted')), 0) AS last_seq,
       coalesce(v.subscriber_id, 0) AS subscriber_id, v.public_key, v.auth_secret
FROM unnest(%(ids)s::bigint[]) WITH ORDINALITY AS ids (id, place)
LEFT JOIN (SELECT * FROM devices WHERE id = ANY (%(ids)s::bigint[])) v ON v.id = ids.id
LEFT JOIN subscribers s ON s.id = v.subscriber_id
LEFT JOIN subscriptions f ON f.story_id = %(story_id)s AND f.subscriber_id = v.subscriber_id
LEFT JOIN (SELECT * FROM deliveries WHERE blast_id = %(blast_id)s AND subscriber_id = ANY (%(ids)s::bigint[])) d
       ON d.subscriber_id = ids.id
ORDER BY ids.place;

-- name: record
-- Write a group of outcomes. An outcome that is final is never overwritten by a later one, but for an acceptance that
-- comes after the reader was given up: the relay has the message. Only the worker that was in doubt may take its doubt
-- back (`note_refused_late`): the same try may have been made by two.
INSERT INTO deliveries AS d (blast_id, subscriber_id, recorded_at, next_at, state, attempts, in_doubt_count,
                             code, relay, reply)
SELECT o.blast_id, o.subscriber_id, clock_timestamp(), clock_timestamp() + make_interval(secs => o.retry_in),
       o.state, o.attempts, o.in_doubt_count, o.code, o.relay, o.reply
FROM unnest(%(blasts)s::bigint[], %(subscribers)s::bigint[], %(states)s::delivery_state[], %(attempts)s::smallint[],
            %(in_doubt)s::smallint[], %(retry_in)s::float8[], %(codes)s::smallint[], %(relays)s::text[],
            %(replies)s::text[])
     AS o (blast_id, subscriber_id, state, attempts, in_doubt_count, retry_in, code, relay, reply)
ON CONFLICT (blast_id, subscriber_id) DO UPDATE
SET recorded_at = excluded.recorded_at, next_at = excluded.next_at,
    state = CASE WHEN excluded.state = 'deferred' AND d.in_doubt_count > 0 THEN 'in_doubt' ELSE excluded.state END,
    attempts = excluded.attempts, in_doubt_count = greatest(excluded.in_doubt_count, d.in_doubt_count),
    code = excluded.code, relay = excluded.relay, reply = excluded.reply
WHERE d.state IN ('deferred', 'in_doubt')
   OR (excluded.state = 'accepted' AND d.state IN ('failed', 'expired', 'superseded'));

-- name: suppress_bad_addresses
-- Never write again to readers whose address is none.
INSERT INTO suppressions (address_hash, reason)
SELECT s.address_hash, b.reason
FROM unnest(%(ids)s::bigint[], %(reasons)s::text[]) AS b (id, reason) JOIN subscribers s ON s.id = b.id
WHERE s.address_hash IS NOT NULL
ON CONFLICT DO NOTHING;

-- name: moved_devices
-- Those of these devices that were given another endpoint meanwhile: they are not gone.
SELECT v.id FROM unnest(%(ids)s::bigint[], %(endpoints)s::text[]) AS r (id, endpoint)
JOIN devices v ON v.id = r.id AND v.endpoint <> r.endpoint;

-- name: remove_gone_devices
-- The push service says that these devices are no more. A reader who has none left goes on by mail; one without an
-- address follows no longer. A device that was given another endpoint meanwhile is still there.
WITH gone AS (
    DELETE FROM devices v USING unnest(%(ids)s::bigint[], %(endpoints)s::text[]) AS r (id, endpoint)
    WHERE v.id = r.id AND v.endpoint = r.endpoint RETURNING v.id, v.subscriber_id
)
UPDATE subscriptions f SET channels = CASE WHEN s.email IS NULL THEN f.channels ELSE '{email}' END,
    ended_at = CASE WHEN s.email IS NULL THEN clock_timestamp() END,
    ended_reason = CASE WHEN s.email IS NULL THEN 'device gone' END
FROM subscribers s
WHERE s.id IN (SELECT subscriber_id FROM gone) AND f.subscriber_id = s.id AND f.ended_at IS NULL
  AND (s.email IS NULL OR f.channels = '{webpush}')
  AND NOT EXISTS (SELECT FROM devices d WHERE d.subscriber_id = s.id AND d.id NOT IN (SELECT id FROM gone));

-- name: renew_leases
-- Prolong the leases that this worker still holds, and say which those are.
UPDATE batches SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
WHERE state = 'leased' AND lease_token = ANY (%(tokens)s::bigint[])
RETURNING lease_token;

-- name: finish_batch
-- The batch is through: every reader in it has a row in the ledger. Touches nothing if the lease was lost.
UPDATE batches SET state = 'done', lease_token = NULL, lease_until = NULL, worker = NULL, attempts = 0
WHERE id = %(batch_id)s AND lease_token = %(token)s;

-- name: note_received
-- Readers of a batch who received the update: it is the newest they have.
UPDATE subscriptions SET last_seq = %(seq)s
WHERE story_id = %(story_id)s AND subscriber_id = ANY (%(ids)s::bigint[]) AND last_seq < %(seq)s;

-- name: note_received_by_devices
-- The same where it came by push: to the readers whose devices they are.
WITH reached AS (
    UPDATE devices SET last_accepted_at = clock_timestamp() WHERE id = ANY (%(ids)s::bigint[]) RETURNING subscriber_id
)
UPDATE subscriptions SET last_seq = %(seq)s
WHERE story_id = %(story_id)s AND subscriber_id IN (SELECT subscriber_id FROM reached) AND last_seq < %(seq)s;

-- name: release_batch
-- Give a batch back, unharmed: nobody crashed, so the claim does not count.
UPDATE batches SET state = 'waiting', lease_token = NULL, lease_until = NULL, worker = NULL,
    attempts = attempts - 1, not_before = clock_timestamp() + make_interval(secs => %(pause)s), reason = %(reason)s
WHERE id = %(batch_id)s AND lease_token = %(token)s;

-- name: note_refused_late
-- A reader's message was refused for now after all, so this try left no doubt. Who was in doubt before stays so.
UPDATE deliveries SET in_doubt_count = %(doubts)s,
    state = CASE %(doubts)s WHEN 0 THEN 'deferred' ELSE 'in_doubt' END::delivery_state
WHERE blast_id = %(blast_id)s AND subscriber_id = %(subscriber_id)s AND state = 'in_doubt'
  AND in_doubt_count = %(doubts)s + 1 AND next_at IS NOT NULL;

-- name: finish_blast
-- The blast is done when no batch of it is open and nobody in it will be tried again. The last line: unless somebody
-- has steered it while this statement waited for them, for then readers may be tried again whom it does not see.
UPDATE blasts SET state = 'done', done_at = clock_timestamp()
WHERE id = %(blast_id)s AND state = 'sending'
  AND NOT EXISTS (SELECT FROM batches WHERE blast_id = blasts.id AND state IN ('waiting', 'leased'))
  AND NOT EXISTS (SELECT FROM deliveries WHERE blast_id = blasts.id AND next_at IS NOT NULL)
  AND steered_at IS NOT DISTINCT FROM (SELECT seen.steered_at FROM blasts seen WHERE seen.id = blasts.id);

-- name: new_worker
-- A number for this worker process.
SELECT nextval('worker_numbers')::integer;

-- name: be_alive
-- Hold the lock that says this worker lives; it ends with the connection, however that ends.
SELECT pg_advisory_lock(%(class)s, %(worker)s);
