-- What a poll must know of each relation and function before it may believe an answer: whether it
-- exists, whether this role may use it, and whether it shows all its rows.
--
-- Reads:  system catalogues only, so it takes no lock on any of the platform's relations and no
--         missing privilege can make it fail.
-- Cost:   about 1 ms.
--
-- A need is (object, through): `object` as written in the mapping, `schema.relation` or
-- `schema.function(types)`; `through` names the view or function that reads it, or is NULL. The
-- rights that count are those of that view's or function's owner where it runs as its owner.
--
-- Row-level security hides rows where it is on for the role that reads, and no policy that lets
-- every row through (USING (true)) applies to that role, or a restrictive policy that does not let
-- every row through does. A policy with a condition of its own may hide some rows: that is not the
-- whole truth either, so it counts as hiding.
WITH needed AS (
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
        coalesce(owner.oid, me.oid) AS reader
    FROM needed AS n
    LEFT JOIN needed AS t ON t.object = n.through AND t.through IS NULL
    LEFT JOIN pg_catalog.pg_proc AS f ON f.oid = t.function AND f.prosecdef
    LEFT JOIN pg_catalog.pg_class AS v
        ON
            v.oid = t.relation
            AND NOT coalesce(
                -- Spelt in any way that PostgreSQL reads as a boolean.
                (
                    SELECT o.option_value::boolean
                    FROM pg_catalog.pg_options_to_table(v.reloptions) AS o
                    WHERE o.option_name = 'security_invoker'
                ),
                false
            )
    LEFT JOIN pg_catalog.pg_roles AS owner ON owner.oid = coalesce(f.proowner, v.relowner)
    CROSS JOIN (
        SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user
    ) AS me
),

policies AS (
    SELECT
        r.object,
        r.through,
        bool_or(p.polpermissive AND p.lets_all_through) AS opens,
        bool_or(NOT p.polpermissive AND NOT p.lets_all_through) AS narrows
    FROM reading AS r
    INNER JOIN (
        SELECT
            q.polrelid,
            q.polcmd,
            q.polroles,
            q.polpermissive,
            coalesce(pg_catalog.pg_get_expr(q.polqual, q.polrelid) = 'true', false)
                AS lets_all_through
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
    coalesce(
        c.relrowsecurity
        AND NOT (u.rolsuper OR u.rolbypassrls)
        AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(u.oid, c.relowner, 'USAGE'))
        AND (p.opens IS NOT TRUE OR p.narrows),
        false
    ) AS is_hidden,
    u.rolname AS reader
FROM reading AS r
INNER JOIN pg_catalog.pg_roles AS u ON u.oid = r.reader
LEFT JOIN pg_catalog.pg_class AS c ON c.oid = r.relation
LEFT JOIN policies AS p ON p.object = r.object AND p.through IS NOT DISTINCT FROM r.through
