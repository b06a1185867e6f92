-- Whether the hosted platform keeps a table of applied migrations, and this role may read it.
SELECT
    count(*) > 0 AS is_there,
    coalesce(
        bool_and(
            has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, 'version', 'SELECT')
        ),
        false
    ) AS is_permitted
FROM pg_catalog.pg_class AS c
INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = 'supabase_migrations' AND c.relname = 'schema_migrations'
