-- name: followers_between
-- The first and the last id among the followers of a story.
SELECT min(subscriber_id) AS first, max(subscriber_id) AS last FROM subscriptions WHERE story_id = %(story_id)s;

-- name: count_audience
-- How many readers of a story there are of each kind: what they wish, whether they have a device to push to, and what
-- holds a mail or a push up now. They are counted in three slices of their ids, which begin at 0, `second` and `third`,
-- side by side. `zones` and `times` are the times of day in each zone; a zone that is not there counts as UTC, as it does
-- when the update is sent.
SELECT k.is_confirmed, k.cadence::text, k.ways & 1 > 0 AS by_mail, k.ways & 2 > 0 AS by_push, k.ways & 4 > 0 AS has_device,
       k.is_suppressed, k.is_paused,
       CASE WHEN k.quiet_from IS NULL OR (k.quiet_breaking AND %(is_breaking)s::boolean) THEN false
            WHEN k.quiet_from < k.quiet_to
                THEN coalesce(c.clock, %(utc)s::time) >= k.quiet_from AND coalesce(c.clock, %(utc)s::time) < k.quiet_to
            ELSE coalesce(c.clock, %(utc)s::time) >= k.quiet_from OR coalesce(c.clock, %(utc)s::time) < k.quiet_to
       END AS is_quiet,
       sum(k.readers)::integer AS readers
FROM (SELECT * FROM followers(%(story_id)s, 0, %(second)s)
      UNION ALL SELECT * FROM followers(%(story_id)s, %(second)s, %(third)s)
      UNION ALL SELECT * FROM followers(%(story_id)s, %(third)s, 9223372036854775807)
      UNION ALL SELECT * FROM suppressed_followers(%(story_id)s)) k
LEFT JOIN unnest(%(zones)s::text[], %(times)s::time[]) AS c (zone, clock) ON c.zone = k.zone
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
HAVING sum(k.readers) > 0;

-- name: count_waiting_to_confirm
-- How many have asked by mail to follow a story, and not confirmed that it was them; a link that expired counts no more.
SELECT count(DISTINCT c.address_hash)::integer
FROM confirmations c
WHERE c.story_id = %(story_id)s AND c.used_at IS NULL AND c.expires_at > clock_timestamp()
  AND NOT EXISTS (SELECT FROM subscribers s JOIN subscriptions f ON f.subscriber_id = s.id
                  WHERE s.address_hash = c.address_hash AND f.story_id = c.story_id AND f.ended_at IS NULL);

-- name: corrected_blasts
-- The blasts in which those are to be found who have, or would have had, the words of an update: as `blasts_to_correct`.
SELECT o.id, o.channel, o.candidates IS NULL AS is_uncut, o.state IN ('cutting', 'sending', 'paused') AS is_open
FROM blasts b JOIN blasts o ON o.id = CASE WHEN b.frozen_at IS NULL THEN coalesce(b.of_blast, b.id) ELSE b.id END
JOIN updates u ON u.id = b.update_id
WHERE u.story_id = %(story_id)s AND u.seq = %(seq)s ORDER BY o.id;

