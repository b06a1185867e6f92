-- What this role may not read or execute, of what the built-in queries need.
--
-- Reads:  system catalogues only.
-- A column that does not exist is no lack of a privilege: the contract has the say there.
WITH wanted AS (
    SELECT
        w.relation,
        w.name,
        (
            SELECT c.oid
            FROM pg_catalog.pg_class AS c
            INNER JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace
            WHERE s.nspname || '.' || c.relname = w.relation
        ) AS oid
    FROM unnest(%(relations)s::text [], %(columns)s::text []) AS w (relation, name)
)

SELECT
    w.relation AS object,
    'SELECT' AS privilege,
    bool_and(w.oid IS NOT NULL) AS is_there,
    array_remove(
        array_agg(
            CASE
                WHEN NOT pg_catalog.has_column_privilege(current_user, w.oid, a.attnum, 'SELECT')
                    THEN w.name
            END
            ORDER BY w.name
        ), NULL
    ) AS barred,
    count(*)::integer AS wanted,
    pg_catalog.quote_ident(current_user) AS role
FROM wanted AS w
LEFT JOIN pg_catalog.pg_attribute AS a
    ON a.attrelid = w.oid AND a.attname = w.name AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY w.relation

UNION ALL

SELECT
    f.function,
    'EXECUTE',
    bool_or(p.oid IS NOT NULL),
    array_remove(
        array_agg(
            CASE
                WHEN NOT pg_catalog.has_function_privilege(current_user, p.oid, 'EXECUTE')
                    THEN f.function
            END
        ), NULL
    ),
    1,
    pg_catalog.quote_ident(current_user)
FROM unnest(%(functions)s::text []) AS f (function)
LEFT JOIN (
    SELECT
        q.oid,
        s.nspname || '.' || q.proname || '('
        || pg_catalog.oidvectortypes(q.proargtypes) || ')' AS function
    FROM pg_catalog.pg_proc AS q
    INNER JOIN pg_catalog.pg_namespace AS s ON s.oid = q.pronamespace
) AS p ON p.function = f.function
GROUP BY f.function

UNION ALL

SELECT
    n.nspname::text,
    'USAGE',
    true,
    CASE
        WHEN pg_catalog.has_schema_privilege(current_user, n.oid, 'USAGE') THEN '{}'
        ELSE ARRAY[n.nspname::text]
    END,
    1,
    pg_catalog.quote_ident(current_user)
FROM pg_catalog.pg_namespace AS n
WHERE n.nspname = 'public'
