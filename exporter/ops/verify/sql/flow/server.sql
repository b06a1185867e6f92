-- Whether the flow can be played here at all, and which sequences it would move for good.
--
-- Reads:  system catalogues only.
WITH needed (relation, privilege) AS (
    VALUES
    ('public.real_users', 'INSERT'),
    ('public.fictional_users', 'INSERT'),
    ('public.operators', 'INSERT'),
    ('public.chats', 'INSERT'),
    ('public.chats', 'SELECT'),
    ('public.chats', 'UPDATE'),
    ('public.messages', 'INSERT'),
    ('public.chat_assignments', 'SELECT'),
    ('public.chat_assignments', 'UPDATE'),
    ('public.operator_activity', 'SELECT'),
    ('public.operator_activity', 'DELETE')
),

relations AS (
    SELECT
        n.relation,
        n.privilege,
        (
            SELECT c.oid
            FROM pg_catalog.pg_class AS c
            INNER JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace
            WHERE s.nspname || '.' || c.relname = n.relation
        ) AS oid
    FROM needed AS n
    UNION ALL
    -- The accounts that a user's or an operator's own id refers to: auth.users, on Supabase.
    SELECT DISTINCT
        k.confrelid::regclass::text,
        'INSERT',
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
),

assign AS (
    SELECT p.oid
    FROM pg_catalog.pg_proc AS p
    INNER JOIN pg_catalog.pg_namespace AS s ON s.oid = p.pronamespace
    WHERE s.nspname = 'public' AND p.proname = 'assign_chat_to_operator' AND p.pronargs = 1
)

SELECT
    current_user::text AS role,
    pg_catalog.pg_is_in_recovery() AS in_recovery,
    pg_catalog.current_setting('transaction_read_only') = 'on' AS is_read_only,
    (
        SELECT pg_catalog.array_agg(DISTINCT r.relation ORDER BY r.relation)
        FROM relations AS r
        WHERE r.oid IS NULL
    ) AS missing,
    (
        SELECT
            pg_catalog.array_agg(
                r.privilege || ' ON ' || r.relation ORDER BY r.relation, r.privilege
            )
        FROM relations AS r
        WHERE NOT CASE r.privilege
            WHEN 'DELETE' THEN pg_catalog.has_table_privilege(current_user, r.oid, 'DELETE')
            ELSE pg_catalog.has_any_column_privilege(current_user, r.oid, r.privilege)
        END
    ) AS barred,
    (
        SELECT
            pg_catalog.array_agg(DISTINCT 'USAGE ON SCHEMA ' || pg_catalog.quote_ident(s.nspname))
        FROM relations AS r
        INNER JOIN pg_catalog.pg_class AS c ON c.oid = r.oid
        INNER JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace
        WHERE NOT pg_catalog.has_schema_privilege(current_user, s.oid, 'USAGE')
    ) AS unusable,
    (SELECT pg_catalog.count(*) > 0 FROM assign) AS has_assign,
    (
        SELECT pg_catalog.bool_and(pg_catalog.has_function_privilege(current_user, a.oid, 'EXECUTE'))
        FROM assign AS a
    ) AS may_assign,
    -- A sequence does not roll back. The platform's keys are uuids; a column added since may not be.
    (
        SELECT pg_catalog.array_agg(DISTINCT q.oid::regclass::text)
        FROM pg_catalog.pg_class AS q
        INNER JOIN pg_catalog.pg_depend AS d
            ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = q.oid
        WHERE
            q.relkind = 'S'
            AND d.refclassid = 'pg_catalog.pg_class'::regclass
            AND d.deptype IN ('a', 'i')
            AND d.refobjid IN (SELECT r.oid FROM relations AS r)
    ) AS sequences
