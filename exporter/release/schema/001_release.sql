-- Version 1: what keeps releases within their limits, across every daemon and every restart.

CREATE SCHEMA IF NOT EXISTS chatqueue;

CREATE TABLE IF NOT EXISTS chatqueue.schema_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version integer NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now()
);

-- One row. Whoever releases locks it first, so no two releases run at the same time.
CREATE TABLE IF NOT EXISTS chatqueue.release_control (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- The most that any daemon may do, whatever its configuration says.
    mode_cap text NOT NULL DEFAULT 'enforce' CHECK (mode_cap IN ('off', 'observe', 'enforce')),
    paused_until timestamptz,
    pause_reason text,
    paused_by text,
    tripped_at timestamptz,
    healthy_since timestamptz,
    healthy_at timestamptz,
    -- What was left when a token was last spent; NULL before the first.
    tokens double precision CHECK (tokens >= 0 AND tokens <= 1000),
    tokens_at timestamptz,
    CHECK ((tokens IS NULL) = (tokens_at IS NULL))
);
INSERT INTO chatqueue.release_control DEFAULT VALUES ON CONFLICT DO NOTHING;

-- No reference to the platform's tables: what was done must outlive what it was done to.
CREATE TABLE IF NOT EXISTS chatqueue.release_audit (
    id uuid PRIMARY KEY,
    assignment_id uuid NOT NULL,
    chat_id uuid NOT NULL,
    operator_id uuid NOT NULL,
    outcome text NOT NULL
        CHECK (outcome IN ('released', 'requeued', 'closed', 'escalated')),
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    daemon text NOT NULL,
    policy text NOT NULL,
    config_hash text NOT NULL,
    overrides text[] NOT NULL DEFAULT '{}',
    evidence jsonb NOT NULL
);
-- An assignment is released once, ever, and escalated once.
CREATE UNIQUE INDEX IF NOT EXISTS release_audit_assignment
    ON chatqueue.release_audit (assignment_id) WHERE outcome <> 'escalated';
CREATE UNIQUE INDEX IF NOT EXISTS release_audit_escalation
    ON chatqueue.release_audit (assignment_id) WHERE outcome = 'escalated';
CREATE INDEX IF NOT EXISTS release_audit_chat ON chatqueue.release_audit (chat_id, decided_at);
CREATE INDEX IF NOT EXISTS release_audit_decided ON chatqueue.release_audit (decided_at);

CREATE OR REPLACE FUNCTION chatqueue.refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'chatqueue.release_audit is append-only';
END;
$$;
DROP TRIGGER IF EXISTS release_audit_append_only ON chatqueue.release_audit;
CREATE TRIGGER release_audit_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON chatqueue.release_audit
    FOR EACH STATEMENT EXECUTE FUNCTION chatqueue.refuse_change();

CREATE TABLE IF NOT EXISTS chatqueue.release_exemption (
    kind text NOT NULL CHECK (kind IN ('chat', 'operator')),
    subject uuid NOT NULL,
    until timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (kind, subject)
);
