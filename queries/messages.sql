-- Messages, as events.
--
-- Purpose: how much is written, and how fast users are answered. A response runs from the first of
--          the user's unanswered messages to the operator's message that ends the run; the first
--          response is that of a chat no operator has written in before.
--          A user's message after the operator's brings the chat back to the queue. That is an
--          separate event, with a separate key, for the application writes the message first
--          and the state later: as long as the chat still waits for its user, the change of state
--          is yet to happen. Where it never does, invalid_states says so. It is no such event where
--          the operator's turn had not ended when the user wrote: by operator_replied_at, or where
--          a later reply has moved that on, by how the turn's assignment ended; and none in a chat
--          that is not active, unless an operator has had it since: it was closed afterwards.
--          A message stamped ahead of the database's clock counts when its time comes.
-- Reads:   public.messages, public.chats, public.chat_assignments.
-- Cost:    in proportion to the messages since the last poll (index on created_at), two to four
--          index look-ups each. OFFSET 0 keeps the planner from joining with all chats instead.
WITH recent AS (
    SELECT
        m.id,
        m.chat_id,
        m.sender_type,
        m.created_at
    FROM public.messages AS m
    WHERE
        m.created_at > coalesce(
            %(since)s::timestamptz,
            now() - %(event_overlap)s::double precision * interval '1 second'
        )
        AND m.created_at <= now()
),

-- Messages that may have brought their chat back to the queue, those still to do so among them.
returned AS (
    SELECT
        r.id,
        r.chat_id,
        r.created_at
    FROM recent AS r
    WHERE r.sender_type = 'real'
    UNION
    SELECT
        m.id,
        m.chat_id,
        m.created_at
    FROM unnest(%(pending)s::text []) AS p (key)
    INNER JOIN public.messages AS m ON m.id = split_part(p.key, ' ', 1)::uuid
),

back AS (
    SELECT
        m.id || ' returned' AS key,
        CASE
            WHEN
                c.chat_state IS DISTINCT FROM 'waiting_real_user_reply'
                OR (c.operator_replied_at > m.created_at AND c.operator_replied_at <= now())
                THEN m.created_at
        END AS at,
        m.created_at AS window_at
    FROM returned AS m
    CROSS JOIN LATERAL (
        SELECT
            c.chat_state,
            c.is_active,
            c.operator_replied_at
        FROM public.chats AS c
        WHERE c.id = m.chat_id
        OFFSET 0
    ) AS c
    CROSS JOIN LATERAL (
        SELECT
            p.sender_type,
            p.created_at
        FROM public.messages AS p
        WHERE
            p.chat_id = m.chat_id
            AND p.created_at <= m.created_at
            AND (p.created_at < m.created_at OR p.id < m.id)
        ORDER BY p.created_at DESC, p.id DESC
        LIMIT 1
    ) AS previous
    LEFT JOIN LATERAL (
        SELECT max(a.assigned_at) AS began_at
        FROM public.chat_assignments AS a
        WHERE a.chat_id = m.chat_id AND a.assigned_at <= previous.created_at
    ) AS turn ON true
    WHERE
        previous.sender_type = 'fictional'
        -- An admin may assign a chat that waits for its user.
        AND NOT EXISTS (
            SELECT 1
            FROM public.chat_assignments AS a
            WHERE
                a.chat_id = m.chat_id
                AND a.assigned_at > previous.created_at
                AND a.assigned_at < m.created_at
            OFFSET 0
        )
        AND (
            c.is_active
            OR EXISTS (
                SELECT 1
                FROM public.chat_assignments AS a
                WHERE a.chat_id = m.chat_id AND a.assigned_at BETWEEN m.created_at AND now()
                OFFSET 0
            )
        )
        AND (
            c.operator_replied_at BETWEEN coalesce(turn.began_at, '-infinity') AND m.created_at
            OR EXISTS (
                SELECT 1
                FROM public.chat_assignments AS a
                WHERE
                    a.chat_id = m.chat_id
                    AND a.assigned_at = turn.began_at
                    AND (
                        (a.release_reason = 'operator_sent_message' AND a.released_at <= m.created_at)
                        OR a.release_reason = 'real_user_replied_after_operator'
                    )
                OFFSET 0
            )
        )
        AND m.id || ' returned' NOT IN (SELECT s.key FROM unnest(%(seen)s::text []) AS s (key))
)

SELECT
    m.id::text AS key,
    m.created_at AS at,
    m.created_at AS window_at,
    CASE m.sender_type WHEN 'real' THEN 'customer' ELSE 'operator' END AS sender,
    NULL AS from_state,
    NULL AS to_state,
    extract(EPOCH FROM m.created_at - run.began_at) AS response_seconds,
    CASE
        WHEN answered.at IS NULL THEN extract(EPOCH FROM m.created_at - run.began_at)
    END AS first_response_seconds
FROM recent AS m
-- Of messages of one instant, written in one request, the id says which comes first.
LEFT JOIN LATERAL (
    SELECT max(p.created_at) AS at
    FROM public.messages AS p
    WHERE
        p.chat_id = m.chat_id
        AND p.sender_type = 'fictional'
        AND p.created_at <= m.created_at
        AND (p.created_at < m.created_at OR p.id < m.id)
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
-- A sub-select is hashed; an array would be gone through for each message.
WHERE m.id::text NOT IN (SELECT s.key FROM unnest(%(seen)s::text []) AS s (key))
UNION ALL
SELECT
    b.key,
    b.at,
    b.window_at,
    NULL AS sender,
    'waiting_real_user_reply' AS from_state,
    'waiting_assignment' AS to_state,
    NULL AS response_seconds,
    NULL AS first_response_seconds
FROM back AS b
WHERE
    b.at IS NOT NULL
    -- What is remembered already need not be returned again.
    OR b.key NOT IN (SELECT p.key FROM unnest(%(pending)s::text []) AS p (key))
UNION ALL
-- No event of any kind, and not remembered any more: it will not bring its chat back.
SELECT
    p.key,
    now() AS at,
    NULL AS window_at,
    NULL AS sender,
    NULL AS from_state,
    NULL AS to_state,
    NULL AS response_seconds,
    NULL AS first_response_seconds
FROM unnest(%(pending)s::text []) AS p (key)
WHERE NOT EXISTS (SELECT 1 FROM back AS b WHERE b.key = p.key)
