SELECT
    c.chat_state,
    c.is_active,
    c.assigned_operator_id = %(operator)s AS has_operator,
    c.assigned_operator_id IS NULL AS is_free,
    c.assignment_time IS NOT NULL AS has_assignment_time,
    c.last_operator_id IS NOT DISTINCT FROM %(operator)s AS is_last_operator,
    c.operator_replied_at IS NOT NULL AS has_reply_time,
    (
        SELECT count(*)::integer
        FROM public.chat_assignments AS a
        WHERE a.chat_id = c.id AND a.operator_id = %(operator)s AND a.released_at IS NULL
    ) AS open_assignments,
    (
        SELECT count(*)::integer
        FROM public.operator_activity AS h
        WHERE h.chat_id = c.id AND h.operator_id = %(operator)s
    ) AS heartbeats
FROM public.chats AS c
WHERE c.id = %(chat)s
