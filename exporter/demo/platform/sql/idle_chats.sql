-- Chats whose assignment_time is older than idle_timeout_minutes and whose operator's last input is
-- too, or is unknown.
SELECT c.id, c.assigned_operator_id
FROM public.chats AS c
LEFT JOIN public.operator_activity AS a
    ON a.chat_id = c.id AND a.operator_id = c.assigned_operator_id
CROSS JOIN LATERAL (
    SELECT now() - make_interval(secs => 60 * coalesce(
        (
            SELECT (value #>> '{}')::double precision
            FROM public.platform_config
            WHERE key = 'idle_timeout_minutes'
        ),
        5
    )) AS since
) AS idle
WHERE
    c.chat_state = 'assigned'
    AND c.is_active = true
    AND c.assignment_time < idle.since
    AND (a.last_activity IS NULL OR a.last_activity < idle.since)
ORDER BY c.assignment_time
