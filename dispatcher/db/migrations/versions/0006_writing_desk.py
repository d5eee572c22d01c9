"""What writing, approving, watching, withdrawing and rehearsing at the desk need.

Revision ID: 0006
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UP = """
ALTER TYPE update_kind ADD VALUE 'withdrawal';
ALTER TYPE notice_kind ADD VALUE 'invitation';
ALTER TYPE notice_kind ADD VALUE 'test';
ALTER TYPE notice_kind ADD VALUE 'override';
ALTER TYPE notice_kind ADD VALUE 'not_sent';
ALTER TYPE notice_kind ADD VALUE 'unscheduled';

ALTER TABLE updates DROP CONSTRAINT updates_check, DROP CONSTRAINT updates_seq_check,
    ADD COLUMN local_time timestamp,
    ADD CONSTRAINT updates_check CHECK ((kind::text IN ('correction', 'withdrawal')) = (corrects IS NOT NULL)),
    ADD CONSTRAINT updates_seq_check CHECK (seq <> 0);
CREATE INDEX updates_by_corrected ON updates (corrects) WHERE corrects IS NOT NULL;
ALTER TABLE blasts ADD COLUMN is_drill boolean NOT NULL DEFAULT false;

ALTER TABLE drafts ADD COLUMN send_local timestamp, ADD COLUMN successor_id bigint REFERENCES stories,
    ADD COLUMN is_override boolean NOT NULL DEFAULT false, ADD COLUMN scheduled_by bigint REFERENCES people,
    ADD COLUMN handed_in_by text, ADD COLUMN handed_in_hash bytea, ADD COLUMN missed_at timestamptz,
    ALTER COLUMN author DROP NOT NULL, ALTER COLUMN last_editor DROP NOT NULL,
    ADD CONSTRAINT drafts_author_check
        CHECK ((author IS NOT NULL AND last_editor IS NOT NULL) OR handed_in_by IS NOT NULL),
    ADD CONSTRAINT drafts_scheduled_check CHECK ((state = 'scheduled') = (scheduled_by IS NOT NULL));
CREATE TABLE revisions (
    draft_id bigint NOT NULL REFERENCES drafts ON DELETE CASCADE,
    version integer NOT NULL,
    text jsonb NOT NULL,
    editor bigint REFERENCES people,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (draft_id, version)
);
CREATE INDEX drafts_by_update ON drafts (update_id) WHERE update_id IS NOT NULL;
ALTER TABLE notices ADD COLUMN detail jsonb NOT NULL DEFAULT '{}';

ALTER TABLE stories ADD COLUMN is_merged boolean NOT NULL DEFAULT false, ADD COLUMN released_at timestamptz,
    ADD CONSTRAINT stories_merged_check CHECK (NOT is_merged OR (closed_at IS NOT NULL AND successor_id IS NOT NULL)),
    ADD CONSTRAINT stories_released_check CHECK (released_at IS NULL OR closed_at IS NOT NULL);
CREATE INDEX stories_to_release ON stories (id) WHERE state = 'closed' AND released_at IS NULL;
CREATE INDEX stories_by_successor ON stories (successor_id) WHERE successor_id IS NOT NULL;
DROP TRIGGER subscriptions_tell_ended ON subscriptions;
CREATE TRIGGER subscriptions_tell_ended AFTER UPDATE OF ended_at ON subscriptions
    FOR EACH ROW WHEN (NEW.ended_reason IS DISTINCT FROM OLD.ended_reason
                       AND NEW.ended_reason NOT IN ('story closed', 'story merged')) EXECUTE FUNCTION tell_left();

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
CREATE FUNCTION progress_slot(seconds double precision) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN seconds IS NULL OR seconds < 0 THEN 0
                WHEN seconds < 1 THEN floor(seconds * 20) * 50
                WHEN seconds < 5 THEN floor(seconds * 10) * 100
                WHEN seconds < 60 THEN floor(seconds) * 1000
                WHEN seconds < 600 THEN floor(seconds / 5) * 5000
                WHEN seconds < 7200 THEN floor(seconds / 60) * 60000
                ELSE floor(seconds / 600) * 600000 END::bigint
$$;

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
CREATE INDEX confirmations_open ON confirmations (story_id) WHERE used_at IS NULL;
ALTER TABLE confirmations ADD COLUMN mailbox_hash bytea;
CREATE INDEX confirmations_by_mailbox ON confirmations (mailbox_hash, created_at);

CREATE OR REPLACE FUNCTION tell_blast() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dispatcher', 'blast:' || NEW.id || ':'
        || CASE WHEN NEW.is_drill AND NEW.state = 'cutting' THEN 'drill' ELSE NEW.state::text END);
    RETURN NULL;
END $$;

ALTER TABLE batches ADD COLUMN starts_at timestamptz;
CREATE FUNCTION mail_audience(story bigint, moment timestamptz, is_minor boolean)
RETURNS TABLE (subscriber_id bigint) LANGUAGE sql STABLE AS $$
    SELECT f.subscriber_id
    FROM subscriptions f
    WHERE f.story_id = story AND f.confirmed_at <= moment AND f.ended_at IS NULL AND 'email' = ANY (f.channels)
      AND (f.cadence = 'every' OR (f.cadence = 'major' AND NOT is_minor))
$$;

