-- name: claim_notices
-- Claim mails that a person waits for, the oldest first, with all that they need. As with batches, a worker that does
-- not hold its lock any more claims nothing, and one on which workers have died before is claimed by itself: `alone`.
-- `withdrawn`: what the mail is about is over already, or its reader does not want the news that it tells, or has it.
WITH claimed AS (
    UPDATE notices SET claims = claims + 1, worker = %(worker)s, lease_token = nextval('lease_tokens'),
        lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
    WHERE id IN (
        SELECT id FROM notices
        WHERE next_at <= clock_timestamp() AND lease_token IS NULL AND (claims >= %(suspect)s) = %(alone)s
        ORDER BY next_at, id LIMIT %(most)s FOR UPDATE SKIP LOCKED)
      AND EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 2 AND classid = %(class)s::integer AND objid::bigint = %(worker)s
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted)
    RETURNING *
)
SELECT n.id, n.kind, n.email, n.address_hash, n.subscriber_id, n.confirmation_id, n.update_id, n.locale, n.timezone,
       n.lease_token, n.claims, n.attempts, n.in_doubt_count, extract(epoch FROM n.expires_at - clock_timestamp())::float8 AS expires_in,
       coalesce(r.name, '') AS name, coalesce(c.cadence, f.cadence, 'every')::text AS cadence, f.confirmed_at,
       x.reason AS suppressed_because, b.id AS blast_id, n.story_id,
       s.slug, s.headline, s.summary, s.state, s.created_at, s.closed_at, s.in_doubt, NULL::text AS successor, n.detail,
       CASE n.kind
           WHEN 'confirm' THEN c.id IS NULL OR c.used_at IS NOT NULL OR c.expires_at <= clock_timestamp()
           WHEN 'link' THEN r.id IS NULL
           WHEN 'catch_up' THEN f.subscriber_id IS NULL OR f.ended_at IS NOT NULL OR f.last_seq >= u.seq
               OR coalesce(r.paused_until > clock_timestamp(), false)
               OR EXISTS (SELECT FROM updates c WHERE c.corrects = u.id AND c.seq > 0)
           WHEN 'invitation' THEN NOT EXISTS (
               SELECT FROM invitations i WHERE i.token_hash = decode(n.detail ->> 'token_hash', 'hex')
               AND i.used_at IS NULL AND i.expires_at > clock_timestamp())
           WHEN 'test' THEN false
           WHEN 'override' THEN false
           WHEN 'not_sent' THEN false
           WHEN 'unscheduled' THEN false
           ELSE f.subscriber_id IS NULL OR f.ended_at IS NOT NULL
       END AS withdrawn
FROM claimed n
LEFT JOIN stories s ON s.id = n.story_id
LEFT JOIN confirmations c ON c.id = n.confirmation_id
LEFT JOIN subscribers r ON r.id = n.subscriber_id
LEFT JOIN subscriptions f ON f.story_id = n.story_id AND f.subscriber_id = n.subscriber_id
LEFT JOIN updates u ON u.id = n.update_id
LEFT JOIN blasts b ON b.update_id = n.update_id AND b.channel = 'email'
LEFT JOIN suppressions x ON x.address_hash = n.address_hash
      AND NOT (n.kind IN ('confirm', 'invitation', 'test', 'override', 'not_sent', 'unscheduled') AND x.reason = 'erased by the reader')
ORDER BY n.id;

