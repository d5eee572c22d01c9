-- name: find_reader_by_hash
-- The number of the reader with this very address.
SELECT id FROM subscribers WHERE address_hash = %(address_hash)s;

-- name: find_readers_by_prefix
-- Readers whose address begins so, in its order. Two bounds and no pattern: the index serves them whatever they are.
SELECT s.id, s.email, s.name, s.created_at,
       (SELECT count(*) FROM subscriptions f WHERE f.subscriber_id = s.id AND f.ended_at IS NULL) AS stories,
       x.address_hash IS NOT NULL AS is_suppressed
FROM (SELECT * FROM subscribers
      WHERE lower(email) COLLATE "C" >= %(low)s AND lower(email) COLLATE "C" < %(high)s
      ORDER BY lower(email) COLLATE "C", id LIMIT %(limit)s) s
LEFT JOIN suppressions x ON x.address_hash = s.address_hash
ORDER BY lower(s.email) COLLATE "C", s.id;

-- name: trace_reader
-- A reader, with why they are never written to, if so; a pause that is over is none.
SELECT s.id, s.email, s.name, s.locale, s.timezone, s.created_at, s.quiet_from, s.quiet_to, s.quiet_breaking,
       CASE WHEN s.paused_until > clock_timestamp() THEN s.paused_until END AS paused_until,
       s.address_hash, x.reason AS suppressed_because, x.created_at AS suppressed_at
FROM subscribers s LEFT JOIN suppressions x ON x.address_hash = s.address_hash
WHERE s.id = %(subscriber_id)s;

-- name: trace_subscriptions
-- All that a reader follows, followed or was to confirm: what they follow now first, the newest first.
SELECT t.slug, t.headline, t.state::text AS story_state, f.cadence::text AS cadence, f.channels::text[] AS channels,
       f.created_at, f.confirmed_at, f.ended_at, f.ended_reason
FROM subscriptions f JOIN stories t ON t.id = f.story_id
WHERE f.subscriber_id = %(subscriber_id)s ORDER BY f.ended_at IS NOT NULL, f.created_at DESC, f.story_id;

-- name: trace_updates
-- The updates of a reader's stories since they asked to follow them, the newest first, each with its blasts, and with what
-- became of it for the reader, or for each of their devices. Without an outcome, `batch`: they are in a batch of it. That
-- is looked up only where a blast may still owe them something, or was stopped before it gave it.
WITH page AS (
    SELECT u.*, f.slug, f.story_headline, f.cadence, f.channels, f.confirmed_at, f.ended_at, f.ended_reason
    FROM (SELECT f.*, t.slug, t.headline AS story_headline FROM subscriptions f JOIN stories t ON t.id = f.story_id
          WHERE f.subscriber_id = %(subscriber_id)s) f
    CROSS JOIN LATERAL (
        SELECT u.id, u.seq, u.kind, u.importance, u.headline, u.published_at FROM updates u
        WHERE u.story_id = f.story_id AND u.seq > 0 AND u.published_at >= f.created_at
          AND (u.published_at, u.id) < (%(at)s::timestamptz, %(before)s::bigint)
        ORDER BY u.seq DESC LIMIT %(limit)s) u
    ORDER BY u.published_at DESC, u.id DESC LIMIT %(limit)s
)
SELECT p.id AS update_id, p.seq, p.kind::text AS kind, p.importance::text AS importance, p.headline, p.published_at,
       p.slug, p.story_headline, p.cadence::text AS cadence, p.channels::text[] AS channels, p.confirmed_at, p.ended_at,
       p.ended_reason, b.id AS blast_id, b.channel::text AS channel, b.state::text AS blast_state, b.frozen_at,
       b.of_blast IS NOT NULL AS is_correcting, n.seq AS superseded_by, e.id AS target, e.name AS device,
       e.created_at AS device_since, d.state::text AS state, d.recorded_at, d.next_at, d.attempts, d.code, d.relay, d.reply,
       w.id IS NOT NULL AS batch, w.starts_at
FROM page p JOIN blasts b ON b.update_id = p.id
LEFT JOIN updates n ON n.id = b.superseded_by
LEFT JOIN LATERAL (
    SELECT s.id, NULL::text AS name, NULL::timestamptz AS created_at FROM subscribers s
    WHERE b.channel = 'email' AND s.id = %(subscriber_id)s AND s.email IS NOT NULL
    UNION ALL
    SELECT v.id, v.name, v.created_at FROM devices v WHERE b.channel = 'webpush' AND v.subscriber_id = %(subscriber_id)s
) e ON true
LEFT JOIN LATERAL (SELECT * FROM deliveries d WHERE d.blast_id = b.id AND d.subscriber_id = e.id) d ON true
LEFT JOIN LATERAL (
    SELECT w.id, w.starts_at FROM batches w
    WHERE d.blast_id IS NULL AND b.state <> 'done' AND w.blast_id = b.id AND e.id = ANY (w.subscriber_ids) LIMIT 1
) w ON true
WHERE e.id IS NOT NULL OR b.channel = ANY (p.channels)
ORDER BY p.published_at DESC, p.id DESC, b.channel, e.id;

-- name: trace_notices
-- Mails to one reader alone, the newest first.
SELECT n.id, n.kind::text AS kind, n.created_at, n.expires_at, n.state::text AS state, n.recorded_at, n.next_at,
       n.attempts, n.code, n.relay, n.reply, t.slug, t.headline AS story_headline
FROM (SELECT * FROM notices WHERE address_hash = %(address_hash)s
      UNION
      SELECT * FROM notices WHERE subscriber_id = %(subscriber_id)s) n
LEFT JOIN stories t ON t.id = n.story_id
WHERE (n.created_at, n.id) < (%(at)s::timestamptz, %(before)s::bigint)
ORDER BY n.created_at DESC, n.id DESC LIMIT %(limit)s;

-- name: end_for_reader
-- The desk ends a subscription. No link of the reader's takes that back; they can ask to follow again.
UPDATE subscriptions f SET ended_at = clock_timestamp(), ended_reason = 'desk'
FROM stories t
WHERE t.slug = %(slug)s AND f.story_id = t.id AND f.subscriber_id = %(subscriber_id)s AND f.ended_at IS NULL;
