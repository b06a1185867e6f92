-- Version 2: what `chatqueue fix` changed by hand, and on whose word.

CREATE TABLE IF NOT EXISTS chatqueue.fix_audit (
    id uuid PRIMARY KEY,
    fix text NOT NULL CHECK (fix IN ('last-operator', 'requeue')),
    chat_id uuid NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    reason text NOT NULL,
    before jsonb NOT NULL,
    after jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS fix_audit_chat ON chatqueue.fix_audit (chat_id, decided_at);

-- Version 1 named one table; now there are two.
CREATE OR REPLACE FUNCTION chatqueue.refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'chatqueue.% is append-only', TG_TABLE_NAME;
END;
$$;
DROP TRIGGER IF EXISTS fix_audit_append_only ON chatqueue.fix_audit;
CREATE TRIGGER fix_audit_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON chatqueue.fix_audit
    FOR EACH STATEMENT EXECUTE FUNCTION chatqueue.refuse_change();
