-- True time in the states where the platform waits for the user, or that it does not know.
--
-- Purpose: waiting_real_user_reply counts from operator_replied_at, else from creation. A NULL or
--          unknown state has no separate clock; it counts from the chat's creation. A time
--          that is infinite or ahead of the database's clock is none; a chat without any counts,
--          without an age.
-- Reads:   public.chats.
-- Cost:    one pass over all active chats, nearly all of which wait for their user. About 0.4 s at
--          1,000,000 chats, hence every 60 s and apart from state_clock.
WITH clocked AS (
    SELECT
        c.id AS chat_id,
        CASE
            WHEN c.chat_state = 'waiting_real_user_reply' THEN c.chat_state
            ELSE 'unknown'
        END AS state,
        CASE
            WHEN
                c.chat_state = 'waiting_real_user_reply'
                AND c.operator_replied_at > '-infinity'
                AND c.operator_replied_at <= (SELECT now())
                THEN c.operator_replied_at
            WHEN c.created_at > '-infinity' AND c.created_at <= (SELECT now()) THEN c.created_at
        END AS since
    FROM public.chats AS c
    WHERE
        c.is_active
        AND coalesce(c.chat_state, '') NOT IN ('waiting_assignment', 'assigned', 'completed')
    -- Keeps the planner from computing `since` again for each column below: five times the time.
    OFFSET 0
),

-- Times are compared, and not ages, for the same reason; each is computed once.
bounds AS (
    SELECT
        to_timestamp(
            date_part('epoch', now())
            - %(oldest_age_waiting_real_user_reply_warning)s::double precision
        ) AS warning_at,
        to_timestamp(
            date_part('epoch', now())
            - %(oldest_age_waiting_real_user_reply_critical)s::double precision
        ) AS critical_at
)

SELECT
    k.state,
    coalesce(
        date_part('epoch', now()) - date_part('epoch', min(k.since)), 0
    ) AS oldest_age_seconds,
    coalesce(
        date_part('epoch', now()) - avg(date_part('epoch', k.since)), 0
    ) AS mean_age_seconds,
    count(*) FILTER (
        WHERE k.state = 'waiting_real_user_reply'
        AND k.since < (SELECT b.warning_at FROM bounds AS b)
    ) AS overdue_warning_chats,
    count(*) FILTER (
        WHERE k.state = 'waiting_real_user_reply'
        AND k.since < (SELECT b.critical_at FROM bounds AS b)
    ) AS overdue_critical_chats,
    count(*) FILTER (
        WHERE k.since >= (SELECT now() - interval '15 seconds')
    ) AS at_most_15_chats,
    count(*) FILTER (
        WHERE k.since >= (SELECT now() - interval '30 seconds')
    ) AS at_most_30_chats,
    count(*) FILTER (
        WHERE k.since >= (SELECT now() - interval '60 seconds')
    ) AS at_most_60_chats,
    count(*) FILTER (
        WHERE k.since >= (SELECT now() - interval '120 seconds')
    ) AS at_most_120_chats,
    count(*) FILTER (
        WHERE k.since >= (SELECT now() - interval '300 seconds')
    ) AS at_most_300_chats,
    count(*) FILTER (
        WHERE k.since >= (SELECT now() - interval '600 seconds')
    ) AS at_most_600_chats,
    count(*) FILTER (
        WHERE k.since >= (SELECT now() - interval '1200 seconds')
    ) AS at_most_1200_chats,
    count(*) FILTER (
        WHERE k.since >= (SELECT now() - interval '3600 seconds')
    ) AS at_most_3600_chats,
    count(*) FILTER (
        WHERE k.since >= (SELECT now() - interval '14400 seconds')
    ) AS at_most_14400_chats,
    count(*) FILTER (
        WHERE k.since >= (SELECT now() - interval '86400 seconds')
    ) AS at_most_86400_chats,
    count(*) AS chats
FROM clocked AS k
GROUP BY k.state