-- name: count_corrected
-- How many readers of some blasts there are of each kind, by whether a mail and a push have reached them, may have, or not
-- yet, and by what holds a correction of it up now. Whoever has the wrong words gets it also while they are paused.
WITH messages AS (
    SELECT b.channel, d.subscriber_id AS id,
           CASE WHEN d.state = 'accepted' THEN 'reached' WHEN d.state IN ('in_doubt', 'failed') THEN 'in doubt'
                ELSE 'unreached' END AS met
    FROM blasts b JOIN deliveries d ON d.blast_id = b.id
    WHERE b.id = ANY (%(blasts)s::bigint[])
      AND (d.state IN ('accepted', 'in_doubt', 'superseded') OR (d.state = 'deferred' AND b.id = ANY (%(open)s::bigint[]))
           OR (d.state = 'failed' AND d.in_doubt_count > 0))
    UNION ALL
    SELECT b.channel, w.id, 'unreached'
    FROM blasts b JOIN batches p ON p.blast_id = b.id CROSS JOIN LATERAL unnest(p.subscriber_ids) AS w (id)
    WHERE b.id = ANY (%(open)s::bigint[]) AND p.state IN ('waiting', 'leased') AND NOT p.retry
      AND NOT EXISTS (SELECT FROM deliveries d WHERE d.blast_id = b.id AND d.subscriber_id = w.id)
    UNION ALL
    SELECT 'email', n.subscriber_id, CASE n.state WHEN 'accepted' THEN 'reached' ELSE 'in doubt' END
    FROM updates u JOIN notices n ON n.update_id = u.id
    WHERE u.story_id = %(story_id)s AND u.seq = %(seq)s AND n.kind = 'catch_up'
      AND (n.state IN ('accepted', 'in_doubt') OR n.in_doubt_count > 0 OR n.claims > 0)
), readers AS (
    -- The words sort as they matter: who may have been reached counts as such, whatever another device has.
    SELECT id, max(met) FILTER (WHERE channel = 'email') AS mail,
           CASE WHEN bool_or(met = 'reached' AND channel = 'webpush') THEN 'reached'
                WHEN bool_or(met = 'in doubt' AND channel = 'webpush') THEN 'in doubt'
                WHEN bool_or(channel = 'webpush') THEN 'unreached' END AS push
    FROM (SELECT 'email' AS channel, id, min(met) AS met FROM messages WHERE channel = 'email' GROUP BY id
          UNION ALL
          SELECT 'webpush', v.subscriber_id, m.met FROM messages m JOIN devices v ON v.id = m.id
          WHERE m.channel = 'webpush') AS met
    GROUP BY id
)
SELECT coalesce(r.mail, 'none') AS mail, coalesce(r.push, 'none') AS push,
       f.subscriber_id IS NULL
        OR (f.ended_at IS NOT NULL AND f.ended_reason NOT IN ('story closed', 'story merged')) AS has_left,
       x.address_hash IS NOT NULL AS is_suppressed,
       coalesce(s.paused_until > clock_timestamp(), false)
           AND r.mail IS DISTINCT FROM 'reached' AND r.push IS DISTINCT FROM 'reached' AS is_paused,
       CASE WHEN s.quiet_from IS NULL OR (s.quiet_breaking AND %(is_breaking)s::boolean) THEN false
            WHEN s.quiet_from < s.quiet_to
                THEN coalesce(c.clock, %(utc)s::time) >= s.quiet_from AND coalesce(c.clock, %(utc)s::time) < s.quiet_to
            ELSE coalesce(c.clock, %(utc)s::time) >= s.quiet_from OR coalesce(c.clock, %(utc)s::time) < s.quiet_to
       END AS is_quiet,
       count(*)::integer AS readers
FROM readers r
LEFT JOIN subscribers s ON s.id = r.id
LEFT JOIN subscriptions f ON f.story_id = %(story_id)s AND f.subscriber_id = r.id
LEFT JOIN suppressions x ON x.address_hash = s.address_hash
LEFT JOIN unnest(%(zones)s::text[], %(times)s::time[]) AS c (zone, clock) ON c.zone = s.timezone
GROUP BY 1, 2, 3, 4, 5, 6;

-- name: going_out
-- The updates of a story that are still going out, the newest first, with how many mails and pushes of them have not gone:
-- those would be replaced. Before the audience is frozen nobody knows how many there are.
SELECT u.seq, u.headline, u.kind, u.published_at, b.channel, b.state,
       (b.candidates - (SELECT coalesce(sum(p.count), 0) FROM progress p
                        WHERE p.blast_id = b.id AND p.state <> 'deferred'))::integer AS unreached
FROM blasts b JOIN updates u ON u.id = b.update_id
WHERE u.story_id = %(story_id)s AND u.seq > 0 AND b.state IN ('cutting', 'sending', 'paused')
ORDER BY u.seq DESC, b.id;
