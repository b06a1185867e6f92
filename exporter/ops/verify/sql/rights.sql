-- What this role may do beyond its list, and what of its writing nothing bounds by rows.
--
-- Reads:  system catalogues only.
-- The schemas of the platform, its accounts and ours; what an extension brought is left out.
WITH allowed AS (
    SELECT
        w.privilege,
        w.relation,
        w.name
    FROM unnest(%(privileges)s::text [], %(relations)s::text [], %(columns)s::text [])
        AS w (privilege, relation, name)
),

relations AS (
    SELECT
        c.oid,
        c.relowner,
        n.nspname || '.' || c.relname AS relation
    FROM pg_catalog.pg_class AS c
    INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE
        n.nspname IN ('public', 'auth', 'chatqueue')
        AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
        AND NOT EXISTS (
            SELECT
            FROM pg_catalog.pg_depend AS d
            WHERE
                d.classid = 'pg_catalog.pg_class'::regclass
                AND d.objid = c.oid
                AND d.deptype = 'e'
        )
),

held AS (
    SELECT
        r.oid,
        r.relation,
        p.privilege,
        a.attname::text AS name
    FROM relations AS r
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS p (privilege)
    INNER JOIN pg_catalog.pg_attribute AS a
        ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE pg_catalog.has_column_privilege(r.oid, a.attnum, p.privilege)
    UNION ALL
    SELECT
        r.oid,
        r.relation,
        p.privilege,
        '*'
    FROM relations AS r
    CROSS JOIN unnest(ARRAY['DELETE', 'TRUNCATE', 'TRIGGER']) AS p (privilege)
    WHERE pg_catalog.has_table_privilege(r.oid, p.privilege)
),

excess AS (
    SELECT
        h.privilege
        || coalesce(
            ' (' || string_agg(h.name, ', ' ORDER BY h.name) FILTER (WHERE h.name <> '*') || ')',
            ''
        )
        || ' ON ' || h.relation AS right
    FROM held AS h
    WHERE NOT EXISTS (
        SELECT
        FROM allowed AS a
        WHERE
            a.privilege = h.privilege
            AND a.relation = h.relation
            AND a.name IN (h.name, '*')
    )
    GROUP BY h.privilege, h.relation
),

-- Of the release's own tables only the audits are bounded: the others hold nothing of the platform.
unbounded AS (
    SELECT DISTINCT h.privilege || ' ON ' || h.relation AS right
    FROM held AS h
    WHERE
        h.privilege IN ('INSERT', 'UPDATE', 'DELETE')
        AND (h.relation NOT LIKE 'chatqueue.%%' OR h.relation LIKE '%%\_audit')
        AND NOT (
            pg_catalog.row_security_active(h.oid)
            AND EXISTS (
                SELECT
                FROM pg_catalog.pg_policy AS p
                CROSS JOIN LATERAL (
                    SELECT
                        coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), '')
                        || coalesce(pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), '') AS text
                ) AS condition
                WHERE
                    p.polrelid = h.oid
                    AND NOT p.polpermissive
                    AND p.polroles = ARRAY[
                        (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user)
                    ]
                    AND p.polcmd = CASE h.privilege
                        WHEN 'INSERT' THEN 'a' WHEN 'UPDATE' THEN 'w' ELSE 'd'
                    END
                    -- Made before our schema was, it knows of no audit.
                    AND (
                        h.relation LIKE 'chatqueue.%%'
                        OR condition.text ~ '_audit|c4a7c4a7|false'
                        OR NOT EXISTS (
                            SELECT FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'chatqueue'
                        )
                    )
            )
        )
)

SELECT
    r.rolname::text AS role,
    r.rolsuper AS is_superuser,
    %(is_writing)s AS is_writing,
    array_remove(
        ARRAY[
            CASE WHEN r.rolbypassrls AND %(is_writing)s THEN 'bypasses row-level security' END,
            CASE WHEN r.rolcreaterole THEN 'may make roles' END,
            CASE WHEN r.rolcreatedb THEN 'may make databases' END,
            CASE WHEN r.rolreplication THEN 'may replicate' END,
            (
                SELECT 'is a member of ' || string_agg(g.rolname, ', ' ORDER BY g.rolname)
                FROM pg_catalog.pg_auth_members AS m
                INNER JOIN pg_catalog.pg_roles AS g ON g.oid = m.roleid
                WHERE m.member = r.oid AND g.rolname NOT LIKE 'pg\_%%'
            )
        ], NULL
    ) AS attributes,
    (
        SELECT string_agg(t.relation, ', ' ORDER BY t.relation)
        FROM relations AS t
        WHERE pg_catalog.pg_has_role(t.relowner, 'USAGE')
    ) AS owned,
    ARRAY(SELECT e.right FROM excess AS e ORDER BY e.right) AS excess,
    ARRAY(SELECT u.right FROM unbounded AS u ORDER BY u.right) AS unbounded,
    ARRAY(
        SELECT p.oid::regprocedure::text
        FROM pg_catalog.pg_proc AS p
        INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
        WHERE
            n.nspname IN ('public', 'chatqueue')
            AND p.prosecdef
            AND p.prorettype <> 'trigger'::regtype
            AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
            AND NOT EXISTS (
                SELECT
                FROM pg_catalog.pg_depend AS d
                WHERE
                    d.classid = 'pg_catalog.pg_proc'::regclass
                    AND d.objid = p.oid
                    AND d.deptype = 'e'
            )
        ORDER BY 1
    ) AS functions
FROM pg_catalog.pg_roles AS r
WHERE r.rolname = current_user
