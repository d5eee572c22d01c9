-- name: watched_update
-- One update by its story and number (below zero: a drill), with who wrote and approved it, and what was published because
-- of it. `told_besides`: readers who had it by a mail of their own when they began to follow, and not by a blast.
SELECT u.id, u.seq, u.kind, u.importance, u.headline, u.published_at, u.expires_at, u.local_time, s.id AS story_id, s.slug,
       s.headline AS story_headline, s.state AS story_state, c.seq AS corrects_seq, d.id AS draft_id,
       coalesce(sender.name, u.published_by) AS sent_by, approver.name AS approved_by, coalesce(d.is_override, false) AS is_override,
       later.seq AS corrected_by, later.kind AS corrected_how,
       later.published_at AS corrected_at, clock_timestamp() AS now,
       (SELECT count(*) FROM notices n
        WHERE n.update_id = u.id AND n.kind = 'catch_up' AND n.state IN ('accepted', 'in_doubt')
          AND NOT EXISTS (SELECT FROM blasts b JOIN deliveries e ON e.blast_id = b.id AND e.subscriber_id = n.subscriber_id
                          WHERE b.update_id = u.id AND b.channel = 'email' AND e.state IN ('accepted', 'in_doubt')))
           AS told_besides
FROM updates u JOIN stories s ON s.id = u.story_id
LEFT JOIN updates c ON c.id = u.corrects
LEFT JOIN people sender ON sender.email = u.published_by
LEFT JOIN drafts d ON d.update_id = u.id
LEFT JOIN people approver ON approver.id = d.approved_by
LEFT JOIN LATERAL (SELECT seq, kind, published_at FROM updates WHERE corrects = u.id AND seq > 0 ORDER BY id DESC LIMIT 1) later ON true
WHERE s.slug = %(slug)s AND u.seq = %(seq)s;

-- name: watched_blasts
-- The blasts of an update, each with the update that took its place, when the next of its readers have the time of day that
-- it waits for, and why it stands still, if it does.
SELECT b.id, b.channel, b.state, b.candidates, b.frozen_at, b.done_at, b.steered_by, b.steered_at,
       later.seq AS superseded_by, waiting.starts_at, waiting.reason AS given_back
FROM blasts b
LEFT JOIN updates later ON later.id = b.superseded_by
LEFT JOIN LATERAL (
    SELECT min(w.starts_at) FILTER (WHERE w.starts_at > clock_timestamp()) AS starts_at,
           min(w.reason) FILTER (WHERE NOT w.retry) AS reason
    FROM batches w
    WHERE b.state = 'sending' AND w.urgency = b.urgency AND w.blast_id = b.id AND w.state = 'waiting') waiting ON true
WHERE b.update_id = %(update_id)s ORDER BY b.channel;

-- name: watched_reasons
-- What kept readers of these blasts from being reached: of each blast at most `most` are looked at. Of an answer only the
-- code and the enhanced status count, for its words may be different for everybody.
SELECT found.blast_id, found.state::text AS state, found.code,
       CASE WHEN found.code IS NULL THEN '' ELSE coalesce(substring(found.reply FROM '^[245]\.\d{1,3}\.\d{1,3}'), '') END AS status,
       CASE WHEN found.code IS NULL THEN coalesce(left(found.reply, 120), '') ELSE '' END AS reply,
       count(*) AS readers, min(found.next_at) AS next_at
FROM unnest(%(blast_ids)s::bigint[]) AS b (id), LATERAL (
    SELECT d.blast_id, d.state, d.code, d.reply, d.next_at FROM deliveries d
    WHERE d.blast_id = b.id AND d.state IN ('deferred', 'failed', 'in_doubt') AND d.state <> 'accepted'
    LIMIT %(most)s) AS found
GROUP BY 1, 2, 3, 4, 5 ORDER BY readers DESC LIMIT 1000;

-- name: retriable_by_answer
-- How many readers of a blast who ended in one of these states may be tried again, and how many there are, by the answer that
-- they have; who is tried again anyway is in neither number.
SELECT r.state::text AS state, r.code, r.status, r.words AS reply,
       count(*) FILTER (WHERE r.reachable) AS retriable, count(*) AS readers
FROM retriable_readers(%(blast_id)s, %(story_id)s, %(states)s::delivery_state[]) r GROUP BY 1, 2, 3, 4;

