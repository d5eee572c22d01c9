-- name: create_token
-- A new API token; no row if its name is taken.
INSERT INTO api_tokens (name, token_hash, scopes, prefix, created_by)
VALUES (%(name)s, %(token_hash)s, %(scopes)s::text[], %(prefix)s, %(created_by)s) ON CONFLICT (name) DO NOTHING;

-- name: revoke_token
-- End a live token.
UPDATE api_tokens SET revoked_at = clock_timestamp() WHERE name = %(name)s AND revoked_at IS NULL;

-- name: list_tokens
-- Every token, oldest first.
SELECT name, prefix, scopes, created_by, created_at, used_at, revoked_at FROM api_tokens ORDER BY id;

-- name: find_token
-- The name and the scopes of a live token, and whether its last use is long ago.
SELECT name, scopes, coalesce(used_at < clock_timestamp() - make_interval(secs => %(seconds)s), true) AS is_stale
FROM api_tokens WHERE token_hash = %(token_hash)s AND revoked_at IS NULL;

-- name: see_token
-- A token is in use.
UPDATE api_tokens SET used_at = clock_timestamp() WHERE token_hash = %(token_hash)s;
