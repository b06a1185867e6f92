-- How long users have been waiting for an answer the platform owes them.
--
-- Purpose: the longest run of unanswered user messages in a chat that waits or is assigned, from
--          its first message. This, and not any state, is what a user feels: an idle release or a
--          reassignment starts the state's clock again, never this one.
-- Reads:   public.chats, public.messages.
-- Cost:    in proportion to the waiting and assigned chats: two index look-ups a chat. The test on
--          the operator names what the platform's constraint promises, for the partial index.
WITH owed AS (
    SELECT c.id
    FROM public.chats AS c
    WHERE c.chat_state = 'waiting_assignment' AND c.is_active
    UNION ALL
    SELECT c.id
    FROM public.chats AS c
    WHERE c.chat_state = 'assigned' AND c.is_active AND c.assigned_operator_id IS NOT NULL
),

unanswered AS (
    SELECT first_message.at
    FROM owed AS o
    LEFT JOIN LATERAL (
        SELECT max(m.created_at) AS at
        FROM public.messages AS m
        WHERE m.chat_id = o.id AND m.sender_type = 'fictional'
    ) AS answered ON true
    CROSS JOIN LATERAL (
        SELECT min(m.created_at) AS at
        FROM public.messages AS m
        WHERE
            m.chat_id = o.id
            AND m.sender_type = 'real'
            AND m.created_at > coalesce(answered.at, '-infinity')
    ) AS first_message
    WHERE first_message.at IS NOT NULL
)

SELECT
    count(*) AS unanswered_chats,
    coalesce(
        greatest(extract(EPOCH FROM now() - min(u.at)), 0), 0
    ) AS customer_oldest_wait_seconds
FROM unanswered AS u
