SELECT
    (
        SELECT count(*)
        FROM pg_catalog.pg_stat_activity AS a
        WHERE a.backend_type = 'client backend' OR a.backend_type IS NULL
    ) AS used,
    current_setting('max_connections')::integer
    - current_setting('superuser_reserved_connections')::integer AS most
