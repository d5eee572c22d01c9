-- name: take_account_turn
-- Let the tries for one account be counted one after the other, until the transaction ends.
SELECT pg_advisory_xact_lock(7214005, hashtext(encode(%(account_hash)s, 'hex')));

-- name: count_sign_in_attempts
-- How often an account was tried of late, within so many seconds, since somebody got in.
SELECT count(*) FROM sign_in_attempts
WHERE account_hash = %(account_hash)s AND at > clock_timestamp() - make_interval(secs => %(seconds)s);

-- name: add_sign_in_attempt
-- One more try for an account, whether there is such an account or not.
INSERT INTO sign_in_attempts (account_hash) VALUES (%(account_hash)s);

-- name: clear_sign_in_attempts
-- Forget the tries for an account: its owner is in.
DELETE FROM sign_in_attempts WHERE account_hash = %(account_hash)s;

-- name: forget_sign_ins
-- Remove tries that count no more, sessions that are over, and links that were used or ran out a month ago.
WITH tries AS (DELETE FROM sign_in_attempts WHERE at < clock_timestamp() - interval '1 hour'),
     links AS (DELETE FROM invitations WHERE expires_at < clock_timestamp() - interval '30 days')
DELETE FROM sessions WHERE expires_at < clock_timestamp() OR seen_at < clock_timestamp() - interval '12 hours';

-- name: find_person_by_email
-- A person of the desk by their address, whether they still work here or not.
SELECT p.*, cardinality(p.recovery_hashes) AS recovery_left FROM people p WHERE p.email = %(email)s;

-- name: find_person
-- A person of the desk.
SELECT p.*, cardinality(p.recovery_hashes) AS recovery_left FROM people p WHERE p.id = %(person_id)s;

-- name: lock_person
-- A person of the desk, held until the transaction ends.
SELECT p.*, cardinality(p.recovery_hashes) AS recovery_left FROM people p WHERE p.id = %(person_id)s FOR UPDATE;

-- name: list_people
-- Everybody of the desk, those who still work here first, by name; with when they were last seen.
SELECT p.*, cardinality(p.recovery_hashes) AS recovery_left,
       (SELECT max(s.seen_at) FROM sessions s WHERE s.person_id = p.id AND NOT s.is_half) AS seen_at
FROM people p ORDER BY p.ended_at IS NOT NULL, lower(p.name), p.id;

-- name: lock_leads
-- The numbers of all leads, so that nobody takes the last one away while somebody else takes the last but one.
SELECT id FROM people WHERE role = 'lead' AND ended_at IS NULL ORDER BY id FOR UPDATE;

-- name: lock_first_lead
-- Let only one at a time become the first lead.
SELECT pg_advisory_xact_lock(7214006);

-- name: has_lead
-- Whether the desk has a lead.
SELECT EXISTS (SELECT FROM people WHERE role = 'lead' AND ended_at IS NULL);

-- name: add_person
-- Somebody new at the desk, or somebody who comes back, with nothing of what they had; no row if they are there already.
INSERT INTO people (email, name, role, password_hash) VALUES (%(email)s, %(name)s, %(role)s::role, %(password_hash)s)
ON CONFLICT (email) DO UPDATE SET name = excluded.name, role = excluded.role, password_hash = excluded.password_hash,
    totp_sealed = NULL, totp_last_step = NULL, recovery_hashes = '{}', ended_at = NULL, created_at = clock_timestamp()
WHERE people.ended_at IS NOT NULL
RETURNING id;

-- name: set_password
-- Another password for a person.
UPDATE people SET password_hash = %(password_hash)s WHERE id = %(person_id)s AND ended_at IS NULL;

-- name: set_role
-- Another role for a person.
UPDATE people SET role = %(role)s::role WHERE id = %(person_id)s AND ended_at IS NULL;

-- name: end_person
-- Somebody works here no more: neither password nor codes are kept.
UPDATE people SET ended_at = clock_timestamp(), password_hash = NULL, totp_sealed = NULL, totp_last_step = NULL,
    recovery_hashes = '{}'
WHERE id = %(person_id)s AND ended_at IS NULL;

-- name: set_totp
-- Codes from now on, with the step of the first one, and the codes for the day the phone is lost; or no codes any more.
UPDATE people SET totp_sealed = %(sealed)s, totp_last_step = %(step)s, recovery_hashes = %(recovery)s::bytea[]
WHERE id = %(person_id)s AND ended_at IS NULL;

