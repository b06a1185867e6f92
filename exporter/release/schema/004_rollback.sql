-- Version 4: when the assignment fix was rolled back, and on whose word.

CREATE TABLE IF NOT EXISTS chatqueue.rollback_audit (
    id uuid PRIMARY KEY,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    -- Of the plan.
    made_at timestamptz NOT NULL,
    -- The table with the contents of the columns that were dropped; NULL where they were kept.
    saved_as text
);
DROP TRIGGER IF EXISTS rollback_audit_append_only ON chatqueue.rollback_audit;
CREATE TRIGGER rollback_audit_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON chatqueue.rollback_audit
    FOR EACH STATEMENT EXECUTE FUNCTION chatqueue.refuse_change();
