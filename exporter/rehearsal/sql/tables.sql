-- Which file each table is in, which changes where it is rewritten, and what was written to it.
SELECT
    n.nspname || '.' || c.relname AS relation,
    pg_catalog.pg_relation_filenode(c.oid)::bigint AS file,
    coalesce(x.n_tup_ins, 0) + coalesce(x.n_tup_upd, 0) + coalesce(x.n_tup_del, 0) AS written_here,
    coalesce(s.n_tup_ins, 0) + coalesce(s.n_tup_upd, 0) + coalesce(s.n_tup_del, 0) AS written
FROM pg_catalog.pg_class AS c
INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_xact_user_tables AS x ON x.relid = c.oid
LEFT JOIN pg_catalog.pg_stat_user_tables AS s ON s.relid = c.oid
WHERE
    c.relkind = 'r'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND n.nspname !~ '^pg_t'
