-- True time in the states where somebody waits for an operator.
--
-- Purpose: how long chats have really been waiting or assigned. waiting_assignment counts from the
--          later of the last release and the first unanswered user message, else from creation;
--          a chat without any message yet waits for no operator and has no age here:
--          customer_wait counts those. assigned counts from assignment_time, else from the open
--          assignment, else from creation. updated_at is no clock: any update resets it.
--          A time that is infinite or ahead of the database's clock says nothing; the next one
--          that does is taken. A chat with none at all counts, without an age.
-- Reads:   public.chats, public.chat_assignments, public.messages.
-- Cost:    in proportion to the waiting and assigned chats (partial indexes of the fix, then index
--          look-ups a chat), not to all chats. The test on the operator names what the platform's
--          constraint promises, so that the partial index on assigned chats serves.
WITH clocked AS (
    SELECT
        c.id AS chat_id,
        'waiting_assignment' AS state,
        coalesce(
            greatest(released.at, unanswered.at),
            CASE WHEN c.created_at > '-infinity' AND c.created_at <= now() THEN c.created_at END
        ) AS since
    FROM public.chats AS c
    LEFT JOIN LATERAL (
        SELECT max(a.released_at) AS at
        FROM public.chat_assignments AS a
        WHERE a.chat_id = c.id AND a.released_at > '-infinity' AND a.released_at <= now()
    ) AS released ON true
    LEFT JOIN LATERAL (
        SELECT max(m.created_at) AS at
        FROM public.messages AS m
        WHERE m.chat_id = c.id AND m.sender_type = 'fictional' AND m.created_at <= now()
    ) AS answered ON true
    LEFT JOIN LATERAL (
        SELECT min(m.created_at) AS at
        FROM public.messages AS m
        WHERE
            m.chat_id = c.id
            AND m.sender_type = 'real'
            AND m.created_at > coalesce(answered.at, '-infinity')
            AND m.created_at <= now()
    ) AS unanswered ON true
    WHERE
        c.chat_state = 'waiting_assignment'
        AND c.is_active
        AND (
            unanswered.at IS NOT NULL
            OR EXISTS (SELECT 1 FROM public.messages AS m WHERE m.chat_id = c.id OFFSET 0)
        )
    UNION ALL
    SELECT
        c.id AS chat_id,
        'assigned' AS state,
        coalesce(
            CASE
                WHEN c.assignment_time > '-infinity' AND c.assignment_time <= now()
                    THEN c.assignment_time
            END,
            opened.at,
            CASE WHEN c.created_at > '-infinity' AND c.created_at <= now() THEN c.created_at END
        ) AS since
    FROM public.chats AS c
    LEFT JOIN LATERAL (
        SELECT max(a.assigned_at) AS at
        FROM public.chat_assignments AS a
        WHERE
            a.chat_id = c.id
            AND a.released_at IS NULL
            AND a.assigned_at > '-infinity'
            AND a.assigned_at <= now()
            AND (c.assignment_time > '-infinity' AND c.assignment_time <= now()) IS NOT TRUE
    ) AS opened ON true
    WHERE c.chat_state = 'assigned' AND c.is_active AND c.assigned_operator_id IS NOT NULL
),

-- Once a chat: otherwise every count below would compute the age again.
aged AS MATERIALIZED (
    SELECT
        k.chat_id,
        k.state,
        k.since,
        extract(EPOCH FROM now() - k.since)::double precision AS age_seconds,
        extract(EPOCH FROM now() - k.since)::double precision > CASE k.state
            WHEN 'assigned' THEN %(oldest_age_assigned_warning)s::double precision
            ELSE %(oldest_age_waiting_assignment_warning)s::double precision
        END AS is_overdue,
        extract(EPOCH FROM now() - k.since)::double precision > CASE k.state
            WHEN 'assigned' THEN %(oldest_age_assigned_critical)s::double precision
            ELSE %(oldest_age_waiting_assignment_critical)s::double precision
        END AS is_critically_overdue
    FROM clocked AS k
)

SELECT
    a.state,
    coalesce(max(a.age_seconds), 0) AS oldest_age_seconds,
    coalesce(avg(a.age_seconds), 0) AS mean_age_seconds,
    count(*) FILTER (WHERE a.is_overdue) AS overdue_warning_chats,
    count(*) FILTER (WHERE a.is_critically_overdue) AS overdue_critical_chats,
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
