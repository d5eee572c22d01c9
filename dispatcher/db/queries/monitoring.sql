-- name: take_turn
-- Take the turn to look round, unless somebody had it within so many seconds: no row then.
INSERT INTO moments AS m (name, at) VALUES ('round', clock_timestamp())
ON CONFLICT (name) DO UPDATE SET at = excluded.at
WHERE m.at <= clock_timestamp() - make_interval(secs => %(every)s);

-- name: try_watch
-- Only one process looks round at a time.
SELECT pg_try_advisory_xact_lock(%(lock)s);

-- name: note_alive
-- Remember when some worker was last seen alive.
INSERT INTO moments (name, at) VALUES ('worker alive', clock_timestamp())
ON CONFLICT (name) DO UPDATE SET at = excluded.at;

-- name: seconds_without_workers
-- For how long no worker has been seen alive; null if none ever was.
SELECT extract(epoch FROM clock_timestamp() - at)::float8 FROM moments WHERE name = 'worker alive';

-- name: forget_gone_workers
-- Remove what workers said about their relays that do not live any more.
DELETE FROM relay_reports r WHERE NOT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND classid = %(class)s::integer AND objid::bigint = r.worker AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()));

-- name: relay_states
-- Each relay as the workers find it that live: how many are in which state, their lanes, and what is wrong since when.
-- `shut`: somebody's circuit is not closed, and nobody has a lane open. `unwanted`: it refuses our mail by policy.
-- `silent`: there are lanes, and each has waited long for its answer.
SELECT relay, count(*) AS workers,
       count(*) FILTER (WHERE circuit = 'closed') AS closed,
       count(*) FILTER (WHERE circuit = 'open') AS open,
       count(*) FILTER (WHERE circuit = 'half_open') AS half_open,
       sum(lanes)::integer AS lanes, sum(busy)::integer AS busy, sum(overdue)::integer AS overdue,
       bool_or(circuit <> 'closed') AND coalesce(sum(lanes) FILTER (WHERE circuit = 'closed'), 0) = 0 AS shut,
       coalesce(sum(lanes) > 0 AND sum(overdue) >= sum(lanes), false) AS silent,
       bool_or(circuit <> 'closed' AND reason ~ '\m5\.7\.\d') AS unwanted,
       min(since) FILTER (WHERE circuit <> 'closed') AS since,
       coalesce((array_agg(reason ORDER BY reason ~ '\m5\.7\.\d' DESC, since DESC)
                 FILTER (WHERE circuit <> 'closed' AND reason <> ''))[1], '') AS reason
FROM relay_reports r
WHERE EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND classid = %(class)s::integer AND objid::bigint = r.worker AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
GROUP BY relay ORDER BY relay;

-- name: blasts_in_order
-- The blasts that are going out, but for drills, and those that ended or were stopped within so many seconds, in the order
-- in which they are claimed. `owed`: for how long readers have been owed what nobody has given them; null if they wait for the time
-- of their next try or of their own day, or the update is expired, or the blast is over. A batch that was given back is
-- owed all the while.
SELECT b.id, b.urgency, b.candidates, u.seq, u.published_at, s.slug,
       extract(epoch FROM clock_timestamp() - u.published_at)::float8 AS age,
       CASE WHEN b.state IN ('cutting', 'sending') AND owed.since IS NOT NULL
                 AND greatest(u.published_at, u.local_time AT TIME ZONE 'Etc/GMT+12')
                     + coalesce(u.expires_at - u.published_at, %(expiry)s) > clock_timestamp()
                 AND owed.since <= clock_timestamp()
            THEN extract(epoch FROM clock_timestamp() - greatest(owed.since, b.steered_at))::float8 END AS owed
