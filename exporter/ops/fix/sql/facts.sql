-- One chat, and everything a repair of it is judged by.
--
-- Reads:  public.chats, public.chat_assignments, public.operator_activity, public.messages.
--
-- A browser writes its heartbeat every 30 s. Rows of earlier holders stay behind, days old, and a
-- late beat makes one again after a reply: only the present holder's say that somebody is at work.
--
-- Written after the end is as closed_but_written_to has it (queries/invalid_users.sql): the platform
-- keeps no time of the end, which is the last release or later. A chat that was in the queue may have
-- been closed on a user who waited, on purpose: there the message must be the chat's last write, or
-- that which the application adds to it.
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
        WHERE
            h.chat_id = c.id
            AND h.operator_id = coalesce(c.assigned_operator_id, opened.operator_id)
            AND h.updated_at > statement_timestamp() - interval '2 minutes'
    ) AS heartbeats,
    spoken.sender_type AS last_sender,
    extract(EPOCH FROM statement_timestamp() - spoken.created_at)::double precision
        AS last_message_age_s,
    extract(EPOCH FROM statement_timestamp() - c.updated_at)::double precision AS updated_age_s,
    c.is_active IS NOT TRUE
    AND (spoken.created_at <= released.at) IS NOT TRUE
    AND (
        coalesce(c.chat_state, '') NOT IN ('waiting_assignment', 'assigned')
        OR released.reason LIKE '%% - max reassignments reached'
        OR c.updated_at <= spoken.created_at + interval '10 seconds'
    ) AS is_written_after_end
FROM public.chats AS c
LEFT JOIN LATERAL (
    SELECT a.operator_id
    FROM public.chat_assignments AS a
    WHERE a.chat_id = c.id
    ORDER BY a.assigned_at DESC, a.created_at DESC
    LIMIT 1
) AS latest ON true
LEFT JOIN LATERAL (
    SELECT a.operator_id
    FROM public.chat_assignments AS a
    WHERE a.chat_id = c.id AND a.released_at IS NULL
    ORDER BY a.assigned_at DESC, a.created_at DESC
    LIMIT 1
) AS opened ON true
LEFT JOIN LATERAL (
    SELECT
        a.released_at AS at,
        a.release_reason AS reason
    FROM public.chat_assignments AS a
    WHERE a.chat_id = c.id AND a.released_at IS NOT NULL
    ORDER BY a.released_at DESC
    LIMIT 1
) AS released ON true
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
