-- Version 3: `chatqueue fix reopen`.

ALTER TABLE chatqueue.fix_audit DROP CONSTRAINT IF EXISTS fix_audit_fix_check;
ALTER TABLE chatqueue.fix_audit
    ADD CONSTRAINT fix_audit_fix_check CHECK (fix IN ('last-operator', 'requeue', 'reopen'));
