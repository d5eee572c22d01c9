-- name: find_key
-- A key of the installation's own, sealed; no row if none was made yet.
SELECT sealed FROM keys WHERE name = %(name)s;

-- name: keep_key
-- Keep a key that was just made, unless somebody was quicker: then theirs is the one.
INSERT INTO keys (name, sealed) VALUES (%(name)s, %(sealed)s) ON CONFLICT (name) DO NOTHING;