-- name: watched_log
-- What the log of the desk says about these subjects, and about this update of its story, the newest first, with people by
-- their names.
SELECT a.at, coalesce(p.name, a.actor) AS who, a.action, a.detail
FROM audit a LEFT JOIN people p ON p.email = a.actor
WHERE a.subject = ANY (%(subjects)s::text[])
   OR (a.subject = 'story:' || %(slug)s AND a.detail ->> 'update' = %(seq)s::integer::text)
ORDER BY a.id DESC LIMIT %(most)s;

-- name: watched_incidents
-- Of the newest incidents those that concern these blasts: their own, and of relays and workers while they were sent.
SELECT kind, subject, text, opened_at, closed_at
FROM (SELECT * FROM incidents ORDER BY id DESC LIMIT 200) AS newest
WHERE (kind IN ('not_sending', 'dead_letters') AND subject = ANY (%(blasts)s::text[]))
   OR (kind IN ('relay', 'no_workers') AND opened_at <= %(until)s AND coalesce(closed_at, 'infinity') >= %(since)s)
ORDER BY opened_at DESC LIMIT 20;

-- name: unreached_of_blast
-- A page of a blast's readers in one state but accepted, in the order of their numbers; those with one of these answers,
-- where some are given (`code` below zero: none). Nobody behind `until` is
-- looked at.
SELECT d.subscriber_id AS id, d.state::text AS state, d.recorded_at, d.next_at, d.attempts, d.code,
       coalesce(d.relay, '') AS relay, coalesce(d.reply, '') AS reply, s.id AS reader_id, s.email, v.name AS device
FROM (SELECT * FROM (
          SELECT * FROM deliveries
          WHERE blast_id = %(blast_id)s AND state = %(state)s::delivery_state AND state <> 'accepted'
            AND subscriber_id > %(after)s AND subscriber_id <= %(until)s) AS part
      WHERE %(any_reason)s OR (coalesce(code, -1),
             CASE WHEN code IS NULL THEN '' ELSE coalesce(substring(reply FROM '^[245]\.\d{1,3}\.\d{1,3}'), '') END,
             CASE WHEN code IS NULL THEN coalesce(left(reply, 120), '') ELSE '' END)
            IN (SELECT * FROM unnest(%(codes)s::integer[], %(statuses)s::text[], %(replies)s::text[]))
      ORDER BY subscriber_id LIMIT %(limit)s) d
LEFT JOIN devices v ON v.id = d.subscriber_id
LEFT JOIN subscribers s ON s.id = coalesce(v.subscriber_id, d.subscriber_id)
ORDER BY d.subscriber_id;

-- name: end_of_unreached
-- The last of the next `most` readers of a blast in one state but accepted; no row if they are fewer.
SELECT subscriber_id FROM deliveries
WHERE blast_id = %(blast_id)s AND state = %(state)s::delivery_state AND state <> 'accepted' AND subscriber_id > %(after)s
ORDER BY subscriber_id OFFSET %(most)s - 1 LIMIT 1;

-- name: ledger_of_blast
-- A page of a blast's ledger in the order of its readers, whatever became of them, or only who was reached.
SELECT d.subscriber_id AS id, d.state::text AS state, d.recorded_at, d.next_at, d.attempts, d.code,
       coalesce(d.relay, '') AS relay, coalesce(d.reply, '') AS reply, s.id AS reader_id, s.email, v.name AS device
FROM (SELECT * FROM deliveries
      WHERE blast_id = %(blast_id)s AND subscriber_id > %(after)s AND subscriber_id <= %(until)s
        AND (NOT %(only_accepted)s OR state = 'accepted')
      ORDER BY subscriber_id LIMIT %(limit)s) d
LEFT JOIN devices v ON v.id = d.subscriber_id
LEFT JOIN subscribers s ON s.id = coalesce(v.subscriber_id, d.subscriber_id)
ORDER BY d.subscriber_id;

-- name: end_of_ledger
-- The last of the next `most` readers in a blast's ledger; no row if they are fewer.
SELECT subscriber_id FROM deliveries
WHERE blast_id = %(blast_id)s AND subscriber_id > %(after)s ORDER BY subscriber_id OFFSET %(most)s - 1 LIMIT 1;
