SELECT v.relid::regclass::text AS relation
FROM pg_catalog.pg_stat_progress_vacuum AS v
WHERE
    v.datname = current_database()
    AND v.relid IN (
        to_regclass('public.chats'),
        to_regclass('public.messages'),
        to_regclass('public.chat_assignments'),
        to_regclass('public.operators'),
        to_regclass('public.operator_activity')
    )
ORDER BY v.relid::regclass::text
