-- Chats that contradict themselves, found only by reading all active chats.
--
-- Purpose: as invalid_chats. lost_reply is the one that hurts: the chat waits for its user although
--          the last message is the user's, so no operator will look at it. Candidates are chats
--          whose own last_message_at is after the operator's reply, or with a user's message in the
--          last hour; the last message itself decides. (A message that falls between the two
--          writes of an operator's reply is seen by the latter only, and so for an hour.)
--          orphaned_assignment: a row left open, for a chat that is not assigned, of the last day;
--          not the one that an admin's reassignment leaves open for ever, for its copy says how
--          that ended. A time more than a minute ahead of the database's clock is no recent write,
--          and an operator's message of such a time answers what came before operator_replied_at; a
--          user's is the last one where the chat's own last_message_at is ahead as well.
--          Where a state has no separate clock, the grace runs from the chat's latest write.
-- Reads:   public.chats, public.chat_assignments, public.messages.
-- Cost:    one pass over all active chats; about 0.3 s at 1,000,000 chats, hence every 60 s.
WITH setting AS (
    SELECT
        now() - %(checks_grace)s::double precision * interval '1 second' AS settled,
        now() + interval '1 minute' AS future
),

candidates AS (
    SELECT
        c.id,
        c.last_message_at,
        c.operator_replied_at
    FROM public.chats AS c
    CROSS JOIN setting AS s
    WHERE
        c.is_active
        AND c.chat_state = 'waiting_real_user_reply'
        AND (c.last_message_at > c.operator_replied_at OR c.operator_replied_at > s.future)
    UNION
    SELECT
        c.id,
        c.last_message_at,
        c.operator_replied_at
    FROM public.messages AS m
    INNER JOIN public.chats AS c ON c.id = m.chat_id
    WHERE
        m.created_at > now() - interval '1 hour'
        AND m.sender_type = 'real'
        AND c.is_active
        AND c.chat_state = 'waiting_real_user_reply'
),

lost AS (
    SELECT n.id
    FROM candidates AS n
    CROSS JOIN setting AS s
    CROSS JOIN LATERAL (
        SELECT
            m.sender_type,
            m.created_at
        FROM public.messages AS m
        WHERE
            m.chat_id = n.id
            AND (
                m.created_at <= s.future
                OR (m.sender_type = 'real' AND n.last_message_at > s.future)
            )
        ORDER BY m.created_at DESC
        LIMIT 1
    ) AS last_message
    WHERE
        last_message.sender_type = 'real'
        AND (last_message.created_at BETWEEN s.settled AND s.future) IS NOT TRUE
        -- An operator's message without a usable time: then the state's own clock has to do.
        AND NOT (
            coalesce(
                n.operator_replied_at BETWEEN last_message.created_at AND s.future, false
            )
            AND EXISTS (
                SELECT 1
                FROM public.messages AS m
                WHERE
                    m.chat_id = n.id
                    AND m.sender_type = 'fictional'
                    AND (m.created_at > s.future OR m.created_at = '-infinity')
                OFFSET 0
            )
        )
),

orphaned AS (
    SELECT DISTINCT a.chat_id
    FROM public.chat_assignments AS a
    CROSS JOIN setting AS s
    INNER JOIN public.chats AS c ON c.id = a.chat_id
    WHERE
        a.assigned_at > now() - interval '1 day'
        AND a.assigned_at < s.settled
        AND a.released_at IS NULL
        AND c.chat_state IS DISTINCT FROM 'assigned'
        AND (
            CASE
                WHEN c.chat_state = 'waiting_real_user_reply'
                    THEN coalesce(c.operator_replied_at, c.updated_at)
                ELSE c.updated_at
            END BETWEEN s.settled AND s.future
        ) IS NOT TRUE
        AND NOT EXISTS (
            SELECT 1
            FROM public.chat_assignments AS q
            WHERE
                q.chat_id = a.chat_id
                AND q.operator_id = a.operator_id
                AND q.id <> a.id
                AND starts_with(q.release_reason, 'manual_reassignment_by_admin')
                AND q.released_at > a.assigned_at
                AND q.released_at <= now()
                AND (a.released_at IS NULL OR a.released_at > q.released_at)
            OFFSET 0  -- or it may be joined with the whole table
        )
),

contradictions AS (
    SELECT
        n.id AS chat_id,
        'lost_reply' AS name
    FROM lost AS n
    UNION ALL
    SELECT
        o.chat_id,
        'orphaned_assignment' AS name
    FROM orphaned AS o
    UNION ALL
    SELECT
        t.chat_id,
        t.name
    FROM (
        SELECT
            c.id AS chat_id,
            CASE
                WHEN c.chat_state = 'assigned'
                    THEN
                        CASE
                            WHEN c.assigned_operator_id IS NULL THEN 'assigned_without_operator'
                        END
                WHEN c.chat_state = 'waiting_real_user_reply'
                    THEN
                        CASE
                            WHEN c.operator_replied_at IS NULL THEN 'reply_without_timestamp'
                        END
                WHEN c.chat_state = 'completed' THEN 'completed_but_active'
                WHEN c.chat_state = 'waiting_assignment' THEN NULL
                ELSE 'unknown_state'
            END AS name
        FROM setting AS s
        CROSS JOIN public.chats AS c
        WHERE c.is_active AND (c.updated_at BETWEEN s.settled AND s.future) IS NOT TRUE
        OFFSET 0  -- or the name is worked out twice a chat
    ) AS t
    WHERE t.name IS NOT NULL
)

SELECT
    count(*) FILTER (WHERE k.name = 'lost_reply') AS lost_reply,
    count(*) FILTER (WHERE k.name = 'orphaned_assignment') AS orphaned_assignment,
    count(*) FILTER (WHERE k.name = 'assigned_without_operator') AS assigned_without_operator,
    count(*) FILTER (WHERE k.name = 'reply_without_timestamp') AS reply_without_timestamp,
    count(*) FILTER (WHERE k.name = 'completed_but_active') AS completed_but_active,
    count(*) FILTER (WHERE k.name = 'unknown_state') AS unknown_state
FROM contradictions AS k
