-- The one row that every daemon takes first: it puts all releases of all replicas in one line, and
-- lets `pause` wait for the release that is under way.
SELECT
    mode_cap,
    extract(EPOCH FROM clock_timestamp())::double precision AS now_s,
    extract(EPOCH FROM paused_until)::double precision AS paused_until_s,
    pause_reason,
    paused_by,
    extract(EPOCH FROM tripped_at)::double precision AS tripped_at_s,
    extract(EPOCH FROM healthy_since)::double precision AS healthy_since_s,
    extract(EPOCH FROM healthy_at)::double precision AS healthy_at_s,
    tokens,
    extract(EPOCH FROM tokens_at)::double precision AS tokens_at_s
FROM chatqueue.release_control
FOR UPDATE
