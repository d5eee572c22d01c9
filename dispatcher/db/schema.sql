-- Today's schema, in one place to read. Migrations build it step by step; a test proves that both agree.

CREATE TYPE story_state AS ENUM ('developing', 'closed');
CREATE TYPE update_kind AS ENUM ('update', 'correction', 'final', 'withdrawal');
CREATE TYPE importance AS ENUM ('routine', 'major', 'breaking');
CREATE TYPE channel AS ENUM ('email', 'webpush');
CREATE TYPE cadence AS ENUM ('every', 'major', 'daily', 'weekly');
CREATE TYPE blast_state AS ENUM ('cutting', 'sending', 'paused', 'cancelled', 'done', 'superseded');
CREATE TYPE batch_state AS ENUM ('waiting', 'leased', 'done', 'dead');
CREATE TYPE delivery_state AS ENUM (
    'accepted', 'deferred', 'failed', 'in_doubt', 'suppressed', 'capped', 'expired', 'superseded', 'withdrawn'
);
CREATE TYPE ask_kind AS ENUM ('follow', 'link');
CREATE TYPE notice_kind AS ENUM ('confirm', 'following', 'already', 'link', 'catch_up', 'invitation', 'test', 'override',
                                  'not_sent', 'unscheduled');
CREATE TYPE role AS ENUM ('reporter', 'editor', 'lead');
CREATE TYPE draft_state AS ENUM ('draft', 'submitted', 'returned', 'rejected', 'approved', 'scheduled', 'published');

-- A developing story that readers follow. `in_doubt`: whether a message without an answer is sent again; null: as the
-- installation does. `is_merged`: whoever followed this closed story follows its successor instead. `released_at`: since
-- then nobody follows a closed story any more; until then its last mails may still be on their way, or readers be moved.
CREATE TABLE stories (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(slug) <= 80),
    headline text NOT NULL CHECK (headline <> '' AND length(headline) <= 200),
    summary text NOT NULL DEFAULT '' CHECK (length(summary) <= 500),
    state story_state NOT NULL DEFAULT 'developing',
    successor_id bigint REFERENCES stories,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at timestamptz,
    in_doubt text CHECK (in_doubt IN ('resend', 'hold')),
    is_merged boolean NOT NULL DEFAULT false,
    released_at timestamptz,
    CHECK ((state = 'closed') = (closed_at IS NOT NULL)),
    CONSTRAINT stories_merged_check CHECK (NOT is_merged OR (closed_at IS NOT NULL AND successor_id IS NOT NULL)),
    CONSTRAINT stories_released_check CHECK (released_at IS NULL OR closed_at IS NOT NULL)
);
CREATE INDEX stories_to_release ON stories (id) WHERE state = 'closed' AND released_at IS NULL;
CREATE INDEX stories_by_successor ON stories (successor_id) WHERE successor_id IS NOT NULL;

-- One new development of a story, numbered within it. Below zero stand drills: they reach nobody, and no page of a reader
-- shows them. `local_time`: each reader gets it at this time by their own clock, or at once where that is past.
CREATE TABLE updates (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    story_id bigint NOT NULL REFERENCES stories,
    seq integer NOT NULL CHECK (seq <> 0),
    kind update_kind NOT NULL,
    importance importance NOT NULL,
    headline text NOT NULL CHECK (headline <> '' AND length(headline) <= 200),
    summary text NOT NULL DEFAULT '' CHECK (length(summary) <= 500),
    body text NOT NULL CHECK (octet_length(body) <= 262144),
    corrects bigint REFERENCES updates,
    expires_at timestamptz,
    idempotency_key text UNIQUE CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    content_hash bytea NOT NULL,
    published_by text NOT NULL,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    local_time timestamp,
    UNIQUE (story_id, seq),
    CHECK ((kind::text IN ('correction', 'withdrawal')) = (corrects IS NOT NULL))
);
CREATE INDEX updates_by_corrected ON updates (corrects) WHERE corrects IS NOT NULL;

-- A reader. `address_hash` is a keyed hash of the normalised address: it makes the address unique, and it is all
-- that a suppression keeps of it. Without an address, it is a browser that follows by itself. Paused: nothing is sent
-- until that moment. Quiet: nothing between these times of the reader's day, but breaking news if they let it through.
CREATE TABLE subscribers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text CHECK (length(email) <= 254),
    address_hash bytea UNIQUE,
    name text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
    locale text NOT NULL DEFAULT 'en',
    timezone text NOT NULL DEFAULT 'UTC',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_until timestamptz,
    quiet_from time,
    quiet_to time,
    quiet_breaking boolean NOT NULL DEFAULT true,
    CHECK ((email IS NULL) = (address_hash IS NULL)),
    CONSTRAINT subscribers_quiet_check
        CHECK ((quiet_from IS NULL) = (quiet_to IS NULL) AND (quiet_from IS NULL OR quiet_from <> quiet_to))
);
CREATE INDEX subscribers_by_email ON subscribers (lower(email) COLLATE "C", id);

