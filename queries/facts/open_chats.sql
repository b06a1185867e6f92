-- Every chat in which the platform owes somebody something: it waits for an operator or has one.
--
-- Purpose: what several queries need to know about the same chats, looked up once in each poll. Its
--          columns, one row per active chat that is waiting_assignment or assigned:
--          chat_id, state, operator_id, created_at, assignment_time: as the platform stores them.
--          since: when the state began. waiting_assignment counts from the later of the last release
--          and the first unanswered user message, else from creation; assigned from
--          assignment_time, else from the open assignment, else from creation. updated_at is no
--          clock: any update resets it. NULL where no time is usable.
--          answered_at: the operator's last message.
--          is_owed, unanswered_since: whether the user waits for an answer, and since when: the
--          first message that the operator has not answered. A message whose own time is not usable
--          waits all the same: from the last answer, else from the chat's creation.
--          is_empty: it waits, but nothing has been written in it yet; nobody waits there.
--          A time that is infinite or ahead of the database's clock is not usable; the next one
--          that is counts, and an operator's message of such a time answers nothing.
-- Reads:   public.chats, public.chat_assignments, public.messages.
-- Cost:    in proportion to the waiting and assigned chats: partial indexes of the fix, then two or
--          three index look-ups per chat, four more where no unanswered message is found. At
--          1,000,000 chats, 750 of them waiting or assigned, 12 pages per chat and 7 ms.
WITH held AS (
    SELECT
        c.id,
        c.created_at,
        NULL::uuid AS operator_id,
        c.assignment_time,
        'waiting_assignment' AS state
    FROM public.chats AS c
    WHERE c.chat_state = 'waiting_assignment' AND c.is_active
    UNION ALL
    SELECT
        c.id,
        c.created_at,
        c.assigned_operator_id AS operator_id,
        c.assignment_time,
        'assigned' AS state
    FROM (
        SELECT
            a.id,
            a.created_at,
            a.assigned_operator_id,
            a.assignment_time,
            a.chat_state
        FROM public.chats AS a
        WHERE a.is_active AND a.assigned_operator_id IS NOT NULL
        OFFSET 0  -- or PostgreSQL 18 looks up the state as well, operator by operator
    ) AS c
    WHERE c.chat_state = 'assigned'
),

-- Once per chat: otherwise each column that uses a time would look it up again.
dated AS MATERIALIZED (
    SELECT
        h.id,
        h.state,
        h.operator_id,
        h.created_at,
        h.assignment_time,
        CASE
            WHEN h.created_at > '-infinity' AND h.created_at <= now() THEN h.created_at
        END AS usable_created_at,
        CASE
            WHEN h.state = 'assigned'
                AND h.assignment_time > '-infinity'
                AND h.assignment_time <= now()
                THEN h.assignment_time
        END AS usable_assignment_time,
        answered.at AS answered_at,
        unanswered.at AS unanswered_at
    FROM held AS h
    LEFT JOIN LATERAL (
        SELECT m.created_at AS at
        FROM public.messages AS m
        WHERE
            m.chat_id = h.id
            AND m.sender_type = 'fictional'
            AND m.created_at > '-infinity'
            AND m.created_at <= now()
        ORDER BY m.created_at DESC
        LIMIT 1  -- max() would have all messages of the chat read
    ) AS answered ON true
    CROSS JOIN LATERAL (
        SELECT min(m.created_at) AS at
        FROM public.messages AS m
        WHERE
            m.chat_id = h.id
            AND m.sender_type = 'real'
            AND m.created_at > coalesce(answered.at, '-infinity')
            AND m.created_at <= now()
    ) AS unanswered
)

SELECT
    d.id AS chat_id,
    d.state,
    d.operator_id,
    d.created_at,
    d.assignment_time,
    CASE
        WHEN d.state = 'waiting_assignment'
            THEN coalesce(
                greatest(
                    (
                        SELECT max(a.released_at)
                        FROM public.chat_assignments AS a
                        WHERE
                            a.chat_id = d.id
                            AND a.released_at > '-infinity'
                            AND a.released_at <= now()
                    ),
                    d.unanswered_at
                ),
                d.usable_created_at
            )
        ELSE coalesce(
            d.usable_assignment_time,
            (
                SELECT max(a.assigned_at)
                FROM public.chat_assignments AS a
                WHERE
                    a.chat_id = d.id
                    AND a.released_at IS NULL
                    AND a.assigned_at > '-infinity'
                    AND a.assigned_at <= now()
            ),
            d.usable_created_at
        )
    END AS since,
    d.answered_at,
    d.unanswered_at IS NOT NULL OR undated.is_there AS is_owed,
    CASE
        WHEN d.unanswered_at IS NOT NULL THEN d.unanswered_at
        -- greatest ignores NULL.
        WHEN undated.is_there THEN greatest(d.answered_at, d.usable_created_at)
    END AS unanswered_since,
    d.state = 'waiting_assignment'
    AND d.unanswered_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM public.messages AS m WHERE m.chat_id = d.id OFFSET 0)
        AS is_empty
FROM dated AS d
CROSS JOIN LATERAL (
    -- Three look-ups in the index, however many messages the chat has.
    SELECT
        d.unanswered_at IS NULL
        AND (
            EXISTS (
                SELECT 1
                FROM public.messages AS m
                WHERE m.chat_id = d.id AND m.sender_type = 'real' AND m.created_at > now()
                OFFSET 0
            )
            OR EXISTS (
                SELECT 1
                FROM public.messages AS m
                WHERE m.chat_id = d.id AND m.sender_type = 'real' AND m.created_at = '-infinity'
                OFFSET 0
            )
            OR EXISTS (
                SELECT 1
                FROM public.messages AS m
                WHERE m.chat_id = d.id AND m.sender_type = 'real' AND m.created_at IS NULL
                OFFSET 0
            )
        ) AS is_there
    OFFSET 0  -- or it is looked for again in each column that names it
) AS undated
