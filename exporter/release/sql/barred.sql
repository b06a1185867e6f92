-- What row-level security keeps this role from locking or deleting. A row that it may read and not
-- lock looks as if somebody were writing to it, for ever; one it may not delete stays behind.
--
-- Reads:  system catalogues only.
SELECT
    n.relation,
    n.command
FROM (
    VALUES
    ('public.chats', 'UPDATE', 'w'),
    ('public.chat_assignments', 'UPDATE', 'w'),
    ('public.operator_activity', 'UPDATE', 'w'),
    ('public.operator_activity', 'DELETE', 'd')
) AS n (relation, command, letter)
WHERE
    row_security_active(n.relation)
    AND NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_policy AS p
        CROSS JOIN LATERAL unnest(p.polroles) AS g (role)
        WHERE
            p.polrelid = n.relation::regclass
            AND p.polpermissive
            AND p.polcmd::text IN (n.letter, '*')
            AND CASE
                WHEN g.role = 0 THEN true  -- PUBLIC
                ELSE pg_catalog.pg_has_role(g.role, 'USAGE')
            END
    )
LIMIT 1