-- Subscriber × story. An ended subscription stays as a tombstone, so that no import brings back a reader who left.
CREATE TABLE subscriptions (
    story_id bigint NOT NULL REFERENCES stories,
    subscriber_id bigint NOT NULL REFERENCES subscribers ON DELETE CASCADE,
    cadence cadence NOT NULL DEFAULT 'every',
    channels channel[] NOT NULL DEFAULT '{email}',
    last_seq integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    confirmed_at timestamptz,
    ended_at timestamptz,
    ended_reason text,
    PRIMARY KEY (story_id, subscriber_id),
    CHECK ((ended_at IS NULL) = (ended_reason IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX subscriptions_by_subscriber ON subscriptions (subscriber_id);
CREATE INDEX subscriptions_by_push ON subscriptions (story_id)
    WHERE confirmed_at IS NOT NULL AND ended_at IS NULL AND cardinality(channels) > 0 AND channels <> '{email}';

-- A browser that takes pushes (RFC 8030), with the keys to encrypt for it (RFC 8291 §3.1). Its id is drawn from the
-- sequence of subscribers: what a ledger row or a batch names by a number is one thing and no other.
CREATE TABLE devices (
    id bigint PRIMARY KEY DEFAULT nextval('subscribers_id_seq'),
    subscriber_id bigint NOT NULL REFERENCES subscribers ON DELETE CASCADE,
    endpoint text NOT NULL CHECK (length(endpoint) <= 2000),
    endpoint_hash bytea NOT NULL UNIQUE,
    public_key bytea NOT NULL CHECK (octet_length(public_key) = 65),
    auth_secret bytea NOT NULL CHECK (octet_length(auth_secret) = 16),
    name text NOT NULL DEFAULT '' CHECK (length(name) <= 80),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_accepted_at timestamptz
);
CREATE INDEX devices_by_subscriber ON devices (subscriber_id);

-- Who is in the audience of an update by mail, published at `moment`; `is_minor`: it is neither major nor anything but a
-- plain update, which not everybody wants. Plain enough for the planner to see through: no caller pays for the call.
CREATE FUNCTION mail_audience(story bigint, moment timestamptz, is_minor boolean)
RETURNS TABLE (subscriber_id bigint) LANGUAGE sql STABLE AS $$
    SELECT f.subscriber_id
    FROM subscriptions f
    WHERE f.story_id = story AND f.confirmed_at <= moment AND f.ended_at IS NULL AND 'email' = ANY (f.channels)
      AND (f.cadence = 'every' OR (f.cadence = 'major' AND NOT is_minor))
$$;

-- The same by push: to devices, of which a reader may have several, or none. Two conditions more than it needs let it use the
-- index `subscriptions_by_push`.
CREATE FUNCTION push_audience(story bigint, moment timestamptz, is_minor boolean)
RETURNS TABLE (device_id bigint, subscriber_id bigint) LANGUAGE sql STABLE AS $$
    SELECT d.id, f.subscriber_id
    FROM subscriptions f JOIN devices d USING (subscriber_id)
    WHERE f.story_id = story AND f.confirmed_at <= moment AND f.ended_at IS NULL AND 'webpush' = ANY (f.channels)
      AND cardinality(f.channels) > 0 AND f.channels <> '{email}' AND d.created_at <= moment
      AND (f.cadence = 'every' OR (f.cadence = 'major' AND NOT is_minor))
$$;

-- What somebody typed into a form: to follow a story, or to be sent a lost link. Nothing is decided yet, so that no
-- form takes longer for one address than for another. A row is gone once a worker has answered it.
CREATE TABLE asks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind ask_kind NOT NULL,
    email text NOT NULL CHECK (length(email) <= 254),
    address_hash bytea NOT NULL,
    story_id bigint REFERENCES stories,
    cadence cadence NOT NULL DEFAULT 'every',
    catch_up boolean NOT NULL DEFAULT false,
    device_subscriber_id bigint,
    locale text NOT NULL,
    timezone text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((kind = 'follow') = (story_id IS NOT NULL))
);

-- Double opt-in: whoever has the token reads the address's mail. Only its hash is kept. `device_subscriber_id`: the
-- browser that asked, which joins the reader on confirming. `mailbox_hash`: the same for all addresses that end in one
-- mailbox, by which the mails to it are limited.
CREATE TABLE confirmations (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    token_hash bytea NOT NULL UNIQUE,
    email text CHECK (length(email) <= 254),
    address_hash bytea NOT NULL,
    story_id bigint NOT NULL REFERENCES stories,
    cadence cadence NOT NULL,
    catch_up boolean NOT NULL,
    device_subscriber_id bigint,
    locale text NOT NULL,
    timezone text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    mailbox_hash bytea
);
CREATE INDEX confirmations_by_address ON confirmations (address_hash, created_at);
CREATE INDEX confirmations_by_mailbox ON confirmations (mailbox_hash, created_at);
CREATE INDEX confirmations_open ON confirmations (story_id) WHERE used_at IS NULL;

-- Mails to one reader that a person waits for: they go out before everything else. `state` is null until there is an
-- outcome, `next_at` null once nothing more is tried; the address is gone then too, and so is `detail`: what a mail to the
-- desk is about.
CREATE TABLE notices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind notice_kind NOT NULL,
    email text CHECK (length(email) <= 254),
    address_hash bytea NOT NULL,
    subscriber_id bigint,
    story_id bigint REFERENCES stories,
    confirmation_id bigint,
    update_id bigint REFERENCES updates,
    locale text NOT NULL,
    timezone text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    state delivery_state,
    next_at timestamptz DEFAULT clock_timestamp(),
    attempts smallint NOT NULL DEFAULT 0,
    in_doubt_count smallint NOT NULL DEFAULT 0,
    claims smallint NOT NULL DEFAULT 0,
    lease_token bigint,
    lease_until timestamptz,
    worker integer,
    recorded_at timestamptz,
    code smallint,
    relay text,
    reply text,
    detail jsonb NOT NULL DEFAULT '{}',
    CHECK ((lease_token IS NULL) = (lease_until IS NULL) AND (lease_token IS NULL) = (worker IS NULL)),
    CHECK (next_at IS NULL OR email IS NOT NULL)
);
CREATE INDEX notices_due ON notices (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX notices_by_address ON notices (address_hash, created_at);
CREATE INDEX notices_by_update ON notices (update_id) WHERE update_id IS NOT NULL;
CREATE INDEX notices_by_subscriber ON notices (subscriber_id) WHERE subscriber_id IS NOT NULL;

-- Keys that an installation made for itself, sealed under its secret: the database alone is no use to a thief.
CREATE TABLE keys (
    name text PRIMARY KEY,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Addresses that must never be written to again.
CREATE TABLE suppressions (
    address_hash bytea PRIMARY KEY,
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX suppressions_by_time ON suppressions (created_at, address_hash);

-- Each follower of a story whose id is from `first` to below `past`, as the audience counts them. `ways`: 1 by mail, 2 by push,
-- 4 has a device. Plain enough for the planner to see through. The limits stand twice, or whoever counts a part would read
-- all subscribers.
CREATE FUNCTION each_follower(story bigint, first bigint, past bigint)
RETURNS TABLE (address_hash bytea, is_confirmed boolean, cadence cadence, ways integer, is_paused boolean,
               quiet_from time, quiet_to time, quiet_breaking boolean, zone text)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT s.address_hash, f.confirmed_at IS NOT NULL, f.cadence,
           CASE WHEN f.channels = '{email}' THEN 1  -- what most want: arrays are dear to look into
                ELSE CASE WHEN 'email' = ANY (f.channels) THEN 1 ELSE 0 END
                     + CASE WHEN 'webpush' = ANY (f.channels) THEN 2 ELSE 0 END
                     + CASE WHEN EXISTS (SELECT FROM devices d WHERE d.subscriber_id = f.subscriber_id
                                         AND d.subscriber_id >= first AND d.subscriber_id < past)
                            THEN 4 ELSE 0 END
           END,
           coalesce(s.paused_until > statement_timestamp(), false), s.quiet_from, s.quiet_to, s.quiet_breaking,
           CASE WHEN s.quiet_from IS NOT NULL THEN s.timezone END
    FROM subscriptions f JOIN subscribers s ON s.id = f.subscriber_id
    WHERE f.story_id = story AND f.ended_at IS NULL AND f.subscriber_id >= first AND f.subscriber_id < past
      AND s.id >= first AND s.id < past
$$;

-- How many of them there are of each kind. Nobody's address is looked at, since few are suppressed: those are counted once
-- more below, and taken off here. Made so that slices of a large story are counted side by side: Postgres gives each call
-- to a process of its own, where it reads in order what it joins. Hence what looks odd: a price that makes it do so, and a
-- plan for the very slice.
CREATE FUNCTION followers(story bigint, first bigint, past bigint)
RETURNS TABLE (is_confirmed boolean, cadence cadence, ways integer, is_paused boolean, quiet_from time, quiet_to time,
               quiet_breaking boolean, zone text, is_suppressed boolean, readers bigint)
LANGUAGE sql STABLE PARALLEL SAFE COST 1000000 ROWS 100 SET plan_cache_mode = force_custom_plan AS $$
    SELECT f.is_confirmed, f.cadence, f.ways, f.is_paused, f.quiet_from, f.quiet_to, f.quiet_breaking, f.zone,
           false, count(*)
    FROM each_follower(story, first, past) f
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
$$;

-- The same of those who are suppressed, and how many of each kind are so to be taken off.
CREATE FUNCTION suppressed_followers(story bigint)
RETURNS TABLE (is_confirmed boolean, cadence cadence, ways integer, is_paused boolean, quiet_from time, quiet_to time,
               quiet_breaking boolean, zone text, is_suppressed boolean, readers bigint)
LANGUAGE sql STABLE PARALLEL SAFE COST 1000000 ROWS 100 SET plan_cache_mode = force_custom_plan AS $$
    SELECT f.is_confirmed, f.cadence, f.ways, f.is_paused, f.quiet_from, f.quiet_to, f.quiet_breaking, f.zone,
           side.is_suppressed, sum(side.counts)::bigint
    FROM each_follower(story, 0, 9223372036854775807) f JOIN suppressions x USING (address_hash)
    CROSS JOIN (VALUES (true, 1), (false, -1)) AS side (is_suppressed, counts)
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
$$;

-- One update going out on one channel. `candidates` is counted when the audience is frozen, at `frozen_at`: a blast
-- that was paused or cancelled before has none. `steered_by`: who last paused, resumed, cancelled or retried it.
-- `superseded_by`: the update that whoever was not reached gets instead; it is settled once `done_at` is set. `of_blast`:
-- this blast goes to the readers of that one, because it corrects what they received. `is_drill`: everything is done for it,
-- but nothing is handed to a relay.
CREATE TABLE blasts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    update_id bigint NOT NULL REFERENCES updates,
    channel channel NOT NULL,
    urgency smallint NOT NULL,
    state blast_state NOT NULL DEFAULT 'cutting',
    candidates integer CHECK (candidates >= 0),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    frozen_at timestamptz,
    done_at timestamptz,
    steered_by text,
    steered_at timestamptz,
    superseded_by bigint REFERENCES updates,
    of_blast bigint REFERENCES blasts,
    is_drill boolean NOT NULL DEFAULT false,
    UNIQUE (update_id, channel),
    CHECK ((state = 'cutting') = (candidates IS NULL) OR state IN ('paused', 'cancelled'))
);
CREATE INDEX blasts_open ON blasts (urgency, id) WHERE state IN ('cutting', 'sending', 'paused');
CREATE INDEX blasts_cancelled ON blasts (id) WHERE state = 'cancelled';
CREATE INDEX blasts_superseded ON blasts (id) WHERE superseded_by IS NOT NULL AND done_at IS NULL;
CREATE INDEX blasts_by_successor ON blasts (superseded_by) WHERE superseded_by IS NOT NULL;

-- A slice of a blast's audience, with the very ids that were frozen. `attempts` counts claims that never ended. `plain`:
-- its readers never saw what the blast corrects, and get the right text as an update like any other. `starts_at`: the update is
-- sent at a time of its readers' own day, and this is when they have it.
CREATE TABLE batches (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    blast_id bigint NOT NULL REFERENCES blasts ON DELETE CASCADE,
    urgency smallint NOT NULL,
    subscriber_ids bigint[] NOT NULL CHECK (cardinality(subscriber_ids) > 0),
    retry boolean NOT NULL DEFAULT false,
    state batch_state NOT NULL DEFAULT 'waiting',
    attempts smallint NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    lease_token bigint,
    lease_until timestamptz,
    worker integer,
    reason text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    plain boolean NOT NULL DEFAULT false,
    starts_at timestamptz,
    CHECK ((state = 'leased') = (lease_token IS NOT NULL AND lease_until IS NOT NULL AND worker IS NOT NULL))
);
CREATE INDEX batches_claimable ON batches (urgency, blast_id, id) WHERE state IN ('waiting', 'leased');
CREATE INDEX batches_by_blast ON batches (blast_id);
CREATE INDEX batches_dead ON batches (blast_id) WHERE state = 'dead';
CREATE SEQUENCE lease_tokens;
CREATE SEQUENCE worker_numbers AS integer CYCLE;

-- A blast's message compiled once per variant: literal bytes with slots. Every worker sends these same bytes.
CREATE TABLE letters (
    blast_id bigint NOT NULL REFERENCES blasts ON DELETE CASCADE,
    variant text NOT NULL,
    letter bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (blast_id, variant)
);

-- The ledger. No foreign keys: a check per row would lock one blast's row from every worker at once, and the row
-- must outlive an erased subscriber so that the sums stay true. In a push blast, `subscriber_id` is a device's.
CREATE TABLE deliveries (
    blast_id bigint NOT NULL,
    subscriber_id bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    next_at timestamptz,
    state delivery_state NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    in_doubt_count smallint NOT NULL DEFAULT 0,
    code smallint,
    relay text,
    reply text,
    PRIMARY KEY (blast_id, subscriber_id)
);
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX deliveries_unreached ON deliveries (blast_id, state, subscriber_id) WHERE state <> 'accepted';

-- How many outcomes of each kind the ledger holds for a blast, by how long after publishing they were written (`after_ms`
-- is where its slot begins) and at which relay: the sum over a blast is what counting its ledger would give, for the
-- ledger's own triggers count. Each session has rows of its own, so that no two wait for each other; where one takes back
-- what another has counted, a row is below zero. `seconds`: from publishing, of all together. `first_at` and `last_at`
-- hold for acceptances, which are never taken back.
CREATE TABLE progress (
    blast_id bigint NOT NULL,
    session integer NOT NULL,
    after_ms bigint NOT NULL,
    state delivery_state NOT NULL,
    relay text NOT NULL,
    count bigint NOT NULL,
    seconds double precision NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (blast_id, session, after_ms, state, relay)
) WITH (fillfactor = 50);

-- Where the slot begins, in milliseconds, that so many seconds fall into: the later, the wider. Every bound that
-- acceptances are sorted by for the metrics is the bound of a slot.
CREATE FUNCTION progress_slot(seconds double precision) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN seconds IS NULL OR seconds < 0 THEN 0
                WHEN seconds < 1 THEN floor(seconds * 20) * 50
                WHEN seconds < 5 THEN floor(seconds * 10) * 100
                WHEN seconds < 60 THEN floor(seconds) * 1000
                WHEN seconds < 600 THEN floor(seconds / 5) * 5000
                WHEN seconds < 7200 THEN floor(seconds / 60) * 60000
                ELSE floor(seconds / 600) * 600000 END::bigint
$$;

-- Adds rows to `progress`, or takes them off.
CREATE FUNCTION count_progress() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO progress AS p (blast_id, session, after_ms, state, relay, count, seconds, first_at, last_at)
    SELECT blast_id, pg_backend_pid(), progress_slot(seconds), state, relay, TG_ARGV[0]::integer * count(*),
           TG_ARGV[0]::integer * sum(seconds), min(recorded_at), max(recorded_at)
    FROM (SELECT c.blast_id, c.state, coalesce(c.relay, '') AS relay, c.recorded_at,
                 greatest(coalesce(date_part('epoch', c.recorded_at - u.published_at), 0), 0) AS seconds
          FROM changed c LEFT JOIN blasts b ON b.id = c.blast_id LEFT JOIN updates u ON u.id = b.update_id) AS timed
    GROUP BY 1, 3, 4, 5
    ON CONFLICT (blast_id, session, after_ms, state, relay) DO UPDATE
    SET count = p.count + excluded.count, seconds = p.seconds + excluded.seconds,
        first_at = least(p.first_at, excluded.first_at), last_at = greatest(p.last_at, excluded.last_at);
    RETURN NULL;
END $$;
CREATE TRIGGER deliveries_count_new AFTER INSERT ON deliveries REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION count_progress('1');
CREATE TRIGGER deliveries_count_gone AFTER DELETE ON deliveries REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION count_progress('-1');

-- An update whose readers stay in their slot, such as one of the time of their next try, writes nothing here.
CREATE FUNCTION move_progress() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM after) THEN
        RETURN NULL;
    END IF;
    INSERT INTO progress AS p (blast_id, session, after_ms, state, relay, count, seconds, first_at, last_at)
    SELECT blast_id, pg_backend_pid(), progress_slot(seconds), state, relay, sum(sign), sum(sign * seconds),
           min(recorded_at), max(recorded_at)
    FROM (SELECT c.blast_id, c.state, coalesce(c.relay, '') AS relay, c.recorded_at, c.sign,
                 greatest(coalesce(date_part('epoch', c.recorded_at - u.published_at), 0), 0) AS seconds
          FROM (SELECT blast_id, state, relay, recorded_at, 1 AS sign FROM after
                UNION ALL
                SELECT blast_id, state, relay, recorded_at, -1 FROM before) AS c
          LEFT JOIN blasts b ON b.id = c.blast_id LEFT JOIN updates u ON u.id = b.update_id) AS timed
    GROUP BY 1, 3, 4, 5 HAVING sum(sign) <> 0
    ON CONFLICT (blast_id, session, after_ms, state, relay) DO UPDATE
    SET count = p.count + excluded.count, seconds = p.seconds + excluded.seconds,
        first_at = least(p.first_at, excluded.first_at), last_at = greatest(p.last_at, excluded.last_at);
    RETURN NULL;
END $$;
CREATE TRIGGER deliveries_count_changed AFTER UPDATE ON deliveries REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION move_progress();

-- All that the web process may do to the ledger, where it has a role of its own (see `roles.sql`): try readers again, give
-- up those of a cancelled blast, and forget what was answered about a reader. They run with the rights of the owner.
CREATE FUNCTION retriable_readers(p_blast_id bigint, p_story_id bigint, p_states delivery_state[])
RETURNS TABLE (subscriber_id bigint, version xid, state delivery_state, code integer, status text, words text,
               reply text, reachable boolean) LANGUAGE sql STABLE AS $$
    SELECT d.subscriber_id, d.xmin, d.state, d.code::integer,
           CASE WHEN d.code IS NULL THEN ''
                ELSE coalesce(substring(d.reply FROM '^[245][.][0-9]{1,3}[.][0-9]{1,3}'), '') END,
           CASE WHEN d.code IS NULL THEN coalesce(left(d.reply, 120), '') ELSE '' END, d.reply,
           (s.email IS NOT NULL OR v.id IS NOT NULL) AND f.subscriber_id IS NOT NULL AND x.address_hash IS NULL
    FROM deliveries d
    LEFT JOIN devices v ON v.id = d.subscriber_id
    LEFT JOIN subscribers s ON s.id = coalesce(v.subscriber_id, d.subscriber_id)
    LEFT JOIN subscriptions f
           ON f.story_id = p_story_id AND f.subscriber_id = s.id
          AND (f.ended_at IS NULL OR f.ended_reason IN ('story closed', 'story merged'))
    LEFT JOIN suppressions x ON x.address_hash = s.address_hash
    WHERE d.blast_id = p_blast_id AND d.state = ANY (p_states) AND d.state <> 'accepted' AND d.next_at IS NULL
      AND NOT (d.state = 'in_doubt' AND d.subscriber_id IN (
          SELECT unnest(b.subscriber_ids) FROM batches b
          WHERE b.blast_id = p_blast_id AND b.retry AND b.state IN ('waiting', 'leased')))
$$;
CREATE FUNCTION retry_readers(p_blast_id bigint, p_story_id bigint, p_states delivery_state[], p_reason text,
                              p_lowest integer, p_highest integer, p_codes integer[], p_statuses text[],
                              p_words text[], p_most_doubts integer, p_dry_run boolean)
RETURNS TABLE (count bigint, left_out bigint) LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH chosen AS (
        SELECT r.subscriber_id, r.version, r.reachable
        FROM retriable_readers(p_blast_id, p_story_id, p_states) r
        WHERE (p_reason IS NULL OR coalesce(nullif(r.reply, ''), r.state::text) = p_reason)
          AND (p_lowest IS NULL OR r.code BETWEEN p_lowest AND p_highest)
          AND (p_codes IS NULL
               OR (coalesce(r.code, -1), r.status, r.words) IN (SELECT * FROM unnest(p_codes, p_statuses, p_words)))
    ), tried AS (
        UPDATE deliveries d SET next_at = clock_timestamp(), attempts = 0,
            state = CASE WHEN d.in_doubt_count > 0 THEN 'in_doubt' ELSE 'deferred' END::delivery_state,
            in_doubt_count = least(d.in_doubt_count, p_most_doubts)
        FROM chosen c
        WHERE NOT p_dry_run AND c.reachable
          AND d.blast_id = p_blast_id AND d.subscriber_id = c.subscriber_id AND d.xmin = c.version
        RETURNING 1
    )
    SELECT CASE WHEN p_dry_run THEN count(*) FILTER (WHERE reachable) ELSE (SELECT count(*) FROM tried) END AS count,
           count(*) FILTER (WHERE NOT reachable) AS left_out
    FROM chosen;
$$;

CREATE FUNCTION end_cancelled() RETURNS SETOF bigint LANGUAGE sql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
    WITH closed AS (
        UPDATE batches SET state = 'done', reason = 'the blast was cancelled'
        WHERE state = 'waiting' AND blast_id IN (SELECT id FROM blasts WHERE state = 'cancelled')
        RETURNING blast_id, subscriber_ids, retry, attempts > 0 AS is_doubtful
    ), doubtful AS (
        SELECT blast_id, unnest(subscriber_ids) AS subscriber_id FROM closed WHERE is_doubtful
    ), doubted AS (
        INSERT INTO deliveries AS d (blast_id, subscriber_id, recorded_at, state, in_doubt_count, reply)
        SELECT blast_id, subscriber_id, clock_timestamp(), 'in_doubt', 1, 'its worker died while it may have been sent'
        FROM doubtful
        ON CONFLICT (blast_id, subscriber_id) DO UPDATE
        SET next_at = NULL, state = 'in_doubt', in_doubt_count = greatest(d.in_doubt_count, 1)
        WHERE d.state IN ('deferred', 'in_doubt')
    ), given_up AS (
        (SELECT blast_id, unnest(subscriber_ids) AS subscriber_id FROM closed WHERE retry
         UNION
         SELECT blast_id, subscriber_id FROM deliveries
         WHERE next_at IS NOT NULL AND blast_id IN (
             SELECT id FROM blasts WHERE state = 'cancelled' AND steered_at > clock_timestamp() - interval '1 minute')
         UNION
         SELECT blast_id, subscriber_id FROM deliveries
         WHERE next_at <= clock_timestamp() AND blast_id IN (SELECT id FROM blasts WHERE state = 'cancelled'))
        EXCEPT
        SELECT blast_id, subscriber_id FROM doubtful
    )
    UPDATE deliveries d SET next_at = NULL,
        state = CASE d.state WHEN 'deferred' THEN 'failed' ELSE d.state END,
        reply = CASE d.state
            WHEN 'deferred' THEN 'cancelled before the next try; before: ' || coalesce(nullif(d.reply, ''), 'no reply')
            ELSE d.reply END
    FROM given_up g
    WHERE d.blast_id = g.blast_id AND d.subscriber_id = g.subscriber_id AND d.state IN ('deferred', 'in_doubt')
    RETURNING d.subscriber_id;
$$;

CREATE FUNCTION forget_replies(p_subscriber_id bigint) RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
    UPDATE deliveries SET reply = NULL
    WHERE blast_id = ANY (ARRAY(
            SELECT b.id FROM subscriptions f
            JOIN updates u ON u.story_id = f.story_id JOIN blasts b ON b.update_id = u.id
            WHERE f.subscriber_id = p_subscriber_id))
      AND subscriber_id = ANY (ARRAY(
            SELECT p_subscriber_id
            UNION ALL SELECT d.id FROM devices d WHERE d.subscriber_id = p_subscriber_id))
      AND reply IS NOT NULL;
$$;
REVOKE EXECUTE ON FUNCTION retry_readers, end_cancelled, forget_replies FROM PUBLIC;

-- What may call the API, and for what (`scopes`). Only a hash of the token is kept, and its first characters to know it by.
CREATE TABLE api_tokens (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> '' AND length(name) <= 80),
    token_hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz,
    scopes text[] NOT NULL DEFAULT '{publish,read,steer}',
    prefix text NOT NULL DEFAULT '',
    created_by text NOT NULL DEFAULT '',
    used_at timestamptz
);

-- Letters that could not be made, so that a broken template stops its own readers and nobody waits for it for ever.
CREATE TABLE letter_failures (
    blast_id bigint NOT NULL REFERENCES blasts ON DELETE CASCADE,
    variant text NOT NULL,
    failures smallint NOT NULL,
    reason text NOT NULL,
    failed_at timestamptz NOT NULL,
    PRIMARY KEY (blast_id, variant)
);

-- Relays that some worker's circuit is open for: all workers together make one probe at a time.
CREATE TABLE relays (
    name text PRIMARY KEY,
    probe_at timestamptz NOT NULL
);

-- How each worker process finds each relay, as it last said. Rows of workers that are gone are removed.
CREATE TABLE relay_reports (
    worker integer NOT NULL,
    relay text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    circuit text NOT NULL CHECK (circuit IN ('closed', 'open', 'half_open')),
    reason text NOT NULL,
    since timestamptz NOT NULL,
    lanes integer NOT NULL,
    busy integer NOT NULL,
    overdue integer NOT NULL,
    reported_at timestamptz NOT NULL,
    PRIMARY KEY (worker, relay)
);

-- What an operator has to know: something that is not well, from when to when, in words.
CREATE TABLE incidents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    subject text NOT NULL,
    text text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at timestamptz
);
CREATE UNIQUE INDEX incidents_open ON incidents (kind, subject) WHERE closed_at IS NULL;

