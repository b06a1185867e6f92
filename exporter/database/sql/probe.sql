-- What a poll must know of each relation and function before it may believe an answer: whether it
-- exists, whether this role may use it, and whether it shows all its rows.
--
-- Reads:  system catalogues only, so it takes no lock on any of the platform's relations and no
--         missing privilege can make it fail. Expressions are read as they are stored: to render
--         one, pg_get_expr() and pg_get_viewdef() lock every relation it names.
-- Cost:   1 to 2 ms, so it is asked when its answer may have changed (opening.sql), not in each poll.
--
-- A need is (object, through): `object` as written in the mapping, `schema.relation` or
-- `schema.function(types)`; `through` names the view or function that reads it, or is NULL. The
-- rights that count are those of that view's or function's owner where it runs as its owner.
--
-- A view is as good as every relation it reads, each with the rights it is read with: those of the
-- view's owner, or of whoever asks where it is a security_invoker. `culprit` is the relation that
-- hides rows, or may, `culprit_kind` its relkind and `culprit_reader` the role it is read as: only
-- what is proved to show all its rows is trusted.
-- Row-level security hides rows where it is on for the role that reads, and no policy that lets
-- every row through (USING (true)) applies to that role, or a restrictive policy that does not let
-- every row through does. A policy with a condition of its own may hide some rows: that is not the
-- whole truth either, so it counts as hiding. A view may hide rows where what it shows depends on
-- the session: on the role, on a setting, or on a function that is not immutable. A materialized
-- view shows what there was, and a foreign table what another server lets through.
WITH RECURSIVE needed AS (
    SELECT
        n.object,
        n.through,
        (
            SELECT c.oid
            FROM pg_catalog.pg_class AS c
            INNER JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace
            WHERE
                c.relname = split_part(n.object, '.', 2)
                AND s.nspname = split_part(n.object, '.', 1)
        ) AS relation,
        (
            SELECT p.oid
            FROM pg_catalog.pg_proc AS p
            INNER JOIN pg_catalog.pg_namespace AS s ON s.oid = p.pronamespace
            WHERE
                p.proname = split_part(split_part(n.object, '(', 1), '.', 2)
                AND s.nspname || '.' || p.proname
                || '(' || oidvectortypes(p.proargtypes) || ')' = n.object
        ) AS function
    FROM unnest(%(objects)s::text [], %(throughs)s::text []) AS n (object, through)
),

reading AS (
    SELECT
        n.object,
        n.through,
        n.relation,
        n.function,
        coalesce(definer.oid, viewer.oid, me.oid) AS reader,
        -- Who asks, as a view that is a security_invoker sees it.
        coalesce(definer.oid, me.oid) AS asker
    FROM needed AS n
    LEFT JOIN needed AS t ON t.object = n.through AND t.through IS NULL
    LEFT JOIN pg_catalog.pg_proc AS f ON f.oid = t.function AND f.prosecdef
    LEFT JOIN pg_catalog.pg_roles AS definer ON definer.oid = f.proowner
    LEFT JOIN owned_views AS v ON v.oid = t.relation
    LEFT JOIN pg_catalog.pg_roles AS viewer ON viewer.oid = v.relowner
    CROSS JOIN (
        SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user
    ) AS me
),

-- Views that read with the rights of their owner.
owned_views AS (
    SELECT
        v.oid,
        v.relowner
    FROM pg_catalog.pg_class AS v
    WHERE
        v.relkind = 'v'
        AND NOT coalesce(
            -- Spelt in any way that PostgreSQL reads as a boolean.
            (
                SELECT o.option_value::boolean
                FROM pg_catalog.pg_options_to_table(v.reloptions) AS o
                WHERE o.option_name = 'security_invoker'
            ),
            false
        )
),

-- Every relation that is read in the end, through views of views as well.
reached AS (
    SELECT
        r.object,
        r.through,
        r.relation,
        r.reader,
        r.asker
    FROM reading AS r
    WHERE r.relation IS NOT NULL
    UNION
    SELECT
        r.object,
        r.through,
        d.refobjid AS relation,
        coalesce(v.relowner, r.asker) AS reader,
        r.asker
    FROM reached AS r
    INNER JOIN pg_catalog.pg_class AS c ON c.oid = r.relation AND c.relkind = 'v'
    INNER JOIN pg_catalog.pg_rewrite AS w ON w.ev_class = c.oid
    INNER JOIN pg_catalog.pg_depend AS d
        ON
            d.classid = 'pg_catalog.pg_rewrite'::regclass
            AND d.objid = w.oid
            AND d.refclassid = 'pg_catalog.pg_class'::regclass
            AND d.refobjid <> c.oid
    LEFT JOIN owned_views AS v ON v.oid = c.oid
),

