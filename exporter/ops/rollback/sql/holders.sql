-- Who holds a lock on chats that the rollback has to wait for.
SELECT
    a.pid,
    coalesce(nullif(a.application_name, ''), 'no application_name') AS program,
    a.state,
    extract(EPOCH FROM pg_catalog.clock_timestamp() - a.xact_start)::double precision AS age_s
FROM pg_catalog.pg_locks AS l
INNER JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE
    l.relation = 'public.chats'::regclass
    AND l.granted
    AND l.pid <> pg_catalog.pg_backend_pid()
GROUP BY a.pid, a.application_name, a.state, a.xact_start
ORDER BY a.xact_start
LIMIT 5