CREATE FUNCTION push_audience(story bigint, moment timestamptz, is_minor boolean)
RETURNS TABLE (device_id bigint, subscriber_id bigint) LANGUAGE sql STABLE AS $$
    SELECT d.id, f.subscriber_id
    FROM subscriptions f JOIN devices d USING (subscriber_id)
    WHERE f.story_id = story AND f.confirmed_at <= moment AND f.ended_at IS NULL AND 'webpush' = ANY (f.channels)
      AND cardinality(f.channels) > 0 AND f.channels <> '{email}' AND d.created_at <= moment
      AND (f.cadence = 'every' OR (f.cadence = 'major' AND NOT is_minor))
$$;
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
CREATE FUNCTION followers(story bigint, first bigint, past bigint)
RETURNS TABLE (is_confirmed boolean, cadence cadence, ways integer, is_paused boolean, quiet_from time, quiet_to time,
               quiet_breaking boolean, zone text, is_suppressed boolean, readers bigint)
LANGUAGE sql STABLE PARALLEL SAFE COST 1000000 ROWS 100 SET plan_cache_mode = force_custom_plan AS $$
    SELECT f.is_confirmed, f.cadence, f.ways, f.is_paused, f.quiet_from, f.quiet_to, f.quiet_breaking, f.zone,
           false, count(*)
    FROM each_follower(story, first, past) f
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
$$;
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
CREATE INDEX suppressions_by_time ON suppressions (created_at, address_hash);
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
CREATE TABLE import_lines (
    import_id bigint NOT NULL REFERENCES imports ON DELETE CASCADE,
    line bigint NOT NULL,
    field text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    PRIMARY KEY (import_id, line)
);
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
"""

# A value cannot be taken from a type, so the types are made anew.
DOWN = """
DROP FUNCTION retry_readers, retriable_readers, end_cancelled, forget_replies;
DROP TABLE import_lines, imports;
DROP INDEX suppressions_by_time;
CREATE OR REPLACE FUNCTION tell_blast() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dispatcher', 'blast:' || NEW.id || ':' || NEW.state);
    RETURN NULL;
END $$;
DROP FUNCTION followers(bigint, bigint, bigint);
DROP FUNCTION suppressed_followers(bigint);
DROP FUNCTION each_follower(bigint, bigint, bigint);
DROP FUNCTION mail_audience(bigint, timestamptz, boolean);
DROP FUNCTION push_audience(bigint, timestamptz, boolean);
ALTER TABLE batches DROP COLUMN starts_at;
DROP INDEX confirmations_open;
ALTER TABLE confirmations DROP COLUMN mailbox_hash;
DROP TRIGGER deliveries_count_new ON deliveries;
DROP TRIGGER deliveries_count_gone ON deliveries;
DROP TRIGGER deliveries_count_changed ON deliveries;
DROP FUNCTION count_progress();
DROP FUNCTION move_progress();
DROP FUNCTION progress_slot(double precision);
DROP TABLE progress;
DELETE FROM notices WHERE kind::text IN ('invitation', 'test', 'override', 'not_sent', 'unscheduled');
ALTER TABLE notices DROP COLUMN detail;
DROP TRIGGER subscriptions_tell_ended ON subscriptions;
CREATE TRIGGER subscriptions_tell_ended AFTER UPDATE OF ended_at ON subscriptions
    FOR EACH ROW WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL) EXECUTE FUNCTION tell_left();
DROP INDEX stories_by_successor;
ALTER TABLE stories DROP COLUMN is_merged, DROP COLUMN released_at;
DROP INDEX drafts_by_update;
DROP TABLE revisions;
DELETE FROM drafts WHERE author IS NULL OR last_editor IS NULL;
ALTER TABLE drafts DROP COLUMN missed_at, DROP COLUMN send_local, DROP COLUMN successor_id, DROP COLUMN is_override,
    DROP COLUMN scheduled_by,
    DROP COLUMN handed_in_by, DROP COLUMN handed_in_hash,
    ALTER COLUMN author SET NOT NULL, ALTER COLUMN last_editor SET NOT NULL;
DELETE FROM deliveries WHERE blast_id IN (SELECT id FROM blasts WHERE is_drill);
DELETE FROM blasts WHERE is_drill;
ALTER TABLE blasts DROP COLUMN is_drill;
DROP INDEX updates_by_corrected;
DELETE FROM updates WHERE seq < 0;
UPDATE updates SET kind = 'correction' WHERE kind::text = 'withdrawal';
UPDATE drafts SET kind = 'correction' WHERE kind::text = 'withdrawal';
ALTER TABLE updates DROP CONSTRAINT updates_check, DROP CONSTRAINT updates_seq_check, DROP COLUMN local_time;
ALTER TYPE update_kind RENAME TO update_kind_with_withdrawal;
CREATE TYPE update_kind AS ENUM ('update', 'correction', 'final');
ALTER TABLE updates ALTER COLUMN kind TYPE update_kind USING kind::text::update_kind;
ALTER TABLE drafts ALTER COLUMN kind DROP DEFAULT, ALTER COLUMN kind TYPE update_kind USING kind::text::update_kind,
    ALTER COLUMN kind SET DEFAULT 'update';
DROP TYPE update_kind_with_withdrawal;
ALTER TABLE updates ADD CONSTRAINT updates_check CHECK ((kind = 'correction') = (corrects IS NOT NULL)),
    ADD CONSTRAINT updates_seq_check CHECK (seq > 0);
ALTER TYPE notice_kind RENAME TO notice_kind_of_the_desk;
CREATE TYPE notice_kind AS ENUM ('confirm', 'following', 'already', 'link', 'catch_up');
ALTER TABLE notices ALTER COLUMN kind TYPE notice_kind USING kind::text::notice_kind;
DROP TYPE notice_kind_of_the_desk;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWN)