-- What became of a blast that is done, counted once, so that nobody has to count its ledger again.
-- `buckets`: acceptances by the time they took; null for every other state.
CREATE TABLE tallies (
    blast_id bigint NOT NULL REFERENCES blasts ON DELETE CASCADE,
    relay text NOT NULL,
    state delivery_state NOT NULL,
    count bigint NOT NULL,
    buckets bigint[],
    seconds double precision,
    counted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (blast_id, relay, state)
);

-- Moments that all processes share: when the monitor last looked round, when it last saw a worker alive.
CREATE TABLE moments (
    name text PRIMARY KEY,
    at timestamptz NOT NULL
);

-- A page is written here and given up to prove that the database takes writes and its disk has room.
CREATE TABLE proofs (
    filler text NOT NULL
);
ALTER TABLE proofs ALTER COLUMN filler SET STORAGE PLAIN;

-- Workers listen on the channel `dispatcher`: they hear within milliseconds what they must not go on doing.
CREATE FUNCTION tell_blast() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dispatcher', 'blast:' || NEW.id || ':'
        || CASE WHEN NEW.is_drill AND NEW.state = 'cutting' THEN 'drill' ELSE NEW.state::text END);
    RETURN NULL;
END $$;
CREATE TRIGGER blasts_tell AFTER INSERT OR UPDATE OF state ON blasts
    FOR EACH ROW WHEN (NEW.state <> 'done') EXECUTE FUNCTION tell_blast();

