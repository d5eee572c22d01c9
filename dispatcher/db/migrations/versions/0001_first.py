"""The first schema: stories to ledger.

Revision ID: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UP = """
CREATE TYPE story_state AS ENUM ('developing', 'closed');
CREATE TYPE update_kind AS ENUM ('update', 'correction', 'final');
CREATE TYPE importance AS ENUM ('routine', 'major', 'breaking');
CREATE TYPE channel AS ENUM ('email');
CREATE TYPE cadence AS ENUM ('every', 'major', 'daily', 'weekly');
CREATE TYPE blast_state AS ENUM ('cutting', 'sending', 'paused', 'cancelled', 'done');
CREATE TYPE batch_state AS ENUM ('waiting', 'leased', 'done', 'dead');
CREATE TYPE delivery_state AS ENUM (
    'accepted', 'deferred', 'failed', 'in_doubt', 'suppressed', 'capped', 'expired', 'superseded', 'withdrawn'
);

CREATE TABLE stories (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(slug) <= 80),
    headline text NOT NULL CHECK (headline <> '' AND length(headline) <= 200),
    summary text NOT NULL DEFAULT '' CHECK (length(summary) <= 500),
    state story_state NOT NULL DEFAULT 'developing',
    successor_id bigint REFERENCES stories,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at timestamptz,
    CHECK ((state = 'closed') = (closed_at IS NOT NULL))
);

CREATE TABLE updates (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    story_id bigint NOT NULL REFERENCES stories,
    seq integer NOT NULL CHECK (seq > 0),
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
    UNIQUE (story_id, seq),
    CHECK ((kind = 'correction') = (corrects IS NOT NULL))
);

CREATE TABLE subscribers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text CHECK (length(email) <= 254),
    address_hash bytea UNIQUE,
    name text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
    locale text NOT NULL DEFAULT 'en',
    timezone text NOT NULL DEFAULT 'UTC',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((email IS NULL) = (address_hash IS NULL))
);

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

CREATE TABLE suppressions (
    address_hash bytea PRIMARY KEY,
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

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
    UNIQUE (update_id, channel),
    CHECK ((state = 'cutting') = (candidates IS NULL) OR state = 'cancelled')
);
CREATE INDEX blasts_open ON blasts (urgency, id) WHERE state IN ('cutting', 'sending', 'paused');

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
    CHECK ((state = 'leased') = (lease_token IS NOT NULL AND lease_until IS NOT NULL AND worker IS NOT NULL))
);
CREATE INDEX batches_claimable ON batches (urgency, blast_id, id) WHERE state IN ('waiting', 'leased');
CREATE INDEX batches_by_blast ON batches (blast_id);
CREATE SEQUENCE lease_tokens;
CREATE SEQUENCE worker_numbers AS integer CYCLE;

CREATE TABLE letters (
    blast_id bigint NOT NULL REFERENCES blasts ON DELETE CASCADE,
    variant text NOT NULL,
    letter bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (blast_id, variant)
);

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

CREATE TABLE api_tokens (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> '' AND length(name) <= 80),
    token_hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz
);
"""

DOWN = """
DROP TABLE api_tokens, deliveries, letters, batches, blasts, suppressions, subscriptions, subscribers, updates, stories;
DROP SEQUENCE lease_tokens, worker_numbers;
DROP TYPE delivery_state, batch_state, blast_state, cadence, channel, importance, update_kind, story_state;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWN)
