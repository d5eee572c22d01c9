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

ALTER TABLE updates DROP CONSTRAINT updates_check, DROP CONSTRAINT updates_seq_check,
    ADD COLUMN local_time timestamp,
    ADD CONSTRAINT updates_check CHECK ((kind::text IN ('correction', 'withdrawal')) = (corrects IS NOT NULL)),
    ADD CONSTRAINT updates_seq_check CHECK (seq <> 0);
CREATE INDEX updates_by_corrected ON updates (corrects) WHERE corrects IS NOT NULL;
ALTER TABLE blasts ADD COLUMN is_drill boolean NOT NULL DEFAULT false;

ALTER TABLE drafts ADD COLUMN send_local timestamp, ADD COLUMN successor_id bigint REFERENCES stories,
    ADD COLUMN is_override boolean NOT NULL DEFAULT false;
CREATE INDEX drafts_by_update ON drafts (update_id) WHERE update_id IS NOT NULL;
ALTER TABLE notices ADD COLUMN detail jsonb NOT NULL DEFAULT '{}';

CREATE TABLE progress (
    blast_id bigint NOT NULL,
    session integer NOT NULL,
    at timestamptz NOT NULL,
    state delivery_state NOT NULL,
    relay text NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (blast_id, session, at, state, relay)
) WITH (fillfactor = 50);
CREATE INDEX deliveries_unreached ON deliveries (blast_id, state) WHERE state <> 'accepted';
"""

# A value cannot be taken from a type, so the types are made anew.
DOWN = """
DROP INDEX deliveries_unreached;
DROP TABLE progress;
DELETE FROM notices WHERE kind::text IN ('invitation', 'test', 'override');
ALTER TABLE notices DROP COLUMN detail;
DROP INDEX drafts_by_update;
ALTER TABLE drafts DROP COLUMN send_local, DROP COLUMN successor_id, DROP COLUMN is_override;
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
