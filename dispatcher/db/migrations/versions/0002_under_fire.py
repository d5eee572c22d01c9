"""What the engine needs under fire: relay circuits, incidents, tallies, and news that workers listen to.

Revision ID: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE stories ADD COLUMN in_doubt text CHECK (in_doubt IN ('resend', 'hold'));

ALTER TABLE blasts ADD COLUMN steered_by text, ADD COLUMN steered_at timestamptz;
ALTER TABLE blasts DROP CONSTRAINT blasts_check,
    ADD CONSTRAINT blasts_check CHECK ((state = 'cutting') = (candidates IS NULL) OR state IN ('paused', 'cancelled'));
CREATE INDEX blasts_cancelled ON blasts (id) WHERE state = 'cancelled';

CREATE TABLE letter_failures (
    blast_id bigint NOT NULL REFERENCES blasts ON DELETE CASCADE,
    variant text NOT NULL,
    failures smallint NOT NULL,
    reason text NOT NULL,
    failed_at timestamptz NOT NULL,
    PRIMARY KEY (blast_id, variant)
);

CREATE TABLE relays (
    name text PRIMARY KEY,
    probe_at timestamptz NOT NULL
);

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

CREATE TABLE incidents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    subject text NOT NULL,
    text text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at timestamptz
);
CREATE UNIQUE INDEX incidents_open ON incidents (kind, subject) WHERE closed_at IS NULL;

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

CREATE TABLE moments (
    name text PRIMARY KEY,
    at timestamptz NOT NULL
);

CREATE TABLE proofs (
    filler text NOT NULL
);
ALTER TABLE proofs ALTER COLUMN filler SET STORAGE PLAIN;

CREATE INDEX batches_dead ON batches (blast_id) WHERE state = 'dead';

CREATE FUNCTION tell_blast() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dispatcher', 'blast:' || NEW.id || ':' || NEW.state);
    RETURN NULL;
END $$;
CREATE TRIGGER blasts_tell AFTER INSERT OR UPDATE OF state ON blasts
    FOR EACH ROW WHEN (NEW.state <> 'done') EXECUTE FUNCTION tell_blast();

CREATE FUNCTION tell_left() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dispatcher', 'left:' || OLD.subscriber_id);
    RETURN NULL;
END $$;
CREATE TRIGGER subscriptions_tell_ended AFTER UPDATE OF ended_at ON subscriptions
    FOR EACH ROW WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL) EXECUTE FUNCTION tell_left();
CREATE TRIGGER subscriptions_tell_gone AFTER DELETE ON subscriptions
    FOR EACH ROW WHEN (OLD.ended_at IS NULL) EXECUTE FUNCTION tell_left();

CREATE FUNCTION tell_suppressed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dispatcher', 'left:' || id) FROM subscribers WHERE address_hash = NEW.address_hash;
    RETURN NULL;
END $$;
CREATE TRIGGER suppressions_tell AFTER INSERT ON suppressions
    FOR EACH ROW EXECUTE FUNCTION tell_suppressed();
"""

DOWN = """
DROP TRIGGER blasts_tell ON blasts;
DROP TRIGGER subscriptions_tell_ended ON subscriptions;
DROP TRIGGER subscriptions_tell_gone ON subscriptions;
DROP TRIGGER suppressions_tell ON suppressions;
DROP FUNCTION tell_blast, tell_left, tell_suppressed;
DROP INDEX batches_dead;
DROP TABLE proofs, moments, tallies, incidents, relay_reports, relays, letter_failures;
DROP INDEX blasts_cancelled;
UPDATE blasts SET state = 'cancelled' WHERE state = 'paused' AND candidates IS NULL;
ALTER TABLE blasts DROP CONSTRAINT blasts_check,
    ADD CONSTRAINT blasts_check CHECK ((state = 'cutting') = (candidates IS NULL) OR state = 'cancelled');
ALTER TABLE blasts DROP COLUMN steered_by, DROP COLUMN steered_at;
ALTER TABLE stories DROP COLUMN in_doubt;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWN)
