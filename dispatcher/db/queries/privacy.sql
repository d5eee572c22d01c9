-- name: hash_of_reader
-- The hash of a reader's address, null for a browser by itself; no row if there is no such reader.
SELECT address_hash FROM subscribers WHERE id = %(subscriber_id)s;

-- name: reader_to_erase
-- A reader by the hash of their address.
SELECT id, email FROM subscribers WHERE address_hash = %(address_hash)s;

-- name: hold_to_erase
-- Let nobody move this reader's browsers meanwhile; before those, as everybody takes them.
SELECT id FROM subscribers WHERE id = %(subscriber_id)s FOR UPDATE;

-- name: erase_while_nobody_imports
-- Wait for chunks of imports that are being merged, and let no other begin. Before everything else: they wait for nobody
-- who waits for this.
SELECT pg_advisory_xact_lock(hashtextextended('erase or import', 0));

-- name: erase_asks
-- What an address asked for is not answered any more. First of all: whoever has taken one holds its row before the lock.
DELETE FROM asks WHERE address_hash = %(address_hash)s;

-- name: erase_confirmations
-- What an address might still have confirmed.
DELETE FROM confirmations WHERE address_hash = %(address_hash)s;

-- name: erase_notices
-- Mails that are owed, or were sent, to an address.
DELETE FROM notices WHERE address_hash = %(address_hash)s;

-- name: erase_replies
-- What relays and push services said about a reader. The numbers stay, so that the sums stay true. The stories of the
-- reader lead to the blasts, and each row is found by its key: the ledger is never read as a whole.
SELECT forget_replies(%(subscriber_id)s);

-- name: erase_from_reasons
-- What a relay said may name an address also where it tells why a batch, a relay or the night did not go well.
WITH blast AS (
    SELECT b.id FROM subscriptions f JOIN updates u ON u.story_id = f.story_id JOIN blasts b ON b.update_id = u.id
    WHERE f.subscriber_id = %(subscriber_id)s
), batch AS (
    UPDATE batches SET reason = regexp_replace(reason, '\S+@\S+', '[address]', 'g')
    WHERE blast_id IN (SELECT id FROM blast) AND strpos(lower(reason), lower(%(email)s)) > 0
), relay AS (
    UPDATE relay_reports SET reason = regexp_replace(reason, '\S+@\S+', '[address]', 'g')
    WHERE strpos(lower(reason), lower(%(email)s)) > 0
)
UPDATE incidents SET text = regexp_replace(text, '\S+@\S+', '[address]', 'g')
WHERE strpos(lower(text), lower(%(email)s)) > 0;

-- name: erase_devices
-- The browsers of a reader.
DELETE FROM devices WHERE subscriber_id = %(subscriber_id)s;

-- name: erase_subscriptions
-- Everything that a reader followed.
DELETE FROM subscriptions WHERE subscriber_id = %(subscriber_id)s;

-- name: erase_reader
-- The reader.
DELETE FROM subscribers WHERE id = %(subscriber_id)s;

-- name: suppress_erased
-- What is left of an address: a keyed hash, so that no import brings it back. Another reason to be silent stays, but not
-- in words that may name the address.
INSERT INTO suppressions AS x (address_hash, reason) VALUES (%(address_hash)s, 'erased by the reader')
ON CONFLICT (address_hash) DO UPDATE SET reason = regexp_replace(x.reason, '\S+@\S+', '[address]', 'g')
WHERE x.reason ~ '@';

-- name: export_reader
-- All that is known of a reader.
SELECT email, name, locale, timezone, created_at, paused_until, quiet_from, quiet_to, quiet_breaking, address_hash
FROM subscribers WHERE id = %(subscriber_id)s;

-- name: export_subscriptions
-- All that a reader follows, followed or was asked to confirm, the newest last.
SELECT s.slug AS story, s.headline, f.cadence::text AS cadence, f.channels::text[] AS channels, f.last_seq,
       f.created_at, f.confirmed_at, f.ended_at, f.ended_reason
FROM subscriptions f JOIN stories s ON s.id = f.story_id
WHERE f.subscriber_id = %(subscriber_id)s ORDER BY f.created_at, f.story_id;

-- name: export_devices
-- The browsers of a reader, with the addresses that their push services gave them.
SELECT name, endpoint, created_at, last_accepted_at FROM devices WHERE subscriber_id = %(subscriber_id)s ORDER BY id;

-- name: export_confirmations
-- What a reader was asked to confirm.
SELECT s.slug AS story, c.cadence::text AS cadence, c.catch_up, c.locale, c.timezone, c.created_at, c.expires_at, c.used_at
FROM confirmations c JOIN stories s ON s.id = c.story_id
WHERE c.address_hash = %(address_hash)s ORDER BY c.id;

-- name: export_notices
-- Mails to one address of the last 90 days, and what became of them.
SELECT n.kind::text AS kind, s.slug AS story, n.created_at, n.state::text AS state, n.attempts, n.recorded_at
FROM notices n LEFT JOIN stories s ON s.id = n.story_id
WHERE n.address_hash = %(address_hash)s AND n.created_at > clock_timestamp() - interval '90 days'
ORDER BY n.id;

-- name: export_deliveries
-- What became of the updates of the last 90 days for a reader and their browsers, found as in `erase_replies`. Drills reach
-- nobody, so they tell nobody anything.
SELECT s.slug AS story, u.seq, u.headline, b.channel::text AS channel, v.name AS device, d.state::text AS state,
       d.attempts, d.recorded_at, d.reply
FROM subscriptions f JOIN stories s ON s.id = f.story_id JOIN updates u ON u.story_id = f.story_id
JOIN blasts b ON b.update_id = u.id
CROSS JOIN LATERAL (SELECT %(subscriber_id)s::bigint AS id, NULL::text AS name
                    UNION ALL SELECT id, name FROM devices WHERE subscriber_id = %(subscriber_id)s) v
JOIN deliveries d ON d.blast_id = b.id AND d.subscriber_id = v.id
WHERE f.subscriber_id = %(subscriber_id)s AND u.published_at > clock_timestamp() - interval '90 days' AND NOT b.is_drill
ORDER BY b.id, d.subscriber_id;

-- name: export_subscribers
-- Readers with what they follow, one row each, of one story or of all.
SELECT r.email, r.name, r.locale, r.timezone, s.slug, f.cadence::text AS cadence, f.channels::text[] AS channels,
       f.confirmed_at
FROM subscriptions f JOIN subscribers r ON r.id = f.subscriber_id JOIN stories s ON s.id = f.story_id
WHERE r.email IS NOT NULL AND f.ended_at IS NULL AND (s.id = %(story_id)s::bigint OR %(story_id)s::bigint IS NULL)
ORDER BY r.id, s.id;
