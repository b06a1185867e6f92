-- Locks that this session or others hold on tables of this database, but for those of a plain SELECT.
SELECT DISTINCT
    n.nspname || '.' || c.relname AS relation,
    l.mode
FROM pg_catalog.pg_locks AS l
INNER JOIN pg_catalog.pg_database AS d ON d.oid = l.database
INNER JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
INNER JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE
    l.locktype = 'relation'
    AND l.granted
    AND l.mode <> 'AccessShareLock'
    AND d.datname = pg_catalog.current_database()
    AND (l.pid = pg_catalog.pg_backend_pid()) = %(own)s
    AND a.backend_type = 'client backend'
    AND c.relkind = 'r'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND n.nspname !~ '^pg_t'
