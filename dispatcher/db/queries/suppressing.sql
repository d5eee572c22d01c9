-- name: list_suppressions
-- Addresses that are never written to, the newest first. An address is known where a reader still has it.
SELECT x.address_hash, x.reason, x.created_at, s.id AS subscriber_id, s.email
FROM suppressions x LEFT JOIN subscribers s ON s.address_hash = x.address_hash
WHERE (x.created_at, x.address_hash) < (%(at)s::timestamptz, %(before)s::bytea)
ORDER BY x.created_at DESC, x.address_hash DESC LIMIT %(limit)s;

-- name: get_suppression
-- One address that is never written to, if it is.
SELECT x.address_hash, x.reason, x.created_at, s.id AS subscriber_id, s.email
FROM suppressions x LEFT JOIN subscribers s ON s.address_hash = x.address_hash
WHERE x.address_hash = %(address_hash)s;

-- name: add_suppression
-- Never write to an address again; no row if that is so already.
INSERT INTO suppressions (address_hash, reason) VALUES (%(address_hash)s, %(reason)s) ON CONFLICT DO NOTHING
RETURNING (SELECT id FROM subscribers WHERE address_hash = %(address_hash)s) AS subscriber_id;

-- name: lift_suppression
-- Write to an address again.
DELETE FROM suppressions WHERE address_hash = %(address_hash)s AND reason <> %(erased)s
RETURNING reason, (SELECT id FROM subscribers WHERE address_hash = %(address_hash)s) AS subscriber_id;