CREATE FUNCTION tell_left() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dispatcher', 'left:' || OLD.subscriber_id);
    RETURN NULL;
END $$;
-- Where a story ends for all of them nothing is on its way any more, so nobody need be told a million times.
CREATE TRIGGER subscriptions_tell_ended AFTER UPDATE OF ended_at ON subscriptions
    FOR EACH ROW WHEN (NEW.ended_reason IS DISTINCT FROM OLD.ended_reason
                       AND NEW.ended_reason NOT IN ('story closed', 'story merged')) EXECUTE FUNCTION tell_left();
CREATE TRIGGER subscriptions_tell_gone AFTER DELETE ON subscriptions
    FOR EACH ROW WHEN (OLD.ended_at IS NULL) EXECUTE FUNCTION tell_left();

CREATE FUNCTION tell_suppressed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dispatcher', 'left:' || id) FROM subscribers WHERE address_hash = NEW.address_hash;
    RETURN NULL;
END $$;
CREATE TRIGGER suppressions_tell AFTER INSERT ON suppressions
    FOR EACH ROW EXECUTE FUNCTION tell_suppressed();

-- Somebody is owed a mail: whoever may send it looks at once.
CREATE FUNCTION tell_table() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dispatcher', TG_TABLE_NAME || ':');
    RETURN NULL;