FROM blasts b JOIN updates u ON u.id = b.update_id JOIN stories s ON s.id = u.story_id
LEFT JOIN LATERAL (
    SELECT CASE b.state
        WHEN 'cutting' THEN (
            SELECT u.published_at WHERE EXISTS (
                SELECT FROM subscriptions f
                WHERE f.story_id = u.story_id AND f.confirmed_at <= u.published_at AND f.ended_at IS NULL))
        WHEN 'sending' THEN (
            SELECT CASE WHEN w.retry THEN w.created_at ELSE coalesce(w.starts_at, u.published_at) END FROM batches w
            WHERE w.urgency = b.urgency AND w.blast_id = b.id AND w.state IN ('waiting', 'leased')
            ORDER BY w.id LIMIT 1)
    END AS since) AS owed ON true
WHERE NOT b.is_drill
  AND (b.state IN ('cutting', 'sending')
       OR greatest(b.done_at, b.steered_at) > clock_timestamp() - make_interval(secs => %(lately)s))
ORDER BY b.urgency, b.id LIMIT %(most)s;

-- name: accepted_lately
-- Whether some reader of a blast was reached within so many seconds. Batches go out in the order of their readers, so
-- the last come first here; `newest` says how many to look at, null: all.
SELECT EXISTS (
    SELECT FROM (
        SELECT state, recorded_at FROM deliveries WHERE blast_id = %(blast_id)s
        ORDER BY subscriber_id DESC LIMIT %(newest)s::bigint) AS latest
    WHERE state = 'accepted' AND recorded_at > clock_timestamp() - make_interval(secs => %(lately)s));

-- name: why_standing
-- What is known of a blast that stands still: whether it ever reached anybody, how many readers are in its batches, why
-- a batch was given back, and which letter cannot be made.
SELECT (SELECT true FROM deliveries WHERE blast_id = %(blast_id)s AND state = 'accepted'
        ORDER BY subscriber_id LIMIT 1) IS NOT NULL AS reached,
       (SELECT coalesce(sum(cardinality(subscriber_ids)), 0)::bigint FROM batches
        WHERE urgency = %(urgency)s AND blast_id = %(blast_id)s AND state IN ('waiting', 'leased')) AS waiting,
       (SELECT reason FROM batches
        WHERE urgency = %(urgency)s AND blast_id = %(blast_id)s AND state = 'waiting' AND reason <> ''
        ORDER BY id LIMIT 1) AS given_back,
       (SELECT 'the letter for ' || variant || ' cannot be made: ' || reason FROM letter_failures
        WHERE blast_id = %(blast_id)s ORDER BY failed_at DESC LIMIT 1) AS letter;

-- name: dead_batches
-- Blasts with batches that were given up, for a day beyond their end: how many readers, and why the last of them.
SELECT b.id, u.seq, s.slug, dead.readers, dead.reason
FROM (SELECT blast_id, sum(cardinality(subscriber_ids))::bigint AS readers,
             (array_agg(reason ORDER BY id DESC))[1] AS reason
      FROM batches WHERE state = 'dead' GROUP BY blast_id) AS dead
JOIN blasts b ON b.id = dead.blast_id JOIN updates u ON u.id = b.update_id JOIN stories s ON s.id = u.story_id
WHERE NOT b.is_drill
  AND (coalesce(b.done_at, b.steered_at, u.published_at) > clock_timestamp() - interval '1 day'
       OR b.state IN ('cutting', 'sending', 'paused'));

-- name: seconds_overdue
-- How long the first retry that is due has waited to become a batch; null or less than zero if none is due.
SELECT extract(epoch FROM clock_timestamp() - min(next_at))::float8 FROM deliveries WHERE next_at IS NOT NULL;

-- name: seconds_unanswered
-- How long the first reader has waited who asked for something and has not been sent the mail; 0 if nobody waits.
SELECT greatest(0, extract(epoch FROM clock_timestamp() - least(
    (SELECT min(asked_at) FROM asks),
    (SELECT min(created_at) FROM notices WHERE next_at IS NOT NULL AND state IS NULL))))::float8;

-- name: open_incidents
-- What is not well just now, oldest first.
SELECT id, kind, subject, text, opened_at, extract(epoch FROM clock_timestamp() - opened_at)::float8 AS seconds
FROM incidents WHERE closed_at IS NULL ORDER BY opened_at, id;

