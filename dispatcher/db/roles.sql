-- Roles for a database that trusts none of its programs with everything. `dispatcher migrate --roles` runs this as the owner
-- of the tables, who may create roles, after every migration; running it again changes nothing. None of these roles can
-- sign in: give each program a user of its own that belongs to one of them.
--
--   dispatcher_web      pages and API: everything but the ledger, which it reads, and changes by three functions alone
--   dispatcher_worker   sends: the ledger, and nothing of what opens the doors of the desk or of the API
--   dispatcher_reader   reads figures: no address, no person, no text that is still being written

DO $$
DECLARE
    wanted text;
BEGIN
    -- From anybody else the server takes what follows with a warning, and grants nothing.
    IF NOT (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'stories'::regclass) THEN
        RAISE insufficient_privilege USING MESSAGE = 'the tables belong to somebody else';
    END IF;
    FOREACH wanted IN ARRAY ARRAY['dispatcher_web', 'dispatcher_worker', 'dispatcher_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', wanted);
        END IF;
    END LOOP;
END $$;

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM dispatcher_web, dispatcher_worker, dispatcher_reader;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM dispatcher_web, dispatcher_worker, dispatcher_reader;
GRANT USAGE ON SCHEMA public TO dispatcher_web, dispatcher_worker, dispatcher_reader;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO dispatcher_web, dispatcher_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO dispatcher_web, dispatcher_worker;
GRANT EXECUTE ON FUNCTION retry_readers, end_cancelled, forget_replies TO dispatcher_web, dispatcher_worker;

-- Which schema this is, everybody may know and nobody change; the log of the desk is only added to.
REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM dispatcher_web, dispatcher_worker;
GRANT SELECT ON alembic_version TO dispatcher_reader;
REVOKE UPDATE, DELETE ON audit FROM dispatcher_web, dispatcher_worker;

-- The web process: what became of whom is for workers to write.
REVOKE INSERT, UPDATE, DELETE ON deliveries, progress FROM dispatcher_web;

-- Workers: of people only who they are, for what is published in their name; of sessions, links and tries only how old
-- they are, to remove them.
REVOKE ALL ON people, sessions, invitations, sign_in_attempts, api_tokens, desk_settings, audit, imports, import_lines
    FROM dispatcher_worker;
GRANT SELECT (id, email, name, role, created_at, signed_in_at, ended_at) ON people TO dispatcher_worker;
GRANT SELECT (expires_at, seen_at), DELETE ON sessions TO dispatcher_worker;
GRANT SELECT (token_hash, used_at, expires_at), DELETE ON invitations TO dispatcher_worker;
GRANT SELECT (at), DELETE ON sign_in_attempts TO dispatcher_worker;
GRANT SELECT ON desk_settings TO dispatcher_worker;
GRANT INSERT ON audit TO dispatcher_worker;

-- Readers of figures.
GRANT SELECT ON stories, updates, blasts, progress, tallies, incidents, moments, relays, relay_reports, letter_failures
    TO dispatcher_reader;
GRANT SELECT (blast_id, subscriber_id, recorded_at, next_at, state, attempts, in_doubt_count, code, relay) ON deliveries
    TO dispatcher_reader;
GRANT SELECT (id, blast_id, urgency, retry, state, attempts, not_before, lease_until, created_at) ON batches
    TO dispatcher_reader;
GRANT SELECT (story_id, subscriber_id, cadence, channels, created_at, confirmed_at, ended_at, ended_reason) ON subscriptions
    TO dispatcher_reader;