END $$;

-- Somebody asked. Where others wait already, all workers have been told, and one of them answers until nobody is left: in
-- a rush, telling every worker of everybody cost more than the answers.
CREATE FUNCTION tell_asks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM (SELECT FROM asks LIMIT 2) AS waiting) < 2 THEN
        PERFORM pg_notify('dispatcher', 'asks:');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER asks_tell AFTER INSERT ON asks FOR EACH STATEMENT EXECUTE FUNCTION tell_asks();
CREATE TRIGGER notices_tell AFTER INSERT ON notices FOR EACH STATEMENT EXECUTE FUNCTION tell_table();

-- Who pauses, and a device that is removed, are looked at again by a blast that is running.
CREATE FUNCTION tell_paused() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dispatcher', 'left:' || NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER subscribers_tell_paused AFTER UPDATE OF paused_until ON subscribers
    FOR EACH ROW WHEN (NEW.paused_until IS NOT NULL) EXECUTE FUNCTION tell_paused();

CREATE FUNCTION tell_device_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dispatcher', 'left:' || OLD.id);
    RETURN NULL;
END $$;
CREATE TRIGGER devices_tell_gone AFTER DELETE ON devices FOR EACH ROW EXECUTE FUNCTION tell_device_gone();

-- Who works at the desk. `totp_last_step`: the last code that was used, which is not taken again (RFC 6238 §5.2). Somebody
-- who has left stays, because the log names them.
CREATE TABLE people (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL UNIQUE CHECK (length(email) <= 254),
    name text NOT NULL CHECK (name <> '' AND length(name) <= 100),
    role role NOT NULL,
    password_hash text,
    totp_sealed bytea,
    totp_last_step bigint,
    recovery_hashes bytea[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    signed_in_at timestamptz,
    ended_at timestamptz
);

-- Who is signed in where. Only a hash of the cookie is kept. `is_half`: the password was right, and the code is still to
-- come.
CREATE TABLE sessions (
    token_hash bytea PRIMARY KEY,
    person_id bigint NOT NULL REFERENCES people ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    browser text NOT NULL DEFAULT '' CHECK (length(browser) <= 80),
    is_half boolean NOT NULL DEFAULT false
);
CREATE INDEX sessions_by_person ON sessions (person_id);

-- Links by mail to become one of the desk, or to choose a new password.
CREATE TABLE invitations (
    token_hash bytea PRIMARY KEY,
    email text NOT NULL CHECK (length(email) <= 254),
    role role NOT NULL,
    invited_by text NOT NULL,
    is_reset boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);

-- Tries that failed, for ten of them in a quarter of an hour are enough; by a keyed hash, for accounts that exist or not.
CREATE TABLE sign_in_attempts (
    account_hash bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX sign_in_attempts_by_account ON sign_in_attempts (account_hash, at);

-- Files of readers that the desk has handed in, and how far each has come. `counts`: what an import counts, once it does.
-- Nothing is imported of a file that is not good, unless `leaves_out` allows to leave its bad lines out.
CREATE TABLE imports (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    story_id bigint NOT NULL REFERENCES stories,
    name text NOT NULL CHECK (length(name) <= 80),
    size bigint NOT NULL,
    by text NOT NULL,
    confirmed boolean NOT NULL,
    leaves_out boolean NOT NULL,
    state text NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'checking', 'importing', 'done', 'refused', 'failed')),
    bytes_read bigint NOT NULL DEFAULT 0,
    counts jsonb NOT NULL DEFAULT '{}',
    reason text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);