-- name: record_notices
-- Write outcomes of notices. What is final stays, but for an acceptance that comes late. Nothing more is tried without
-- `retry_in`, and the address is given up then, with what the mail said. Who was caught up has received that update.
WITH done AS (
    UPDATE notices n SET state = o.state, attempts = o.attempts, in_doubt_count = o.in_doubt_count, code = o.code,
        relay = o.relay, reply = o.reply, recorded_at = clock_timestamp(),
        next_at = clock_timestamp() + make_interval(secs => o.retry_in),
        email = CASE WHEN o.retry_in IS NOT NULL THEN n.email END,
        detail = CASE WHEN o.retry_in IS NOT NULL THEN n.detail ELSE '{}' END,
        claims = 0, lease_token = NULL, lease_until = NULL, worker = NULL
    FROM unnest(%(ids)s::bigint[], %(states)s::delivery_state[], %(attempts)s::smallint[], %(in_doubt)s::smallint[],
                %(retry_in)s::float8[], %(codes)s::smallint[], %(relays)s::text[], %(replies)s::text[])
         AS o (id, state, attempts, in_doubt_count, retry_in, code, relay, reply)
    WHERE n.id = o.id AND (n.next_at IS NOT NULL OR (o.state = 'accepted' AND n.state <> 'accepted'))
    RETURNING n.kind, n.state, n.subscriber_id, n.story_id, n.update_id
)
UPDATE subscriptions f SET last_seq = u.seq
FROM done JOIN updates u ON u.id = done.update_id
WHERE done.kind = 'catch_up' AND done.state = 'accepted'
  AND f.story_id = done.story_id AND f.subscriber_id = done.subscriber_id AND f.last_seq < u.seq;

-- name: suppress_notice_addresses
-- Never write again to addresses that are none.
INSERT INTO suppressions (address_hash, reason)
SELECT DISTINCT ON (n.address_hash) n.address_hash, b.reason
FROM unnest(%(ids)s::bigint[], %(reasons)s::text[]) AS b (id, reason) JOIN notices n ON n.id = b.id
ON CONFLICT DO NOTHING;

-- name: release_notices
-- Give notices back that were never offered to a relay: nobody crashed, so the claim does not count.
UPDATE notices n SET claims = claims - 1, next_at = clock_timestamp() + make_interval(secs => o.pause),
    lease_token = NULL, lease_until = NULL, worker = NULL
FROM unnest(%(ids)s::bigint[], %(tokens)s::bigint[], %(pauses)s::float8[]) AS o (id, token, pause)
WHERE n.id = o.id AND n.lease_token = o.token;

-- name: take_back_notices
-- Free the notices whose lease lapsed, or whose worker's connection has ended.
UPDATE notices SET lease_token = NULL, lease_until = NULL, worker = NULL
WHERE next_at IS NOT NULL AND lease_token IS NOT NULL AND (lease_until < clock_timestamp() OR NOT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND classid = %(class)s::integer AND objid::bigint = worker
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted));

-- name: bury_notices
-- Give up the notices on which workers die. One of those that died may have sent it.
UPDATE notices SET state = 'in_doubt', in_doubt_count = greatest(in_doubt_count, 1), next_at = NULL, email = NULL,
    detail = '{}', recorded_at = clock_timestamp(), reply = %(reason)s
WHERE next_at IS NOT NULL AND lease_token IS NULL AND claims >= %(most)s;

-- name: stop_catching_up
-- Catch nobody up any more with an update that is being corrected or withdrawn. It waits for whoever claims such a mail at
-- this moment, so that who freezes the audience of the correction sees that claim.
UPDATE notices SET next_at = NULL, email = NULL, recorded_at = clock_timestamp(),
    reply = 'the update was corrected or withdrawn',
    state = CASE WHEN in_doubt_count > 0 OR claims > 0 THEN 'in_doubt' ELSE 'withdrawn' END::delivery_state
WHERE update_id = %(update_id)s AND kind = 'catch_up' AND next_at IS NOT NULL AND lease_token IS NULL;

-- name: owe_desk_mail
-- Owe somebody of the desk a mail for so many seconds. `detail` is what it says.
INSERT INTO notices (kind, email, address_hash, locale, timezone, expires_at, detail)
VALUES (%(kind)s::notice_kind, %(email)s, %(address_hash)s, %(locale)s, %(timezone)s,
        clock_timestamp() + make_interval(secs => %(seconds)s), %(detail)s::jsonb);
