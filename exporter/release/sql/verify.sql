-- What the release has left behind.
SELECT
    c.chat_state,
    c.is_active,
    c.assigned_operator_id IS NULL AS is_free,
    c.assignment_time IS NULL AS is_unclocked,
    ARRAY(
        SELECT a.id
        FROM public.chat_assignments AS a
        WHERE a.chat_id = c.id AND a.released_at IS NULL
        ORDER BY a.id
    ) AS open_assignments,
    (
        SELECT count(*)::integer
        FROM public.chat_assignments AS a
        WHERE a.chat_id = c.id AND a.released_at IS NOT NULL
    ) AS past_turns,
    (
        SELECT a.release_reason
        FROM public.chat_assignments AS a
        WHERE a.id = %(assignment)s AND a.released_at IS NOT NULL
    ) AS release_reason
FROM public.chats AS c
WHERE c.id = %(chat)s
