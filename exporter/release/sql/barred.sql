-- What row-level security keeps this role from locking or deleting. A row that it may read and not
-- lock looks as if somebody were writing to it, for ever; one it may not delete stays behind.
-- A policy of the platform's with a condition opens what it says and no more, and reads tables that
-- this role may not. A restrictive one may bar any row, unless it is true for all; those made for this
-- role alone are its bounds (chatqueue grants).
--
-- Reads:  system catalogues only.
SELECT
    CASE
        WHEN p.opens THEN
            'the restrictive policy "' || p.narrows || '" may keep this role from some '
            || n.command || ' of ' || n.relation || ', expected only those of chatqueue grants'
        ELSE
            'row-level security keeps this role from every ' || n.command || ' of ' || n.relation
            || ', expected the policy that chatqueue grants prints'
    END AS reason
FROM (
    VALUES
    ('public.chats', 'UPDATE', 'w'),
    ('public.chat_assignments', 'UPDATE', 'w'),
    ('public.operator_activity', 'UPDATE', 'w'),
    ('public.operator_activity', 'DELETE', 'd')
) AS n (relation, command, letter)
CROSS JOIN LATERAL (
    SELECT
        coalesce(bool_or(q.polpermissive AND (q.is_own OR q.is_true)), false) AS opens,
        min(q.polname::text) FILTER (
            WHERE NOT q.polpermissive AND NOT q.is_own AND NOT q.is_true
        ) AS narrows
    FROM (
        SELECT
            o.polname,
            o.polpermissive,
            o.polroles = ARRAY[
                (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user)
            ] AS is_own,
            coalesce(pg_catalog.pg_get_expr(o.polqual, o.polrelid) = 'true', false) AS is_true
        FROM pg_catalog.pg_policy AS o
        WHERE
            o.polrelid = n.relation::regclass
            AND o.polcmd::text IN (n.letter, '*')
            AND EXISTS (
                SELECT
                FROM unnest(o.polroles) AS g (role)
                WHERE
                    CASE
                        WHEN g.role = 0 THEN true  -- PUBLIC
                        ELSE pg_catalog.pg_has_role(g.role, 'USAGE')
                    END
            )
    ) AS q
) AS p
WHERE row_security_active(n.relation) AND (NOT p.opens OR p.narrows IS NOT NULL)
LIMIT 1
