-- The columns of the tables that the flow adds rows to, and what each wants.
--
-- Reads:  system catalogues only.
-- An account is what an operator's or a user's own id refers to: auth.users, on Supabase.
WITH tables AS (
    SELECT
        t.relation AS role,
        c.oid
    FROM unnest(ARRAY['real_users', 'fictional_users', 'operators', 'chats', 'messages'])
        AS t (relation)
    INNER JOIN pg_catalog.pg_class AS c ON c.relname = t.relation
    WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT DISTINCT
        'accounts',
        k.confrelid
    FROM pg_catalog.pg_constraint AS k
    INNER JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
    INNER JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'id'
    WHERE
        k.contype = 'f'
        AND c.relnamespace = 'public'::regnamespace
        AND c.relname IN ('real_users', 'operators')
        AND k.conkey = ARRAY[a.attnum]
        AND k.confrelid <> c.oid
)

SELECT
    t.role,
    pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS relation,
    a.attname::text AS name,
    pg_catalog.quote_ident(a.attname) AS quoted,
    pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
    y.typcategory::text AS category,
    a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS is_required,
    CASE
        WHEN y.typcategory = 'E' THEN (
            SELECT e.enumlabel::text
            FROM pg_catalog.pg_enum AS e
            WHERE e.enumtypid = coalesce(nullif(y.typbasetype, 0), y.oid)
            ORDER BY e.enumsortorder
            LIMIT 1
        )
    END AS label
FROM tables AS t
INNER JOIN pg_catalog.pg_class AS c ON c.oid = t.oid
INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
INNER JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
INNER JOIN pg_catalog.pg_type AS y ON y.oid = a.atttypid
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY t.role, relation, a.attnum