-- name: open_incident
-- Say that something is not well; no row if that is known already.
INSERT INTO incidents (kind, subject, text) VALUES (%(kind)s, %(subject)s, %(text)s)
ON CONFLICT (kind, subject) WHERE closed_at IS NULL DO NOTHING;

-- name: word_incident
-- Say in today's words what is not well.
UPDATE incidents SET text = %(text)s WHERE id = %(id)s;

-- name: close_incident
-- It is well again.
UPDATE incidents SET closed_at = clock_timestamp() WHERE id = %(id)s AND closed_at IS NULL;

-- name: blasts_to_count
-- Blasts that are over and were not counted yet, the oldest first; drills count for nothing. What is on its way when a blast is cancelled may still
-- be answered for two minutes; who was in doubt when a blast was done, for ten: those blasts are counted a second time.
SELECT b.id, u.published_at
FROM blasts b JOIN updates u ON u.id = b.update_id
WHERE NOT b.is_drill AND ((NOT EXISTS (SELECT FROM tallies t WHERE t.blast_id = b.id)
       AND (b.state = 'done'
            OR (b.state = 'cancelled' AND coalesce(b.steered_at, b.created_at) < clock_timestamp() - interval '2 minutes')))
   OR (b.state IN ('done', 'cancelled')
       AND coalesce(b.done_at, b.steered_at) BETWEEN clock_timestamp() - interval '1 day'
                                                 AND clock_timestamp() - interval '15 minutes'
       AND EXISTS (
           SELECT FROM tallies t WHERE t.blast_id = b.id AND t.state = 'in_doubt' AND t.count > 0
           AND t.counted_at < coalesce(b.done_at, b.steered_at) + interval '15 minutes')))
ORDER BY b.id LIMIT %(most)s;

-- name: hold_ended
-- Keep a blast that is over from being opened again while it is counted; no row if it was, or somebody else has it.
SELECT id FROM blasts WHERE id = %(blast_id)s AND state IN ('done', 'cancelled') FOR NO KEY UPDATE SKIP LOCKED;

-- name: count_ledger
-- The ledger of one blast by relay and state, as it counts itself; acceptances also by the slot of `bounds` that their
-- seconds from the publish commit fall into: 0 is below the first bound.
SELECT relay, state, slot, sum(count)::bigint AS readers, CASE WHEN slot IS NOT NULL THEN greatest(sum(seconds), 0) END AS seconds
FROM (SELECT relay, state::text AS state, count, seconds,
             CASE state WHEN 'accepted' THEN width_bucket(after_ms / 1000.0::float8, %(bounds)s::float8[]) END AS slot
      FROM progress WHERE blast_id = %(blast_id)s) AS sorted
GROUP BY 1, 2, 3 HAVING sum(count) <> 0;

-- name: drop_tally
-- A blast is counted anew.
DELETE FROM tallies WHERE blast_id = %(blast_id)s;

-- name: keep_tally
-- What a blast came to at one relay in one state.
INSERT INTO tallies (blast_id, relay, state, count, buckets, seconds)
VALUES (%(blast_id)s, %(relay)s, %(state)s, %(readers)s, %(buckets)s::bigint[], %(seconds)s::float8);

-- name: time_limit
-- Let every further statement of this transaction take so many milliseconds and no longer.
SELECT set_config('statement_timeout', %(milliseconds)s::integer::text, true);

-- name: sum_tallies
-- What all blasts came to that were counted, by channel, relay and state.
SELECT b.channel::text AS channel, t.relay, t.state::text AS state, sum(t.count)::bigint AS readers,
       coalesce(sum(t.seconds), 0) AS seconds,
       CASE WHEN bool_or(buckets IS NOT NULL) THEN array[sum(buckets[1]), sum(buckets[2]), sum(buckets[3]), sum(buckets[4]), sum(buckets[5]), sum(buckets[6]),
             sum(buckets[7]), sum(buckets[8]), sum(buckets[9]), sum(buckets[10]), sum(buckets[11]), sum(buckets[12]),
             sum(buckets[13]), sum(buckets[14]), sum(buckets[15]), sum(buckets[16]), sum(buckets[17])]::bigint[] END AS buckets
