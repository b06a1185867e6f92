SELECT extract(EPOCH FROM clock_timestamp() - p.prepared)::double precision AS seconds
FROM pg_catalog.pg_prepared_xacts AS p
WHERE p.database = current_database()
