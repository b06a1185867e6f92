-- One chat, and everything a repair of it is judged by.
--
-- Reads:  public.chats, public.chat_assignments, public.operator_activity, public.messages.
SELECT
    c.is_active,
    c.chat_state,
    c.assigned_operator_id,
    c.assignment_time,
    c.last_operator_id,
    latest.operator_id AS latest_operator_id,
    (
        SELECT count(*)::integer
        FROM public.chat_assignments AS a
        WHERE a.chat_id = c.id AND a.released_at IS NULL
    ) AS open_assignments,
    (
        SELECT count(*)::integer
        FROM public.operator_activity AS h
        WHERE h.chat_id = c.id
    ) AS heartbeats,
    spoken.sender_type AS last_sender,
    extract(EPOCH FROM statement_timestamp() - spoken.created_at)::double precision
        AS last_message_age_s,
    extract(EPOCH FROM statement_timestamp() - c.updated_at)::double precision AS updated_age_s
FROM public.chats AS c
LEFT JOIN LATERAL (
    SELECT a.operator_id
    FROM public.chat_assignments AS a
    WHERE a.chat_id = c.id
    ORDER BY a.assigned_at DESC, a.created_at DESC
    LIMIT 1
) AS latest ON true
LEFT JOIN LATERAL (
    SELECT
        m.sender_type,
        m.created_at
    FROM public.messages AS m
    WHERE m.chat_id = c.id
    ORDER BY m.created_at DESC
    LIMIT 1
) AS spoken ON true
WHERE c.id = %(chat)s
