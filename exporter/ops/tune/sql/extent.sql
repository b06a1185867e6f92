-- How far the history goes back, and by which limit the platform closes chats.
--
-- Reads:  chat_assignments, platform_config.
-- Cost:   two look-ups in the index on assigned_at, and one row for each assignment without a time.
SELECT
    now() AS now_at,
    (SELECT min(a.assigned_at) FROM public.chat_assignments AS a) AS first_at,
    (
        SELECT count(*)
        FROM public.chat_assignments AS a
        WHERE a.assigned_at IS NULL
    ) AS without_time,
    (
        SELECT jsonb_typeof(f.value)
        FROM public.platform_config AS f
        WHERE f.key = 'max_reassignments'
    ) AS limit_type,
    (
        SELECT f.value #>> '{}'
        FROM public.platform_config AS f
        WHERE f.key = 'max_reassignments'
    ) AS limit_text
