SELECT
    c.relname::text AS relation,
    pg_total_relation_size(c.oid) AS bytes
FROM pg_catalog.pg_class AS c
WHERE
    c.relnamespace = 'public'::regnamespace
    AND c.relname IN ('chats', 'messages', 'chat_assignments', 'operators', 'operator_activity')
    AND c.relkind IN ('r', 'p')
ORDER BY c.relname
