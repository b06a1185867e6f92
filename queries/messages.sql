-- Messages, as events.
--
-- Purpose: how much is written, and how fast users are answered. A response runs from the first of
--          the user's unanswered messages to the operator's message that ends the run; the first
--          response is that of a chat no operator has written in before. A user's message after
--          the operator's brings the chat back to the queue, which is counted as a change of state
--          unless the chat still waits for its user: then the state was not changed, and
--          invalid_states says so.
-- Reads:   public.messages, public.chats.
-- Cost:    in proportion to the messages since the last poll (index on created_at), two or three
--          index look-ups each.
SELECT
    m.id::text AS key,
    m.created_at AS at,
    CASE m.sender_type WHEN 'real' THEN 'customer' ELSE 'operator' END AS sender,
    CASE
        WHEN
            m.sender_type = 'real'
            AND previous.sender_type = 'fictional'
            AND (
                c.chat_state IS DISTINCT FROM 'waiting_real_user_reply'
                OR c.operator_replied_at > m.created_at
            )
            THEN 'waiting_real_user_reply'
    END AS from_state,
    'waiting_assignment' AS to_state,
    extract(EPOCH FROM m.created_at - run.began_at) AS response_seconds,
    CASE
        WHEN answered.at IS NULL THEN extract(EPOCH FROM m.created_at - run.began_at)
    END AS first_response_seconds
FROM public.messages AS m
INNER JOIN public.chats AS c ON c.id = m.chat_id
LEFT JOIN LATERAL (
    SELECT p.sender_type
    FROM public.messages AS p
    WHERE p.chat_id = m.chat_id AND p.created_at < m.created_at
    ORDER BY p.created_at DESC
    LIMIT 1
) AS previous ON true
LEFT JOIN LATERAL (
    SELECT max(p.created_at) AS at
    FROM public.messages AS p
    WHERE
        p.chat_id = m.chat_id
        AND p.sender_type = 'fictional'
        AND p.created_at < m.created_at
        AND m.sender_type = 'fictional'
) AS answered ON true
LEFT JOIN LATERAL (
    SELECT min(p.created_at) AS began_at
    FROM public.messages AS p
    WHERE
        p.chat_id = m.chat_id
        AND p.sender_type = 'real'
        AND p.created_at < m.created_at
        AND p.created_at > coalesce(answered.at, '-infinity')
        AND m.sender_type = 'fictional'
) AS run ON true
WHERE
    m.created_at > coalesce(
        %(since)s::timestamptz,
        now() - %(event_overlap)s::double precision * interval '1 second'
    )
    AND NOT m.id = ANY(%(seen)s::uuid [])
