"""The desk: people and their sessions, drafts with their approvals and schedules, and a log that nobody can rewrite.

Revision ID: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UP = """
CREATE TYPE role AS ENUM ('reporter', 'editor', 'lead');
CREATE TYPE draft_state AS ENUM ('draft', 'submitted', 'returned', 'rejected', 'approved', 'scheduled', 'published');

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

CREATE TABLE sign_in_attempts (
    account_hash bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX sign_in_attempts_by_account ON sign_in_attempts (account_hash, at);

CREATE TABLE desk_settings (
    name text PRIMARY KEY,
    value jsonb NOT NULL
);

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
    author bigint NOT NULL REFERENCES people,
    last_editor bigint NOT NULL REFERENCES people,
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
    CHECK ((state = 'scheduled') = (send_at IS NOT NULL)),
    CHECK ((state = 'published') = (update_id IS NOT NULL)),
    CHECK ((approved_by IS NULL) = (approved_hash IS NULL))
);
CREATE INDEX drafts_by_story ON drafts (story_id) WHERE state <> 'published';
CREATE INDEX drafts_due ON drafts (send_at) WHERE send_at IS NOT NULL;

CREATE TABLE presences (
    draft_id bigint NOT NULL REFERENCES drafts ON DELETE CASCADE,
    person_id bigint NOT NULL REFERENCES people ON DELETE CASCADE,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (draft_id, person_id)
);

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

ALTER TABLE api_tokens ADD COLUMN scopes text[] NOT NULL DEFAULT '{publish,read,steer}',
    ADD COLUMN prefix text NOT NULL DEFAULT '', ADD COLUMN created_by text NOT NULL DEFAULT '',
    ADD COLUMN used_at timestamptz;
"""

DOWN = """
ALTER TABLE api_tokens DROP COLUMN scopes, DROP COLUMN prefix, DROP COLUMN created_by, DROP COLUMN used_at;
DROP TABLE audit, presences, drafts, desk_settings, sign_in_attempts, invitations, sessions, people;
DROP FUNCTION refuse_change();
DROP TYPE draft_state;
DROP TYPE role;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWN)
