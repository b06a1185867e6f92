-- Other open transactions of this database. Whose times a role may not see, it sees no state of.
SELECT
    CASE WHEN a.state IS NOT NULL
        THEN extract(EPOCH FROM clock_timestamp() - a.xact_start)::double precision
    END AS seconds,
    coalesce(a.state, 'hidden') AS state
FROM pg_catalog.pg_stat_activity AS a
WHERE
    a.datname = current_database()
    AND a.pid <> pg_backend_pid()
    AND a.backend_type = 'client backend'
    AND (a.xact_start IS NOT NULL OR a.state IS NULL)
ORDER BY a.xact_start
