-- How long users have been waiting for an answer the platform owes them.
--
-- Purpose: the longest run of unanswered user messages in a chat that waits or is assigned, from
--          its first message. This, and not any state, is what a user feels: an idle release or a
--          reassignment starts the state's clock again, never this one.
--          An operator's message ahead of the database's clock answers no user. A user's message
--          whose time says nothing (infinite, or ahead of the clock) waits all the same: from the
--          last answer, else from the chat's creation.
--          A chat is put in the queue before anything is written in it: such a chat is owed
--          nothing, and is counted separately.
-- Reads:   public.chats, public.messages.
-- Cost:    in proportion to the waiting and assigned chats: two index look-ups a chat, two more
--          where no unanswered message is found. The test on the operator names what the
--          platform's constraint promises, for the partial index.
WITH held AS (
    SELECT
        c.id,
        c.created_at,
        true AS is_waiting
    FROM public.chats AS c
    WHERE c.chat_state = 'waiting_assignment' AND c.is_active
    UNION ALL
    SELECT
        c.id,
        c.created_at,
        false AS is_waiting
    FROM public.chats AS c
    WHERE c.chat_state = 'assigned' AND c.is_active AND c.assigned_operator_id IS NOT NULL
),

judged AS (
    SELECT
        h.id AS chat_id,
        CASE
            WHEN first_message.at IS NOT NULL THEN first_message.at
            -- greatest ignores NULL; a chat created ahead of the clock gives none.
            WHEN undated.is_there
                THEN greatest(
                    answered.at,
                    CASE
                        WHEN h.created_at > '-infinity' AND h.created_at <= now()
                            THEN h.created_at
                    END
                )
        END AS since,
        first_message.at IS NOT NULL OR undated.is_there AS is_owed,
        h.is_waiting
        AND first_message.at IS NULL
        AND NOT EXISTS (SELECT 1 FROM public.messages AS m WHERE m.chat_id = h.id OFFSET 0)
            AS is_empty
    FROM held AS h
    LEFT JOIN LATERAL (
        SELECT max(m.created_at) AS at
        FROM public.messages AS m
        WHERE
            m.chat_id = h.id
            AND m.sender_type = 'fictional'
            AND m.created_at > '-infinity'
            AND m.created_at <= now()
    ) AS answered ON true
    CROSS JOIN LATERAL (
        SELECT min(m.created_at) AS at
        FROM public.messages AS m
        WHERE
            m.chat_id = h.id
            AND m.sender_type = 'real'
            AND m.created_at > coalesce(answered.at, '-infinity')
            AND m.created_at <= now()
    ) AS first_message
    CROSS JOIN LATERAL (
        SELECT
            first_message.at IS NULL
            AND EXISTS (
                SELECT 1
                FROM public.messages AS m
                WHERE
                    m.chat_id = h.id
                    AND m.sender_type = 'real'
                    AND (m.created_at > '-infinity' AND m.created_at <= now()) IS NOT TRUE
                OFFSET 0
            ) AS is_there
    ) AS undated
)

SELECT
    count(*) FILTER (WHERE j.is_owed) AS unanswered_chats,
    coalesce(extract(EPOCH FROM now() - min(j.since)), 0) AS customer_oldest_wait_seconds,
    count(*) FILTER (WHERE j.is_empty) AS empty_waiting_chats
FROM judged AS j
