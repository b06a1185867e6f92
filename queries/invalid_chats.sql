-- Chats that contradict themselves, where operators and the queue are concerned.
--
-- Purpose: states that should be impossible. The application writes its steps in separate requests,
--          so a contradiction counts once each of the writes that make it up is older than
--          checks.grace.
--          assigned_without_open_assignment: there is no row that a reply could close.
--          several_open_assignments, operator_mismatch: the rows do not name one operator, the
--          chat's. operator_on_several_chats: the platform allows one at a time; every chat of such
--          an operator counts. inactive_operator: held by an operator who is switched off; nothing
--          says since when, so the grace runs from the assignment.
--          operator_on_unassigned_chat: the operator was not cleared. answered_but_waiting: queued
--          although the last message is the operator's.
--          A row that an admin's reassignment left open is no open row: its copy, a row of the same
--          chat and operator that the admin ended after the first had begun, says how it ended. A
--          row that a half-done reply left open stays one, for it looks like a second
--          operator at work.
--          A time more than a minute ahead of the database's clock is no recent write.
-- Reads:   public.chats, public.chat_assignments, public.operators, public.messages.
-- Cost:    in proportion to the waiting and assigned chats: an index look-up or two each.
WITH setting AS (
    SELECT
        now() - %(checks_grace)s::double precision * interval '1 second' AS settled,
        now() + interval '1 minute' AS future
),

held AS (
    SELECT
        c.id,
        c.chat_state,
        c.assigned_operator_id AS operator_id,
        c.operator_replied_at,
        c.updated_at,
        coalesce(c.assignment_time, c.updated_at) AS since,
        s.settled,
        s.future,
        count(*) FILTER (
            WHERE (coalesce(c.assignment_time, c.updated_at) BETWEEN s.settled AND s.future)
            IS NOT TRUE
        )
            OVER (PARTITION BY c.assigned_operator_id, c.chat_state) AS settled_chats_of_operator
    FROM public.chats AS c
    CROSS JOIN setting AS s
    WHERE c.is_active AND c.assigned_operator_id IS NOT NULL
),

assigned AS (
    SELECT
        h.id,
        h.settled,
        h.future,
        h.settled_chats_of_operator,
        o.is_active AS operator_is_active,
        open_rows.rows AS open_rows,
        open_rows.others AS open_rows_of_others,
        open_rows.latest_at AS opened_at,
        ended.at AS ended_at
    FROM held AS h
    LEFT JOIN public.operators AS o ON o.id = h.operator_id
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS rows,
            count(*) FILTER (WHERE a.operator_id IS DISTINCT FROM h.operator_id) AS others,
            max(a.assigned_at) FILTER (WHERE a.assigned_at <= h.future) AS latest_at
        FROM public.chat_assignments AS a
        WHERE
            a.chat_id = h.id
            AND a.released_at IS NULL
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
    ) AS open_rows
    CROSS JOIN LATERAL (
        SELECT max(a.released_at) AS at
        FROM public.chat_assignments AS a
        WHERE a.chat_id = h.id AND a.released_at <= h.future
    ) AS ended
    WHERE
        h.chat_state = 'assigned'
        AND (h.since BETWEEN h.settled AND h.future) IS NOT TRUE
),

contradictions AS (
    SELECT
        a.id AS chat_id,
        t.name
    FROM assigned AS a
    CROSS JOIN LATERAL (
        VALUES
        (
            'assigned_without_open_assignment',
            a.open_rows = 0 AND (a.ended_at >= a.settled) IS NOT TRUE
        ),
        (
            'several_open_assignments',
            a.open_rows > 1 AND (a.opened_at >= a.settled) IS NOT TRUE
        ),
        (
            'operator_mismatch',
            a.open_rows_of_others > 0 AND (a.opened_at >= a.settled) IS NOT TRUE
        ),
        ('operator_on_several_chats', a.settled_chats_of_operator > 1),
        ('inactive_operator', a.operator_is_active IS NOT TRUE)
    ) AS t (name, holds)
    WHERE t.holds
    UNION ALL
    -- What proves that the state is older than the grace: its own clock, or that nothing at all
    -- was written since. A user who keeps writing moves updated_at only.
    SELECT
        h.id AS chat_id,
        'operator_on_unassigned_chat' AS name
    FROM held AS h
    LEFT JOIN LATERAL (
        SELECT max(a.released_at) AS at
        FROM public.chat_assignments AS a
        WHERE a.chat_id = h.id AND a.released_at <= h.future
    ) AS ended ON true
    WHERE
        h.chat_state IS DISTINCT FROM 'assigned'
        AND (h.since BETWEEN h.settled AND h.future) IS NOT TRUE
        AND (
            (h.updated_at BETWEEN h.settled AND h.future) IS NOT TRUE
            OR (
                h.chat_state = 'waiting_real_user_reply'
                AND h.operator_replied_at >= h.since
                AND h.operator_replied_at < h.settled
            )
            OR (
                h.chat_state = 'waiting_assignment'
                AND ended.at >= h.since
                AND ended.at < h.settled
            )
        )
    UNION ALL
    SELECT
        c.id AS chat_id,
        'answered_but_waiting' AS name
    FROM public.chats AS c
    CROSS JOIN setting AS s
    CROSS JOIN LATERAL (
        SELECT
            m.sender_type,
            m.created_at
        FROM public.messages AS m
        WHERE m.chat_id = c.id AND (m.sender_type = 'real' OR m.created_at <= s.future)
        ORDER BY m.created_at DESC
        LIMIT 1
    ) AS last_message
    WHERE
        c.chat_state = 'waiting_assignment'
        AND c.is_active
        AND last_message.sender_type = 'fictional'
        AND last_message.created_at < s.settled
        -- A user's message whose time says nothing may be the last one.
        AND NOT EXISTS (
            SELECT 1
            FROM public.messages AS m
            WHERE
                m.chat_id = c.id AND m.sender_type = 'real' AND m.created_at = '-infinity'
            OFFSET 0
        )
        AND NOT EXISTS (
            SELECT 1
            FROM public.chat_assignments AS a
            WHERE a.chat_id = c.id AND a.released_at BETWEEN s.settled AND s.future
        )
)

SELECT
    count(*) FILTER (WHERE k.name = 'assigned_without_open_assignment') AS assigned_without_open_assignment,
    count(*) FILTER (WHERE k.name = 'several_open_assignments') AS several_open_assignments,
    count(*) FILTER (WHERE k.name = 'operator_mismatch') AS operator_mismatch,
    count(*) FILTER (WHERE k.name = 'operator_on_several_chats') AS operator_on_several_chats,
    count(*) FILTER (WHERE k.name = 'inactive_operator') AS inactive_operator,
    count(*) FILTER (WHERE k.name = 'operator_on_unassigned_chat') AS operator_on_unassigned_chat,
    count(*) FILTER (WHERE k.name = 'answered_but_waiting') AS answered_but_waiting
FROM contradictions AS k