-- Lines of such a file that were not imported, and why: never what stands in them.
CREATE TABLE import_lines (
    import_id bigint NOT NULL REFERENCES imports ON DELETE CASCADE,
    line bigint NOT NULL,
    field text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    PRIMARY KEY (import_id, line)
);

-- What leads have set: when a second person has to approve, and for how many readers.
CREATE TABLE desk_settings (
    name text PRIMARY KEY,
    value jsonb NOT NULL
);

-- An update that is being written. `version` counts saves, so that nobody overwrites what they have not seen. `key` is
-- what it is published under, so that one draft is one update however often its button is pressed. `approved_hash`: the
-- exact content and audience rule that a second person approved; whatever changes it voids that. `is_override`: a lead
-- sent it without waiting for one. `send_local`: scheduled for this time by each reader's own clock; `send_at` is then when
-- it begins. `successor_id`: the story that readers are offered when this update ends theirs. `handed_in_by`: the API token
-- that brought it, and `handed_in_hash` what it brought: such a draft has no author where nobody of the desk made the token.
-- `missed_at`: it was to go out then and could not, and nobody has seen to it since.
CREATE TABLE drafts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    story_id bigint NOT NULL REFERENCES stories,
    kind update_kind NOT NULL DEFAULT 'update',
    importance importance NOT NULL DEFAULT 'routine',
    headline text NOT NULL DEFAULT '' CHECK (length(headline) <= 200),
    summary text NOT NULL DEFAULT '' CHECK (length(summary) <= 500),
    body text NOT NULL DEFAULT '' CHECK (octet_length(body) <= 262144),
    corrects bigint REFERENCES updates,
    replaces boolean NOT NULL DEFAULT false,
    expires_in interval,
    state draft_state NOT NULL DEFAULT 'draft',
    version integer NOT NULL DEFAULT 1,
    key uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    author bigint REFERENCES people,
    last_editor bigint REFERENCES people,
    submitted_by bigint REFERENCES people,
    submitted_at timestamptz,
    approved_by bigint REFERENCES people,
    approved_at timestamptz,
    approved_hash bytea,
    reason text CHECK (length(reason) <= 1000),
    send_at timestamptz,
    update_id bigint REFERENCES updates,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    send_local timestamp,
    successor_id bigint REFERENCES stories,
    is_override boolean NOT NULL DEFAULT false,
    scheduled_by bigint REFERENCES people,
    handed_in_by text,
    handed_in_hash bytea,
    missed_at timestamptz,
    CHECK ((state = 'scheduled') = (send_at IS NOT NULL)),
    CHECK ((state = 'published') = (update_id IS NOT NULL)),
    CHECK ((approved_by IS NULL) = (approved_hash IS NULL)),
    CONSTRAINT drafts_author_check CHECK ((author IS NOT NULL AND last_editor IS NOT NULL) OR handed_in_by IS NOT NULL),
    CONSTRAINT drafts_scheduled_check CHECK ((state = 'scheduled') = (scheduled_by IS NOT NULL))
);
CREATE INDEX drafts_by_story ON drafts (story_id) WHERE state <> 'published';
CREATE INDEX drafts_due ON drafts (send_at) WHERE send_at IS NOT NULL;
CREATE INDEX drafts_by_update ON drafts (update_id) WHERE update_id IS NOT NULL;

-- What a draft said in its last versions, so that whoever comes back to another one is shown what has changed. They are
-- gone once it is published.
CREATE TABLE revisions (
    draft_id bigint NOT NULL REFERENCES drafts ON DELETE CASCADE,
    version integer NOT NULL,
    text jsonb NOT NULL,
    editor bigint REFERENCES people,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (draft_id, version)
);

-- Who has a draft open.
CREATE TABLE presences (
    draft_id bigint NOT NULL REFERENCES drafts ON DELETE CASCADE,
    person_id bigint NOT NULL REFERENCES people ON DELETE CASCADE,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (draft_id, person_id)
);

-- Who did what to what: only ever added to.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL DEFAULT '',
    content_hash bytea,
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_by_subject ON audit (subject, id);
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log of the desk is only added to';
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
