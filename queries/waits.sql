-- Waits of users, as events: each counts once, when it is answered or as soon as it is breached.
--
-- Purpose: the service level. A wait is a run of a user's unanswered messages. One that is still
--          open counts as soon as it is longer than slo.answer_within: a queue where nobody is ever
--          answered must not read as 0 of 0. It keeps its key when it is answered at last, and so
--          is not counted again.
-- Reads:   public.messages, public.chats.
-- Cost:    in proportion to the operators' messages since the last poll, and to the waiting and
--          assigned chats.
WITH owed AS (
    SELECT c.id
    FROM public.chats AS c
    WHERE c.chat_state = 'waiting_assignment' AND c.is_active
    UNION ALL
    SELECT c.id
    FROM public.chats AS c
    WHERE c.chat_state = 'assigned' AND c.is_active AND c.assigned_operator_id IS NOT NULL
),

-- A run is known by its chat and the operator's message before it.
answered AS (
    -- Two answers of one instant, written in one request, end one wait.
    SELECT DISTINCT
        m.chat_id,
        m.created_at AS answered_at,
        before.at AS after_at,
        run.began_at
    FROM public.messages AS m
    LEFT JOIN LATERAL (
        SELECT max(p.created_at) AS at
        FROM public.messages AS p
        WHERE
            p.chat_id = m.chat_id
            AND p.sender_type = 'fictional'
            AND p.created_at < m.created_at
    ) AS before ON true
    CROSS JOIN LATERAL (
        SELECT min(p.created_at) AS began_at
        FROM public.messages AS p
        WHERE
            p.chat_id = m.chat_id
            AND p.sender_type = 'real'
            AND p.created_at < m.created_at
            AND p.created_at > coalesce(before.at, '-infinity')
    ) AS run
    WHERE
        m.sender_type = 'fictional'
        AND m.created_at > coalesce(
            %(since)s::timestamptz,
            now() - %(event_overlap)s::double precision * interval '1 second'
        )
        AND run.began_at IS NOT NULL
),

unanswered AS (
    SELECT
        o.id AS chat_id,
        before.at AS after_at,
        run.began_at
    FROM owed AS o
    LEFT JOIN LATERAL (
        SELECT max(p.created_at) AS at
        FROM public.messages AS p
        WHERE p.chat_id = o.id AND p.sender_type = 'fictional'
    ) AS before ON true
    CROSS JOIN LATERAL (
        SELECT min(p.created_at) AS began_at
        FROM public.messages AS p
        WHERE
            p.chat_id = o.id
            AND p.sender_type = 'real'
            AND p.created_at > coalesce(before.at, '-infinity')
    ) AS run
    WHERE extract(EPOCH FROM now() - run.began_at) > %(slo_answer_within)s::double precision
)

SELECT
    a.chat_id || ' ' || coalesce(extract(EPOCH FROM a.after_at)::text, '') AS key,
    a.answered_at AS at,
    a.answered_at AS window_at,
    (
        extract(EPOCH FROM a.answered_at - a.began_at) > %(slo_answer_within)s::double precision
    )::integer AS breached
FROM answered AS a
UNION ALL
SELECT
    u.chat_id || ' ' || coalesce(extract(EPOCH FROM u.after_at)::text, '') AS key,
    u.began_at + %(slo_answer_within)s::double precision * interval '1 second' AS at,
    -- Kept for as long as it stays open, and an overlap longer.
    now() AS window_at,
    1 AS breached
FROM unanswered AS u
