-- True time in the states where somebody waits for an operator.
--
-- Purpose: how long chats have really been waiting or assigned. waiting_assignment counts from the
--          later of the last release and the first unanswered user message, else from creation;
--          assigned counts from assignment_time, else from the open assignment, else from creation.
--          updated_at is no clock: any update resets it.
-- Reads:   public.chats, public.chat_assignments, public.messages.
-- Cost:    in proportion to the waiting and assigned chats (partial indexes of the fix, then index
--          look-ups a chat), not to all chats. The test on the operator names what the platform's
--          constraint promises, so that the partial index on assigned chats serves.
WITH clocked AS (
    SELECT
        'waiting_assignment' AS state,
        coalesce(greatest(released.at, unanswered.at), c.created_at) AS since
    FROM public.chats AS c
    LEFT JOIN LATERAL (
        SELECT max(a.released_at) AS at
        FROM public.chat_assignments AS a
        WHERE a.chat_id = c.id
    ) AS released ON true
    LEFT JOIN LATERAL (
        SELECT max(m.created_at) AS at
        FROM public.messages AS m
        WHERE m.chat_id = c.id AND m.sender_type = 'fictional'
    ) AS answered ON true
    LEFT JOIN LATERAL (
        SELECT min(m.created_at) AS at
        FROM public.messages AS m
        WHERE
            m.chat_id = c.id
            AND m.sender_type = 'real'
            AND m.created_at > coalesce(answered.at, '-infinity')
    ) AS unanswered ON true
    WHERE c.chat_state = 'waiting_assignment' AND c.is_active
    UNION ALL
    SELECT
        'assigned' AS state,
        coalesce(c.assignment_time, opened.at, c.created_at) AS since
    FROM public.chats AS c
    LEFT JOIN LATERAL (
        SELECT max(a.assigned_at) AS at
        FROM public.chat_assignments AS a
        WHERE a.chat_id = c.id AND a.released_at IS NULL AND c.assignment_time IS NULL
    ) AS opened ON true
    WHERE c.chat_state = 'assigned' AND c.is_active AND c.assigned_operator_id IS NOT NULL
),

-- Once a chat: otherwise every count below would work the age out anew.
aged AS MATERIALIZED (
    SELECT
        k.state,
        greatest(extract(EPOCH FROM now() - k.since), 0)::double precision AS age_seconds,
        CASE k.state
            WHEN 'assigned' THEN %(oldest_age_assigned_warning)s::double precision
            ELSE %(oldest_age_waiting_assignment_warning)s::double precision
        END AS warning_seconds,
        CASE k.state
            WHEN 'assigned' THEN %(oldest_age_assigned_critical)s::double precision
            ELSE %(oldest_age_waiting_assignment_critical)s::double precision
        END AS critical_seconds
    FROM clocked AS k
)

SELECT
    a.state,
    max(a.age_seconds) AS oldest_age_seconds,
    avg(a.age_seconds) AS mean_age_seconds,
    count(*) FILTER (WHERE a.age_seconds > a.warning_seconds) AS overdue_warning_chats,
    count(*) FILTER (WHERE a.age_seconds > a.critical_seconds) AS overdue_critical_chats,
    count(*) FILTER (WHERE a.age_seconds <= 15) AS at_most_15_chats,
    count(*) FILTER (WHERE a.age_seconds <= 30) AS at_most_30_chats,
    count(*) FILTER (WHERE a.age_seconds <= 60) AS at_most_60_chats,
    count(*) FILTER (WHERE a.age_seconds <= 120) AS at_most_120_chats,
    count(*) FILTER (WHERE a.age_seconds <= 300) AS at_most_300_chats,
    count(*) FILTER (WHERE a.age_seconds <= 600) AS at_most_600_chats,
    count(*) FILTER (WHERE a.age_seconds <= 1200) AS at_most_1200_chats,
    count(*) FILTER (WHERE a.age_seconds <= 3600) AS at_most_3600_chats,
    count(*) FILTER (WHERE a.age_seconds <= 14400) AS at_most_14400_chats,
    count(*) FILTER (WHERE a.age_seconds <= 86400) AS at_most_86400_chats,
    count(*) AS chats
FROM aged AS a
GROUP BY a.state