FROM tallies t JOIN blasts b ON b.id = t.blast_id
GROUP BY 1, 2, 3;

-- name: uncounted_blasts
-- Blasts whose ledger still moves, or was not counted yet.
SELECT b.id, b.channel::text AS channel, u.published_at
FROM blasts b JOIN updates u ON u.id = b.update_id
WHERE NOT b.is_drill AND NOT EXISTS (SELECT FROM tallies t WHERE t.blast_id = b.id);

-- name: incidents_by_kind
-- How many incidents of each kind are open.
SELECT kind, count(*) AS count FROM incidents WHERE closed_at IS NULL GROUP BY kind;

-- name: work_by_urgency
-- The readers in batches of blasts that are going out, and for how many seconds the oldest work has waited, by urgency;
-- without drills, and without who waits for a time of their own day.
SELECT urgency, sum(readers)::bigint AS readers, max(seconds) AS seconds
FROM (SELECT b.urgency, sum(cardinality(w.subscriber_ids)) AS readers,
             extract(epoch FROM clock_timestamp() - min(greatest(w.created_at, w.starts_at)))::float8 AS seconds
      FROM blasts b JOIN batches w ON w.urgency = b.urgency AND w.blast_id = b.id AND w.state IN ('waiting', 'leased')
      WHERE b.state = 'sending' AND NOT b.is_drill AND coalesce(w.starts_at, '-infinity') <= clock_timestamp() GROUP BY b.urgency
      UNION ALL
      SELECT urgency, 0, extract(epoch FROM clock_timestamp() - min(created_at))::float8
      FROM blasts WHERE state = 'cutting' AND NOT is_drill GROUP BY urgency) AS waiting
GROUP BY urgency;

-- name: work
-- Open blasts but for drills, batches by what becomes of them, how old the oldest is, and the retries that are due: at most `most` of
-- those are counted.
SELECT
    (SELECT count(*) FROM stories WHERE state = 'developing') AS stories_developing,
    (SELECT count(*) FROM blasts WHERE state IN ('cutting', 'sending', 'paused') AND NOT is_drill) AS blasts_open,
    (SELECT count(*) FROM batches w JOIN blasts b ON b.id = w.blast_id
     WHERE w.state = 'waiting' AND b.state = 'sending' AND NOT b.is_drill) AS batches_waiting,
    (SELECT count(*) FROM batches WHERE state = 'leased') AS batches_leased,
    (SELECT count(*) FROM batches WHERE state = 'dead') AS batches_dead,
    (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0) FROM blasts
     WHERE state IN ('cutting', 'sending') AND NOT is_drill)::float8 AS oldest_blast_seconds,
    (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(greatest(w.created_at, w.not_before))), 0)
     FROM batches w JOIN blasts b ON b.id = w.blast_id
     WHERE w.state = 'waiting' AND w.not_before <= clock_timestamp() AND b.state = 'sending' AND NOT b.is_drill)::float8
        AS oldest_batch_seconds,
    (SELECT count(*) FROM (SELECT FROM deliveries WHERE next_at <= clock_timestamp() LIMIT %(most)s) AS due)
        AS deliveries_due,
    (SELECT count(*) FROM asks) + (SELECT count(*) FROM notices WHERE next_at IS NOT NULL) AS notices_waiting,
    (SELECT coalesce(jsonb_object_agg(state, n), '{}') FROM (
        SELECT state, count(*) AS n FROM blasts WHERE created_at > clock_timestamp() - interval '1 day' AND NOT is_drill
        GROUP BY state) AS states) AS blasts_by_state;

-- name: readership
-- Readers that are known, and confirmed subscriptions that have not ended.
SELECT (SELECT count(*) FROM subscribers) AS subscribers,
       (SELECT count(*) FROM subscriptions WHERE confirmed_at IS NOT NULL AND ended_at IS NULL) AS subscriptions_active;
