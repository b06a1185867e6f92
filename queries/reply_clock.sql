-- True time in the states where the platform waits for the user, or that it does not know.
--
-- Purpose: waiting_real_user_reply counts from operator_replied_at, else from creation. A NULL or
--          unheard-of state has no clock of its own; it counts from the chat's creation.
-- Reads:   public.chats.
-- Cost:    one pass over all active chats, nearly all of which wait for their user. About 0.3 s at
--          1,000,000 chats, hence every 60 s and apart from state_clock.
WITH aged AS (
    SELECT
        CASE
            WHEN c.chat_state = 'waiting_real_user_reply' THEN c.chat_state
            ELSE 'unknown'
        END AS state,
        greatest(
            extract(
                EPOCH FROM now() - CASE
                    WHEN c.chat_state = 'waiting_real_user_reply'
                        THEN coalesce(c.operator_replied_at, c.created_at)
                    ELSE c.created_at
                END
            ),
            0
        )::double precision AS age_seconds
    FROM public.chats AS c
    WHERE
        c.is_active
        AND coalesce(c.chat_state, '') NOT IN ('waiting_assignment', 'assigned', 'completed')
),

judged AS (
    SELECT
        a.state,
        a.age_seconds,
        a.state = 'waiting_real_user_reply'
        AND a.age_seconds
        > %(oldest_age_waiting_real_user_reply_warning)s::double precision AS is_warning,
        a.state = 'waiting_real_user_reply'
        AND a.age_seconds
        > %(oldest_age_waiting_real_user_reply_critical)s::double precision AS is_critical
    FROM aged AS a
)

SELECT
    j.state,
    max(j.age_seconds) AS oldest_age_seconds,
    avg(j.age_seconds) AS mean_age_seconds,
    count(*) FILTER (WHERE j.is_warning) AS overdue_warning_chats,
    count(*) FILTER (WHERE j.is_critical) AS overdue_critical_chats,
    count(*) FILTER (WHERE j.age_seconds <= 15) AS at_most_15_chats,
    count(*) FILTER (WHERE j.age_seconds <= 30) AS at_most_30_chats,
    count(*) FILTER (WHERE j.age_seconds <= 60) AS at_most_60_chats,
    count(*) FILTER (WHERE j.age_seconds <= 120) AS at_most_120_chats,
    count(*) FILTER (WHERE j.age_seconds <= 300) AS at_most_300_chats,
    count(*) FILTER (WHERE j.age_seconds <= 600) AS at_most_600_chats,
    count(*) FILTER (WHERE j.age_seconds <= 1200) AS at_most_1200_chats,
    count(*) FILTER (WHERE j.age_seconds <= 3600) AS at_most_3600_chats,
    count(*) FILTER (WHERE j.age_seconds <= 14400) AS at_most_14400_chats,
    count(*) FILTER (WHERE j.age_seconds <= 86400) AS at_most_86400_chats,
    count(*) AS chats
FROM judged AS j
GROUP BY j.state
