SELECT
    r.application_name AS name,
    extract(EPOCH FROM r.replay_lag)::double precision AS lag_s,
    r.state IS NULL AS is_hidden
FROM pg_catalog.pg_stat_replication AS r
