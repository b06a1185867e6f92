-- Whether our own schema is there, at a version with the table of watches.
SELECT to_regclass('chatqueue.watch')::oid AS version
