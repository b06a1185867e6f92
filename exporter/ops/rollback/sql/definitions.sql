-- What stands in the schema public: functions, views, triggers, constraints, indexes, columns,
-- policies and tables, one row each, with all that makes it what it is.
--
-- Reads:  system catalogues only. The search_path must be pg_catalog, so that names are qualified.
-- What belongs to an extension is left out, and so are the indexes of constraints.
WITH owned AS (
    SELECT
        d.classid,
        d.objid
    FROM pg_catalog.pg_depend AS d
    WHERE d.deptype = 'e'
),

relations AS (
    SELECT
        c.*,
        pg_catalog.format('public.%I', c.relname) AS name
    FROM pg_catalog.pg_class AS c
    WHERE
        c.relnamespace = 'public'::regnamespace
        AND NOT EXISTS (
            SELECT FROM owned AS o
            WHERE o.classid = 'pg_catalog.pg_class'::regclass AND o.objid = c.oid
        )
),

rights AS (
    SELECT
        p.oid,
        'function' AS kind,
        coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)) AS acl
    FROM pg_catalog.pg_proc AS p
    UNION ALL
    SELECT
        r.oid,
        'relation' AS kind,
        coalesce(r.relacl, pg_catalog.acldefault('r', r.relowner))
    FROM relations AS r
),

grants AS (
    SELECT
        r.oid,
        r.kind,
        pg_catalog.array_agg(
            DISTINCT e.privilege_type || ' TO '
            || CASE
                WHEN e.grantee = 0 THEN 'PUBLIC'
                ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(e.grantee))
            END
            || CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        ) AS given
    FROM rights AS r
    CROSS JOIN LATERAL pg_catalog.aclexplode(r.acl) AS e
    GROUP BY r.oid, r.kind
)

SELECT
    'function' AS kind,
    p.proname::text AS object,
    pg_catalog.format(
        'public.%I(%s)', p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)
    ) AS name,
    pg_catalog.pg_get_functiondef(p.oid) AS text,
    -- What CREATE OR REPLACE cannot change: names and defaults of arguments, and the result.
    pg_catalog.pg_get_function_arguments(p.oid) || ' -> '
    || coalesce(pg_catalog.pg_get_function_result(p.oid), '') AS detail,
    pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(p.proowner)) AS owner,
    g.given AS grants,
    pg_catalog.obj_description(p.oid, 'pg_proc') AS comment
FROM pg_catalog.pg_proc AS p
LEFT JOIN grants AS g ON g.kind = 'function' AND g.oid = p.oid
WHERE
    p.pronamespace = 'public'::regnamespace
    AND p.prokind IN ('f', 'p')
    AND NOT EXISTS (
        SELECT FROM owned AS o
        WHERE o.classid = 'pg_catalog.pg_proc'::regclass AND o.objid = p.oid
    )

UNION ALL

SELECT
    'view' AS kind,
    r.relname::text,
    r.name,
    'CREATE VIEW ' || r.name
    || coalesce(' WITH (' || pg_catalog.array_to_string(r.reloptions, ', ') || ')', '')
    || E' AS\n' || pg_catalog.pg_get_viewdef(r.oid),
    '',
    pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r.relowner)),
    g.given,
    pg_catalog.obj_description(r.oid, 'pg_class')
FROM relations AS r
LEFT JOIN grants AS g ON g.kind = 'relation' AND g.oid = r.oid
WHERE r.relkind = 'v'

UNION ALL

SELECT
    'table' AS kind,
    r.relname::text,
    r.name,
    pg_catalog.format(
        'row security %s, forced %s, options %s',
        r.relrowsecurity, r.relforcerowsecurity, r.reloptions
    ),
    '',
    pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r.relowner)),
    g.given,
    NULL
FROM relations AS r
LEFT JOIN grants AS g ON g.kind = 'relation' AND g.oid = r.oid
WHERE r.relkind IN ('r', 'p')

UNION ALL

SELECT
    'trigger' AS kind,
    t.tgname::text,
    pg_catalog.format('%I ON %s', t.tgname, r.name),
    pg_catalog.pg_get_triggerdef(t.oid)
    || CASE t.tgenabled WHEN 'O' THEN '' ELSE ' enabled ' || t.tgenabled::text END,
    p.proname::text,
    NULL,
    NULL,
    NULL
FROM pg_catalog.pg_trigger AS t
INNER JOIN relations AS r ON r.oid = t.tgrelid
INNER JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal

UNION ALL

SELECT
    'constraint' AS kind,
    k.conname::text,
    pg_catalog.format('%I ON %s', k.conname, r.name),
    pg_catalog.pg_get_constraintdef(k.oid),
    '',
    NULL,
    NULL,
    NULL
FROM pg_catalog.pg_constraint AS k
INNER JOIN relations AS r ON r.oid = k.conrelid
-- NOT NULL is a constraint of its own from PostgreSQL 18 on; here it is a column's.
WHERE k.contype <> 'n'

UNION ALL

SELECT
    'index' AS kind,
    r.relname::text,
    r.name,
    pg_catalog.pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' invalid' END,
    '',
    NULL,
    NULL,
    NULL
FROM pg_catalog.pg_index AS i
INNER JOIN relations AS r ON r.oid = i.indexrelid
WHERE
    NOT EXISTS (
        SELECT FROM pg_catalog.pg_constraint AS k
        WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
    )

UNION ALL

SELECT
    'column' AS kind,
    r.relname || '.' || a.attname,
    pg_catalog.format('%s.%I', r.name, a.attname),
    pg_catalog.concat_ws(
        ' ',
        pg_catalog.format_type(a.atttypid, a.atttypmod),
        'default ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid),
        CASE WHEN a.attnotnull THEN 'not null' END,
        'identity ' || nullif(a.attidentity::text, ''),
        'generated ' || nullif(a.attgenerated::text, ''),
        'granted ' || a.attacl::text
    ),
    coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), ''),
    NULL,
    NULL,
    NULL
FROM pg_catalog.pg_attribute AS a
INNER JOIN relations AS r ON r.oid = a.attrelid
LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE r.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped

UNION ALL

SELECT
    'policy' AS kind,
    y.polname::text,
    pg_catalog.format('%I ON %s', y.polname, r.name),
    pg_catalog.concat_ws(
        ' ',
        y.polcmd,
        CASE WHEN y.polpermissive THEN 'permissive' ELSE 'restrictive' END,
        'to ' || (
            SELECT
                pg_catalog.string_agg(
                    CASE WHEN o = 0 THEN 'public' ELSE pg_catalog.pg_get_userbyid(o)::text END,
                    ', ' ORDER BY o
                )
            FROM pg_catalog.unnest(y.polroles) AS o
        ),
        'using ' || pg_catalog.pg_get_expr(y.polqual, y.polrelid),
        'check ' || pg_catalog.pg_get_expr(y.polwithcheck, y.polrelid)
    ),
    '',
    NULL,
    NULL,
    NULL
FROM pg_catalog.pg_policy AS y
INNER JOIN relations AS r ON r.oid = y.polrelid

ORDER BY 1, 3
