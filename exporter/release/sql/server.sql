-- Whether anything can be written here at all.
SELECT
    pg_is_in_recovery() AS in_recovery,
    current_setting('transaction_read_only') = 'on' AS is_read_only,
    to_regclass('chatqueue.release_control') IS NOT NULL AS has_schema
