-- name: ask_to_follow
-- Put down that somebody wants to follow a story. The same for every address: who that is, nobody looks yet. The story
-- comes back whether or not it still takes followers; no row if there is none.
WITH story AS (
    SELECT s.*, n.slug AS successor, n.headline AS successor_headline
    FROM stories s LEFT JOIN stories n ON n.id = s.successor_id WHERE s.slug = %(slug)s
), asked AS (
    INSERT INTO asks (kind, email, address_hash, story_id, cadence, catch_up, device_subscriber_id, locale, timezone)
    SELECT 'follow', %(email)s, %(address_hash)s, story.id, %(cadence)s, %(catch_up)s, %(device_subscriber_id)s,
           %(locale)s, %(timezone)s
    FROM story WHERE story.state = 'developing'
)
SELECT * FROM story;

-- name: ask_for_link
-- Put down that somebody lost the link to their page.
INSERT INTO asks (kind, email, address_hash, locale, timezone)
VALUES ('link', %(email)s, %(address_hash)s, %(locale)s, %(timezone)s);

-- name: take_asks
-- Take the oldest asks that nobody else is answering, or `only` one.
DELETE FROM asks WHERE id = ANY (ARRAY(
    SELECT id FROM asks WHERE id = %(only)s::bigint OR %(only)s::bigint IS NULL
    ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
RETURNING id, kind, email, address_hash, story_id, cadence, catch_up, device_subscriber_id, locale, timezone;

-- name: waiting_asks
-- The oldest asks, to be answered one by one.
SELECT id FROM asks ORDER BY id LIMIT %(limit)s;

-- name: lock_hashes
-- Until the transaction ends, be the only one that decides about these addresses or browsers. Whoever asks for several
-- has sorted them, so that nobody waits in a ring.
SELECT pg_advisory_xact_lock(('x' || encode(substr(hash, 1, 8), 'hex'))::bit(64)::bigint)
FROM unnest(%(hashes)s::bytea[]) AS hash;

-- name: askers
-- What is known of each address that asks, and whether its reader has confirmed anything that goes on. That is looked up for
-- each by itself: all at once, every subscription there is would be read for it.
SELECT a.address_hash, s.id, s.email, s.locale, s.timezone, x.reason AS suppressed_because,
       coalesce((SELECT true FROM subscriptions f WHERE f.subscriber_id = s.id AND f.confirmed_at IS NOT NULL
                                                        AND f.ended_at IS NULL LIMIT 1), false) AS is_confirmed
FROM unnest(%(hashes)s::bytea[]) AS a (address_hash)
LEFT JOIN subscribers s ON s.address_hash = a.address_hash
LEFT JOIN suppressions x ON x.address_hash = a.address_hash;

-- name: askers_subscriptions
-- How each reader who asks for a story stands to it. `is_fresh`: the reader was told within the last hour.
SELECT f.subscriber_id, f.story_id, f.confirmed_at IS NOT NULL AS is_confirmed, f.ended_at IS NOT NULL AS has_ended,
       coalesce(f.confirmed_at > clock_timestamp() - interval '1 hour', false) AS is_fresh
FROM unnest(%(subscribers)s::bigint[], %(stories)s::bigint[]) AS a (subscriber_id, story_id)
JOIN subscriptions f ON f.story_id = a.story_id AND f.subscriber_id = a.subscriber_id;

-- name: confirmations_of_late
-- How many mails to confirm a mailbox was sent within an hour and a day, at whichever of its addresses.
SELECT mailbox_hash, count(*) FILTER (WHERE created_at > clock_timestamp() - interval '1 hour') AS in_hour,
       count(*) AS in_day
FROM confirmations
WHERE mailbox_hash = ANY (%(hashes)s::bytea[]) AND created_at > clock_timestamp() - interval '1 day'
GROUP BY mailbox_hash;

-- name: mails_of_late
-- How many mails of each kind an address was sent within an hour and a day.
SELECT address_hash, 'confirm' AS kind,
       count(*) FILTER (WHERE created_at > clock_timestamp() - interval '1 hour') AS in_hour, count(*) AS in_day
FROM confirmations
WHERE address_hash = ANY (%(hashes)s::bytea[]) AND created_at > clock_timestamp() - interval '1 day'
GROUP BY address_hash
UNION ALL
SELECT address_hash, kind::text, count(*) FILTER (WHERE created_at > clock_timestamp() - interval '1 hour'), count(*)
FROM notices
WHERE address_hash = ANY (%(hashes)s::bytea[]) AND created_at > clock_timestamp() - interval '1 day'
  AND kind <> 'confirm'
GROUP BY address_hash, kind;

-- name: asked_stories
-- Of these stories, those that still take followers, each with its newest update unless that has expired. What was taken back
-- is told to nobody any more. They are held as by `hold_followed_story`.
SELECT s.id, u.id AS update_id
FROM stories s LEFT JOIN LATERAL (
    SELECT u.id, u.expires_at FROM updates u
    WHERE u.story_id = s.id AND u.seq > 0 AND u.kind <> 'withdrawal'
      AND NOT EXISTS (SELECT FROM updates c WHERE c.corrects = u.id AND c.kind = 'withdrawal')
    ORDER BY u.seq DESC LIMIT 1
) u ON u.expires_at IS NULL OR u.expires_at > clock_timestamp()
WHERE s.id = ANY (%(stories)s::bigint[]) AND s.state = 'developing'
FOR KEY SHARE OF s;

-- name: new_confirmation_ids
-- Numbers for confirmations, whose tokens are made of them before the rows are written.
SELECT nextval(pg_get_serial_sequence('confirmations', 'id')) AS id FROM generate_series(1, %(count)s::integer);

-- name: insert_confirmation
-- Remember the hash of a token, and what it confirms.
INSERT INTO confirmations (id, token_hash, email, address_hash, story_id, cadence, catch_up, device_subscriber_id,
                           locale, timezone, mailbox_hash, expires_at)
VALUES (%(id)s, %(token_hash)s, %(email)s, %(address_hash)s, %(story_id)s, %(cadence)s::cadence, %(catch_up)s,
        %(device_subscriber_id)s::bigint, %(locale)s, %(timezone)s, %(mailbox_hash)s,
        clock_timestamp() + make_interval(hours => %(hours)s::integer));

-- name: insert_notice
-- Owe somebody a mail; one that tells an update is worth nothing once that has expired.
INSERT INTO notices (kind, email, address_hash, subscriber_id, story_id, confirmation_id, update_id, locale, timezone,
                     expires_at)
VALUES (%(kind)s::notice_kind, %(email)s, %(address_hash)s, %(subscriber_id)s::bigint, %(story_id)s::bigint,
        %(confirmation_id)s::bigint, %(update_id)s::bigint, %(locale)s, %(timezone)s,
        least(clock_timestamp() + make_interval(hours => %(hours)s::integer),
              (SELECT expires_at FROM updates WHERE id = %(update_id)s::bigint)));

-- name: follow_at_once
-- A reader who has confirmed before follows one more story, unless they left it.
INSERT INTO subscriptions (story_id, subscriber_id, cadence, channels, confirmed_at)
VALUES (%(story_id)s, %(subscriber_id)s, %(cadence)s::cadence, %(channels)s::channel[], clock_timestamp())
ON CONFLICT (story_id, subscriber_id) DO UPDATE
SET confirmed_at = excluded.confirmed_at, cadence = excluded.cadence, channels = excluded.channels
WHERE subscriptions.confirmed_at IS NULL AND subscriptions.ended_at IS NULL;

-- name: open_confirmation
-- What a token confirms, if it still does: with its story, and the browser that asked.
SELECT c.id AS confirmation_id, c.email, c.address_hash, c.cadence, c.catch_up, c.device_subscriber_id, c.locale,
       c.timezone, s.*, n.slug AS successor, n.headline AS successor_headline,
       ARRAY(SELECT d.name FROM devices d JOIN subscribers r ON r.id = d.subscriber_id
             WHERE d.subscriber_id = c.device_subscriber_id AND r.email IS NULL ORDER BY d.id) AS device_names
FROM confirmations c JOIN stories s ON s.id = c.story_id LEFT JOIN stories n ON n.id = s.successor_id
WHERE c.token_hash = %(token_hash)s AND c.used_at IS NULL AND c.expires_at > clock_timestamp();

-- name: use_confirmation
-- Use up a token; the address is not kept with it any longer. No row if somebody was quicker.
UPDATE confirmations SET used_at = clock_timestamp(), email = NULL
WHERE id = %(confirmation_id)s AND used_at IS NULL AND expires_at > clock_timestamp();

-- name: lift_own_erasure
-- Whoever erased themselves and confirms again wants to be written to again.
DELETE FROM suppressions WHERE address_hash = %(address_hash)s AND reason = 'erased by the reader';

-- name: find_suppression
-- Why an address must not be written to.
SELECT reason FROM suppressions WHERE address_hash = %(address_hash)s;

-- name: create_reader
-- A new reader with an address; no row if there is one already.
INSERT INTO subscribers (email, address_hash, locale, timezone)
VALUES (%(email)s, %(address_hash)s, %(locale)s, %(timezone)s)
ON CONFLICT (address_hash) DO NOTHING
RETURNING id;

-- name: reader_of_address
-- The reader with an address.
SELECT id FROM subscribers WHERE address_hash = %(address_hash)s;

-- name: follow_as_wished
-- A reader's own explicit wish to follow a story: it also takes back that they left. What is added to one that goes on
-- already keeps its other channels.
INSERT INTO subscriptions AS f (story_id, subscriber_id, cadence, channels, confirmed_at)
VALUES (%(story_id)s, %(subscriber_id)s, %(cadence)s::cadence, %(channels)s::channel[], clock_timestamp())
ON CONFLICT (story_id, subscriber_id) DO UPDATE
SET cadence = excluded.cadence, ended_at = NULL, ended_reason = NULL,
    confirmed_at = CASE WHEN f.ended_at IS NULL THEN coalesce(f.confirmed_at, excluded.confirmed_at)
                        ELSE excluded.confirmed_at END,
    channels = CASE WHEN f.ended_at IS NULL AND f.confirmed_at IS NOT NULL
                    THEN ARRAY(SELECT DISTINCT unnest(f.channels || excluded.channels) ORDER BY 1)
                    ELSE excluded.channels END;

-- name: move_devices
-- All browsers of a reader without an address become another reader's.
UPDATE devices SET subscriber_id = %(to)s
WHERE subscriber_id = %(from)s AND %(from)s <> %(to)s
  AND EXISTS (SELECT FROM subscribers r WHERE r.id = %(from)s AND r.email IS NULL);

-- name: join_followed
-- What a browser followed by itself, its reader follows on it now.
INSERT INTO subscriptions AS f (story_id, subscriber_id, cadence, channels, last_seq, confirmed_at)
SELECT b.story_id, %(to)s, b.cadence, b.channels, b.last_seq, b.confirmed_at
FROM subscriptions b JOIN stories s ON s.id = b.story_id
WHERE b.subscriber_id = %(from)s AND b.confirmed_at IS NOT NULL AND b.ended_at IS NULL AND s.released_at IS NULL
ORDER BY b.story_id
FOR KEY SHARE OF s
ON CONFLICT (story_id, subscriber_id) DO UPDATE
SET ended_at = NULL, ended_reason = NULL, last_seq = greatest(f.last_seq, excluded.last_seq),
    cadence = CASE WHEN f.ended_at IS NULL AND f.confirmed_at IS NOT NULL THEN f.cadence ELSE excluded.cadence END,
    confirmed_at = CASE WHEN f.ended_at IS NULL THEN coalesce(f.confirmed_at, excluded.confirmed_at)
                        ELSE excluded.confirmed_at END,
    channels = CASE WHEN f.ended_at IS NULL AND f.confirmed_at IS NOT NULL
                    THEN ARRAY(SELECT DISTINCT unnest(f.channels || excluded.channels) ORDER BY 1)
                    ELSE excluded.channels END;

-- name: drop_empty_reader
-- A reader without an address whose last browser has gone elsewhere is nobody.
DELETE FROM subscribers r WHERE r.id = %(subscriber_id)s AND r.email IS NULL
  AND NOT EXISTS (SELECT FROM devices d WHERE d.subscriber_id = r.id);

-- name: hold_followed_story
-- A story by its slug, with the one that goes on where it ended. Nobody lets its readers go until this transaction ends, so
-- that they find whoever begins to follow it in the moment in which it closes. Nobody else waits for this.
SELECT s.*, n.slug AS successor, n.headline AS successor_headline
FROM stories s LEFT JOIN stories n ON n.id = s.successor_id WHERE s.slug = %(slug)s
FOR KEY SHARE OF s;

-- name: lock_readers
-- Until the transaction ends, be the only one that moves these readers' browsers. In the order of their numbers, and
-- before their browsers, so that nobody waits in a ring.
SELECT id, email IS NULL AS is_alone FROM subscribers
WHERE id = ANY (%(ids)s::bigint[]) ORDER BY id FOR NO KEY UPDATE;

-- name: find_device
-- A browser by its endpoint, with the secret that only this browser has.
SELECT id, subscriber_id, public_key, auth_secret FROM devices WHERE endpoint_hash = %(endpoint_hash)s;

-- name: create_browser_reader
-- A reader without an address.
INSERT INTO subscribers (locale, timezone) VALUES (%(locale)s, %(timezone)s) RETURNING id;

-- name: insert_device
-- A browser of a reader's.
INSERT INTO devices (subscriber_id, endpoint, endpoint_hash, public_key, auth_secret, name)
VALUES (%(subscriber_id)s, %(endpoint)s, %(endpoint_hash)s, %(public_key)s, %(auth_secret)s, %(name)s)
RETURNING id;

-- name: move_device
-- One browser becomes another reader's.
UPDATE devices SET subscriber_id = %(subscriber_id)s WHERE id = %(device_id)s;

-- name: renew_device
-- A browser was given another endpoint by its push service.
UPDATE devices SET endpoint = %(endpoint)s, endpoint_hash = %(endpoint_hash)s, public_key = %(public_key)s,
    auth_secret = %(auth_secret)s
WHERE id = %(device_id)s;

-- name: drop_device
-- A browser's old endpoint, which is another now.
DELETE FROM devices WHERE id = %(device_id)s;