policies AS (
    SELECT
        r.relation,
        r.reader,
        bool_or(p.polpermissive AND p.lets_all_through) AS opens,
        bool_or(NOT p.polpermissive AND NOT p.lets_all_through) AS narrows
    FROM (SELECT DISTINCT e.relation, e.reader FROM reached AS e) AS r
    INNER JOIN (
        SELECT
            q.polrelid,
            q.polcmd,
            q.polroles,
            q.polpermissive,
            -- The constant true, as it is stored: a boolean (type 16) whose one byte is 1.
            coalesce(
                q.polqual::text ~ '^\{CONST :consttype 16 .*:constvalue 1 \[ [0 ]*1[0 ]*\]\}$',
                false
            ) AS lets_all_through
        FROM pg_catalog.pg_policy AS q
    ) AS p
        ON
            p.polrelid = r.relation
            AND p.polcmd IN ('r', '*')
            AND EXISTS (
                SELECT 1
                FROM unnest(p.polroles) AS g (role)
                WHERE
                    CASE
                        WHEN g.role = 0 THEN true  -- PUBLIC
                        ELSE pg_catalog.pg_has_role(r.reader, g.role, 'USAGE')
                    END
            )
    GROUP BY r.relation, r.reader
),

-- Views whose rows depend on the session, by the functions and values in their stored query.
session_views AS (
    SELECT w.ev_class AS oid
    FROM pg_catalog.pg_rewrite AS w
    WHERE
        w.ev_class IN (SELECT e.relation FROM reached AS e)
        AND (
            -- CURRENT_USER and the like are of type name (19).
            w.ev_action::text ~ 'SQLVALUEFUNCTION :op [0-9]+ :type 19 '
            OR EXISTS (
                SELECT
                FROM regexp_matches(
                    w.ev_action::text, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([0-9]+)', 'g'
                ) AS m (oids)
                INNER JOIN pg_catalog.pg_proc AS f ON f.oid = m.oids[1]::oid
                WHERE
                    CASE
                        WHEN f.pronamespace <> 'pg_catalog'::regnamespace
                            THEN f.provolatile <> 'i'
                        ELSE
                            f.provolatile = 'v'
                            OR (
                                f.provolatile = 's'
                                -- What the server knows of the session, the role, the search path.
                                AND f.proname ~ (
                                    '^(pg_|current_|session_|system_user$|inet_|getpgusername$'
                                    '|has_|row_security_active$|txid_|to_reg|version$|.*_to_xml)'
                                )
                                AND f.proname NOT IN ('pg_column_size', 'pg_typeof')
                            )
                    END
            )
        )
),

hiding AS (
    SELECT
        r.object,
        r.through,
        (array_agg(s.nspname || '.' || c.relname ORDER BY s.nspname, c.relname))[1] AS culprit,
        (array_agg(c.relkind::text ORDER BY s.nspname, c.relname))[1] AS culprit_kind,
        (array_agg(u.rolname ORDER BY s.nspname, c.relname))[1] AS culprit_reader
    FROM reached AS r
    INNER JOIN pg_catalog.pg_class AS c ON c.oid = r.relation
    INNER JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace
    INNER JOIN pg_catalog.pg_roles AS u ON u.oid = r.reader
    LEFT JOIN policies AS p ON p.relation = r.relation AND p.reader = r.reader
    WHERE
        c.relkind IN ('m', 'f')
        OR c.oid IN (SELECT v.oid FROM session_views AS v)
        OR (
            c.relrowsecurity
            AND NOT (u.rolsuper OR u.rolbypassrls)
            AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(u.oid, c.relowner, 'USAGE'))
            AND (p.opens IS NOT TRUE OR p.narrows)
        )
    GROUP BY r.object, r.through
)

SELECT
    r.object,
    r.through,
    coalesce(r.relation, r.function) IS NOT NULL AS is_there,
    CASE
        WHEN r.relation IS NOT NULL
            THEN pg_catalog.has_any_column_privilege(r.reader, r.relation, 'SELECT')
        WHEN r.function IS NOT NULL
            THEN pg_catalog.has_function_privilege(r.reader, r.function, 'EXECUTE')
        ELSE false
    END AS is_permitted,
    h.culprit IS NOT NULL AS is_hidden,
    h.culprit,
    h.culprit_kind,
    h.culprit_reader,
    u.rolname AS reader,
    (SELECT array_agg(DISTINCT e.relation::bigint) FROM reached AS e) AS reached
FROM reading AS r
INNER JOIN pg_catalog.pg_roles AS u ON u.oid = r.reader
LEFT JOIN hiding AS h ON h.object = r.object AND h.through IS NOT DISTINCT FROM r.through
