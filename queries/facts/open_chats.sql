-- One row for each chat that waits for an operator or has one: what several queries need of it.
--
-- chat_id, state, operator_id: as the platform has them; state is waiting_assignment or assigned.
-- since:            true time in the state. waiting_assignment counts from the later of the last
--                   release and the first unanswered user message, else from creation; assigned
--                   from assignment_time, else from the open assignment, else from creation.
--                   updated_at is no clock: any update resets it.
-- assigned_at:      assignment_time as it stands; NULL where the chat waits.
-- answered_at:      the operator's last message; NULL where there is none.
-- is_owed:          a user's message has not been answered.
-- unanswered_since: the first of the unanswered user messages. One whose time says nothing waits
--                   from the last answer, else from the chat's creation.
-- is_empty:         a waiting chat in which nothing has been written yet: a chat is put in the queue
--                   before anything is. It waits for no operator.
--
-- A time that is infinite or ahead of the database's clock says nothing; the next one that does is
-- taken, and where there is none the column is NULL. An operator's message ahead of the clock
-- answers no user.
-- Reads:   public.chats, public.chat_assignments, public.messages.
-- Cost:    in proportion to the waiting and assigned chats (partial indexes of the fix, then three or
--          four index look-ups a chat), not to all chats. The test on the operator names what the
--          platform's constraint promises, so that the partial index on assigned chats serves.
WITH held AS (
    SELECT
        c.id AS chat_id,
        'waiting_assignment' AS state,
        NULL::uuid AS operator_id,
        NULL::timestamptz AS assigned_at,
        CASE WHEN c.created_at > '-infinity' AND c.created_at <= now() THEN c.created_at END
            AS created_at
    FROM public.chats AS c
    WHERE c.chat_state = 'waiting_assignment' AND c.is_active
    UNION ALL
    SELECT
        c.id AS chat_id,
        'assigned' AS state,
        c.assigned_operator_id AS operator_id,
        c.assignment_time AS assigned_at,
        CASE WHEN c.created_at > '-infinity' AND c.created_at <= now() THEN c.created_at END
            AS created_at
    FROM public.chats AS c
    WHERE c.chat_state = 'assigned' AND c.is_active AND c.assigned_operator_id IS NOT NULL
)

SELECT
    h.chat_id,
    h.state,
    h.operator_id,
    h.assigned_at,
    answered.at AS answered_at,
    coalesce(
        CASE h.state
            WHEN 'waiting_assignment' THEN greatest(turn.at, unanswered.at)
            ELSE turn.at
        END,
        h.created_at
    ) AS since,
    unanswered.at IS NOT NULL OR rest.is_undated AS is_owed,
    -- greatest ignores NULL.
    CASE
        WHEN unanswered.at IS NOT NULL THEN unanswered.at
        WHEN rest.is_undated THEN greatest(answered.at, h.created_at)
    END AS unanswered_since,
    rest.is_empty
FROM held AS h
CROSS JOIN LATERAL (
    SELECT
        CASE
            WHEN h.state = 'waiting_assignment'
                THEN (
                    SELECT max(a.released_at)
                    FROM public.chat_assignments AS a
                    WHERE
                        a.chat_id = h.chat_id
                        AND a.released_at > '-infinity'
                        AND a.released_at <= now()
                )
            WHEN h.assigned_at > '-infinity' AND h.assigned_at <= now() THEN h.assigned_at
            ELSE (
                SELECT max(a.assigned_at)
                FROM public.chat_assignments AS a
                WHERE
                    a.chat_id = h.chat_id
                    AND a.released_at IS NULL
                    AND a.assigned_at > '-infinity'
                    AND a.assigned_at <= now()
            )
        END AS at
) AS turn
CROSS JOIN LATERAL (
    SELECT max(m.created_at) AS at
    FROM public.messages AS m
    WHERE
        m.chat_id = h.chat_id
        AND m.sender_type = 'fictional'
        AND m.created_at > '-infinity'
        AND m.created_at <= now()
) AS answered
CROSS JOIN LATERAL (
    SELECT min(m.created_at) AS at
    FROM public.messages AS m
    WHERE
        m.chat_id = h.chat_id
        AND m.sender_type = 'real'
        AND m.created_at > coalesce(answered.at, '-infinity')
        AND m.created_at <= now()
) AS unanswered
-- What only a chat without an unanswered message has to be asked.
CROSS JOIN LATERAL (
    SELECT
        unanswered.at IS NULL
        AND EXISTS (
            SELECT 1
            FROM public.messages AS m
            WHERE
                m.chat_id = h.chat_id
                AND m.sender_type = 'real'
                AND (m.created_at > '-infinity' AND m.created_at <= now()) IS NOT TRUE
            OFFSET 0
        ) AS is_undated,
        h.state = 'waiting_assignment'
        AND unanswered.at IS NULL
        AND NOT EXISTS (
            SELECT 1 FROM public.messages AS m WHERE m.chat_id = h.chat_id OFFSET 0
        ) AS is_empty
    OFFSET 0
) AS rest