-- name: take_totp_step
-- Accept a code, if neither it nor a later one was accepted before.
UPDATE people SET totp_last_step = %(step)s
WHERE id = %(person_id)s AND ended_at IS NULL AND totp_sealed IS NOT NULL AND coalesce(totp_last_step, 0) < %(step)s;

-- name: take_recovery_code
-- Use up a recovery code, if it is one.
UPDATE people SET recovery_hashes = array_remove(recovery_hashes, %(hash)s::bytea)
WHERE id = %(person_id)s AND ended_at IS NULL AND %(hash)s::bytea = ANY (recovery_hashes);

-- name: set_recovery_codes
-- Other recovery codes, in place of all.
UPDATE people SET recovery_hashes = %(recovery)s::bytea[]
WHERE id = %(person_id)s AND ended_at IS NULL AND totp_sealed IS NOT NULL;

-- name: note_sign_in
-- Somebody is in.
UPDATE people SET signed_in_at = clock_timestamp() WHERE id = %(person_id)s;

-- name: add_session
-- A session of so many seconds; half of one, while the code is still missing.
INSERT INTO sessions (token_hash, person_id, expires_at, browser, is_half)
SELECT %(token_hash)s, p.id, clock_timestamp() + make_interval(secs => %(seconds)s), %(browser)s, %(is_half)s
FROM people p WHERE p.id = %(person_id)s AND p.ended_at IS NULL
RETURNING expires_at;

-- name: find_session
-- A session that lives, with its person.
SELECT s.token_hash, s.is_half, s.browser, s.created_at AS began_at, s.seen_at, s.expires_at,
       s.seen_at < clock_timestamp() - interval '1 minute' AS is_stale, p.*,
       cardinality(p.recovery_hashes) AS recovery_left
FROM sessions s JOIN people p ON p.id = s.person_id
WHERE s.token_hash = %(token_hash)s AND s.expires_at > clock_timestamp()
  AND s.seen_at > clock_timestamp() - make_interval(secs => %(idle)s) AND p.ended_at IS NULL;

-- name: see_session
-- Somebody is still there.
UPDATE sessions SET seen_at = clock_timestamp() WHERE token_hash = %(token_hash)s;

-- name: list_sessions
-- The whole sessions of a person that live, the last seen first.
SELECT token_hash, browser, created_at AS began_at, seen_at, expires_at FROM sessions
WHERE person_id = %(person_id)s AND NOT is_half AND expires_at > clock_timestamp()
  AND seen_at > clock_timestamp() - make_interval(secs => %(idle)s)
ORDER BY seen_at DESC, token_hash;

-- name: end_session
-- End one session of a person.
DELETE FROM sessions WHERE token_hash = %(token_hash)s AND person_id = %(person_id)s;

-- name: end_sessions
-- End every session of a person but one.
DELETE FROM sessions WHERE person_id = %(person_id)s AND token_hash <> %(but)s;

-- name: void_invitations
-- No link for this address counts any more.
DELETE FROM invitations WHERE email = %(email)s AND used_at IS NULL;

-- name: add_invitation
-- A link that counts once, for so many seconds.
INSERT INTO invitations (token_hash, email, role, invited_by, is_reset, expires_at)
VALUES (%(token_hash)s, %(email)s, %(role)s::role, %(by)s, %(is_reset)s,
        clock_timestamp() + make_interval(secs => %(seconds)s));

-- name: find_invitation
-- A link that still counts. `has_totp`: whoever resets a password still needs a code.
SELECT i.email, i.role, i.invited_by, i.is_reset, i.expires_at, p.name, p.totp_sealed IS NOT NULL AS has_totp
FROM invitations i LEFT JOIN people p ON p.email = i.email
WHERE i.token_hash = %(token_hash)s AND i.used_at IS NULL AND i.expires_at > clock_timestamp();

-- name: use_invitation
-- Use a link up, if it still counts.
UPDATE invitations SET used_at = clock_timestamp()
WHERE token_hash = %(token_hash)s AND used_at IS NULL AND expires_at > clock_timestamp()
RETURNING email, role, invited_by, is_reset;

-- name: use_invitation_of
-- Use up the link to join that an address has, if it still counts: somebody else vouches that the address is theirs.
UPDATE invitations SET used_at = clock_timestamp()
WHERE email = %(email)s AND email <> '' AND NOT is_reset AND used_at IS NULL AND expires_at > clock_timestamp()
RETURNING role, invited_by;

-- name: list_invitations
-- The links that still count, the newest first; not the one that makes the first lead.
SELECT email, role, invited_by, is_reset, created_at, expires_at FROM invitations
WHERE used_at IS NULL AND expires_at > clock_timestamp() AND email <> '' ORDER BY created_at DESC, email;
