-- name: create_token
-- A new API token; no row if its name is taken.
INSERT INTO api_tokens (name, token_hash) VALUES (%(name)s, %(token_hash)s) ON CONFLICT (name) DO NOTHING;

-- name: revoke_token
-- End a live token.
UPDATE api_tokens SET revoked_at = clock_timestamp() WHERE name = %(name)s AND revoked_at IS NULL;

-- name: list_tokens
-- Every token, oldest first.
SELECT name, created_at, revoked_at FROM api_tokens ORDER BY id;

-- name: find_token
-- The name of a live token.
SELECT name FROM api_tokens WHERE token_hash = %(token_hash)s AND revoked_at IS NULL;
