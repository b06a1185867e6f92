SELECT l.relation::regclass::text AS relation
FROM pg_catalog.pg_locks AS l
WHERE
    NOT l.granted
    AND (l.database IS NULL OR l.database = (
        SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database()
    ))
ORDER BY l.relation::regclass::text
