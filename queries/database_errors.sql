-- What the database itself counts of this database's failures.
--
-- Purpose: rollbacks are failed requests of the application (and rehearsals of auto-release);
--          deadlocks are two writers that wait for each other, of which one was ended.
--          The counters begin again when the server's statistics are reset.
-- Reads:   pg_stat_database, which every role may.
-- Cost:    under 1 ms.
SELECT
    s.xact_rollback AS rollbacks,
    s.deadlocks
FROM pg_catalog.pg_stat_database AS s
WHERE s.datname = pg_catalog.current_database()
