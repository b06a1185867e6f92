-- What the server says of itself at the beginning of a poll.
SELECT
    extract(EPOCH FROM clock_timestamp())::double precision AS now_s,
    now() AS began_at,
    pg_backend_pid() AS backend_pid,
    pg_is_in_recovery() AS in_recovery,
    current_setting('server_version_num')::integer AS version_num
