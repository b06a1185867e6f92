-- Relations which nobody can read now, after a query waited for a lock in vain.
-- Who waits for a relation that is being rewritten waits for all of it; a request for such a lock
-- that waits itself lets nobody past either.
SELECT DISTINCT s.nspname || '.' || c.relname AS relation
FROM pg_catalog.pg_locks AS l
INNER JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
INNER JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace
WHERE
    l.mode = 'AccessExclusiveLock'
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
