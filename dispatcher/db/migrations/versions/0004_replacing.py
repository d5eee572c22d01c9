"""What replacing and correcting a running blast needs: which update took its place, and whose readers a blast is for.

Revision ID: 0004
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UP = """
ALTER TYPE blast_state ADD VALUE 'superseded';
ALTER TABLE blasts ADD COLUMN superseded_by bigint REFERENCES updates, ADD COLUMN of_blast bigint REFERENCES blasts;
CREATE INDEX blasts_superseded ON blasts (id) WHERE superseded_by IS NOT NULL AND done_at IS NULL;
ALTER TABLE batches ADD COLUMN plain boolean NOT NULL DEFAULT false;
CREATE INDEX blasts_by_successor ON blasts (superseded_by) WHERE superseded_by IS NOT NULL;
CREATE INDEX notices_by_update ON notices (update_id) WHERE update_id IS NOT NULL;
"""

# A value cannot be taken from a type, so the type is made anew; what was superseded counts as cancelled then.
DOWN = """
DROP INDEX notices_by_update;
DROP INDEX blasts_by_successor;
DROP INDEX blasts_superseded;
ALTER TABLE batches DROP COLUMN plain;
DROP TRIGGER blasts_tell ON blasts;
UPDATE blasts SET state = 'cancelled' WHERE superseded_by IS NOT NULL;
ALTER TABLE blasts DROP COLUMN superseded_by, DROP COLUMN of_blast;
DROP INDEX blasts_open;
DROP INDEX blasts_cancelled;
ALTER TABLE blasts DROP CONSTRAINT blasts_check;
ALTER TYPE blast_state RENAME TO blast_state_with_superseded;
CREATE TYPE blast_state AS ENUM ('cutting', 'sending', 'paused', 'cancelled', 'done');
ALTER TABLE blasts ALTER COLUMN state DROP DEFAULT,
    ALTER COLUMN state TYPE blast_state USING state::text::blast_state,
    ALTER COLUMN state SET DEFAULT 'cutting';
ALTER TABLE blasts
    ADD CONSTRAINT blasts_check CHECK ((state = 'cutting') = (candidates IS NULL) OR state IN ('paused', 'cancelled'));
CREATE INDEX blasts_open ON blasts (urgency, id) WHERE state IN ('cutting', 'sending', 'paused');
CREATE INDEX blasts_cancelled ON blasts (id) WHERE state = 'cancelled';
CREATE TRIGGER blasts_tell AFTER INSERT OR UPDATE OF state ON blasts
    FOR EACH ROW WHEN (NEW.state <> 'done') EXECUTE FUNCTION tell_blast();
DROP TYPE blast_state_with_superseded;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWN)
