SELECT
    pg_catalog.current_database()::text AS database,
    pg_catalog.current_setting('server_version_num')::integer AS version_num,
    pg_catalog.now() AS now,
    pg_catalog.pg_is_in_recovery() AS in_recovery,
    CASE
        WHEN pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
            THEN (SELECT s.system_identifier::text FROM pg_catalog.pg_control_system() AS s)
    END AS system
